"""A real GnuPG key with a passphrase, and a file that only it opens; made once, put into as many houses as needed."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from house import PATH, PINENTRY, House
from real import real

PASSPHRASE = "correct horse battery"
CONTENT = b"the password of sql-root\n"
OWNER = "Zoe <zoe@example.org>"


class Strongbox:
    """A GNUPGHOME to copy from."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="unlatch-box-", dir="/tmp"))
        self._gpg("--batch", "--pinentry-mode", "loopback", "--passphrase", PASSPHRASE,
                  "--quick-gen-key", OWNER, "future-default", "default", "never")  # fmt: skip
        self._gpg("--batch", "--trust-model", "always", "--recipient", OWNER, "--output", str(self.root / "box.gpg"),
                  "--encrypt", feed=CONTENT)  # fmt: skip
        self.fingerprint = self._gpg("--list-keys", "--with-colons").split(b"\nfpr:")[1].split(b":")[8].decode()
        self._run("gpgconf", "--kill", "all")

    def put_into(self, house: House, pinentry: Path = PINENTRY) -> Path:
        """Give a house this key, and our pinentry to its agent: the encrypted file."""
        for name in ("pubring.kbx", "trustdb.gpg", "box.gpg"):
            shutil.copy(self.root / name, house.gnupg / name)
        shutil.copytree(self.root / "private-keys-v1.d", house.gnupg / "private-keys-v1.d")
        (house.gnupg / "gpg-agent.conf").write_text(f"pinentry-program {pinentry}\n")
        return house.gnupg / "box.gpg"

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.root)

    def _gpg(self, *arguments: str, feed: bytes = b"") -> bytes:
        return self._run("gpg", *arguments, feed=feed)

    def _run(self, program: str, *arguments: str, feed: bytes = b"") -> bytes:
        return subprocess.run(
            [real(program), *arguments], env={"GNUPGHOME": str(self.root), "PATH": PATH, "HOME": str(self.root)},
            input=feed, capture_output=True, check=True, timeout=60,
        ).stdout  # fmt: skip


def decrypt(house: House) -> "subprocess.Popen[bytes]":
    """Have gpg open the strongbox of this house, as a service without a terminal would."""
    return house.start("gpg", "--batch", "--decrypt", house.gnupg / "box.gpg")


def content(gpg: "subprocess.Popen[bytes]") -> bytes:
    """What came out in the end; empty if it failed."""
    with gpg:
        return gpg.communicate(timeout=30)[0]
