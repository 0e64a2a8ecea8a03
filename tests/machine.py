"""A whole small Debian that exists for one test: its own root, processes, network and name; with or without systemd.

Its files are a layer in memory over the Debian that tools/setup made once, so everything may be done to it, and it is
gone with the test. Nothing outside is touched: it has namespaces of its own, the kernel's settings are read-only, and
what would reach the hardware is dropped.
"""

import contextlib
import fcntl
import os
import shlex
import shutil
import struct
import subprocess
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from real import absent, real
from terminal import Terminal
from waiting import until

BASE = Path(__file__).parents[1] / ".make" / "debian" / "root"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a container is not allowed either: modules, clock, reboot, raw devices, the kernel's log, kernel audit.
DROPPED = "-sys_module,-sys_time,-sys_boot,-sys_rawio,-mknod,-syslog,-audit_control,-mac_admin,-wake_alarm"

BUILT = "/run/built"

_TIOCSPTLCK, _TIOCGPTN = 0x40045431, 0x80045430  # ioctl_tty(2): unlock a new pseudo terminal, and its number

# Run in fresh namespaces; $1 is an empty directory, $2 the base, $3 the terminal that becomes the console, then PID 1.
BUILD = r"""
set -eu
place=$1 base=$2 console=$3
shift 3
mount --make-rprivate /
ip link set lo up
mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$place/upper,workdir=$place/work" "$place/root"
cd "$place/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
touch dev/console
mount --bind "$console" dev/console
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs run
hostname web03
mkdir .outside
pivot_root . .outside
umount -l /.outside
rmdir /.outside
touch /run/built
exec env -i container=test PATH="$PATH" setpriv --bounding-set="$0" -- "$@"
"""
SYSTEMD = ("/lib/systemd/systemd", "--system", "--show-status=0", "--log-target=null")
# Reaps what loses its parent, and ends with the test: its standard input is a pipe that nobody writes to.
NO_INIT = ("sh", "-c", "cat >/dev/null; exit 0")


class Done(NamedTuple):
    """What a program said."""

    code: int
    out: str
    err: str


