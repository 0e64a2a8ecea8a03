"""Where a broker can be found, and whether what is there may be trusted.

A broker's sockets lie in two directories: the askers' one may be mounted into a container, the admin's one stays on the
host. Nobody but the asker itself, root, or (for the host's broker) the user that root gave ``/run/unlatch`` to may own
the directory or answer behind the socket: else any local user could pose as the broker and collect prompts.
"""

import contextlib
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Mapping
from typing import NamedTuple

from unlatch.errors import UnlatchError

HOST_ASKERS = "/run/unlatch"
HOST_ADMIN = "/run/unlatch-admin"
HOST_STATE = "/var/log/unlatch"

CONNECT_SECONDS = 5.0  # a full backlog of 4096 drains in well under a second; five is for a machine in distress
PEERCRED = struct.Struct("iII")  # pid, uid, gid: socket(7), SO_PEERCRED


class Untrusted(UnlatchError):
    """A socket or its directory belongs to somebody who could read prompts meant for the broker."""


class Runtime(NamedTuple):
    """The places of one broker. ``host`` marks the broker of the whole machine; the others serve one user."""

    askers: str
    admin: str
    lock: str
    state: str
    host: bool = False


class Peer(NamedTuple):
    """Who is behind a connected Unix socket, by the kernel's word (socket(7), SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


def candidates(uid: int, environ: Mapping[str, str], home: str) -> list[Runtime]:
    """Where an asker of ``uid`` looks for its broker, best first: the host's if there is one, then its own."""
    if environ.get("UNLATCH_RUNTIME_DIR"):
        return [own(uid, environ, home)]
    host = [host_runtime()] if os.path.isdir(HOST_ASKERS) else []
    return [*host, own(uid, environ, home)]


def host_runtime() -> Runtime:
    """The places of the host's broker."""
    return Runtime(f"{HOST_ASKERS}/broker.sock", f"{HOST_ADMIN}/admin.sock", f"{HOST_ADMIN}/lock", HOST_STATE, True)


def own(uid: int, environ: Mapping[str, str], home: str) -> Runtime:
    """The places of the broker of one user.

    ``/run/user/UID`` is taken whether or not the environment names it, because gpg-agent's children often have no
    environment; a service user without it keeps the sockets in its state directory. Never /tmp.
    """
    chosen = environ.get("UNLATCH_RUNTIME_DIR")
    if chosen:
        return Runtime(f"{chosen}/askers/broker.sock", f"{chosen}/admin/admin.sock", f"{chosen}/lock", chosen)
    state = f"{home}/.local/state/unlatch"
    run = f"/run/user/{uid}"
    if os.path.isdir(run):
        return Runtime(f"{run}/unlatch/broker.sock", f"{run}/unlatch-admin/admin.sock", f"{run}/unlatch/lock", state)
    return Runtime(
        f"{state}/run/askers/broker.sock", f"{state}/run/admin/admin.sock", f"{state}/run/askers/lock", state
    )


def connect(path: str, uid: int, *, host: bool) -> socket.socket:
    """Connect to a broker's socket after checking who owns its directory and who answers.

    The directory is held open while it is checked and used, so it cannot be exchanged in between; that also lifts the
    limit of 107 bytes for a socket's path (unix(7)).

    Raises:
        OSError: nothing is there, or nobody accepts within five seconds.
        Untrusted: the directory or the peer belongs to somebody else.
    """
    folder, name = os.path.split(path)
    holder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        trusted = _trusted_owners(folder, os.fstat(holder), uid, host=host)
        connection = _connect(f"/proc/self/fd/{holder}/{name}")
    finally:
        os.close(holder)
    answering = peer(connection).uid
    if answering not in trusted:
        connection.close()
        raise Untrusted(f"the socket {path} is answered by uid {answering}")
    return connection


def peer(connection: socket.socket) -> Peer:
    """The other end of a connected Unix socket."""
    return Peer(*PEERCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEERCRED.size)))


def make_private(folder: str, uid: int) -> None:
    """Create a directory that only ``uid`` may enter, or check the one that is there.

    Parents that are missing are made the same way: os.makedirs would give them what the umask leaves, and with 002
    the state directory, which is a parent of sockets, would then be refused.

    Raises:
        OSError: it cannot be made.
        Untrusted: it exists and others own it or may write to it.
    """
    _make(folder)
    _trusted_owners(folder, os.lstat(folder), uid, host=False)


def _make(folder: str) -> None:
    above = os.path.dirname(folder)
    if above and not os.path.isdir(above):
        _make(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)


def _trusted_owners(folder: str, status: os.stat_result, uid: int, *, host: bool) -> set[int]:
    # /run is root's, so whoever owns /run/unlatch got it from root: the broker's own user.
    trusted = {uid, 0} | ({status.st_uid} if host else set())
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in trusted or status.st_mode & 0o022:
        raise Untrusted(f"{folder} belongs to uid {status.st_uid} with mode {stat.S_IMODE(status.st_mode):o}")
    return trusted


def _connect(path: str) -> socket.socket:
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(path)
        except BlockingIOError:  # a full backlog says EAGAIN at once and cannot be polled for
            connection.close()
            if time.monotonic() > until:
                raise TimeoutError("the broker does not accept connections") from None
            select.select([], [], [], 0.01)
        except BaseException:
            connection.close()
            raise
        else:
            connection.setblocking(True)
            return connection
