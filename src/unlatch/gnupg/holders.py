"""Which processes hold a listening socket: what can be known about an agent without connecting to it.

To connect is not harmless: behind a socket that systemd listens on, it starts the agent.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

_ACCEPTS = 0x10000  # __SO_ACCEPTCON, in the flags of proc(5)'s /proc/net/unix
_NAME = b"gpg-agent"


def listening(path: str) -> set[int]:
    """The inodes of the sockets that were bound to ``path`` and listen, in our network namespace."""
    try:
        with open("/proc/net/unix", "rb") as table:
            rows = table.read().splitlines()[1:]
    except OSError:
        return set()
    wanted = os.fsencode(path)
    # Num RefCount Protocol Flags Type St Inode Path
    split = (row.split(b" ", 7) for row in map(_with_single_blanks, rows) if row.endswith(wanted))
    return {int(row[6]) for row in split if len(row) == 8 and row[7] == wanted and int(row[3], 16) & _ACCEPTS}


def _with_single_blanks(row: bytes) -> bytes:
    """A row whose inode is not padded; its path is left as it is."""
    head, colon, rest = row.partition(b": ")
    fields = rest.split(None, 6)
    return b" ".join([head + colon.rstrip(), *fields])


def inhabited(paths: Iterable[str]) -> list[str]:
    """Those of the paths on which a gpg-agent itself listens; a process whose files we may not see is none."""
    sockets = {path: listening(os.path.realpath(path)) for path in paths}
    wanted = set().union(*sockets.values())
    held = {inode for pid in agents() for inode in _sockets(pid)} if wanted else set()
    return [path for path, inodes in sockets.items() if inodes & held]


def agents() -> Iterator[int]:
    """The pids of all agents that we can see."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit() and is_agent(int(name)))


def is_agent(pid: int) -> bool:
    """Whether a process is a gpg-agent, by its name."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as name:
            return name.read(64).rstrip(b"\n") == _NAME
    except OSError:
        return False


def _sockets(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                kind, _, inode = os.readlink(f"/proc/{pid}/fd/{name}").partition(":[")
                if kind == "socket":
                    yield int(inode.rstrip("]"))
