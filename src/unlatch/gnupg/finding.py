"""Which agent is a home's one agent: look at both places, believe only sockets that somebody answers."""

import contextlib
import os
import socket
import stat
import struct
import time

from unlatch import runtime
from unlatch.gnupg.errors import NoReply
from unlatch.gnupg.homes import Home

MAX_REDIRECTION = 511  # bytes; libassuan reads no more of such a file (assuan-socket.c, eval_redirection)
_TIMEVAL = struct.Struct("@ll")


def connect(path: str, uid: int, until: float) -> socket.socket | None:
    """Connect to an agent's socket; None when nobody listens there, as on a socket that a dead agent left.

    ``until`` is the time.monotonic() by which the agent must have accepted.

    Raises:
        Untrusted: whoever listens is neither ``uid`` nor root.
        NoReply: somebody listens and accepts nobody.
    """
    target = redirected(path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    seconds = max(0.001, until - time.monotonic())
    # The kernel's own limit: with a non-blocking socket, a full backlog cannot be waited for (unix(7), EAGAIN).
    whole = int(seconds)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(whole, int((seconds - whole) * 1e6)))
    try:
        connection.connect(target)
        _check_peer(connection, path, uid)
    except BlockingIOError:
        connection.close()
        raise NoReply(path, seconds) from None
    except OSError:  # nothing there, nobody behind it, or not for us to open
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def _check_peer(connection: socket.socket, path: str, uid: int) -> None:
    answering = runtime.peer(connection).uid
    if answering not in (uid, 0):
        raise runtime.Untrusted(f"the socket {path} is answered by uid {answering}")


def redirected(path: str) -> str:
    """Where a socket really is: libassuan takes a regular file in its place that says so, once.

    Such a file is "%Assuan%" on its first line and "socket=PATH" on the next, where ${NAME} stands for a variable of
    the environment (libassuan's manual, "Socket wrappers").
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return path
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return path
    try:
        first, _, rest = os.read(descriptor, MAX_REDIRECTION).partition(b"\n")
    finally:
        os.close(descriptor)
    name, _, value = rest.partition(b"\n")[0].partition(b"=")
    if first.rstrip(b"\r ") != b"%Assuan%" or name.strip() != b"socket" or not value.strip():
        return path
    return os.fsdecode(value.strip())


def is_same(first: str, second: str) -> bool:
    """Whether two paths lead to one socket."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(redirected(first)), os.stat(redirected(second)))
    return False


def in_order(home: Home) -> list[str]:
    """Both places, the one first that GnuPG would use now."""
    in_home, in_run = home.sockets()
    return [in_run, in_home] if home.uses_run() else [in_home, in_run]
