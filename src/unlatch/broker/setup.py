"""From the settings to what decides and what rings: made when the broker hears of its first prompt."""

import sys
from collections.abc import Mapping
from typing import NamedTuple

from unlatch.broker.policy import Notifier as NotifierRule
from unlatch.broker.policy import Person, Policy
from unlatch.broker.ringing import Ringer
from unlatch.notify import Notifier
from unlatch.settings import NotifierSettings, Settings

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


def add_notifiers(
    ringer: Ringer, settings: Settings, environ: Mapping[str, str], terminal: Terminal | None, *, loopback: bool
) -> list[Notifier]:
    """Make the notifiers that can work here and give them to the ringer; returns them."""
    made: list[Notifier] = []
    wanted = settings.notifiers
    if loopback and terminal is not None:
        wanted = (NotifierSettings("terminal", "terminal", {"seconds": TERMINAL_SECONDS}, True),)
    for notifier_settings in wanted:
        notifier = _make(notifier_settings, environ, terminal)
        if notifier is None:
            ringer.note_missing(notifier_settings.name, notifier_settings.kind, "there is no terminal to print on")
        else:
            ringer.add(notifier, notifier_settings.kind, float(notifier_settings.options["seconds"]))
            made.append(notifier)
    return made


def _make(chosen: NotifierSettings, environ: Mapping[str, str], terminal: Terminal | None) -> Notifier | None:
    if chosen.kind == "command":
        from unlatch.notify.command import CommandNotifier

        return CommandNotifier(chosen.name, chosen.options["command"], end_to_end=chosen.end_to_end, environ=environ)
    if terminal is None:
        return None
    from unlatch.notify.terminal import Login, TerminalNotifier

    return TerminalNotifier(sys.stdout, Login(*terminal), name=chosen.name)
