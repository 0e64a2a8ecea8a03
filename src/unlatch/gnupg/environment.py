"""Which variables lead a job to the one agent, and stay true whether or not its user is logged in. Pure.

A job without a session has no SSH_AUTH_SOCK. A login shell's one names /run/user/UID, which is gone after the logout,
or even a forwarded agent's socket; so none of that is passed on, it is worked out anew.
"""

from collections.abc import Mapping
from typing import NamedTuple

from unlatch.gnupg.homes import SSH, Home

# What a person chose for all of Unlatch's programs; a job needs the same.
_CHOSEN = ("UNLATCH_CONFIG", "UNLATCH_RUNTIME_DIR")
SHELLS = ("sh", "fish", "systemd", "crontab")


class Unquotable(ValueError):
    """A value that this format cannot carry. ``name`` is the variable."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Place(NamedTuple):
    """Where the agent's ssh socket is; ``keeper`` is a key of :data:`KEEPERS`."""

    socket: str
    keeper: str


# Who sees to it that the place stays, in words.
KEEPERS = {
    "unit": "held by unlatch-agent@{user}.service",
    "linger": "stays, because {user} lingers (loginctl enable-linger)",
    "home": "in GNUPGHOME, because this host has no sessions (no systemd-logind)",
    "session": "valid only while {user} is logged in",
}


def place(home: Home, *, owned: bool, lingers: bool, sessions: bool, in_run: bool) -> Place:
    """Where the ssh socket of a home's one agent is, for as long as can be.

    ``owned``: the host's unit owns the agent; ``lingers``: the user's systemd runs from boot on; ``sessions``: this
    host has logind, so /run/user/UID comes and goes; ``in_run``: GnuPG looks there now.
    """
    in_home, run = home.sockets(SSH)
    if owned:
        return Place(home.owned(SSH), "unit")
    if lingers:
        return Place(run, "linger")
    if not sessions and not in_run:
        return Place(in_home, "home")
    return Place(run if in_run else in_home, "session")


def variables(home: Home, found: Place, environ: Mapping[str, str]) -> dict[str, str]:
    """What a job must have in its environment."""
    chosen = {name: environ[name] for name in _CHOSEN if environ.get(name)}
    named = {} if home.is_default else {"GNUPGHOME": home.directory}
    return {"SSH_AUTH_SOCK": found.socket, **named, **chosen}


def lines(shell: str, values: Mapping[str, str], comment: str = "") -> list[str]:
    """The variables as lines of a format in :data:`SHELLS`; the comment, one line, where it harms nothing: an unquoted
    ``eval $(unlatch env)`` makes one line of all.

    Raises:
        Unquotable: there is no way to write a value in this format.
    """
    for name, text in values.items():
        if not text.isprintable():  # a line break would make a command of the rest
            raise Unquotable(name)
    match shell:
        case "sh":
            return [f"{name}={_quoted(text)}; export {name};" for name, text in values.items()]
        case "fish":
            return [f"set -gx {name} {_quoted_for_fish(text)};" for name, text in values.items()]
        case "systemd":
            body = [f"Environment={_quoted_for_systemd(f'{name}={text}')}" for name, text in values.items()]
            return ["[Service]", *_commented(comment), *body]
        case _:
            return [*_commented(comment), *(f"{name}={_quoted_for_cron(name, text)}" for name, text in values.items())]


def _commented(comment: str) -> list[str]:
    return [f"# {comment}"] if comment else []


def _quoted(text: str) -> str:
    """For POSIX shells: in single quotes nothing is special but the quote itself."""
    return "'" + text.replace("'", "'\\''") + "'"


def _quoted_for_fish(text: str) -> str:
    """In fish's single quotes, a backslash may stand before a quote and before itself (fish-language(1), Quotes)."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted_for_systemd(assignment: str) -> str:
    """systemd.exec(5), Environment=: quotes, C escapes and specifiers count, a dollar sign does not."""
    return '"' + assignment.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _quoted_for_cron(name: str, text: str) -> str:
    """crontab(5): no escapes; quotes keep blanks at the ends, and what stands between them must not hold the same."""
    for quote in ("'", '"'):
        if quote not in text:
            return quote + text + quote
    raise Unquotable(name)
