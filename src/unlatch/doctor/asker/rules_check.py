"""The asker's own rules let prompts ring that come when nobody is there."""

import os
import re
from typing import NamedTuple

from unlatch import config
from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem, warning
from unlatch.rules import Facts as RuleFacts
from unlatch.rules import Rule, decide

_KEY_FILE = re.compile(r"([0-9A-F]{40})\.key\Z")
_MINUTES = range(0, 1440, 30)


class Blocking(NamedTuple):
    """A rule, by its number in the file, that refuses prompts without a terminal, or sends them to one."""

    number: int
    action: str
    condition: str
    always: bool


class Facts(NamedTuple):
    """``mistake`` is the first of the file's, when its rules cannot be used; ``keys`` how many keys were tried."""

    path: str
    mistake: str
    rules: int
    blocking: tuple[Blocking, ...]
    keys: int


def probe(situation: Situation) -> Facts:
    """Load the rules as the pinentry does, and see what they say of every key at every hour without a terminal."""
    loaded = config.load(None, situation.environ, situation.uid)
    rules = loaded.settings.rules
    if rules is None:
        return Facts(loaded.path, str(loaded.mistakes[0])[:1000], 0, (), 0)
    grips = _keygrips(situation.gnupghome)
    return Facts(loaded.path, "", len(rules), tuple(_blocking(rules, grips)), len(grips))


def _keygrips(gnupghome: str) -> list[str]:
    try:
        names = os.listdir(f"{gnupghome}/private-keys-v1.d")
    except OSError:
        names = []
    return [match[1] for match in map(_KEY_FILE.match, names[:10_000]) if match]


def _blocking(rules: tuple[Rule, ...], grips: list[str]) -> list[Blocking]:
    found = []
    everyday = {
        id(decide(rules, RuleFacts(keygrip=grip, minute=minute))) for grip in (grips or [""]) for minute in _MINUTES
    }
    for number, rule in enumerate(rules, start=1):
        if rule.action == "ring" or rule.tty or rule.user_data:
            continue  # a service has no terminal, and says nothing of itself unless it wants this
        conditions = {"unit": rule.unit, "keygrip": rule.keygrip}
        said = [f"{name} is {value}" for name, value in conditions.items() if value is not None]
        said += ["at certain hours"] if rule.hours else []
        # A rule for one unit is somebody's wish; one that meets prompts of any unit may be a mistake.
        if rule.unit or id(rule) in everyday:
            found.append(Blocking(number, rule.action, " and ".join(said), rule.unit is None))
    return found[:20]


def judge(facts: Facts, situation: Situation) -> Finding:
    """Rules with a mistake refuse everything; those that are as they were meant may still surprise at night."""
    if facts.mistake:
        return problem(f"every prompt is refused: {facts.mistake}", command("unlatch", "config", "check"))
    general = [rule for rule in facts.blocking if rule.always]
    if general:
        rule = general[0]
        does = "refuses" if rule.action == "refuse" else "sends to a terminal"
        when = f" where {rule.condition}" if rule.condition else ""
        text = f"rule {rule.number} {does} prompts that come from services without a terminal{when}"
        return warning(text, situation.edit(facts.path))
    if facts.blocking:
        rule = facts.blocking[0]
        return ok(f"prompts ring; rule {rule.number} lets those not whose {rule.condition}")
    return ok("there are none: every prompt rings" if not facts.rules else "prompts of services ring")


RULES = Check(
    "rules",
    "the rules of unlatch.toml can be read by the asking user and let prompts ring that come from a service: without a "
    "terminal, for each of the user's keys, at every hour",
    "change the rule in unlatch.toml; `unlatch config check` lists all of them",
    Facts,
    probe,
    judge,
)
