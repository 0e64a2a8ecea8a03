"""Which programs listen on a TCP port, as far as /proc shows them to us (root sees all)."""

import contextlib
import os
from typing import NamedTuple

_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_MAX_TABLE = 4 << 20


class Listener(NamedTuple):
    """A process that holds a listening socket. ``family`` is 4 or 6 (which may stand for both)."""

    program: str
    pid: int
    family: int


def listeners(port: int, proc: str = "/proc") -> tuple[Listener, ...]:
    """Who listens on this port of any address."""
    families = {inode: family for family in (4, 6) for inode in _inodes(port, family, proc)}
    found = set()
    for pid in _pids(proc) if families else ():
        for inode in _sockets(pid, proc):
            if inode in families:
                found.add(Listener(_program(pid, proc), pid, families[inode]))
    return tuple(sorted(found))


def is_listened(port: int, proc: str = "/proc") -> bool:
    """Whether anybody listens on this port, also where we are not shown who."""
    return bool(_inodes(port, 4, proc) or _inodes(port, 6, proc))


def _inodes(port: int, family: int, proc: str) -> list[str]:
    """/proc/net/tcp, proc(5): local address in column 1, state in 3, inode in 9."""
    name = f"{proc}/net/tcp{'6' if family == 6 else ''}"
    with contextlib.suppress(OSError), open(name, encoding="ascii") as file:
        rows = [line.split() for line in file.read(_MAX_TABLE).splitlines()[1:]]
        return [
            row[9] for row in rows if len(row) > 9 and row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port
        ]
    return []


def _pids(proc: str) -> list[int]:
    return [int(name) for name in os.listdir(proc) if name.isdigit()]


def _sockets(pid: int, proc: str) -> list[str]:
    found = []
    with contextlib.suppress(OSError):
        for number in os.listdir(f"{proc}/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"{proc}/{pid}/fd/{number}")
                if target.startswith("socket:["):
                    found.append(target[len("socket:[") : -1])
    return found


def _program(pid: int, proc: str) -> str:
    with contextlib.suppress(OSError), open(f"{proc}/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read(64).strip()
    return ""
