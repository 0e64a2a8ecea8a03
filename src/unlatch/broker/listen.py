"""The broker's listening sockets: who can take the page's address, and when anybody can connect to it.

The rules for the page's TCP port:
- The port is ours from start to end, so no other local user can put a page of his own at an address that people trust;
  but it *listens* only while a prompt is open, or an admin looks. Linux keeps a port bound when its listening socket
  is shut down.
- SO_REUSEADDR is on while we bind (connections of an earlier broker may be in TIME_WAIT), and off before we listen:
  left on, any user could bind the same port while we are idle.
- To listen again while closed connections are in TIME_WAIT, the kernel wants an option that both sides share. That is
  SO_REUSEPORT, on for the moment of listen(2) and on accepted connections: it lets in sockets of the same uid only
  (socket(7)), so there is no moment at which somebody else could slip in.
- ``localhost`` is two addresses, and browsers try ::1 first: whoever is given one gets the other too. So is every name
  under ``localhost``.
- All this lasts as long as the broker. One that comes and goes must not be behind an address that people trust:
  ``free_between_brokers``.
"""

import asyncio
import contextlib
import errno
import grp
import os
import socket
import ssl
import stat
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from unlatch.errors import UnlatchError
from unlatch.settings import Settings, Tcp, Unix, is_loopback

BACKLOG = 4096  # askers that may queue while a broker starts; the kernel caps it at net.core.somaxconn
ACCEPTS_AT_ONCE = 64  # before other events get their turn
MOST_HANDSHAKES = 512  # of TLS at the same time; the oldest goes, as with broker.http.MAX_SILENT
HANDSHAKE_SECONDS = 10.0
PORT_TRIES = 20  # for port 0
BREATHER_SECONDS = 1.0  # when the process is out of descriptors, accept(2) fails at once, again and again

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

_OTHER_FAMILY = {"127.0.0.1": "::1", "::1": "127.0.0.1", "0.0.0.0": "::", "::": "0.0.0.0"}  # noqa: S104

Factory = Callable[[], asyncio.BaseProtocol]


