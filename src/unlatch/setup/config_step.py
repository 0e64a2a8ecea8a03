"""The step that writes unlatch.toml, or adds to one that is there what is missing in it."""

import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from unlatch import config
from unlatch.errors import BadConfig
from unlatch.setup import files, toml_edit
from unlatch.setup.changes import BROKER, Change, making
from unlatch.setup.files import ABSENT, FileState
from unlatch.setup.new_notifiers import NewNotifier
from unlatch.setup.steps import Step

HEADER = '# Begun by "unlatch setup". Every key is in unlatch.toml(5); "unlatch config check" finds mistakes.\n'
LOOPBACK = ("127.0.0.0/8", "::1/128")


class Wanted(NamedTuple):
    """What the file shall say; what is empty is not asked for. ``networks`` are the proxies' in containers."""

    public_url: str = ""
    listen: str = ""
    person: str = ""
    notifiers: tuple[NewNotifier, ...] = ()
    networks: tuple[str, ...] = ()


class Secret(NamedTuple):
    """A file beside unlatch.toml that holds a notifier's URL; ``group`` may read it."""

    path: str
    content: bytes
    group: str


class Merged(NamedTuple):
    """The new text, and what could not be put into it."""

    text: str
    notes: tuple[str, ...]


def merge(text: str, wanted: Wanted) -> Merged:
    """Add what is missing. What is there already stays, and differences are told.

    ``text`` must be TOML.
    """
    merging = _Merging(text or HEADER)
    if wanted.public_url:
        merging.key("public_url", wanted.public_url)
    if wanted.listen:
        merging.key("listen", wanted.listen)
    if wanted.networks:
        merging.networks(wanted.networks)
    if wanted.person:
        merging.person(wanted.person, [notifier.name for notifier in wanted.notifiers])
    for notifier in wanted.notifiers:
        merging.notifier(notifier)
    return Merged("" if merging.text == HEADER else merging.text, tuple(merging.notes))


class _Merging:
    def __init__(self, text: str) -> None:
        self.text = text
        self.notes: list[str] = []

    @property
    def _data(self) -> dict[str, Any]:
        return tomllib.loads(self.text)

    def key(self, name: str, value: toml_edit.Value) -> None:
        there = self._data.get(name)
        if there is None:
            self._try(lambda: toml_edit.add_key(self.text, name, value), f"{name} = {value!r}")
        elif there != value:
            self.notes.append(f"{name} is {there!r} there already, and stays so")

    def networks(self, wanted: tuple[str, ...]) -> None:
        there = self._data.get("allow_from")
        missing = [network for network in wanted if network not in (there or LOOPBACK)]
        if not missing:
            return
        what = f"{', '.join(missing)} in allow_from"
        if there is None:
            self._try(lambda: toml_edit.add_key(self.text, "allow_from", [*LOOPBACK, *missing]), what)
        else:
            self._try(lambda: toml_edit.add_to_list(self.text, ("allow_from",), missing), what)

    def person(self, name: str, notify: list[str]) -> None:
        people = self._data.get("people", {})
        if name not in people:
            table: dict[str, toml_edit.Value] = {"users": ["*"], "notify": notify}
            self._try(lambda: toml_edit.add_table(self.text, ("people", name), table), f"[people.{name}]")
            return
        missing = [each for each in notify if each not in people[name].get("notify", [])]
        if missing:
            what = f"{', '.join(missing)} in notify of [people.{name}]"
            self._try(lambda: toml_edit.add_to_list(self.text, ("people", name, "notify"), missing), what)

    def notifier(self, new: NewNotifier) -> None:
        there = self._data.get("notify", {}).get(new.name)
        if there is None:
            table = new.table
            self._try(lambda: toml_edit.add_table(self.text, ("notify", new.name), table), f"[notify.{new.name}]")
        elif {**there, **new.table} != there:
            self.notes.append(f"[notify.{new.name}] is there already, and stays as it is")

    def _try(self, edit: Callable[[], str], what: str) -> None:
        try:
            self.text = edit()
        except toml_edit.NotUnderstood:
            self.notes.append(f"the file is written in a way that setup does not edit: add {what} yourself")


def plan(
    path: str, before: FileState, merged: Merged, secrets: tuple[Secret, ...], environ: Mapping[str, str], uid: int
) -> Step:
    """What has to be done to the file, and to those beside it.

    Raises:
        BadConfig: the broker would not take the new text.
    """
    text = merged.text.encode()
    if text == before.data or not text:
        return Step("unlatch.toml", _says(path, before.data.decode(), environ, uid), notes=merged.notes)
    says = _says(path, merged.text, environ, uid)
    mode = before.mode if before.kind == "file" else 0o644
    after = before._replace(kind="file", data=text, mode=mode)
    changes = [*making(files.missing_above(path)), *secret_changes(secrets), Change(path, before, after, tells=BROKER)]
    return Step("unlatch.toml", says, tuple(changes), notes=merged.notes)


def secret_changes(secrets: tuple[Secret, ...]) -> Iterator[Change]:
    """New files that hold a URL each."""
    for secret in secrets:
        after = FileState("file", secret.content, 0o640 if secret.group else 0o600)
        yield Change(secret.path, ABSENT, after, group=secret.group, secret=True)


def check(path: str, text: str, environ: Mapping[str, str], uid: int) -> config.Settings:
    """Have the broker's own loader read the text, as if it stood at ``path``.

    Raises:
        BadConfig
    """
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        copy = f"{folder}/unlatch.toml"
        with open(copy, "x", encoding="utf-8", newline="") as file:
            file.write(text)
        loaded = config.load(copy, environ, uid)
    if loaded.mistakes:
        raise BadConfig([str(mistake._replace(file=path)) for mistake in loaded.mistakes])
    return loaded.settings


def _says(path: str, text: str, environ: Mapping[str, str], uid: int) -> str:
    settings = check(path, text, environ, uid)
    rung = [
        f"{person.name} is rung for {'every user' if '*' in person.users else ', '.join(person.users)} "
        f"by {', '.join(person.notify) or 'nothing: see unlatch answer'}"
        for person in settings.people
    ]
    return "; ".join([f"links start with {settings.public_url}", *(rung or ["nobody is rung"])])
