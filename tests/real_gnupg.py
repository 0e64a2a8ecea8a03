"""Real GnuPG and pass in a house: fresh keys (40 ms), and every passphrase is asked for through pinentry-unlatch."""

import re
import subprocess
from pathlib import Path

from house import PINENTRY, House
from real import real

PASSPHRASE = b"correct horse battery staple"
OWNER = "Sql Root <root@db01.example>"
PLAINTEXT = b"s3cr3t of the database\n"
# s2k-count: the agent would calibrate it to 100 ms for each use of a key; these keys protect nothing.
AGENT = "pinentry-program {pinentry}\ndisable-scdaemon\ns2k-count 65536\n"
LOOPBACK = ("--pinentry-mode", "loopback", "--passphrase-fd", "0")
GPG = ("gpg", "--batch", "--quiet", "--no-tty")
# What a status line "FAILURE sign CODE" carries (GnuPG's doc/DETAILS). A failed decryption says "No secret key" only.
CANCELLED, TIMEOUT, BAD_PASSPHRASE = "83886179", "83886142", "67108875"


class Keyring:
    """The GNUPGHOME of a house with one key (ed25519, cv25519) under ``passphrase``, and files made with it."""

    def __init__(
        self, house: House, passphrase: bytes = PASSPHRASE, agent: str = "", pinentry: Path = PINENTRY
    ) -> None:
        for program in ("gpg", "gpgconf", "gpg-connect-agent", "pass"):
            real(program)
        self.house = house
        (house.gnupg / "gpg-agent.conf").write_text(AGENT.format(pinentry=pinentry) + agent)
        house.run(*GPG, *LOOPBACK, "--quick-gen-key", OWNER, "future-default", "default", "never", feed=passphrase)
        self.secret = house.root / "secret.gpg"
        self.secret.write_bytes(house.run(*GPG, "--trust-model", "always", "-e", "-r", OWNER, feed=PLAINTEXT))
        self.forget()

    def forget(self) -> None:
        """Make the agent forget all passphrases."""
        self.house.run("gpg-connect-agent", "RELOADAGENT", "/bye")

    def decrypt(self, **environ: str) -> "subprocess.Popen[bytes]":
        """A service that decrypts; its standard output is the plaintext, never a file."""
        return self.house.start(*GPG, "--decrypt", self.secret, **environ)

    def sign(self) -> "subprocess.Popen[bytes]":
        """A service that signs; its standard output is the signature, its messages hold GnuPG's own error codes."""
        return self.house.start(*GPG, "--status-fd", "2", "--detach-sign", "--output", "-", self.secret)

    def store(self, name: str, content: bytes) -> None:
        """A pass store with one entry."""
        self.house.run("pass", "init", OWNER)
        self.house.run("pass", "insert", "--multiline", name, feed=content)

    def keygrips(self) -> list[str]:
        """The keygrips of the primary key and the subkey."""
        listing = self.house.run(*GPG, "--list-secret-keys", "--with-keygrip", "--with-colons").decode()
        return re.findall(r"^grp:+([0-9A-F]{40}):", listing, re.MULTILINE)


def finish(process: "subprocess.Popen[bytes]", seconds: float = 30) -> tuple[int, bytes, str]:
    """Wait for a program: its exit code, output and messages."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err.decode(errors="replace")
