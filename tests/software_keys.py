"""Software keys in a house, 40 ms each, and a gpg-agent that lets them be preset; all seen through our own client."""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from house import PINENTRY, UNLATCH, House
from real import real
from real_gnupg import GPG, LOOPBACK, finish

from unlatch.gnupg.agent import Agent
from unlatch.gnupg.homes import Home

FIRST, SECOND = b"correct horse battery staple", b"tr0ub4dor & 3"
# s2k-count: the agent would calibrate it to 100 ms for each use of a key; these keys protect nothing.
AGENT = "pinentry-program {pinentry}\ndisable-scdaemon\ns2k-count 65536\n"
PRESET = "allow-preset-passphrase\n"
YEARS = "max-cache-ttl 315360000\n"


class SoftwareKeys:
    """A GNUPGHOME for many keys. ``agent`` are more lines of gpg-agent.conf; ``enter`` leads to the house's place."""

    def __init__(self, house: House, agent: str = PRESET, pinentry: Path = PINENTRY, enter: Sequence[str] = ()) -> None:
        for program in ("gpg", "gpgconf", "gpg-connect-agent"):
            real(program)
        self.house = house
        self.home = Home.find(house.environ(), os.getuid(), str(house.root))
        self._pinentry = pinentry
        self._enter = enter
        self.configure(agent)

    def configure(self, agent: str) -> None:
        """Write gpg-agent.conf; a running agent does not know it yet."""
        (self.house.gnupg / "gpg-agent.conf").write_text(AGENT.format(pinentry=self._pinentry) + agent)

    def make(
        self, name: str, passphrase: bytes = FIRST, *, algorithm: str = "ed25519", at: str = "", expire: str = "never"
    ) -> str:
        """A new key of its own for signing; its keygrip. ``at``: the day on which it is made."""
        made = (
            *GPG,
            *LOOPBACK,
            *(["--faked-system-time", at] if at else []),
            "--quick-gen-key",
            f"<{name}>",
            algorithm,
            "sign",
            expire,
        )
        self.house.run(*made, feed=passphrase)
        return self.grips(name)[0]

    def add(self, name: str, passphrase: bytes = FIRST, *, algorithm: str = "cv25519") -> str:
        """A subkey for decryption; its keygrip."""
        self.house.run(
            *GPG, *LOOPBACK, "--quick-add-key", self.fingerprints(name)[0], algorithm, "encr", "never", feed=passphrase
        )
        return self.grips(name)[-1]

    def grips(self, name: str) -> list[str]:
        """The keygrips of a name, the primary key's first."""
        return self._listed("grp", name)

    def fingerprints(self, name: str) -> list[str]:
        """The fingerprints of a name, the primary key's first."""
        return self._listed("fpr", name)

    def _listed(self, record: str, name: str) -> list[str]:
        listing = self.house.run(*GPG, "--list-keys", "--with-keygrip", "--with-colons", f"<{name}>").decode()
        return re.findall(rf"^{record}:+([0-9A-F]{{40}}):", listing, re.MULTILINE)

    def lock_all(self) -> None:
        """Making keys has left their passphrases in the agent's cache."""
        self.house.run("gpg-connect-agent", "RELOADAGENT", "/bye")

    def agent(self) -> Agent:
        """Our client, connected; it starts an agent if none runs."""
        return Agent.open(self.home)

    def restart(self) -> None:
        """End the agent; whoever needs one starts another."""
        self.house.run("gpgconf", "--kill", "gpg-agent")

    def cached(self) -> set[str]:
        """The keygrips for which the agent holds a passphrase, by its own word."""
        listing = self.house.run("gpg-connect-agent", "KEYINFO --list", "/bye").decode()
        return set(re.findall(r"^S KEYINFO ([0-9A-F]{40}) D - - 1 ", listing, re.MULTILINE))

    def sign(self, name: str) -> int:
        """What gpg says to a signature without anybody to ask: 0 if it worked."""
        signing = self.house.start(
            *GPG, "--pinentry-mode", "cancel", "-u", f"<{name}>", "--detach-sign", "--output", "-", "/dev/null"
        )
        return finish(signing)[0]

    def unlatch(self, *arguments: str, feed: bytes = b"", **environ: str) -> tuple[int, str, str]:
        """Run one of our commands; exit code, output, messages."""
        done = subprocess.run(
            [*self._enter, str(UNLATCH), *arguments],
            env=self.house.environ(**environ), cwd="/", start_new_session=True,
            input=feed, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def listed(self) -> list[dict[str, Any]]:
        """What ``unlatch key list`` tells scripts."""
        rows: list[dict[str, Any]] = json.loads(self.unlatch("key", "list", "--json")[1])
        return rows

    def start(self, *arguments: str, **environ: str) -> "subprocess.Popen[bytes]":
        """Start one of our commands, as a service does."""
        return self.house.start(UNLATCH, *arguments, **environ)
