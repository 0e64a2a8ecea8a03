"""Challenges as gpg makes and reads them, with keys that only one test module has."""

import os
import subprocess
import tempfile
from pathlib import Path

from gnupg_home import forget
from real import real

from unlatch.pam import challenge
from unlatch.secret import Secret

FACTS = challenge.Facts("alice", "web-01.example.org", "sshd", "203.0.113.45", 1_790_000_000)
RESPONSE = b"abcDEF1234"
TEXT = bytes(challenge.text(FACTS, Secret(RESPONSE)))
CURVE, RSA = "future-default", "rsa3072"


class Keys:
    """A GNUPGHOME with a key of each kind, without passphrases."""

    def __init__(self, *algorithms: str) -> None:
        self._gpg = real("gpg")
        self._home = Path(tempfile.mkdtemp(prefix="pam-keys-", dir="/tmp"))
        for algorithm in algorithms:
            usage = "default" if algorithm == CURVE else "sign,encrypt"  # one key for both, or one and a subkey
            self.run("--passphrase", "", "--quick-gen-key", f"{algorithm}@example.org", algorithm, usage, "never")

    def armour(self, algorithm: str = CURVE, *, signed: bool = False, text: bytes = TEXT) -> str:
        """A challenge for the key of this kind."""
        options = ["--local-user", f"{CURVE}@example.org", "--sign"] if signed else []
        to = ["--trust-model", "always", "--recipient", f"{algorithm}@example.org"]
        return self.run(*options, *to, "--encrypt", "--armor", feed=text).decode()

    def decrypted(self, armour: str) -> bytes:
        """What a challenge says to who has the key."""
        return self.run("--decrypt", feed=armour.encode())

    def run(self, *arguments: str, feed: bytes = b"") -> bytes:
        """Run gpg, which must succeed."""
        done = subprocess.run(
            [self._gpg, "--batch", "--quiet", "--no-tty", "--no-auto-key-locate", "--pinentry-mode", "loopback",
             *arguments],
            env=self._environ(), input=feed, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def clear(self) -> None:
        """End the agent and forget the keys."""
        forget(self._home)

    def _environ(self) -> dict[str, str]:
        return {"GNUPGHOME": str(self._home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
