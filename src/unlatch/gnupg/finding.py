"""Which agent is a home's one agent: look at all its places, believe only a socket that somebody answers."""

import contextlib
import os
import socket
import stat
import struct
import time

from unlatch import runtime
from unlatch.gnupg.errors import NoReply
from unlatch.gnupg.homes import HOST_AGENTS, RUN, Home

MAX_REDIRECTION = 511  # bytes; libassuan takes no larger file for one (assuan-socket.c, eval_redirection)
_REDIRECTIONS = 2  # libassuan looks twice: when it makes the address, and when it connects (strace)
_TIMEVAL = struct.Struct("@ll")


class Limit:
    """How long something may take: ``seconds`` from now on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.until = time.monotonic() + seconds

    def left(self) -> float:
        """The seconds that are left; never quite none, because zero means something else to a socket."""
        return max(0.001, self.until - time.monotonic())


def places(home: Home) -> list[str]:
    """The sockets that there are for this home's agent, none of them twice; the one that GnuPG uses now comes first.

    Whether anybody listens there is another question.
    """
    in_home, in_run = home.sockets()
    found = [in_run, in_home] if home.uses_run() else [in_home, in_run]
    # A sandbox that hides the homes (ProtectHome=) hides what leads to the agent of the host's unit, not its socket.
    if home.is_default and not os.path.isdir(home.directory) and not os.path.exists(home.unit_settings()):
        found.append(home.owned())
    return _without_copies([path for path in found if path and os.path.exists(redirected(path))])


def agents_first(home: Home) -> list[str]:
    """The same in the order in which to ask: in the home nobody but an agent listens.

    In /run/user it may be systemd, without an agent yet, and to connect there would start a second one.
    """
    return sorted(places(home), key=lambda path: path != home.sockets()[0])


def _without_copies(paths: list[str]) -> list[str]:
    kept: list[str] = []
    for path in paths:
        if not any(_is_same(path, other) for other in kept):
            kept.append(path)
    return kept


def _is_same(first: str, second: str) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(redirected(first)), os.stat(redirected(second)))
    return False


def is_owned(path: str) -> bool:
    """Whether a place is the socket of the host's unit, or leads there."""
    return os.path.realpath(redirected(path)).startswith(f"{HOST_AGENTS}/")


def connect(path: str, uid: int, limit: Limit) -> socket.socket | None:
    """Connect to an agent's socket; None when nobody listens there, as on a socket that a dead agent left.

    Raises:
        Untrusted: whoever listens is neither ``uid`` nor root.
        NoReply: somebody listens and accepts nobody within ``limit``.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The kernel's own limit: a full backlog cannot be waited for without blocking (unix(7), EAGAIN).
        whole, part = divmod(limit.left(), 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(whole), int(part * 1e6)))
        connection.connect(redirected(path))
        _check_peer(connection, path, uid)
    except BlockingIOError:
        connection.close()
        raise NoReply(path, limit.seconds) from None
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
    """Where a socket really is: libassuan takes a small regular file in its place that says so.

    Such a file is "%Assuan%" on its first line and "socket=PATH" on the next, to the letter; ${NAME} stands for a
    variable of the environment, or for nothing. Anything else is no redirection, and no socket either.
    """
    for _ in range(_REDIRECTIONS):
        target = _target(_content(path))
        if not target:
            break
        path = target
    return path


def _content(path: str) -> bytes:
    """The beginning of a regular file; nothing of anything else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(descriptor, MAX_REDIRECTION + 1)
    finally:
        os.close(descriptor)


def _target(content: bytes) -> str:
    head, found, rest = content.partition(b"%Assuan%\nsocket=")
    name, ended, _ = rest.partition(b"\n")
    if head or not found or not ended or len(content) > MAX_REDIRECTION:
        return ""
    first, *parts = os.fsdecode(name).split("${")
    expanded = [first]
    for part in parts:
        variable, closed, text = part.partition("}")
        if not closed:
            return ""
        expanded += [os.environ.get(variable, ""), text]
    return "".join(expanded)


def is_hidden(home: Home) -> str:
    """The path of a listening socket of this home's agent that we are kept from seeing; nothing if there is none.

    A sandbox (ProtectHome=) mounts something over /run/user, and whoever starts an agent then starts a second one.
    """
    from unlatch.gnupg import processes

    in_run = home.sockets()[1]
    hidden = not os.path.exists(in_run) and processes.is_mounted(RUN) and processes.is_listening(in_run)
    return in_run if hidden else ""
