"""The service of logins, whole and as root, with accounts, keys, places and a socket of its own.

Its accounts exist in a mount namespace only (as in service_user.py): an own /etc/passwd and /etc/group, which the
service sees, and the machine does not. A login is put to it as pam_unlatch.so does, packet for packet (:class:`Login`).
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pam_desk import owned
from real import absent, real
from waiting import PATIENCE, until

from unlatch.wire import pam
from unlatch.wire.pam import Hello

WORKER, WORKER_UID = "unlatch-pam", 4300
WEB, WEB_UID = "unlatch-pam-web", 4299
USERS = {"alice": 4301, "bob": 4302, "carol": 4303}
SSH = ("203.0.113.5", "ssh")  # PAM_RHOST and PAM_TTY, as sshd gives them
NEUTRAL = ("warn", "unlatch: this login cannot be confirmed")
GPG = ("gpg", "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "")
ARMOUR = re.compile(r"-----BEGIN PGP MESSAGE-----.*?-----END PGP MESSAGE-----\n?", re.DOTALL)

# What "unlatch pam serve --config FILE --socket PATH" does, with other places.
SERVE = """
import json, os, sys, time
from unlatch.pam import service
from unlatch.pam.challenge import Places
from unlatch.pam.conversation import House

def shifted(number, clock):
    def now():
        with open(said["clocks"]) as file:
            return clock() + float(file.read().split()[number])
    return now

