"""The broker's process: what it is given (arguments, environment, sockets), and its life from start to end.

Three ways to be started, and the same broker: by an asker that needs one (``--on-demand --asker-fd N --lock PATH``), by
systemd with its sockets (LISTEN_FDS, names "askers", "admin" and "page"), and by ``unlatch serve``, where it makes its
own sockets and, at a terminal, prints the links.
"""

import argparse
import asyncio
import contextlib
import fcntl
import os
import pwd
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from unlatch import config, runtime
from unlatch.broker import listen
from unlatch.broker.admins import Admins
from unlatch.broker.askers import Askers
from unlatch.broker.audit import Audit
from unlatch.broker.connections import Connection, user_name
from unlatch.broker.idle import IDLE_SECONDS, Departure, IdleWatch
from unlatch.broker.server import Broker, Surroundings
from unlatch.broker.setup import Terminal
from unlatch.errors import BadConfig
from unlatch.settings import Settings, Tcp, Unix

FIRST_INHERITED = 3  # sd_listen_fds(3)
NAMES = ("askers", "admin", "page")


class Arguments(NamedTuple):
    """What stands in the broker's argument list."""

    on_demand: bool
    system: bool
    asker_fd: int | None
    lock: str
    config: str | None
    idle: float


class Sockets(NamedTuple):
    """The listening sockets of askers and admins."""

    askers: socket.socket
    admin: socket.socket


def main(argv: Sequence[str], ready: Callable[[str], None] | None = None) -> None:
    """Be a broker until a signal comes, or, on demand, until nobody needs one.

    ``ready`` is called with the page's address when everybody can connect.

    Raises:
        BadConfig: the file has fatal mistakes. (On demand it serves, and refuses every prompt with the reason.)
        AddressTaken, Untrusted, OSError: a socket or directory cannot be had.
    """
    arguments = _parse(argv)
    os.umask(0o077)
    _raise_descriptor_limit()
    asyncio.run(_serve(arguments, os.environ, ready))


def _parse(argv: Sequence[str]) -> Arguments:
    parser = argparse.ArgumentParser(prog="unlatch broker", allow_abbrev=False)
    parser.add_argument("--on-demand", action="store_true")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("--asker-fd", type=int)
    parser.add_argument("--lock", default="")
    parser.add_argument("--config")
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS)
    return Arguments(**vars(parser.parse_args(argv)))


