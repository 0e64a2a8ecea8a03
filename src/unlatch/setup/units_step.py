"""The steps that give the broker its units: their files where no package brought them, and their start."""

import glob
import os
import tempfile
from typing import Literal, NamedTuple

from unlatch.errors import UnlatchError
from unlatch.setup import running, unit_files
from unlatch.setup.changes import SYSTEMD, Change, making
from unlatch.setup.files import look, missing_above
from unlatch.setup.journal import Journal, Units
from unlatch.setup.places import Places
from unlatch.setup.steps import Effect, Step

BROKER, PAGE = "unlatch.service", "unlatch-page.socket"
SOCKETS = ("unlatch.socket", "unlatch-admin.socket")


class BadUnits(UnlatchError):
    """systemd would not take the units; ``said`` is what it says."""

    def __init__(self, said: str) -> None:
        super().__init__(f"systemd does not accept the units: {said}")


class NotForService(UnlatchError):
    """The program lies where the broker's sandbox cannot see it."""

    def __init__(self, program: str) -> None:
        super().__init__(f"{program} cannot be run by the broker's own user: it is in somebody's home")


class CommandFailed(UnlatchError):
    """A program of the system's did not do what it was told; the text is its last line."""

    def __init__(self, command: tuple[str, ...], said: str) -> None:
        super().__init__(f'"{" ".join(command)}" failed: {said}')


def packaged(places: Places) -> str:
    """Where a package has put the units; "" where none has."""
    return next((folder for folder in places.packaged if os.path.isfile(f"{folder}/{BROKER}")), "")


def plan_files(places: Places, program: str) -> Step:
    """The unit files (those for agents, keys and cards too, for whoever enables them later) and the broker's user,
    where no package brought them.

    Raises:
        NotForService, BadUnits
    """
    folder = packaged(places)
    if folder and folder != places.units:
        return Step("broker", f"its systemd units are those of the package, in {folder}")
    if places.scope == "host" and program.startswith(("/home/", "/root/", "/run/user/")):
        raise NotForService(program)
    texts = unit_files.units("system" if places.scope == "host" else "user", program)
    _verify(texts, "system" if places.scope == "host" else "user")
    wanted = {f"{places.units}/{name}": text for name, text in texts.items()}
    effects: tuple[Effect, ...] = ()
    if places.scope == "host":
        above = os.path.dirname(places.units)
        wanted |= {f"{above}/{path}": text for path, text in unit_files.drop_ins().items()}
    if places.sysusers and not os.path.exists(places.packaged_sysusers):
        wanted[places.sysusers] = unit_files.sysusers()
    changes = _changes(wanted)
    if places.sysusers and any(change.path == places.sysusers for change in changes):
        effects = (Effect("makes the system user unlatch, as which the broker runs", lambda _: _make_user(places)),)
    return Step("broker", f"its systemd units are in {places.units}", tuple(changes), effects)


def _changes(wanted: dict[str, str]) -> list[Change]:
    changes: dict[str, Change] = {}
    for path, text in wanted.items():
        before = look(path)
        if before.data == text.encode() and before.kind == "file":
            continue
        for change in making(missing_above(path)):
            changes.setdefault(change.path, change)
        mode = before.mode if before.kind == "file" else 0o644
        changes[path] = Change(path, before, before._replace(kind="file", data=text.encode(), mode=mode), tells=SYSTEMD)
    return list(changes.values())


def plan_drop_in(places: Places, group: str) -> list[Change]:
    """Give the page's socket to a group."""
    return _changes({places.socket_drop_in: unit_files.socket_drop_in(group)})


class News(NamedTuple):
    """What the steps before are about to change: unit files, who may open the page's socket, the broker's settings."""

    units: bool = False
    page: bool = False
    settings: bool = False


def plan_start(places: Places, *, page: bool, news: News) -> Step:
    """Have systemd start the broker, now and at boot; ``page``: with the page's socket. Open prompts survive it."""
    units = (*([PAGE] if page else []), BROKER)
    says = f"systemd starts {', '.join(units)} at boot"
    enable = (*places.systemctl, "enable", "--now", *units)
    if not os.path.exists(places.manager):
        note = f"systemd does not run here; where it does, type:\n$ {' '.join(enable)}"
        return Step("start", says, notes=() if _all_enabled(places, units) else (note,))
    effects = []
    if news.units or news.page:
        effects.append(Effect("systemd reads the units anew", lambda _: _systemctl(places, "daemon-reload")))
    enabled = [unit for unit in (*units, *SOCKETS) if not _is(places, "is-enabled", unit)]
    started = [unit for unit in (*units, *SOCKETS) if not _is(places, "is-active", unit)]
    if enabled or started:
        made = (folder for folder in _made_by_systemd(places) if not os.path.isdir(folder))
        manager: Literal["system", "user"] = "system" if places.scope == "host" else "user"
        new = Units(manager, tuple(enabled), tuple(started), tuple(made))
        effects.append(
            Effect(
                "the broker runs, now and after each boot",
                lambda journal: _enable(places, journal, units, new, page_anew=news.page),
                " ".join(enable),
            )
        )
    elif any(news):
        text = "the broker starts anew; open prompts go on"
        effects.append(Effect(text, lambda _: _start(places, page_anew=news.page)))
    return Step("start", says, effects=tuple(effects))


