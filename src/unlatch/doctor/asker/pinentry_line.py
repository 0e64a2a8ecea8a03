"""The line pinentry-program of gpg-agent.conf means a file that is there.

gpg-agent takes the whole rest of the line for the path. When there is no such file it says "No pinentry", which gpg
shows as "No secret key", and falls back on nothing.
"""

import os
from typing import NamedTuple

from unlatch.doctor.asker import conf
from unlatch.doctor.check import Check, Finding, Situation, ok, problem


class Facts(NamedTuple):
    """``value`` is what the line says, None without a line; ``first`` an existing file that the value starts with."""

    path: str
    why: str
    value: str | None
    exists: bool
    first: str


def probe(situation: Situation) -> Facts:
    """Read the line, and look for the file."""
    found = conf.read(situation)
    value = found.options.get("pinentry-program")
    return Facts(found.path, found.why, value, os.path.isfile(value or ""), _first(value or ""))


def _first(value: str) -> str:
    words = value.split(" ")
    starts = (" ".join(words[:length]) for length in range(1, len(words)))
    return next((start for start in starts if start.startswith("/") and os.path.isfile(start)), "")


def judge(facts: Facts, situation: Situation) -> Finding:
    """Every way to get it wrong that was seen."""
    value, mend = facts.value, conf.setup(situation)
    if facts.why:
        return problem(f"{facts.path}: {facts.why}", situation.as_user("ls", "-l", facts.path))
    if not value:
        what = "has no line pinentry-program" if value is None else "has a pinentry-program without a path"
        return problem(f"{facts.path} {what}, so gpg-agent asks at a terminal", mend)
    if value.startswith("~"):
        return problem(f'gpg-agent takes "{value}" literally: it knows no ~ and finds no pinentry', mend)
    if not value.startswith("/"):
        return problem(f'"{value}" is no absolute path, so gpg-agent finds no pinentry', mend)
    if facts.exists:
        return ok(f"it names {value}")
    if facts.first:
        what = "a comment" if value.removeprefix(facts.first).strip().startswith("#") else "an argument"
        text = (
            f"gpg-agent takes what follows {facts.first} for a part of its name, not for {what}, and finds no pinentry"
        )
        return problem(text, mend)
    return problem(f'it names {value}, which is not there; gpg would say "No secret key"', mend)


PINENTRY_LINE = Check(
    "pinentry-line",
    "the line `pinentry-program` of gpg-agent.conf is there and is the path of a file, without `~`, argument or "
    "comment",
    "`unlatch setup` writes the line; by hand: an absolute path and nothing behind it",
    Facts,
    probe,
    judge,
)
