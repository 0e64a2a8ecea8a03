"""Stored secrets: one small file each, and the keyslots that open it. docs/secrets.md has the format byte by byte."""
