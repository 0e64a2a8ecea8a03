"""A service user that exists for one test only: an extra line of /etc/passwd and an empty /run, in a mount namespace.

The machine's own /etc and /run are not touched: everything is mounted over them where nobody else sees it.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from house import House
from real import absent, real

UID = 4242
NAME = "vault"


class ServiceUser:
    """The user of one house, which is given to it. Its programs run without any environment, as from a bare unit."""

    def __init__(self, house: House) -> None:
        if os.getuid() != 0:
            absent("only root can give a test another user")
        for program in ("unshare", "nsenter", "setpriv", "mount"):
            real(program)
        self._house = house
        passwd = house.root / "passwd"
        passwd.write_text(f"{Path('/etc/passwd').read_text()}{NAME}:x:{UID}:{UID}::{house.root}:/usr/sbin/nologin\n")
        passwd.chmod(0o644)
        mounts = ["mount -t tmpfs -o mode=755 tmpfs /run", f"mount --bind {passwd} /etc/passwd"]
        mounts += _reveal(house.root, [Path(sys.base_prefix), Path(sys.prefix), Path(__file__).parents[1] / "src"])
        # The namespace lives as long as this shell, which ends with its standard input.
        script = " && ".join([*map(str, mounts), f"chown -R {UID}:{UID} {house.root}", "echo ready", "cat"])
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=house.environ(),
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"

    @property
    def enter(self) -> list[str]:
        """The words before a command that make it run, still as root, where this user's mounts are."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]

    def start(self, *command: str | Path, may_gain: bool = False) -> "subprocess.Popen[bytes]":
        """Start a program as this user: own session, no terminal, empty environment, working in /.

        ``may_gain`` is for programs that become root by their mode, as sudo does.
        """
        become = f"setpriv --reuid {UID} --regid {UID} --clear-groups {'' if may_gain else '--no-new-privs'} env -i"
        return subprocess.Popen(
            [*self.enter, *become.split(), *map(str, command)],
            cwd="/", start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *command: str | Path, feed: bytes = b"") -> bytes:
        """Run a program that must succeed."""
        process = self.start(*command)
        out, err = process.communicate(feed, timeout=60)
        assert process.returncode == 0, err.decode(errors="replace")
        return out

    def close(self) -> None:
        """End the namespace; what still runs in it belongs to the house."""
        self._holder.communicate(timeout=10)


def _reveal(staging: Path, needed: list[Path]) -> list[str]:
    """Mounts that let everybody reach these directories, although one above them is private (a home, mostly)."""
    mounts = []
    for number, directory in enumerate(needed):
        place = staging / f"reveal-{number}"
        mounts += [f"mkdir {place}", f"mount --bind {shlex.quote(str(directory))} {place}"]
    hidden = {_private_parent(directory) for directory in needed} - {None}
    mounts += [f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(parent))}" for parent in sorted(map(str, hidden))]
    for number, directory in enumerate(needed):
        if _private_parent(directory):
            path = shlex.quote(str(directory))
            mounts += [f"mkdir -p {path}", f"mount --bind {staging}/reveal-{number} {path}"]
    return [*mounts, *(f"umount {staging}/reveal-{number}" for number in range(len(needed)))]


def _private_parent(directory: Path) -> Path | None:
    """The topmost directory above that others cannot search."""
    return next((parent for parent in reversed(directory.parents) if not parent.stat().st_mode & 0o001), None)
