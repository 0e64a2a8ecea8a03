"""The asking user's programs reach a broker that may be trusted: the host's, or one of their own."""

import os
from typing import NamedTuple

from unlatch import runtime
from unlatch.doctor.check import Check, Finding, Situation, ok, problem


class Facts(NamedTuple):
    """``why``: "" connected, "absent" nobody listens, "untrusted" with what in ``text``, else the system's reason.

    ``room`` is the directory in which a broker of the user's own could not be started, "" if it could.
    """

    path: str
    host: bool
    why: str
    text: str
    room: str


def probe(situation: Situation) -> Facts:
    """Connect as an asker does, with its checks of directory and peer, and hang up; start no broker."""
    place = runtime.candidates(situation.uid, situation.environ, situation.home)[0]
    why, text = "", ""
    try:
        runtime.connect(place.askers, situation.uid, host=place.host).close()
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        why = "absent"
    except runtime.Untrusted as error:
        why, text = "untrusted", str(error)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
    room = "" if place.host or why != "absent" else _no_room(os.path.dirname(place.askers)) or _no_room(place.state)
    return Facts(place.askers, place.host, why, text[:1000], room)


def _no_room(folder: str) -> str:
    """The nearest directory that is there, if this user cannot make something in it."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return "" if os.access(folder, os.W_OK | os.X_OK) else folder


def judge(facts: Facts, situation: Situation) -> Finding:
    """An asker takes the host's broker when /run/unlatch exists, and never quietly another one."""
    if not facts.why:
        return ok(f"the {'host' if facts.host else 'user'}'s broker answers at {facts.path}")
    folder = os.path.dirname(facts.path)
    if facts.why == "untrusted":
        return problem(f"not to be trusted: {facts.text}", situation.as_root("ls", "-la", folder))
    if facts.why != "absent":
        return problem(f"{facts.path}: {facts.why}", situation.as_root("ls", "-la", folder))
    if facts.host:
        start = situation.as_root("systemctl", "enable", "--now", "unlatch.socket")
        return problem(f"nobody listens at {facts.path}, so every asker waits and then fails", start)
    if facts.room:
        text = f"there is no broker of the host, and {situation.user} cannot start one: {facts.room} is not writable"
        return problem(text, situation.as_root("systemctl", "enable", "--now", "unlatch.socket"))
    return ok("the host has none; the first prompt starts one of the user's own")


BROKER_REACHABLE = Check(
    "broker-reachable",
    "the asking user can connect to the host's broker, whose directory and process are root's or the broker's own; or, "
    "without a host's broker, could start one",
    "`systemctl enable --now unlatch.socket`; what is not to be trusted is listed as printed",
    Facts,
    probe,
    judge,
)