def stop(places: Places, units: Units) -> None:
    """Take back what :func:`plan_start` did; what the sockets left in /run goes too, as askers would wait there."""
    if os.path.exists(places.manager):
        _end_instances(places)
        # A socket that still listens would start the broker again.
        if units.started:
            _systemctl(places, "stop", *sorted(units.started, reverse=True))
        if units.enabled:
            _systemctl(places, "disable", *units.enabled)
    for folder in units.runtime:
        _clear(folder)


def _end_instances(places: Places) -> None:
    """What somebody enabled of agents, keys and cards: with the unit files its links would lead nowhere."""
    wanted = f"{places.units}/*.wants/unlatch-*@?*"
    names = {os.path.basename(path) for path in glob.glob(wanted) + glob.glob(wanted.replace(".wants", ".requires"))}
    if names:
        _systemctl(places, "stop", "unlatch-*@*.service", "unlatch-*@*.socket")
        _systemctl(places, "disable", *sorted(names))


def at_boot(places: Places) -> bool:
    """Whether the broker's unit is enabled, by the link that systemctl makes."""
    target = "multi-user" if places.scope == "host" else "default"
    return os.path.lexists(f"{places.units}/{target}.target.wants/{BROKER}")


def reload(places: Places) -> None:
    """Have systemd read its files again, where it runs."""
    if os.path.exists(places.manager):
        _systemctl(places, "daemon-reload")


def _made_by_systemd(places: Places) -> tuple[str, ...]:
    """The directories that enabling and starting make, and that disabling and stopping leave."""
    wanting = ("multi-user.target", "default.target", "sockets.target", BROKER)
    return (*places.runtime, *(f"{places.units}/{unit}.wants" for unit in wanting))


def _enable(places: Places, journal: Journal, units: tuple[str, ...], new: Units, *, page_anew: bool) -> None:
    journal.record_units(new)
    _systemctl(places, "enable", *units)
    _start(places, page_anew=page_anew)


def _start(places: Places, *, page_anew: bool) -> None:
    """Start the broker, or start it anew. It brings in its sockets, all in one transaction: where askers wait, the
    first of them would start a broker that only stopped, and a socket cannot be added to one that runs.
    """
    if page_anew:  # its group is another one
        _systemctl(places, "stop", PAGE)
    _systemctl(places, "restart", BROKER)


def _clear(folder: str) -> None:
    """Remove a directory, with the broker's sockets and lock; anything else in it is not ours and keeps it."""
    try:
        for name in os.listdir(folder):
            if name.endswith((".sock", ".leaving")) or name == "lock":
                os.unlink(f"{folder}/{name}")
        os.rmdir(folder)
    except OSError:
        pass


def _all_enabled(places: Places, units: tuple[str, ...]) -> bool:
    return all(_is(places, "is-enabled", unit) for unit in units)


def _is(places: Places, question: str, unit: str) -> bool:
    return running.run((*places.systemctl, question, unit), _reach(places)).code == 0


def _reach(places: Places) -> dict[str, str]:
    """Where a user's systemd is, which su(1) and cron(8) do not say."""
    return {} if places.scope == "host" else {"XDG_RUNTIME_DIR": os.path.dirname(os.path.dirname(places.manager))}


def _systemctl(places: Places, *words: str) -> None:
    command = (*places.systemctl, *words)
    said = running.run(command, _reach(places))
    if said.code:
        raise CommandFailed(command, said.last)


def _make_user(places: Places) -> None:
    command = ("systemd-sysusers", places.sysusers)
    if running.which(command[0]):
        said = running.run(command)
        if said.code:
            raise CommandFailed(command, said.last)


def _verify(texts: dict[str, str], manager: str) -> None:
    """Ask systemd about a copy of the units. It exits with 0 for keys that it does not know: it must be silent too."""
    if not running.which("systemd-analyze"):
        return
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        paths = [f"{folder}/{name}" for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            with open(path, "x", encoding="utf-8") as file:
                file.write(text)
        said = running.run(
            ("systemd-analyze", "verify", "--man=no", f"--{manager}", *paths), {"XDG_RUNTIME_DIR": folder}
        )
    if said.code or said.text.strip():
        raise BadUnits(said.last or f"exit code {said.code}")