async def _serve(arguments: Arguments, environ: Mapping[str, str], ready: Callable[[str], None] | None) -> None:
    # 1. Where we are, and what the file says.
    uid = os.geteuid()
    place = runtime.host_runtime() if arguments.system else runtime.own(uid, environ, _home(environ, uid))
    loaded = config.load(arguments.config, environ, uid)
    fatal = [str(mistake) for mistake in loaded.mistakes if mistake.fatal]
    if fatal and not arguments.on_demand:
        raise BadConfig(fatal)
    # 2. Our sockets.
    inherited = _inherited(environ)
    sockets = _own_sockets(arguments, place, inherited, uid)
    refusal = "; ".join(fatal)
    settings, pages = loaded.settings, [listen.StandingListener(page) for page in inherited["page"]]
    page_listeners: list[listen.PageListener] = [*pages]
    if not page_listeners and not refusal:
        try:
            page_listeners = listen.page_listeners(settings)
        except listen.AddressTaken as error:
            if not arguments.on_demand:
                raise
            refusal = str(error)
    # 3. The broker.
    broker = Broker(
        Surroundings(
            settings=_with_real_port(settings, page_listeners),
            environ=environ,
            host=socket.gethostname(),
            audit=Audit(settings.audit_file or f"{_state(place, environ)}/audit.jsonl", _wall_clock),
            page_listeners=page_listeners,
            terminal=_terminal(arguments, environ, uid),
            loopback=_is_loopback(loaded),
            refusal=refusal,
            trouble=tuple(str(mistake) for mistake in loaded.mistakes if not mistake.fatal),
        )
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    askers, admins = Askers(broker), Admins(broker)
    asker_acceptor = listen.Acceptor(sockets.askers, lambda: Connection(askers))
    admin_acceptor = listen.Acceptor(sockets.admin, lambda: Connection(admins))
    if arguments.on_demand:
        departure = Departure(arguments.lock, place.askers, place.admin, asker_acceptor.accept)

        def is_idle() -> bool:
            return broker.is_idle and not len(askers.crowd) and not len(admins.crowd)

        def leave() -> bool:
            return is_idle() and (not arguments.lock or departure.leave())

        watch = IdleWatch(0.0 if refusal else arguments.idle, leave, stop.set)
        broker.on_settled = lambda: watch.note(idle=is_idle())
        broker.settle()
    broker.serve_standing_pages()
    _tell_systemd(environ, "READY=1")
    if ready is not None:
        ready(broker.settings.public_url)
    # 4. Its life, and its end.
    await stop.wait()
    _tell_systemd(environ, "STOPPING=1")
    for acceptor, listener in ((asker_acceptor, sockets.askers), (admin_acceptor, sockets.admin)):
        acceptor.close()
        listener.close()
    await broker.close()


def _own_sockets(
    arguments: Arguments, place: runtime.Runtime, inherited: Mapping[str, list[socket.socket]], uid: int
) -> Sockets:
    """The sockets that we were given; those that we were not, made.

    Raises:
        AddressTaken, Untrusted, OSError
    """
    mode = 0o666 if arguments.system else 0o600  # the host's is for everybody: the kernel says who it is
    given = [*inherited["askers"]]
    if arguments.asker_fd is not None:
        given.append(socket.socket(fileno=arguments.asker_fd))
    folders = [] if given and inherited["admin"] else [place.askers, place.admin]
    for path in folders:
        _make_folder(os.path.dirname(path), uid, public=arguments.system)
    with _lock(place.lock) if not given else contextlib.nullcontext():
        askers = given[0] if given else listen.unix_listener(Unix(place.askers, mode=mode))
        admin = inherited["admin"][0] if inherited["admin"] else listen.unix_listener(Unix(place.admin, mode=mode))
    return Sockets(askers, admin)


def _make_folder(folder: str, uid: int, *, public: bool) -> None:
    if public:
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)  # noqa: S103 (everybody may ask; makedirs obeyed our umask)
    else:
        runtime.make_private(folder, uid)


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Keep askers from starting a broker while we take its place."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _inherited(environ: Mapping[str, str]) -> dict[str, list[socket.socket]]:
    """Sockets from systemd by name (sd_listen_fds_with_names(3)); the variables may be meant for another process."""
    found: dict[str, list[socket.socket]] = {name: [] for name in NAMES}
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return found
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    for number, name in zip(range(FIRST_INHERITED, FIRST_INHERITED + count), names, strict=False):
        os.set_inheritable(number, False)
        if name in found:
            found[name].append(socket.socket(fileno=number))
    return found


def _with_real_port(settings: Settings, listeners: Sequence[listen.PageListener]) -> Settings:
    """With port 0 the address of the page is known only now."""
    first = listeners[0] if listeners else None
    if not isinstance(settings.listen, Tcp) or settings.listen.port or not isinstance(first, listen.TcpListener):
        return settings
    address = urlsplit(settings.public_url)
    if address.port != 0:
        return settings
    return settings._replace(public_url=f"{address.scheme}://{address.hostname}:{first.port}{address.path}")


def _is_loopback(loaded: config.Loaded) -> bool:
    """Whether the file names neither people nor notifiers; a notifier that is named but wrong is named."""
    settings = loaded.settings
    broken = any(mistake.key.startswith("notify") for mistake in loaded.mistakes)
    return not (settings.people or settings.notifiers or broken)


def _terminal(arguments: Arguments, environ: Mapping[str, str], uid: int) -> Terminal | None:
    """The terminal that we run at, or nothing: a service's output goes to a log, where no link may stand."""
    if arguments.on_demand or arguments.system or "NOTIFY_SOCKET" in environ:
        return None
    return Terminal(user_name(uid), socket.gethostname(), "SSH_CONNECTION" in environ)


def _state(place: runtime.Runtime, environ: Mapping[str, str]) -> str:
    """Where the audit trail lies: systemd may have made the directory (systemd.exec(5), LogsDirectory)."""
    state = environ.get("LOGS_DIRECTORY") or place.state
    with contextlib.suppress(OSError):  # the audit trail will say what is wrong with it
        os.makedirs(state, mode=0o700, exist_ok=True)
    return state


def _home(environ: Mapping[str, str], uid: int) -> str:
    try:
        return environ.get("HOME") or pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"


def _wall_clock() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _raise_descriptor_limit() -> None:
    """Each waiting asker is a descriptor; the soft limit of 1024 is for programs that still use select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tell_systemd(environ: Mapping[str, str], state: str) -> None:
    """sd_notify(3); a leading "@" is an abstract socket."""
    address = environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as service_manager, contextlib.suppress(OSError):
            service_manager.sendto(state.encode("ascii"), "\0" + address[1:] if address[0] == "@" else address)