said = json.loads(sys.argv[1])
house = House(
    said["config"], dict(os.environ), Places(**said["places"]), said["approvals"],
    clock=shifted(0, House().clock), today=shifted(1, time.time),
)
service.main(service.listen(said["socket"]), house)
"""


class Word(NamedTuple):
    """What the service says."""

    word: str
    text: str = ""


class PamHouse:
    """One service, its accounts and their keys. Use :meth:`start`; close it by :meth:`clear`."""

    def __init__(self) -> None:
        if os.getuid() != 0:
            absent("only root answers for the logins of others")
        for program in ("unshare", "nsenter", "setpriv", "mount", "gpg", "gpgconf"):
            real(program)
        self.root = Path(tempfile.mkdtemp(prefix="pam-", dir="/tmp"))
        self.root.chmod(0o755)
        self.settings = self.root / "unlatch.toml"
        self.records = owned(self.root / "records", 0, 0o755)
        self.work = owned(self.root / "work", WORKER_UID)
        self.signing = owned(self.root / "signing", WORKER_UID)
        self.socket = owned(self.root / "run", 0, 0o755) / "pam.sock"
        self.log = self.root / "log"
        self._clocks = self.root / "clocks"
        self.shift()
        self.homes = {name: owned(self.root / name, uid) for name, uid in USERS.items()}
        self.service: subprocess.Popen[bytes] | None = None
        self._logins: list[Login] = []
        self._count = 0
        self.line = ""  # a good entry of alice's, for tests that spoil it
        self._places = {"records": str(self.records), "work": str(self.work), "signing": str(self.signing)}
        self._holder = self._namespace()
        self.configure()

    def configure(self, pam_table: str = 'auth_gpg = ["sshd"]', rest: str = "") -> None:
        """Write unlatch.toml: lines of its [pam] table, and what else shall stand in it. It counts at once."""
        self.settings.write_text(f"{rest}\n[pam]\n{pam_table}\n")

    @property
    def enter(self) -> list[str]:
        """The words before a command that let it see these accounts."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]

    def shift(self, boot: float = 0.0, wall: float = 0.0) -> None:
        """From now on the service's clocks are off by so many seconds: as if the machine had slept, or its wall clock
        had been set."""
        new = self._clocks.with_suffix(".new")
        new.write_text(f"{boot} {wall}")
        new.replace(self._clocks)

    def start(self, **environ: str) -> None:
        """Start the service, or start it anew."""
        said = {
            "config": str(self.settings), "socket": str(self.socket), "places": self._places,
            "approvals": str(self.root / "approvals"), "clocks": str(self._clocks),
        }  # fmt: skip
        with self.log.open("ab") as log:
            self.service = subprocess.Popen(
                [*self.enter, sys.executable, "-c", SERVE, json.dumps(said)],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"} | environ,
                cwd="/", start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
        until(self._listens, "the service")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the service; its exit code."""
        assert self.service is not None
        service, self.service = self.service, None
        service.send_signal(number)
        return service.wait(PATIENCE)

    def login(self, user: str = "alice", service: str = "sshd", *, uid: int = 0, **fields: object) -> "Login":
        """Begin a login as ``uid``; ``fields`` are further ones of the hello."""
        rhost, tty = SSH if service == "sshd" else ("", "/dev/pts/x")
        said = {"rhost": rhost, "tty": tty} | fields
        return self.connect(pam.hello_to_packet(Hello(service, user, **said)), uid)  # type: ignore[arg-type]

    def connect(self, packet: bytes, uid: int = 0) -> "Login":
        """Begin a login with any packet."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(PATIENCE)
        with _acting_as(uid):  # SO_PEERCRED is who connects
            connection.connect(str(self.socket))
        self._logins.append(Login(connection))
        if packet:
            with contextlib.suppress(BrokenPipeError):  # refused before it had said anything
                connection.send(packet)
        return self._logins[-1]

    def key(
        self, user: str, *options: str, algorithm: str = "future-default", use: str = "default", expires: str = "never"
    ) -> str:
        """A new key of this account without a passphrase; its fingerprint. ``options`` are gpg's."""
        before = self._keys(user)
        self._count += 1
        address = f"{user}+{self._count}@example.org"
        self.gpg(user, *options, "--quick-gen-key", address, algorithm, use, expires)
        (new,) = self._keys(user) - before
        return new

    def _keys(self, user: str) -> set[str]:
        listing = self.gpg(user, "--list-keys", "--with-colons").decode()
        return set(re.findall(r"^pub:.*\n(?:fpr):+([0-9A-F]{40}):", listing, re.MULTILINE))

    def gpg(self, user: str, *arguments: str, feed: bytes = b"") -> bytes:
        """Run gpg as an account, in its home."""
        done = subprocess.run(
            [*self.enter, *self.become(user), *GPG, *arguments],
            input=feed, capture_output=True, timeout=60, cwd="/", check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.homes[user]), "LANG": "C.UTF-8"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def become(self, user: str) -> list[str]:
        """The words before a command that run it with an account's rights."""
        return ["setpriv", f"--reuid={USERS[user]}", f"--regid={USERS[user]}", "--clear-groups", "--no-new-privs"]

    def entry(self, user: str, line: str) -> Path:
        """Write ~/.auth_gpg."""
        path = self.homes[user] / ".auth_gpg"
        path.write_text(f"{line}\n")
        path.chmod(0o600)
        os.chown(path, USERS[user], USERS[user])
        return path

    def enrol(self, user: str = "alice", words: str = "notrust nosign none") -> str:
        """Give an account a key and an entry of its own; the fingerprint."""
        fingerprint = self.key(user)
        self.entry(user, f"{fingerprint} {words}")
        return fingerprint

    def response(self, said: Sequence[Word], user: str = "alice") -> str:
        """What the challenge among these words holds, read by real gpg."""
        return self.plain(said, user).splitlines()[-1]

    def plain(self, said: Sequence[Word], user: str = "alice") -> str:
        """The whole text of the challenge among these words."""
        armour = next(found[0] for word in said if (found := ARMOUR.search(word.text)))
        return self.gpg(user, "--decrypt", feed=armour.encode()).decode()

    def lines(self) -> list[str]:
        """What the service told the journal."""
        return self.log.read_text().splitlines()

    def logged(self, text: str, count: int = 1) -> str:
        """The last line with this text, once there are ``count``."""
        until(lambda: sum(text in line for line in self.lines()) >= count, f"{text!r} in the log:\n{self.lines()}")
        found = [line for line in self.lines() if text in line]
        assert len(found) == count, found
        return found[-1]

    def children(self) -> list[int]:
        """The conversations that there are."""
        assert self.service is not None
        pid = self.service.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def quiet(self) -> None:
        """End all logins, wait until no conversation is left, and forget what was logged."""
        for login in self._logins:
            login.close()
        self._logins.clear()
        until(lambda: not self.children(), "the end of all conversations")
        os.truncate(self.log, 0)

    def see(self, script: str) -> None:
        """Change what the service sees of the machine, by a shell script with mounts."""
        subprocess.run([*self.enter, "sh", "-ec", script], check=True, timeout=30, stdin=subprocess.DEVNULL)

    def clear(self) -> None:
        """End the service and everything that its accounts left running."""
        with contextlib.suppress(AssertionError):
            self.quiet()
            self.stop()
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._holder.communicate(timeout=10)
        shutil.rmtree(self.root, ignore_errors=True)

    def _listens(self) -> bool:
        assert self.service is not None
        assert self.service.poll() is None, self.log.read_text()
        listening = f" 00010000 0005 01 .* {self.socket}$"  # proc_net(5), unix
        return bool(re.search(listening, Path("/proc/net/unix").read_text(), re.MULTILINE))

    def _processes(self) -> list[int]:
        """Those whose uid is one of our accounts', and that see this house's mounts."""
        ours = os.stat(f"/proc/{self._holder.pid}/ns/mnt").st_ino
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/mnt").st_ino == ours and os.stat(f"/proc/{name}").st_uid in {
                    WORKER_UID, WEB_UID, *USERS.values()
                }:  # fmt: skip
                    found.append(int(name))
        return found

    def _namespace(self) -> "subprocess.Popen[bytes]":
        accounts = {WORKER: WORKER_UID, WEB: WEB_UID} | USERS
        homes = {WORKER: Path("/"), WEB: Path("/")} | self.homes
        users = [f"{name}:x:{uid}:{uid}::{homes[name]}:/bin/sh\n" for name, uid in accounts.items()]
        groups = [f"{name}:x:{uid}:\n" for name, uid in accounts.items()]
        script = ["mount --make-rprivate /"]
        for file, lines in (("passwd", users), ("group", groups)):
            own = self.root / file
            own.write_text(Path(f"/etc/{file}").read_text() + "".join(lines))
            own.chmod(0o644)
            script.append(f"mount --bind {own} /etc/{file}")
        # The namespace lives as long as this shell, which ends with its standard input.
        holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", " && ".join([*script, "echo ready", "cat"])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        return holder


class Login:
    """A login as the module sees it. ``said`` is all that it was told."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.said: list[Word] = []

    def next(self) -> Word | None:
        """What the service says next; None at the end."""
        try:
            packet = self.connection.recv(pam.MAX_PACKET)
        except ConnectionResetError:
            return None
        if not packet:
            return None
        self.said.append(Word(*pam.word_from_packet(packet)))
        return self.said[-1]

    def until_asked(self) -> list[Word]:
        """Everything up to the next prompt."""
        start = len(self.said)
        while (word := self.next()) is not None:
            if word.word in ("ask", "hide"):
                return self.said[start:]
        raise AssertionError(f"nobody was asked: {self.said}")

    def type(self, line: str | bytes) -> None:
        """Answer the prompt."""
        self.connection.send(pam.answer_to_packet(line if isinstance(line, bytes) else line.encode()))

    def end(self) -> list[Word]:
        """What still comes: the last words, without signs of life."""
        start = len(self.said)
        while self.next() is not None:
            pass
        self.close()
        return [word for word in self.said[start:] if word.word != "wait"]

    def close(self) -> None:
        """Hang up."""
        self.connection.close()


@contextlib.contextmanager
def _acting_as(uid: int) -> Iterator[None]:
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