class Machine:
    """One such Debian. ``root`` is its / as seen from here, which also reaches its Unix sockets."""

    def __init__(self, *, systemd: bool) -> None:
        for program in ("unshare", "nsenter", "setpriv", "mount", "ip", "pivot_root"):
            real(program)
        if os.getuid() != 0 or not (BASE / "usr").is_dir():
            absent("only root can give a test a machine, and tools/setup test must have made .make/debian")
        self._place = Path(tempfile.mkdtemp(prefix="unlatch-machine-", dir="/tmp"))
        self._cgroup = _cgroups() / self._place.name
        self._cgroup.mkdir()
        self._console, far = os.openpty()
        self._spare = -1
        init = SYSTEMD if systemd else NO_INIT
        self._started: list[subprocess.Popen[bytes]] = []
        # Whatever ends this process ends the machine.
        spaces = "setpriv --pdeathsig KILL unshare --cgroup --mount --pid --net --uts --ipc --fork --kill-child"
        enter = f'echo $$ >"$0/cgroup.procs"; exec {spaces} -- sh -c {shlex.quote(BUILD)} "$@"'
        self._process = subprocess.Popen(
            ["sh", "-c", enter, self._cgroup, DROPPED, self._place, BASE, os.ttyname(far), *init],
            env={"PATH": PATH}, start_new_session=True, stdin=subprocess.PIPE, stdout=far, stderr=far,
        )  # fmt: skip
        os.close(far)
        try:
            self.pid = until(self._init, "the machine's first process")
            self.root = Path(f"/proc/{self.pid}/root")
            if systemd:
                until(self._is_booted, "the end of booting", 60)  # half a second, where nobody else computes
        except BaseException:
            self.close()
            raise

    def start(self, *command: str | Path, user: str = "", **environ: str) -> "subprocess.Popen[bytes]":
        """Start a program in the machine as this user (root), without a terminal, with a login's environment."""
        home = {"HOME": f"/home/{user}", "USER": user} if user else {"HOME": "/root", "USER": "root"}
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        process = subprocess.Popen(
            ["nsenter", f"--target={self.pid}", "--all", "--", *become, *map(str, command)],
            env={"PATH": PATH, "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"} | home | environ,
            start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._started.append(process)
        return process

    def terminal(self, *command: str | Path, user: str = "", columns: int = 80, rows: int = 24) -> Terminal:
        """Run a program as this user (root), at a terminal that the machine has in /dev/pts."""
        master, far = self._new_terminal()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        home = {"HOME": f"/home/{user}", "USER": user} if user else {"HOME": "/root", "USER": "root"}
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        return Terminal(
            [*become, *command],
            {"PATH": PATH, "LANG": "C.UTF-8", "TERM": "xterm"} | home,
            pair=(master, far), enter=["nsenter", f"--target={self.pid}", "--all", "--"],
        )  # fmt: skip

    def run(self, *command: str | Path, user: str = "", feed: bytes = b"", check: bool = True, **environ: str) -> Done:
        """Run a program in the machine; it must succeed within a minute unless ``check`` is false."""
        process = self.start(*command, user=user, **environ)
        out, err = process.communicate(feed, timeout=60)
        done = Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
        assert done.code == 0 or not check, done
        return done

    def shell(self, script: str, *, user: str = "", check: bool = True, **environ: str) -> Done:
        """Run a shell script in the machine."""
        return self.run("sh", "-euc", script, user=user, feed=b"", check=check, **environ)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write one of root's files in the machine."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def add_user(self, name: str) -> None:
        """Somebody with a home and a shell."""
        self.run("useradd", "--create-home", "--shell", "/bin/sh", name)

    def copy(self, file: Path, path: str) -> str:
        """Bring a file from outside into the machine; its path there."""
        shutil.copy(file, self.root / path.lstrip("/"))
        return path

    def files(self) -> set[str]:
        """Every path of the machine but for those that live and die with it, and what dpkg and apt write down."""
        prune = ("/proc", "/sys", "/dev", "/tmp", "/var/lib/dpkg", "/var/cache", "/var/log", "/var/lib/apt")
        skipped = " -o ".join(f"-path {directory}/\\*" for directory in prune)
        return set(self.shell(f"find / \\( {skipped} \\) -prune -o -print").out.splitlines())

    def commands(self) -> list[str]:
        """The command lines of all its processes."""
        files = (self.root / "proc").glob("[0-9]*/cmdline")
        lines = []
        for file in files:
            with contextlib.suppress(OSError):  # it has ended
                lines.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
        return [line for line in lines if line]

    def close(self) -> None:
        """End everything in it at once; its files were in memory."""
        self._process.kill()
        self._process.communicate()
        for process in self._started:
            with process:
                process.kill()
        for descriptor in (self._console, self._spare):
            if descriptor >= 0:
                os.close(descriptor)
        until(self._remove_cgroups, "the end of the machine's processes")
        self._place.rmdir()

    def _new_terminal(self) -> tuple[int, int]:
        """Both ends of a pseudo terminal in the machine's /dev/pts."""
        pts = self.root / "dev/pts"
        master = os.open(pts / "ptmx", os.O_RDWR | os.O_NOCTTY)
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        (number,) = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))
        far = os.open(pts / str(number), os.O_RDWR | os.O_NOCTTY)
        if os.fstat(far).st_rdev != os.stat(self.root / "dev/console").st_rdev:
            return master, far
        # The console is a terminal of this host, numbered there. sudo looks its own up by the number and would find it.
        os.close(far)
        self._spare = master
        return self._new_terminal()

    def _init(self) -> int:
        """The pid of its first process, once that has its own root."""
        assert self._process.poll() is None, os.read(self._console, 65536).decode(errors="replace")
        pid = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().strip()
        return int(pid) if pid and Path(f"/proc/{pid}/root{BUILT}").exists() else 0

    def _is_booted(self) -> bool:
        return self.run("systemctl", "is-system-running", check=False).out.strip() in ("running", "degraded")

    def _remove_cgroups(self) -> bool:
        with contextlib.suppress(OSError):
            for directory, _, _ in os.walk(self._cgroup, topdown=False):
                os.rmdir(directory)
        return not self._cgroup.exists()


def _cgroups() -> Path:
    """Where this host has its unified control groups."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(place)
    absent("no control groups, version 2, that could be written to")
    raise AssertionError


@contextlib.contextmanager
def machine(*, systemd: bool) -> Iterator[Machine]:
    """A machine for the length of a block."""
    made = Machine(systemd=systemd)
    try:
        yield made
    finally:
        made.close()
