"""A house: one isolated place with its own home, GnuPG, broker, settings and phone; private, and cleaned up."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from answerer import Page
from phone import Phone
from waiting import until

BIN = Path(sys.executable).parent
PINENTRY = BIN / "pinentry-unlatch"
UNLATCH = BIN / "unlatch"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
PUBLIC_URL = "https://unlock.test"

# Everybody is rung on the one phone; tests put their own settings before or behind it.
SETTINGS = """
public_url = "{url}/"
probe = false
listen = "unix:{page}"
{top}
[people.admin]
users = ["*"]
notify = ["phone"]
[notify.phone]
command = {command}
end_to_end = {end_to_end}
{tables}
"""


class House:
    """Directories and environment of one test. GNUPGHOME has to stay under 84 characters, so it lies in /tmp."""

    def __init__(self) -> None:
        self.uid = os.getuid()
        self.root = Path(tempfile.mkdtemp(prefix="unlatch-", dir="/tmp"))
        self.gnupg = self._directory("gnupg")
        self.runtime = self._directory("run")
        self.page = self.root / "page.sock"
        self.settings = self.root / "unlatch.toml"
        self.phone = Phone(self.root / "phone")
        self._started: list[subprocess.Popen[bytes]] = []
        self.configure()

    def configure(self, top: str = "", tables: str = "", *, end_to_end: bool = False) -> None:
        """Write unlatch.toml: ``top`` are lines above all tables, ``tables`` lines below."""
        self.settings.write_text(
            SETTINGS.format(
                url=PUBLIC_URL, page=self.page, top=top, tables=tables,
                command=json.dumps(self.phone.command), end_to_end=str(end_to_end).lower(),
            )
        )  # fmt: skip

    def environ(self, **more: str) -> dict[str, str]:
        """All that a program of this house gets to know."""
        return {
            "HOME": str(self.root),
            "PATH": PATH,
            "GNUPGHOME": str(self.gnupg),
            "UNLATCH_RUNTIME_DIR": str(self.runtime),
            "UNLATCH_CONFIG": str(self.settings),
            "LANG": "C.UTF-8",
        } | more

    def start(self, *command: str | Path, **more: str) -> subprocess.Popen[bytes]:
        """Start a program as a service would: no terminal, own session, nothing on standard input, working in /."""
        process = subprocess.Popen(
            [str(word) for word in command],
            env=self.environ(**more), cwd="/", start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._started.append(process)
        return process

    def run(self, *command: str | Path, feed: bytes = b"", **more: str) -> bytes:
        """Run a program that must succeed within a minute; gives its standard output."""
        done = subprocess.run(
            [str(word) for word in command],
            env=self.environ(**more), cwd="/", start_new_session=True,
            input=feed, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def open(self, link: str) -> Page:
        """Open a link on the phone: the viewed page."""
        page = Page(link, self.page)
        reply = page.view()
        assert reply.status == 200, reply
        return page

    def answers_on(self, page: Page) -> bool:
        """Is the broker there, and does it know this page's ticket (again)?"""
        try:
            return page.view().status == 200
        except OSError:
            return False

    def is_served(self) -> bool:
        """Does a broker answer on the admin socket?"""
        try:
            return "broker" in self.ask_admin({"op": "status"})
        except OSError:
            return False

    def rings_are_told(self) -> bool:
        """Whether all rings have arrived and the askers know it. A broker that dies before is right to ring again."""
        prompts = self.ask_admin({"op": "status"})["prompts"]
        return bool(prompts) and all(state == "delivered" for row in prompts for state in row["delivery"].values())

    def ask_admin(self, message: dict[str, Any]) -> dict[str, Any]:
        """One request on the broker's admin socket (docs/protocol.md section 5)."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(10)
            admin.connect(str(self.runtime / "admin" / "admin.sock"))
            admin.sendall(json.dumps({"v": 1, **message}).encode() + b"\n")
            reply: dict[str, Any] = json.loads(admin.makefile("rb").readline(1 << 20))
            return reply

    def processes(self) -> list[int]:
        """The pids of all processes that live in this house, by their environment or their arguments."""
        home = f"HOME={self.root}".encode()
        # A process that forbids core dumps hides its environment from its own user, never its arguments.
        return [
            pid for pid in _pids() if home in _read(pid, "environ").split(b"\0") or home[5:] in _read(pid, "cmdline")
        ]

    def processes_called(self, name: bytes) -> list[int]:
        """The pids of the processes of this house that have ``name`` among their arguments."""
        return [pid for pid in self.processes() if name in _read(pid, "cmdline")]

    def brokers(self) -> list[int]:
        """The pids of this house's brokers."""
        return self.processes_called(b"unlatch.broker.main")

    def end(self, pid: int) -> None:
        """End a process of this house and wait until it is gone."""
        os.kill(pid, signal.SIGTERM)
        until(lambda: not _read(pid, "cmdline"), f"the end of process {pid}")

    def clear(self) -> None:
        """End every process of the house, politely at first, then remove it."""
        # Askers before brokers, so that none is started anew; nobody kills the phone under a broker's last words.
        self._end_all(self._askers, signal.SIGTERM)
        self._end_all(self.brokers, signal.SIGTERM)
        self._end_all(self.processes, signal.SIGKILL)
        for process in self._started:
            with process:  # a test that failed left its pipes open
                process.kill()
        shutil.rmtree(self.root, ignore_errors=True)
        assert not self.processes()

    def _end_all(self, find: Callable[[], list[int]], number: signal.Signals) -> None:
        victims = find()
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(AssertionError):
            until(lambda: not any(_read(pid, "cmdline") for pid in victims), "the end of all processes", 2.0)

    def _askers(self) -> list[int]:
        others = {*self.brokers(), *self.processes_called(bytes(self.phone.directory))}
        return [pid for pid in self.processes() if pid not in others]

    def _directory(self, name: str) -> Path:
        directory = self.root / name
        directory.mkdir(mode=0o700)
        return directory


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
