"""One account with a home, keys and an entry, and the places of a server: challenges are made in this process, as root.

The account (``alice``) exists in no passwd, only as a uid; the worker is a system user that every Debian has. Keys come
from a :class:`Forge`, one for a whole test file, which alone holds their secret halves.
"""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from gnupg_home import forget
from real import absent, real

from unlatch.pam.accounts import Account
from unlatch.pam.challenge import Challenge, Facts, challenge
from unlatch.pam.worker import Places
from unlatch.settings import Settings

WORKER = "games"
UID = 4311
FACTS = Facts("alice", "db01", "sshd", "203.0.113.5", 1_790_000_000)
LONG_AGO = "20200101T000000"
PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


class Forge:
    """A GNUPGHOME with any keys; none has a passphrase. ``keys`` are fingerprints by the name before the "@"."""

    def __init__(self) -> None:
        if os.getuid() != 0:
            absent("only root makes challenges for others")
        real("gpg")
        self.home = Path(tempfile.mkdtemp(prefix="forge-", dir="/tmp"))
        self.keys: dict[str, str] = {}

    def make(self, name: str, *words: str, options: tuple[str, ...] = (), key: str = "") -> str:
        """A key for name@example.org; ``words`` are algorithm, use and expiry, ``key`` the name in :attr:`keys`."""
        words = words or ("future-default", "default", "never")
        listed = self.gpg(*options, "--status-fd", "1", "--quick-gen-key", f"{name} <{name}@example.org>", *words)
        found = re.search(rb"KEY_CREATED . ([0-9A-F]{40})", listed)
        assert found is not None
        self.keys[key or name] = found[1].decode()
        return self.keys[key or name]

    def revoke(self, name: str) -> None:
        """Let a key be revoked by itself."""
        revocation = (self.home / "openpgp-revocs.d" / f"{self.keys[name]}.rev").read_bytes()
        self.gpg("--import", feed=revocation.replace(b":-----BEGIN", b"-----BEGIN"))

    def block(self, name: str, *options: str) -> bytes:
        """The public key, armoured."""
        return self.gpg("--armor", *options, "--export", self.keys[name])

    def read(self, armour: str) -> str:
        """What a challenge holds."""
        return self.gpg("--decrypt", feed=armour.encode()).decode()

    def gpg(self, *words: str, feed: bytes = b"", home: Path | None = None) -> bytes:
        """Run gpg in this home or another; it must succeed."""
        done = subprocess.run(
            ["gpg", "--homedir", home or self.home, "--batch", "--quiet", "--no-tty", "--passphrase", "", *words],
            input=feed, capture_output=True, timeout=60, env={"PATH": PATH, "LANG": "C.UTF-8"}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def close(self) -> None:
        """End its agent and forget the keys."""
        forget(self.home)


class Desk:
    """The account, its home and the server's places, below ``root``."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge
        self.root = Path(tempfile.mkdtemp(prefix="desk-", dir="/tmp"))
        self.root.chmod(0o755)
        self.home = owned(self.root / "home", UID)
        self.gnupg = owned(self.home / ".gnupg", UID)
        self.records = owned(self.root / "records", 0, 0o755)
        self.work = owned(self.root / "work", uid_of(WORKER))
        self.signing = owned(self.root / "signing", uid_of(WORKER)) / "gnupg"
        self.places = Places(str(self.records), str(self.work), str(self.signing), WORKER)
        self.account = Account("alice", UID, UID, str(self.home))
        self.settings = Settings(pam_auth_gpg=("sshd",))

    def has(self, *names: str) -> None:
        """Import these keys of the forge into the account's keyring."""
        for name in names:
            self.forge.gpg("--import", feed=self.forge.block(name), home=self.gnupg)
        self.give(self.gnupg)

    def trusts(self, name: str) -> None:
        """Make a key valid in the account's trust database."""
        self.forge.gpg("--import-ownertrust", feed=f"{self.forge.keys[name]}:6:\n".encode(), home=self.gnupg)
        self.forge.gpg("--check-trustdb", home=self.gnupg)
        self.give(self.gnupg)

    def entry(self, line: str) -> Path:
        """Write ~/.auth_gpg; ``{name}`` stands for a fingerprint of the forge."""
        return self.file(".auth_gpg", line.format(**self.forge.keys) + "\n")

    def file(self, name: str, content: str | bytes, mode: int = 0o600) -> Path:
        """A file of the account's, in its home."""
        path = self.home / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        os.chown(path, UID, UID)
        return path

    def challenge(self, service: str = "sshd", random: Callable[[int], bytes] = os.urandom) -> Challenge:
        """A challenge for a login of the account."""
        return challenge(self.account, service, FACTS, self.settings, places=self.places, random=random)

    def give(self, path: Path) -> None:
        """Make everything below the account's."""
        for folder, _, names in os.walk(path):
            for each in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(each, UID, UID, follow_symlinks=False)

    def close(self) -> None:
        """End the agents of these homes, and remove everything."""
        for home in (self.gnupg, self.signing):
            if home.is_dir():
                subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], capture_output=True, check=False)
        shutil.rmtree(self.root, ignore_errors=True)


def owned(directory: Path, uid: int, mode: int = 0o700) -> Path:
    """Make a directory that belongs to this uid."""
    directory.mkdir()
    directory.chmod(mode)
    os.chown(directory, uid, uid)
    return directory


def uid_of(name: str) -> int:
    """The uid of an account of this machine."""
    return pwd.getpwnam(name).pw_uid
