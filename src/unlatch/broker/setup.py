"""From the settings to what decides and what rings: made when the broker hears of its first prompt."""

import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from unlatch.broker.policy import Notifier as NotifierRule
from unlatch.broker.policy import Person, Policy
from unlatch.broker.ringing import Ringer
from unlatch.notify import Deny, Notifier
from unlatch.settings import NotifierSettings, Settings, is_loopback

if TYPE_CHECKING:
    from unlatch.broker.probe import PageWatch

TERMINAL_SECONDS = 10.0


class Terminal(NamedTuple):
    """The foreground broker's terminal: ``user`` and ``host`` as ssh(1) takes them."""

    user: str
    host: str
    over_ssh: bool


def make_policy(settings: Settings, host: str, *, loopback: bool, overflow_uid: int, rung: list[Notifier]) -> Policy:
    """The settings as far as they decide about prompts. ``rung`` are the notifiers that work."""
    return Policy(
        host=host,
        public_url=settings.public_url,
        link_seconds=settings.link_seconds,
        views=settings.link_views,
        remind_after=settings.remind_after,
        quota_open=settings.quota_open,
        quota_rings=settings.quota_rings,
        confirm_by_link=settings.confirm_by_link,
        allow_users=settings.allow_users,
        people=tuple(Person(*person) for person in settings.people),
        notifiers=tuple(NotifierRule(notifier.name, notifier.end_to_end) for notifier in rung),
        loopback=loopback,
        overflow_uid=overflow_uid,
    )


def watch_page(settings: Settings, ringer: Ringer, changed: Callable[[], None]) -> "PageWatch | None":
    """What looks whether links can be opened; nothing where nobody has to leave this machine for that."""
    host = urlsplit(settings.public_url).hostname or ""
    if not settings.probe or is_loopback(host) or host == "::1":
        return None
    from unlatch.broker.probe import PageWatch, look  # TLS and HTTP, for those who need them

    return PageWatch(look, ringer.open_link, changed)


class Missing(Exception):
    """A notifier cannot work here; the text says why."""


def add_notifiers(
    ringer: Ringer,
    settings: Settings,
    environ: Mapping[str, str],
    terminal: Terminal | None,
    deny: Deny,
    *,
    loopback: bool,
) -> list[Notifier]:
    """Make the notifiers that can work here and give them to the ringer; returns them.

    ``deny`` is for those that hear replies.
    """
    made: list[Notifier] = []
    wanted = settings.notifiers
    if loopback and terminal is not None:
        wanted = (NotifierSettings("terminal", "terminal", {"seconds": TERMINAL_SECONDS}, True),)
    for chosen in wanted:
        kind = chosen.kind.partition("_")[0]
        try:
            notifier = _make(chosen, environ, terminal, deny)
        except Missing as missing:
            ringer.note_missing(chosen.name, kind, str(missing))
        else:
            ringer.add(notifier, kind, float(chosen.options["seconds"]))
            made.append(notifier)
    return made


def _make(chosen: NotifierSettings, environ: Mapping[str, str], terminal: Terminal | None, deny: Deny) -> Notifier:
    """Raises Missing."""
    match chosen.kind:
        case "command":
            from unlatch.notify.command import CommandNotifier

            command = chosen.options["command"]
            return CommandNotifier(chosen.name, command, end_to_end=chosen.end_to_end, environ=environ)
        case "apprise" | "apprise_file" | "apprise_command" | "apprise_credential":
            if find_spec("apprise") is None:  # looked for, not imported: only the sending process needs it
                raise Missing('Apprise is not installed; run "pip install unlatch[apprise]"')
            from unlatch.notify.apprise import AppriseNotifier, source_of

            return AppriseNotifier(chosen.name, source_of(chosen), end_to_end=chosen.end_to_end, environ=environ)
        case "matrix":
            return _make_matrix(chosen, environ, deny)
    if terminal is None:
        raise Missing("there is no terminal to print on")
    from unlatch.notify.terminal import Login, TerminalNotifier

    return TerminalNotifier(sys.stdout, Login(*terminal), name=chosen.name)


def _make_matrix(chosen: NotifierSettings, environ: Mapping[str, str], deny: Deny) -> Notifier:
    """Raises Missing."""
    if find_spec("vodozemac") is None:
        raise Missing('Matrix needs vodozemac; run "pip install unlatch[matrix]"')
    from unlatch.notify.matrix import MatrixNotifier
    from unlatch.notify.matrix_place import state_directory

    return MatrixNotifier(
        chosen.name,
        state_directory(chosen.options["matrix"], environ),
        end_to_end=chosen.end_to_end,
        allow_plaintext_room=chosen.options.get("allow_plaintext_room", False),
        seconds=float(chosen.options["seconds"]),
        deny=deny,
    )