class AddressTaken(UnlatchError):
    """The page's or a socket's address is held by another program: nothing can be served there safely."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"cannot listen on {address}: {why}")


class _NotOnBoth(Exception):
    """A port that we chose is free on one address of localhost only."""


class Acceptor:
    """Accepts connections of one listening socket and gives each its protocol, until closed.

    With ``tls`` a connection gets its protocol after the handshake.
    """

    def __init__(self, listener: socket.socket, factory: Factory, tls: ssl.SSLContext | None = None) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._factory = factory
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._welcoming: dict[asyncio.Task[object], None] = {}  # in the order in which they came
        self._pause: asyncio.TimerHandle | None = None
        self._loop.add_reader(listener.fileno(), self.accept)

    @property
    def welcoming(self) -> int:
        """How many were accepted whose protocol has not heard of it yet."""
        return len(self._welcoming)

    def accept(self) -> int:
        """Accept who waits now; returns how many came."""
        for count in range(ACCEPTS_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._take_a_breather()
                return count
            self._welcome(connection)
        return ACCEPTS_AT_ONCE

    def close(self) -> None:
        """Accept nobody any more. The listening socket stays open: it belongs to the caller."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener.fileno())

    def _welcome(self, connection: socket.socket) -> None:
        if connection.family != socket.AF_UNIX:
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # see the rules above
                connection.setsockopt(socket.SOL_SOCKET, option, 1)
        task = self._loop.create_task(self._connect(connection))
        self._welcoming[task] = None
        task.add_done_callback(lambda done: self._welcoming.pop(done, None))
        if self._tls and len(self._welcoming) > MOST_HANDSHAKES:
            oldest = next(iter(self._welcoming))
            del self._welcoming[oldest]
            oldest.cancel()

    async def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        seconds = HANDSHAKE_SECONDS if self._tls else None
        with contextlib.suppress(OSError):  # it hung up before we looked, or speaks no TLS
            await self._loop.connect_accepted_socket(
                self._factory, connection, ssl=self._tls, ssl_handshake_timeout=seconds
            )

    def _take_a_breather(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(
            BREATHER_SECONDS, self._loop.add_reader, self._listener.fileno(), self.accept
        )


class PageListener(Protocol):
    """Where the page can be reached."""

    @property
    def address(self) -> str:
        """As ``listen`` in the settings has it: ``127.0.0.1:8420``, ``[::1]:8420``, ``unix:/run/page.sock``."""

    def stand(self, factory: Factory) -> None:
        """At the broker's start: open what is never shut."""

    def open(self, factory: Factory) -> None:
        """Let people connect. Harmless when they already can.

        Raises:
            OSError
        """

    def shut(self) -> None:
        """No prompt is open: as far as this kind of address can be, be unreachable."""

    def close(self) -> None:
        """Give the address up, at the end of the broker."""


class TcpListener:
    """An address and port that is held all the time and listens only between :meth:`open` and :meth:`shut`."""

    def __init__(self, host: str, port: int) -> None:
        """Take the address.

        Raises:
            OSError: it is not ours to take, or taken.
        """
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self._acceptor: Acceptor | None = None
        try:
            self._hold(host, port)
        except OSError:
            self._socket.close()
            raise

    @property
    def address(self) -> str:
        return _address(self._socket)

    @property
    def port(self) -> int:
        """The port, also when 0 was asked for."""
        return int(self._socket.getsockname()[1])

    def stand(self, factory: Factory) -> None:
        """Stay shut: no prompt is open."""

    def open(self, factory: Factory) -> None:
        if self._acceptor is None:
            self._listen()
            self._acceptor = Acceptor(self._socket, factory)

    def shut(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.shut()
        self._socket.close()

    def _hold(self, host: str, port: int) -> None:
        # Linux forgets a port that it chose itself when the socket stops listening: name it. Only tests ask for 0.
        with socket.socket(self._socket.family, socket.SOCK_STREAM) as chooser:
            if port == 0:
                chooser.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                chooser.bind((host, 0))
                port = chooser.getsockname()[1]
            if self._socket.family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        # Listening once makes the kernel forget that this port was ever shared (inet_csk_get_port, "fastreuse").
        self._listen()
        self._socket.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.listen(BACKLOG)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


class StandingListener:
    """A socket that nobody else can take, because its path or systemd holds it: it listens all the time."""

    def __init__(self, listener: socket.socket, path: str = "") -> None:
        """``path`` is a Unix socket's that shall be removed at the end."""
        self._socket = listener
        self._path = path
        self._acceptor: Acceptor | None = None

    @property
    def address(self) -> str:
        return f"unix:{self._path}" if self._path else _address(self._socket)

    def stand(self, factory: Factory) -> None:
        self.open(factory)

    def open(self, factory: Factory) -> None:
        if self._acceptor is None:
            self._acceptor = Acceptor(self._socket, factory)

    def shut(self) -> None:
        """Go on listening: an idle page is one static 404 to whoever may open the socket."""

    def close(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        self._socket.close()
        if self._path:
            with contextlib.suppress(OSError):
                os.unlink(self._path)


def _address(listener: socket.socket) -> str:
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def free_between_brokers(settings: Settings, uid: int) -> str:
    """Why another user could serve a page in our place while no broker runs, or nothing.

    Without a proxy, at http://localhost, nothing can be done about it: docs/threat-model.md says so.
    """
    if isinstance(settings.listen, Tcp):
        if settings.public_url.startswith("http://"):
            return ""
        return (
            "while nobody asks, any user of this host could take the page's port: listen on a Unix socket in a private "
            "directory, or run a broker that stays (unlatch serve)"
        )
    folder = os.path.dirname(os.path.realpath(settings.listen.path))
    if _is_private(folder, uid):
        return ""
    return f"other users may write to {folder} or above it: they could take the page's socket while nobody asks"


def _is_private(folder: str, uid: int) -> bool:
    """Whether nobody but ``uid`` and root can put something into a directory, or another directory in its place."""
    while True:
        try:
            status = os.stat(folder)
        except OSError:
            return True  # then it cannot be listened on either, and that failure says why
        if status.st_uid not in (uid, 0) or status.st_mode & 0o022:
            return False
        above = os.path.dirname(folder)
        # In a sticky directory, such as /tmp, others cannot rename what is ours.
        if above == folder or (os.stat(above).st_mode & stat.S_ISVTX and os.stat(above).st_uid == 0):
            return True
        folder = above


def page_listeners(settings: Settings) -> list[PageListener]:
    """Take every address at which the page can be reached.

    Raises:
        AddressTaken
    """
    if isinstance(settings.listen, Unix):
        return [StandingListener(unix_listener(settings.listen), settings.listen.path)]
    for _ in range(PORT_TRIES):
        with contextlib.suppress(_NotOnBoth):
            return _tcp_listeners(settings.listen, settings.public_url)
    raise AddressTaken("localhost", "no port is free on both of its addresses")


def _tcp_listeners(listen: Tcp, public_url: str) -> list[PageListener]:
    taken: list[PageListener] = []
    port = listen.port
    for host in _hosts(listen, public_url):
        try:
            listener = TcpListener(host, port)
        except OSError as error:
            if taken and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue  # a machine without IPv6 has no second localhost
            for other in taken:
                other.close()
            if taken and listen.port == 0:
                raise _NotOnBoth from None
            raise AddressTaken(f"{host}:{port}", error.strerror or "") from None
        port = listener.port
        taken.append(listener)
    return taken


def unix_listener(place: Unix, *, backlog: int = BACKLOG) -> socket.socket:
    """A listening Unix socket with its group and mode, put in the place of one that nobody serves any more.

    It appears under its name only when it is ready, so nobody meets it with the wrong mode. Run only by a process that
    knows itself to be the one broker of this place, or the check for a living one could be late.

    Raises:
        AddressTaken: it cannot be made, something that is no socket is in the way, or a program answers there.
    """
    folder, name = os.path.split(place.path)
    new = f"{name}.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        holder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        listener.close()
        raise AddressTaken(place.path, error.strerror or "") from None
    try:
        _check_vacant(holder, name)
        listener.bind(f"/proc/self/fd/{holder}/{new}")  # short whatever the folder: unix(7) allows 107 bytes
        os.chmod(new, 0o600, dir_fd=holder)
        if place.group:
            os.chown(new, -1, grp.getgrnam(place.group).gr_gid, dir_fd=holder)
        os.chmod(new, place.mode, dir_fd=holder)
        listener.listen(backlog)
        os.rename(new, name, src_dir_fd=holder, dst_dir_fd=holder)
    except (OSError, KeyError) as error:
        listener.close()
        with contextlib.suppress(OSError):
            os.unlink(new, dir_fd=holder)
        why = error.strerror or str(error) if isinstance(error, OSError) else f"there is no group {place.group}"
        raise AddressTaken(place.path, why) from None
    finally:
        os.close(holder)
    return listener


def _check_vacant(holder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(name, dir_fd=holder, follow_symlinks=False).st_mode):
            raise FileExistsError(errno.EEXIST, "something that is not a socket is there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            with contextlib.suppress(ConnectionRefusedError):
                probe.connect(f"/proc/self/fd/{holder}/{name}")
                raise OSError(errno.EADDRINUSE, "another program answers there")


def _hosts(listen: Tcp, public_url: str) -> tuple[str, ...]:
    if listen.host == "localhost":
        return ("127.0.0.1", "::1")
    name = urlsplit(public_url).hostname or ""
    by_name = is_loopback(name) and name.endswith("localhost")
    if by_name and listen.host in _OTHER_FAMILY:
        return (listen.host, _OTHER_FAMILY[listen.host])
    return (listen.host,)
