"""From ``--notify KIND`` or ``KIND=VALUE`` to a ``[notify.NAME]`` table. Pure."""

import os
import re
import shlex
from collections.abc import Callable
from typing import NamedTuple

from unlatch import base64url, settings
from unlatch.setup.toml_edit import Value

KINDS = ("ntfy", "apprise", "command", "matrix", "terminal", "none")
NEEDS_VALUE = ("ntfy", "apprise", "command")
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_SCHEMES = {"https": "ntfys", "http": "ntfy", "ntfy": "ntfy", "ntfys": "ntfys"}


class NewNotifier(NamedTuple):
    """A table to be written, which is called ``name``; ``note`` is what a person does on the phone for it."""

    name: str
    table: dict[str, Value]
    note: str = ""


def split(text: str) -> tuple[str, str]:
    """Kind and value.

    Raises:
        ValueError: there is no such kind.
    """
    kind, _, value = text.partition("=")
    if kind not in KINDS:
        raise ValueError(f"{kind} is no kind of notifier; there are: {', '.join(KINDS)}")
    return kind, value


def make(kind: str, value: str) -> NewNotifier:
    """The notifier of a kind that is not "none".

    Raises:
        ValueError: the value will not do.
    """
    return _MAKERS[kind](value)


def new_topic(random: Callable[[int], bytes] = os.urandom) -> str:
    """An ntfy topic that nobody guesses: whoever knows its name can read what is sent there."""
    return f"unlatch-{base64url.encode(random(15)).replace('-', '0').replace('_', '1')}"


def _ntfy(value: str) -> NewNotifier:
    if _TOPIC.match(value):
        value = f"ntfys://ntfy.sh/{value}"
    scheme, _, rest = value.partition("://")
    host, _, topic = rest.partition("/")
    topic, _, query = topic.partition("?")
    if scheme not in _SCHEMES or not host or not _TOPIC.match(topic):
        raise ValueError("accepted: an ntfy topic such as https://ntfy.example.org/unlatch-alex")
    url = f"{_SCHEMES[scheme]}://{host}/{topic}?{query or 'priority=max'}"
    try:
        settings.NOTIFIER_KINDS["apprise"].read(url)
    except settings.Unacceptable as refusal:
        raise ValueError(str(refusal) or "not accepted") from None
    web = f"{'https' if _SCHEMES[scheme] == 'ntfys' else 'http'}://{host}/{topic}"
    return NewNotifier("ntfy", {"apprise": url}, f"on the phone: subscribe to {web} in the ntfy app")


def _apprise(value: str) -> NewNotifier:
    try:
        settings.NOTIFIER_KINDS["apprise_file"].read(value)
    except settings.Unacceptable as refusal:
        raise ValueError(str(refusal) or "accepted: the absolute path of a file that holds an Apprise URL") from None
    return NewNotifier("apprise", {"apprise_file": value})


def _command(value: str) -> NewNotifier:
    try:
        words = shlex.split(value)
    except ValueError:
        words = []
    if not words or not words[0].startswith("/"):
        raise ValueError("accepted: the absolute path of a program, then its arguments")
    if not (os.path.isfile(words[0]) and os.access(words[0], os.X_OK)):
        raise ValueError(f"{words[0]} is no program")
    return NewNotifier("command", {"command": list(words)})


_MAKERS: dict[str, Callable[[str], NewNotifier]] = {
    "ntfy": _ntfy,
    "apprise": _apprise,
    "command": _command,
    "matrix": lambda _: NewNotifier("matrix", {"matrix": True}),
    "terminal": lambda _: NewNotifier("terminal", {"terminal": True}),
}
