"""Unlatch rings a person's phone when a server needs a secret that only that person has."""

__version__ = "0.1.0"
