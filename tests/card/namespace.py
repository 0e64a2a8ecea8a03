"""A place of its own for programs: an empty /run, a loopback that nobody else hears, and pids that end with it.

vpcd listens on all addresses, pcscd and sshd want /run: none of that may touch the machine. Files elsewhere, and so
the houses in /tmp, are the same inside and outside.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from real import absent, real
from waiting import until

# The namespace lives as long as its process 1, which ends with its standard input. Daemons that lose their parent
# become its children; as it ignores SIGCHLD they leave no zombies behind. (A shell's read ends when a child does.)
_FIRST = (
    "import signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); print('ready', flush=True); sys.stdin.read()"
)
_HOLD = 'ip link set lo up && mount -t tmpfs -o mode=755 tmpfs /run && exec "$@"'
_NET, _PID = 0x40000000, 0x20000000  # CLONE_NEWNET, CLONE_NEWPID
_NAMES = {_NET: "net", _PID: "pid"}
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """Mounts, network and processes apart from the machine's; root makes one in 10 ms."""

    def __init__(self) -> None:
        if os.getuid() != 0:
            absent("only root can make a private network and mount a /run in it")
        for program in ("unshare", "nsenter", "mount", "ip"):
            real(program)
        self._holder = subprocess.Popen(
            [
                "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                "--propagation", "private", "sh", "-c", _HOLD, "sh", sys.executable, "-IS", "-c", _FIRST,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/",
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        self.first = int(children[0])  # process 1 inside, by its number outside
        self._own = {kind: os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY) for kind, name in _NAMES.items()}
        self._inner = {kind: os.open(f"/proc/{self.first}/ns/{name}", os.O_RDONLY) for kind, name in _NAMES.items()}
        self._identity = os.fstat(self._inner[_PID]).st_ino

    @property
    def enter(self) -> list[str]:
        """Words before a command that put it into mounts and network, and then are that command."""
        return ["nsenter", f"--mount=/proc/{self.first}/ns/mnt", f"--net=/proc/{self.first}/ns/net", "--"]

    @property
    def run(self) -> Path:
        """Its /run, seen from outside."""
        return Path(f"/proc/{self.first}/root/run")

    @contextlib.contextmanager
    def births(self) -> Iterator[None]:
        """Processes that this thread starts meanwhile are born inside, with no helper between.

        Their numbers are those of outside for us, and others for themselves.
        """
        self._switch(self._inner, _PID)
        try:
            yield
        finally:
            self._switch(self._own, _PID)

    def socket(self) -> socket.socket:
        """A TCP socket of its network."""
        self._switch(self._inner, _NET)
        try:
            return socket.socket()
        finally:
            self._switch(self._own, _NET)

    def start(self, *command: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start a daemon inside, in the foreground."""
        with self.births(), log.open("ab") as out:
            return subprocess.Popen(
                [*self.enter, *command],
                env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8"}, cwd="/",
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def processes(self) -> list[int]:
        """Everything that lives inside but process 1."""
        return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and self._contains(int(pid))]

    def commands(self) -> list[list[str]]:
        """The words of every program that runs inside."""
        return [words for pid in self.processes() if (words := _words(pid))]

    def sweep(self, keep: set[int], directories: set[str]) -> None:
        """End every process but these and empty /run but for these, so that the next test finds nothing."""
        rest = [pid for pid in self.processes() if pid not in keep]
        for pid in rest:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not any(self._contains(pid) for pid in rest), "the end of all processes inside")
        for path in self.run.iterdir():
            if path.name not in directories:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def close(self) -> None:
        """End it with all that is inside. Who started something inside has to reap it, before or meanwhile."""
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        assert self._holder.stdout is not None
        self._holder.stdout.close()
        for descriptor in (*self._own.values(), *self._inner.values()):
            os.close(descriptor)

    def _contains(self, pid: int) -> bool:
        try:
            inside = os.stat(f"/proc/{pid}/ns/pid").st_ino == self._identity
            # A process that nobody has reaped yet runs no more: it has no command line.
            return inside and pid != self.first and bool(Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            return False

    def _switch(self, where: dict[int, int], kind: int) -> None:
        if _libc.setns(where[kind], kind):
            raise OSError(ctypes.get_errno(), "setns")


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    return []
