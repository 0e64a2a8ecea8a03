"""The broker's process: what it is given (arguments, environment, sockets), and its life from start to end.

Three ways to be started, and the same broker: by an asker that needs one (``--on-demand --asker-fd N --lock PATH``), by
systemd with its sockets, and by ``unlatch serve``, where it makes its own sockets and, at a terminal, prints the links.
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
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from unlatch import config, runtime
from unlatch.broker import listen, systemd
from unlatch.broker.admins import Admins
from unlatch.broker.askers import Askers
from unlatch.broker.audit import Audit
from unlatch.broker.connections import Connection, user_name
from unlatch.broker.idle import IDLE_SECONDS, Departure, IdleWatch
from unlatch.broker.server import Broker, Surroundings
from unlatch.broker.setup import Terminal
from unlatch.errors import BadConfig
from unlatch.settings import Settings, Tcp, Unix


class Arguments(NamedTuple):
    """What stands in the broker's argument list."""

    on_demand: bool
    system: bool
    asker_fd: int | None
    lock: str
    config: str | None
    idle: float


class Given(NamedTuple):
    """Where a broker starts: its arguments, its environment, its uid, and the places of its sockets."""

    arguments: Arguments
    environ: Mapping[str, str]
    uid: int
    place: runtime.Runtime


class Pages(NamedTuple):
    """The page's addresses, and why there are none."""

    listeners: list[listen.PageListener]
    refusal: str = ""


def main(argv: Sequence[str], ready: Callable[[str], None] | None = None) -> None:
    """Be a broker until a signal comes, or, on demand, until nobody needs one.

    ``ready`` is called with the page's address when everybody can connect.

    Raises:
        BadConfig: the file has fatal mistakes. (On demand it serves, and refuses every prompt with the reason.)
        AddressTaken, Untrusted, OSError: a socket or directory cannot be had.
    """
    arguments, uid = _parse(argv), os.geteuid()
    place = runtime.host_runtime() if arguments.system else runtime.own(uid, os.environ, _home(os.environ, uid))
    os.umask(0o077)
    _raise_descriptor_limit()
    asyncio.run(_serve(Given(arguments, os.environ, uid, place), ready or (lambda _: None)))


def _parse(argv: Sequence[str]) -> Arguments:
    parser = argparse.ArgumentParser(prog="unlatch broker", allow_abbrev=False)
    parser.add_argument("--on-demand", action="store_true")
    parser.add_argument("--system", action="store_true")
    parser.add_argument("--asker-fd", type=int)
    parser.add_argument("--lock", default="")
    parser.add_argument("--config")
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS)
    return Arguments(**vars(parser.parse_args(argv)))


async def _serve(given: Given, ready: Callable[[str], None]) -> None:
    inherited = systemd.inherited_sockets(given.environ)
    loaded = _load_config(given)
    askers_socket, admin_socket = _own_sockets(given, inherited)
    pages = _pages(given, loaded, inherited["page"])
    broker = Broker(_surroundings(given, loaded, pages))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    askers, admins = Askers(broker), Admins(broker)
    acceptors = (
        listen.Acceptor(askers_socket, lambda: Connection(askers)),
        listen.Acceptor(admin_socket, lambda: Connection(admins)),
    )
    if given.arguments.on_demand:
        _end_when_idle(given, broker, (askers, admins), acceptors, stop)
    broker.serve_standing_pages()
    systemd.tell(given.environ, "READY=1")
    ready(broker.settings.public_url)
    await stop.wait()
    systemd.tell(given.environ, "STOPPING=1")
    for acceptor in acceptors:
        acceptor.close()
    for listener in (askers_socket, admin_socket):
        listener.close()
    await broker.close()


def _end_when_idle(
    given: Given,
    broker: Broker,
    sides: tuple[Askers, Admins],
    acceptors: tuple[listen.Acceptor, listen.Acceptor],
    stop: asyncio.Event,
) -> None:
    lock = given.arguments.lock  # none under systemd, which keeps the askers' socket and starts us again
    departure = Departure(
        lock, given.place.askers, given.place.admin, lambda: sum(acceptor.accept() for acceptor in acceptors)
    )

    def is_idle() -> bool:
        return broker.is_idle and not any(len(side.crowd) for side in sides)

    def leave() -> bool:
        coming = sum(acceptor.welcoming for acceptor in acceptors)
        if coming or not is_idle() or (lock and not departure.leave()):
            return False
        for acceptor in acceptors:
            acceptor.close()
        return True

    watch = IdleWatch(0.0 if broker.refusal else given.arguments.idle, leave, stop.set)
    broker.on_settled = lambda: watch.note(idle=is_idle())
    broker.settle()


