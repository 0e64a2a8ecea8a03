"""unlatch.toml -> typed settings, with every mistake reported at once.

A file that cannot be read at all, or not as TOML, has one mistake and no rules: askers refuse, brokers do not start.
"""

import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from unlatch import toml_lines
from unlatch.settings import (
    END_TO_END,
    NOTIFIER,
    NOTIFIER_KINDS,
    PERSON,
    PROGRAMS,
    TABLES,
    TOP,
    Key,
    NotifierSettings,
    Person,
    Settings,
    Tcp,
    Unacceptable,
    Unix,
    is_loopback,
)

__all__ = ["Loaded", "Mistake", "NotifierSettings", "Person", "Settings", "Tcp", "Unix", "load"]

MAX_FILE = 1 << 20  # bytes; a fleet's file has some kilobytes, and tomllib takes a second for a megabyte
_SECRET_NAME = re.compile(r"(pass|password|passwd|passphrase|passcode|pin|secret|token|api[_-]?key)\Z", re.IGNORECASE)
_NAMED_TABLES = ("people", "notify", "rule")


class Mistake(NamedTuple):
    """One thing wrong with the file, printable with ``str()``. ``line`` 0 is the file as a whole.

    ``fatal`` mistakes keep a broker from starting; the others disable one notifier, or refuse by broken rules.
    """

    file: str
    line: int
    key: str
    text: str
    fatal: bool = True
    column: int = 0

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class Loaded(NamedTuple):
    """The settings, what is wrong with them, and the file they come from ("" when there is none)."""

    settings: Settings
    mistakes: tuple[Mistake, ...]
    path: str


_LOCALHOST = re.compile(r"http://((?:[^/:]*\.)?localhost)[:/]")


def load(path: str | None, environ: Mapping[str, str], uid: int) -> Loaded:
    """Read ``path``, else ``$UNLATCH_CONFIG``, else the first file of the search that exists, else the defaults.

    ``uid`` is whose home is searched when ``environ`` names none; ``$PATH`` finds the programs of notifiers.
    Never raises for what the file says: that is in the mistakes.
    """
    file = find(path, environ, uid)
    if not file:
        return Loaded(Settings(), (), "")
    try:
        text = _read(file, uid)
        data = _parse(file, text)
    except _Unusable as unusable:
        return Loaded(Settings(rules=None), (unusable.mistake,), file)
    report = _Report(file, text)
    settings = _settings(data, environ.get("PATH", os.defpath), report)
    return Loaded(settings, tuple(sorted(report.mistakes, key=lambda mistake: mistake.line)), file)


def find(path: str | None, environ: Mapping[str, str], uid: int) -> str:
    """The file that :func:`load` reads; "" where there is none."""
    return path or environ.get("UNLATCH_CONFIG") or _first_existing(_search(environ, uid))


def _search(environ: Mapping[str, str], uid: int) -> Iterator[str]:
    yield "/etc/unlatch/unlatch.toml"
    chosen = environ.get("XDG_CONFIG_HOME", "")
    if chosen.startswith("/"):  # the XDG Base Directory Specification: a relative path is to be ignored
        yield f"{chosen}/unlatch/unlatch.toml"
    home = environ.get("HOME", "")
    if not home:
        try:
            home = pwd.getpwuid(uid).pw_dir
        except KeyError:  # a uid without an account: a container, or systemd's DynamicUser
            return
    yield f"{home}/.config/unlatch/unlatch.toml"


def _first_existing(paths: Iterable[str]) -> str:
    for path in paths:
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            pass  # it may be there and forbid something: reading it says why, and the next file is no substitute
        return path
    return ""


class _Unusable(Exception):
    def __init__(self, mistake: Mistake) -> None:
        super().__init__(str(mistake))
        self.mistake = mistake


def _read(file: str, uid: int) -> str:
    try:
        with open(file, "rb", opener=_open_at_once) as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _Unusable(Mistake(file, 0, "", "cannot be read: not a regular file"))
            # Whoever writes it chooses the programs that the broker runs and who is rung.
            if status.st_uid not in (0, uid):
                raise _Unusable(Mistake(file, 0, "", f"belongs to uid {status.st_uid}; it must be root's or your own"))
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise _Unusable(Mistake(file, 0, "", 'others may write it; run "chmod go-w" on it'))
            data = opened.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = (error.strerror or "").lower() if isinstance(error, OSError) else "not a path"
        raise _Unusable(Mistake(file, 0, "", f"cannot be read: {why}")) from None
    if len(data) > MAX_FILE:
        raise _Unusable(Mistake(file, 0, "", f"is larger than {MAX_FILE} bytes"))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise _Unusable(Mistake(file, line, "", "is not UTF-8", column=column)) from None


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # else opening a fifo would wait for somebody to write


