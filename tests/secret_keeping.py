"""Stored secrets in a house: commands run in a user namespace of their own, whose kernel keyring is nobody else's."""

import subprocess
from pathlib import Path

from house import UNLATCH, House

KEY = "alex@example.org"
# The user keyring belongs to a uid in a user namespace (user_namespaces(7)): what is kept here, no other test ends.
APART = ("unshare", "--user", "--map-root-user")


class Keeping:
    """A house with an OpenPGP key without a passphrase, so that a gpg keyslot opens without anybody."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.directory = house.root / "secrets"
        self.environ = {"UNLATCH_SECRETS": str(self.directory), "PATH": f"{UNLATCH.parent}:{house.environ()['PATH']}"}
        generate = ("--batch", "--passphrase", "", "--quick-gen-key", KEY, "rsa2048", "encr")
        house.run("gpg", *generate)

    def unlatch(self, *words: str | Path, feed: bytes = b"") -> bytes:
        """Run ``unlatch`` with these words; it must succeed."""
        return self.house.run(UNLATCH, *words, feed=feed, **self.environ)

    def add(self, name: str, secret: bytes) -> None:
        """Store a secret that the key opens."""
        self.unlatch("secret", "add", name, "--to", KEY, feed=secret)

    def run(self, *command: str | Path, feed: bytes = b"", **more: str) -> bytes:
        """Run any program with this house's secrets; it must succeed."""
        return self.house.run(*command, feed=feed, **{**self.environ, **more})

    def start(self, *command: str | Path, **more: str) -> "subprocess.Popen[bytes]":
        """Start any program with this house's secrets."""
        return self.house.start(*command, **{**self.environ, **more})

    def fails(self, *command: str | Path, **more: str) -> tuple[int, bytes, str]:
        """Run a program that is to fail: its exit code, standard output and standard error."""
        process = self.start(*command, **more)
        out, err = process.communicate(timeout=60)
        assert process.returncode
        return process.returncode, out, err.decode()