def _load_config(given: Given) -> config.Loaded:
    loaded = config.load(given.arguments.config, given.environ, given.uid)
    if _fatal(loaded) and not given.arguments.on_demand:
        raise BadConfig(_fatal(loaded))
    return loaded


def _fatal(loaded: config.Loaded) -> list[str]:
    return [str(mistake) for mistake in loaded.mistakes if mistake.fatal]


def _pages(given: Given, loaded: config.Loaded, inherited: list[socket.socket]) -> Pages:
    """The addresses that systemd gave us, else those of the settings.

    A broker without its address must not ring: somebody else may be serving a page there.
    """
    if _fatal(loaded):
        return Pages([], "; ".join(_fatal(loaded)))
    if inherited:
        return Pages([listen.StandingListener(page) for page in inherited])
    if given.arguments.on_demand and (why := listen.free_between_brokers(loaded.settings, given.uid)):
        return Pages([], why)
    try:
        return Pages(listen.page_listeners(loaded.settings))
    except listen.AddressTaken as error:
        if not given.arguments.on_demand:
            raise
        return Pages([], str(error))


def _surroundings(given: Given, loaded: config.Loaded, pages: Pages) -> Surroundings:
    settings = _with_real_port(loaded.settings, pages.listeners)
    return Surroundings(
        settings=settings,
        environ=given.environ,
        host=socket.gethostname(),
        audit=Audit(settings.audit_file or f"{_state(given)}/audit.jsonl", _wall_clock),
        page_listeners=pages.listeners,
        terminal=_terminal(given),
        loopback=_is_loopback(loaded),
        refusal=pages.refusal,
        trouble=tuple(str(mistake) for mistake in loaded.mistakes if not mistake.fatal),
    )


def _own_sockets(given: Given, inherited: Mapping[str, list[socket.socket]]) -> tuple[socket.socket, socket.socket]:
    """The sockets of askers and admins: those that we were given, and, made by us, those that we were not.

    Raises:
        AddressTaken, Untrusted, OSError
    """
    askers, admin = inherited["askers"], inherited["admin"]
    if given.arguments.asker_fd is not None:
        askers = [socket.socket(fileno=given.arguments.asker_fd)]
    for socket_given, path in ((askers, given.place.askers), (admin, given.place.admin)):
        if not socket_given:
            _make_folder(os.path.dirname(path), given)
    mode = 0o666 if given.arguments.system else 0o600  # the host's is for everybody: the kernel says who comes
    with contextlib.nullcontext() if askers else _lock(given.place.lock):
        return (
            askers[0] if askers else listen.unix_listener(Unix(given.place.askers, mode=mode)),
            admin[0] if admin else listen.unix_listener(Unix(given.place.admin, mode=mode)),
        )


def _make_folder(folder: str, given: Given) -> None:
    if given.arguments.system:
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)  # noqa: S103 (everybody may ask; makedirs obeyed our umask)
    else:
        runtime.make_private(folder, given.uid)


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Keep askers from starting a broker while we take its place."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _with_real_port(settings: Settings, listeners: Sequence[listen.PageListener]) -> Settings:
    """With port 0 the address of the page is known only now."""
    address, first = urlsplit(settings.public_url), listeners[0] if listeners else None
    if not isinstance(settings.listen, Tcp) or address.port != 0 or not isinstance(first, listen.TcpListener):
        return settings
    return settings._replace(public_url=f"{address.scheme}://{address.hostname}:{first.port}{address.path}")


def _is_loopback(loaded: config.Loaded) -> bool:
    """Whether the file names neither people nor notifiers; a notifier that is named but wrong is named."""
    settings = loaded.settings
    broken = any(mistake.key.startswith("notify") for mistake in loaded.mistakes)
    return not (settings.people or settings.notifiers or broken)


def _terminal(given: Given) -> Terminal | None:
    """The terminal that we run at, or nothing: what is printed elsewhere ends in a log, where no link may stand."""
    if given.arguments.on_demand or given.arguments.system or sys.stdout is None or not sys.stdout.isatty():
        return None
    return Terminal(user_name(given.uid), socket.gethostname(), "SSH_CONNECTION" in given.environ)


def _state(given: Given) -> str:
    """Where the audit trail lies: systemd may have made the directory (systemd.exec(5), LogsDirectory)."""
    state = given.environ.get("LOGS_DIRECTORY") or given.place.state
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