_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")


def _parse(file: str, text: str) -> dict[str, Any]:
    import tomllib  # 1.5 MiB that an asker without a configuration need not hold

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _Unusable(Mistake(file, 0, "", "is not TOML that anybody needs: nested too deeply")) from None
    except ValueError as error:
        said = str(error)
        place = _TOML_PLACE.search(said)
        said = said[: place.start()] if place else said
        line = text.count("\n") + 1
        line, column = (int(place[1]), int(place[2])) if place and place[1] else (line, len(text) - text.rfind("\n"))
        raise _Unusable(Mistake(file, line, "", f"is not TOML: {said[:1].lower()}{said[1:]}", column=column)) from None


class _Report:
    """Collects mistakes, each with its line."""

    def __init__(self, file: str, text: str) -> None:
        self.mistakes: list[Mistake] = []
        self._file = file
        self._text = text
        self._lines: dict[toml_lines.Path, int] | None = None

    def add(self, path: toml_lines.Path, text: str, *, fatal: bool = True) -> None:
        if self._lines is None:  # a clean file is not scanned
            self._lines = toml_lines.key_lines(self._text)
        name = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        printable = name.encode("unicode_escape").decode("ascii") if not name.isprintable() else name
        self.mistakes.append(Mistake(self._file, toml_lines.line_of(self._lines, path), printable, text, fatal))

    def unknown(self, path: toml_lines.Path, known: Iterable[str], *, fatal: bool = True) -> None:
        name = str(path[-1])
        if _SECRET_NAME.search(name):
            text = (
                "a secret may not stand in this file, which everybody may read; keep it in a file, "
                "have a command print it, or pass it in $CREDENTIALS_DIRECTORY"
            )
        else:
            text = f"unknown key{_did_you_mean(name, known)}; accepted here: {', '.join(known)}"
        self.add(path, text, fatal=fatal)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    import difflib  # costs as much as all the rest, and only a mistake needs it

    near = difflib.get_close_matches(name, list(known), n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def _settings(data: dict[str, Any], path: str, report: _Report) -> Settings:
    # 1. Plain keys, and the tables that have fixed names.
    tables = TABLES.keys() | set(_NAMED_TABLES)
    plain = {name: value for name, value in data.items() if name not in tables}
    values = _values(plain, TOP, (), report, also=tables)
    for name, schema in TABLES.items():
        values |= _values(_table(data, name, report), schema, (name,), report)
    # 2. Tables that the file names, and rules.
    notify = _table(data, "notify", report)
    values["notifiers"] = _notifiers(notify, path, report)
    values["people"] = _people(_table(data, "people", report), notify.keys(), report)
    values["rules"] = _rules(data.get("rule", []), report)
    # 3. What one key alone does not tell.
    group = values.pop("listen_group", None)
    listen = values.get("listen", Settings().listen)
    if group is not None and isinstance(listen, Unix):
        values["listen"] = listen._replace(group=group)
    elif group is not None:
        report.add(("listen_group",), 'is for a Unix socket only; accepted with listen = "unix:/absolute/path"')
    if "public_url" not in data:
        values["public_url"] = _own_url(listen, report)
    settings = Settings(**values)
    _check_localhost(settings, report)
    return settings


def _check_localhost(settings: Settings, report: _Report) -> None:
    """``localhost`` is 127.0.0.1 and ::1: on another address, also 0.0.0.0, one of them is left for others to take."""
    named = _LOCALHOST.match(settings.public_url)
    if named and isinstance(settings.listen, Tcp) and settings.listen.host not in ("localhost", "127.0.0.1", "::1"):
        accepted = '"localhost:PORT", "127.0.0.1:PORT" or "[::1]:PORT"'
        text = f"is not what a browser opens for http://{named[1]}, so others could answer there; accepted: {accepted}"
        report.add(("listen",), text)


def _own_url(listen: Tcp | Unix, report: _Report) -> str:
    """The address of a page that is served on loopback without a proxy."""
    if isinstance(listen, Tcp) and (is_loopback(listen.host) or listen.host == "::1"):
        return f"http://localhost:{listen.port}/"
    report.add(("listen",), "public_url is missing: it must say at which https:// address the page is reached")
    return Settings().public_url


def _is_table(value: object, path: toml_lines.Path, report: _Report, *, fatal: bool = True) -> bool:
    if not isinstance(value, dict):
        report.add(path, f"must be a table; accepted: [{'.'.join(map(str, path))}]", fatal=fatal)
    return isinstance(value, dict)


def _table(data: dict[str, Any], name: str, report: _Report) -> dict[str, Any]:
    value = data.get(name, {})
    return value if _is_table(value, (name,), report) else {}


def _values(
    table: dict[str, Any],
    schema: Mapping[str, Key],
    path: toml_lines.Path,
    report: _Report,
    *,
    also: Iterable[str] = (),
    fatal: bool = True,
) -> dict[str, Any]:
    """Every key of one table that could be read, by the name of its setting."""
    values: dict[str, Any] = {}
    for name, value in table.items():
        key = schema.get(name)
        if key is None:
            report.unknown((*path, name), [*schema, *sorted(also)], fatal=fatal)
            continue
        try:
            values[key.setting] = key.read(value)
        except Unacceptable as error:
            report.add((*path, name), f"{str(error) or 'not accepted'}; accepted: {key.accepts}", fatal=fatal)
    return values


def _people(people: dict[str, Any], notifiers: Iterable[str], report: _Report) -> tuple[Person, ...]:
    found = []
    for name, table in people.items():
        path = ("people", name)
        if not _is_table(table, path, report):
            continue
        values = _values(table, PERSON, path, report)
        if not _nameable(name):
            report.add(path, _NAME)
        for missing in sorted(PERSON.keys() - table.keys()):
            report.add(path, f'"{missing}" is missing; accepted: {PERSON[missing].accepts}')
        for notifier in values.get("notify", ()):
            if notifier not in notifiers:
                known = ", ".join(notifiers) or "none, as there is no [notify.NAME] table"
                hint = _did_you_mean(notifier, notifiers)
                report.add((*path, "notify"), f'no notifier is called "{notifier}"{hint}; accepted: {known}')
        found.append(Person(name, values.get("users", ()), values.get("notify", ())))
    return tuple(found)


def _notifiers(notify: dict[str, Any], path: str, report: _Report) -> tuple[NotifierSettings, ...]:
    """The notifiers without a mistake: a bad one disables itself and nothing else."""
    found = []
    for name, table in notify.items():
        before = len(report.mistakes)
        if _is_table(table, ("notify", name), report, fatal=False):
            settings = _notifier(name, table, path, report)
            if len(report.mistakes) == before:
                found.append(settings)
    return tuple(found)


def _notifier(name: str, table: dict[str, Any], search: str, report: _Report) -> NotifierSettings:
    path = ("notify", name)
    options = _values(table, NOTIFIER, path, report, fatal=False)
    kinds = [kind for kind in NOTIFIER_KINDS if kind in table]
    if not _nameable(name):
        report.add(path, _NAME, fatal=False)
    if len(kinds) != 1:
        report.add(path, f"must have exactly one of: {', '.join(NOTIFIER_KINDS)}", fatal=False)
    for key in PROGRAMS & options.keys():
        program = _find_program(options[key][0], search)
        if not program:
            text = "there is no such program; accepted: the absolute path of a program, or the name of one on $PATH"
            report.add((*path, key), text, fatal=False)
        options[key] = (program, *options[key][1:])
    kind = kinds[0] if kinds else ""
    if "allow_plaintext_room" in table and kind != "matrix":
        report.add((*path, "allow_plaintext_room"), "is for matrix only", fatal=False)
    end_to_end = options.pop("end_to_end", END_TO_END.get(kind, False))
    return NotifierSettings(name, kind, {"seconds": 10} | options, end_to_end)


def _find_program(program: str, search: str) -> str:
    """The absolute path of an executable file; "" when there is none. A relative path is none: relative to what?"""
    folders = [""] if program.startswith("/") else [] if "/" in program else search.split(":")
    for folder in folders:
        path = f"{folder}/{program}" if folder else program
        if path.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return ""


def _rules(rules: Any, report: _Report) -> Any:
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        report.add(("rule",), "must be an array of tables; accepted: [[rule]]", fatal=False)
        return None
    if not rules:
        return ()
    from unlatch.rules import parse_rules  # most files have none

    found, mistakes = parse_rules(rules)
    for mistake in mistakes:
        report.add(("rule", *mistake[:-1]), mistake[-1], fatal=False)
    return None if mistakes else tuple(found)


_NAME = "not accepted as a name; accepted: 1 to 64 printable characters"


def _nameable(name: str) -> bool:
    return 1 <= len(name) <= 64 and name.isprintable()
