"""A network of its own, made and gone with a test: addresses, names and servers that nobody else sees."""

import contextlib
import ctypes
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from real import absent, real

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000  # setns(2)
_libc = ctypes.CDLL(None, use_errno=True)


class PrivateNetwork:
    """``addresses`` (with their lengths) are its own. ``hosts`` and ``resolv`` take the place of /etc/hosts and
    /etc/resolv.conf; ``processes``: it sees only processes that were started in it. ``beside``: it is the network of
    another one.
    """

    def __init__(
        self,
        *addresses: str,
        hosts: str = "",
        resolv: str = "",
        processes: bool = False,
        beside: "PrivateNetwork | None" = None,
    ) -> None:
        if os.getuid() != 0:
            absent("only root can make a network")
        for program in ("unshare", "nsenter", "ip", "mount"):
            real(program)
        self.root = Path(tempfile.mkdtemp(prefix="unlatch-network-", dir="/tmp"))
        self.root.chmod(0o755)
        (self.root / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}\n")
        (self.root / "resolv.conf").write_text(resolv)
        # On lo: not every kernel that tests run on has dummy or veth links, and to a program these are like any other.
        script = ["ip link set lo up"]
        script += [f"ip addr add {each} dev lo {'nodad' if ':' in each else ''}" for each in addresses]
        script += [f"mount --bind {self.root}/{name} /etc/{name}" for name in ("hosts", "resolv.conf")]
        own = ["--pid", "--fork", "--mount-proc"] if processes else []
        before = ["nsenter", f"--net=/proc/{beside._pid}/ns/net", "unshare"] if beside else ["unshare", "--net"]
        shell = ["sh", "-ec", "\n".join([*script, "echo ready", "cat"])]
        self._holder = subprocess.Popen(
            [*before, "--mount", "--propagation", "private", *own, *shell],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self._pid: int = self._holder.pid
        if processes:
            children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split()
            self._pid = int(children[0])
        self._enter = ["nsenter", f"--target={self._pid}", "--net", "--mount", *(["--pid"] if processes else [])]
        self._started: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str | Path, environ: Mapping[str, str] | None = None) -> str:
        """Run a program that must succeed; gives its standard output."""
        done = subprocess.run(
            [*self._enter, *map(str, command)], env=environ, capture_output=True, timeout=60, check=False, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *command: str | Path, environ: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start a program that ends with the network."""
        process = subprocess.Popen(
            [*self._enter, *map(str, command)], env=environ,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._started.append(process)
        return process

    def inside(self, work: Callable[[], _T]) -> _T:
        """Do something of this process in there. The files are ours, so names are still resolved as outside."""
        result: list[Any] = []

        def enter() -> None:
            with open(f"/proc/{self._pid}/ns/net", "rb") as network:
                assert _libc.setns(network.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                result.append(work())
            except BaseException as error:
                result.append(error)

        thread = threading.Thread(target=enter)  # setns(2) is for a thread, and threads that it starts
        thread.start()
        thread.join()
        if isinstance(result[0], BaseException):
            raise result[0]
        found: _T = result[0]
        return found

    def close(self) -> None:
        """End all that was started in it, and itself."""
        for process in self._started:
            process.terminate()
            process.wait(20)
        self._holder.communicate(timeout=20)
        for name in ("hosts", "resolv.conf"):
            (self.root / name).unlink()
        with contextlib.suppress(OSError):
            self.root.rmdir()
