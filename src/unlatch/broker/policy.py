"""Who may ask, who is rung for whom, and how much: the broker's own rules, as the table needs them. Pure."""

from typing import NamedTuple


class Person(NamedTuple):
    """Somebody who is rung. ``users``: names, numeric uids as text, or ``*``; ``notify``: names of notifiers."""

    name: str
    users: tuple[str, ...]
    notify: tuple[str, ...]


class Notifier(NamedTuple):
    """A notifier that works: its name, and whether nobody on the way can read or forge what it carries."""

    name: str
    end_to_end: bool


class Policy(NamedTuple):
    """The broker's settings as far as they decide about prompts. Times in seconds.

    ``loopback``: the configuration names neither people nor notifiers. Then every user who may connect is accepted and
    all of ``notifiers`` (the terminal, in the foreground) are rung. Else a user whom no person lists is refused.
    """

    host: str
    public_url: str
    link_seconds: int = 3600
    views: int = 2
    remind_after: int = 0
    quota_open: int = 20
    quota_rings: int = 60
    confirm_by_link: bool = False
    allow_users: tuple[str, ...] = ()
    people: tuple[Person, ...] = ()
    notifiers: tuple[Notifier, ...] = ()
    loopback: bool = True
    overflow_uid: int = 65534
