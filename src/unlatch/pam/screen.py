"""The size of the terminal that a login happens at, if it happens at one of this host.

sshd asks before there is a terminal (its PAM_TTY is ``ssh``), so what the administrator says counts there. Elsewhere
the terminal's name is a claim: of a program that root trusts, or of one that asks for itself and may name anything. So
(1) only names that terminals have are opened, (2) whose it is, and that it is a terminal, is looked at before it is
opened, since opening a serial line already moves its wires, and (3) opening it makes it nobody's controlling terminal
and waits for nothing.
"""

import fcntl
import os
import re
import stat
import struct
import termios
from typing import NamedTuple

# pseudo terminals, consoles, and serial lines (ttyS0, ttyAMA0, ttyUSB0); never "tty" itself, which is the caller's own
_NAME = re.compile(r"(?:/dev/)?(pts/[0-9]{1,7}|tty[A-Z]{0,4}[0-9]{1,4})\Z")
_KDGETMODE, _KD_TEXT = 0x4B3B, b"\0\0\0\0"  # ioctl_console(2)
_LEAST, _MOST = (20, 5), (1000, 1000)  # columns and rows; a serial line says 0 and 0 when nobody told it


class Screen(NamedTuple):
    """What there is to draw on. ``raw``: it is a terminal here, to which colours go as they are; ssh(1) writes them
    out as digits.
    """

    columns: int
    rows: int
    raw: bool = False


def measure(tty: str, uid: int, fallback: tuple[int, int]) -> Screen:
    """How large the terminal ``tty`` is (as PAM_TTY names it); ``fallback`` (columns, rows) when there is no saying.

    ``uid`` is who names it: root names any, everybody else only a terminal that belongs to it. Runs as root, in a
    process that sees the host's /dev (a unit with PrivateDevices= sees no terminal).
    """
    match = _NAME.match(tty)
    size = size_of(f"/dev/{match[1]}", uid) if match else None
    return Screen(*size, raw=True) if size else Screen(*fallback)


def size_of(path: str, uid: int) -> tuple[int, int] | None:
    """Columns and rows of this terminal; None: it is no terminal, not this uid's, or does not know."""
    try:
        place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(place)
        if not stat.S_ISCHR(status.st_mode) or uid not in (0, status.st_uid):
            return None
        terminal = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        os.close(place)
    try:
        return None if _draws_windows(terminal) else _sensible(fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return None
    finally:
        os.close(terminal)


def _draws_windows(terminal: int) -> bool:
    """Whether this is a console that a graphical login has; its size in characters says nothing then."""
    try:
        return fcntl.ioctl(terminal, _KDGETMODE, bytes(4)) != _KD_TEXT
    except OSError:  # no console: a pseudo terminal or a serial line
        return False


def _sensible(winsize: bytes) -> tuple[int, int] | None:
    rows, columns, _, _ = struct.unpack("4H", winsize)
    within = _LEAST[0] <= columns <= _MOST[0] and _LEAST[1] <= rows <= _MOST[1]
    return (columns, rows) if within else None
