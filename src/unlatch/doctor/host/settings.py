"""The configuration: has it mistakes, may the broker and all askers read it, and is it what the broker runs with?"""

import os
import stat
from typing import NamedTuple

from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem, warning
from unlatch.doctor.host.served import served

_SETTLED = 2.0  # seconds: file systems and the uptime are not more exact than that


class Facts(NamedTuple):
    """``hidden``: what of the file's path others may not read or search, ``behind``: seconds by which the file is newer
    than the broker, at most 0 if it is not.
    """

    path: str
    mistakes: tuple[str, ...]
    hidden: str
    behind: float
    host: bool


def probe(situation: Situation) -> Facts:
    """Load it as the broker would."""
    found = served(situation)
    loaded = found.loaded
    behind = found.written - found.started - _SETTLED if found.started and found.written else 0.0
    hidden = _hidden(loaded.path) if loaded.path and found.place.host else ""
    return Facts(loaded.path, tuple(map(str, loaded.mistakes)), hidden, behind, found.place.host)


def _hidden(path: str) -> str:
    """The first part of a path that not everybody may read (the file) or search (a directory)."""
    place, needed = os.path.realpath(path), stat.S_IROTH
    found = ""
    while True:
        try:
            if not os.stat(place).st_mode & needed:
                found = place
        except OSError:
            return place
        if place == "/":
            return found
        place, needed = os.path.dirname(place), stat.S_IXOTH


def judge(facts: Facts, situation: Situation) -> Finding:
    """A mistake is a problem, also one that only takes one notifier away."""
    if facts.mistakes:
        first, more = facts.mistakes[0], len(facts.mistakes) - 1
        return problem(f"{first}{f' (and {more} more)' if more else ''}", command("unlatch", "config", "check"))
    if facts.hidden:
        letters = "o+r" if facts.hidden == os.path.realpath(facts.path) else "o+x"
        text = f"{facts.hidden} is closed to others: neither the broker nor any asker can read {facts.path}"
        return problem(text, situation.as_root("chmod", letters, facts.hidden))
    if facts.behind > 0:
        restart = situation.as_root("systemctl", "restart", "unlatch.service")
        text = f"{facts.path} was changed after the broker had started, which knows nothing of it"
        return warning(text, restart if facts.host else command("unlatch", "status"))
    return ok(f"{facts.path} has no mistakes" if facts.path else "there is no file: the defaults hold")


CONFIG = Check(
    "config",
    "unlatch.toml has no mistakes, every asker may read it, and the broker was started after its last change",
    "`unlatch config check` lists all mistakes; `chmod`, or a restart, as printed",
    Facts,
    probe,
    judge,
)
