"""Which broker serves the asking user, what it says of itself, and what it was started with."""

import os
import stat
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from unlatch import config, runtime
from unlatch.cli.admin import Admin, why
from unlatch.doctor.check import Situation
from unlatch.doctor.host.process import argument_of, environment_of, process_of
from unlatch.doctor.host.shared import Shared
from unlatch.errors import UnlatchError

ADMIN_SECONDS = 5.0  # for a line of the broker's
HOST_CONFIG = "/etc/unlatch/unlatch.toml"
HOST_PAGE = "/run/unlatch-page/page.sock"  # systemd/system/unlatch-page.socket


class Row(NamedTuple):
    """A notifier in the broker's status. ``last``: seconds since the last message arrived, -1 for never."""

    name: str
    delivered: int
    failed: int
    last: int
    why: str
    note: str


class Status(NamedTuple):
    """What the broker says. ``why`` it does not, or nothing; ``absent``: nobody listens.

    ``whole``: it tells us everything, because we are root or its own user. ``listens``: the page's addresses as
    ``listen`` in the settings has them.
    """

    why: str = ""
    absent: bool = False
    whole: bool = False
    version: str = ""
    pid: int = 0
    uptime: int = 0
    page: str = ""
    trouble: str = ""
    listens: tuple[str, ...] = ()
    notifiers: tuple[Row, ...] = ()


class Served(NamedTuple):
    """The broker at ``place``: its uid (-1: unknown), its environment as far as it can be known, and its settings.

    ``started`` is when it was started (seconds since 1970; 0: not known), ``written`` when its file was changed.
    """

    place: runtime.Runtime
    status: Status
    uid: int
    environ: Mapping[str, str]
    loaded: config.Loaded
    started: float
    written: float


def _look(situation: Situation) -> Served:
    place = place_of(situation)
    peer, status = ask(place, situation)
    process = process_of(place, peer, status.pid, situation)
    environ = environment_of(place, process.pid, situation)
    owner = process.uid if process.uid >= 0 else situation.caller
    path = argument_of(process.pid, "--config")
    own = place.host or situation.caller == situation.uid
    loaded = config.load(path, environ, owner) if own else _load_for_root(path, environ, owner)
    started = time.time() - status.uptime if status.whole else 0.0
    return Served(place, status, process.uid, environ, loaded, started, _written(loaded.path))


served = Shared(_look)


def _load_for_root(path: str | None, environ: Mapping[str, str], uid: int) -> config.Loaded:
    """The settings of another user's own broker. That user names the file, and what it says of notifiers is tried by a
    process of that user's: so it must be that user's own, or the host's, and nothing else is even opened.
    """
    file = config.find(path, environ, uid)
    if not file:
        return config.load(path, environ, uid)
    try:
        found = os.open(file, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        mistake = config.Mistake(file, 0, "", "cannot be read")
        return config.Loaded(config.Settings(rules=None), (mistake,), file)
    try:
        status, name = os.fstat(found), f"/proc/self/fd/{found}"
        if not stat.S_ISREG(status.st_mode) or (status.st_uid != uid and os.readlink(name) != HOST_CONFIG):
            mistake = config.Mistake(file, 0, "", "is not that user's own: let that user run doctor")
            return config.Loaded(config.Settings(rules=None), (mistake,), file)
        loaded = config.load(name, environ, uid)
    finally:
        os.close(found)
    return loaded._replace(mistakes=tuple(each._replace(file=file) for each in loaded.mistakes), path=file)


def place_of(situation: Situation) -> runtime.Runtime:
    """Where the asking user's broker is: the host's if there is one, else their own."""
    environ = situation.environ if situation.caller == situation.uid else {}
    return runtime.candidates(situation.uid, environ, _home(situation))[0]


def connect(place: runtime.Runtime, situation: Situation) -> Admin:
    """The broker's admin socket.

    Raises:
        OSError, Untrusted
    """
    return Admin(place, situation.uid, ADMIN_SECONDS)


def ask(place: runtime.Runtime, situation: Situation) -> tuple[runtime.Peer | None, Status]:
    """Who listens, and what the broker says of itself."""
    try:
        admin = connect(place, situation)
        try:
            return admin.peer, read_status(admin.ask({"op": "status"}))
        finally:
            admin.close()
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None, Status(why="nobody listens", absent=True)
    except OSError as error:
        return None, Status(why=why(error))
    except UnlatchError as error:
        return None, Status(why=str(error))


def read_status(said: Mapping[str, Any]) -> Status:
    """A status line of a broker, of whatever release."""
    broker, rows = said.get("broker"), said.get("notifiers")
    if not isinstance(broker, dict) or not isinstance(rows, list):
        return Status(why="it does not speak our protocol")
    listens = broker.get("listens")
    return Status(
        whole="listening" in broker,
        version=str(broker.get("version", "")),
        pid=_whole_number(broker.get("pid")),
        uptime=_whole_number(broker.get("uptime")),
        page=str(broker.get("page", "")),
        trouble=str(broker.get("trouble", "")),
        listens=tuple(map(str, listens)) if isinstance(listens, list) else (),
        notifiers=tuple(_row(row) for row in rows if isinstance(row, dict)),
    )


def _row(row: Mapping[str, Any]) -> Row:
    last = row.get("last")
    return Row(
        str(row.get("name", "")),
        _whole_number(row.get("delivered")),
        _whole_number(row.get("failed")),
        last if isinstance(last, int) else -1,
        str(row.get("why", "")),
        str(row.get("note", "")),
    )


def _whole_number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _home(situation: Situation) -> str:
    return (situation.environ.get("HOME") if situation.caller == situation.uid else "") or situation.home


def _written(path: str) -> float:
    try:
        return os.stat(path).st_mtime if path else 0.0
    except OSError:
        return 0.0


def page_places(found: Served) -> tuple[str, ...]:
    """The page's addresses as ``listen`` in the settings has them. What a broker says counts; else the socket that
    systemd holds for the host's broker, if it is there; else the settings.
    """
    if found.status.whole:
        return found.status.listens
    if found.place.host and os.path.exists(HOST_PAGE):
        return (f"unix:{HOST_PAGE}",)
    listen = found.loaded.settings.listen
    if isinstance(listen, config.Unix):
        return (f"unix:{listen.path}",)
    return (f"[{listen.host}]:{listen.port}" if ":" in listen.host else f"{listen.host}:{listen.port}",)


def audit_file(found: Served) -> str:
    """The audit trail's path, as the broker finds it."""
    return found.loaded.settings.audit_file or f"{found.environ.get('LOGS_DIRECTORY') or found.place.state}/audit.jsonl"
