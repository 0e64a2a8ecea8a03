"""The asker's rules: which prompts ring, go to a local pinentry, or are refused at once. Pure.

They are a convenience for the person who asks, and no boundary: whoever has the same uid can ask without them. What may
be asked by whom is the broker's to say (``people``, ``allow_users``).
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

ACTIONS = ("ring", "tty", "refuse")
# Not /usr/bin/pinentry: that is what the machine's admin chose for everybody, which may well be ours.
LOCAL_PINENTRY = "/usr/bin/pinentry-curses"


class Rule(NamedTuple):
    """What to do with the prompts that match. A condition that is None matches everything; patterns are globs.

    ``hours`` are two minutes of the day: from the first on, up to the second, over midnight if the first is later.
    """

    action: str
    user_data: str | None = None
    unit: str | None = None
    keygrip: str | None = None
    tty: bool | None = None
    pinentry: str = ""
    hours: tuple[int, int] | None = None


class Facts(NamedTuple):
    """What a rule may look at. ``units`` are the system's and the user's systemd unit of the asking process.

    ``minute`` is the time of day on the clock of this host, in minutes since midnight (:func:`minute_of_day`).
    """

    user_data: str = ""
    units: tuple[str, ...] = ()
    keygrip: str = ""
    tty: bool = False
    minute: int = 0


RING = Rule("ring")
_PATTERNS = ("user_data", "unit", "keygrip")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")
_ACCEPTED = {
    "action": ", ".join(f'"{action}"' for action in ACTIONS),
    "tty": "true or false",
    "pinentry": "the absolute path of a program",
    "hours": 'two different times of day in quotes, such as "22:00-07:00"',
} | dict.fromkeys(_PATTERNS, 'a pattern in quotes, such as "backup*"; "" matches what is not there')


def decide(rules: Iterable[Rule], facts: Facts) -> Rule:
    """The first rule that matches; :data:`RING` when none does."""
    return next((rule for rule in rules if _matches(rule, facts)), RING)


def minute_of_day(hour: int, minute: int) -> int:
    """A time of day as :class:`Facts` has it; ``hour`` and ``minute`` as in time.localtime()."""
    return hour * 60 + minute


def parse_rules(tables: Iterable[Mapping[str, Any]]) -> tuple[list[Rule], list[tuple[Any, ...]]]:
    """Rules from ``[[rule]]`` tables, and what is wrong with them: ``(index, key, text)``, or ``(index, text)``.

    A rule with a mistake is not among the rules, so nobody may go on with the rest: a later rule would decide.
    """
    rules: list[Rule] = []
    mistakes: list[tuple[Any, ...]] = []
    for index, table in enumerate(tables):
        wrong = [(index, *mistake) for mistake in _mistakes(table)]
        if not wrong:
            rules.append(_rule(table))
        mistakes += wrong
    return rules, mistakes


def _matches(rule: Rule, facts: Facts) -> bool:
    units = facts.units or ("",)
    return (
        (rule.user_data is None or fnmatchcase(facts.user_data, rule.user_data))
        and (rule.unit is None or any(fnmatchcase(unit, rule.unit) for unit in units))
        and (rule.keygrip is None or fnmatchcase(facts.keygrip, rule.keygrip.upper()))
        and (rule.tty is None or rule.tty == facts.tty)
        and (rule.hours is None or _within(*rule.hours, facts.minute))
    )


def _within(first: int, end: int, minute: int) -> bool:
    return first <= minute < end if first < end else minute >= first or minute < end


def _rule(table: Mapping[str, Any]) -> Rule:
    rule = Rule(**table)
    if "hours" in table:
        rule = rule._replace(hours=_hours(table["hours"]))
    return rule._replace(pinentry=rule.pinentry or LOCAL_PINENTRY) if rule.action == "tty" else rule


def _hours(text: str) -> tuple[int, int] | None:
    """The two minutes of ``HH:MM-HH:MM``, the second up to 24:00; None if it is not that, or no time at all."""
    found = _HOURS.fullmatch(text)
    if not found:
        return None
    hour, minute, end_hour, end_minute = found.groups()
    first = minute_of_day(int(hour), int(minute))
    end = minute_of_day(int(end_hour or 24), int(end_minute or 0))
    return (first, end) if first != end else None


def _mistakes(table: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for key, value in table.items():
        if key not in _ACCEPTED:
            yield key, f"unknown key; accepted here: {', '.join(Rule._fields)}"
        elif not _acceptable(key, value):
            yield key, f"not accepted; accepted: {_ACCEPTED[key]}"
    if "action" not in table:
        yield (f'"action" is missing; accepted: {_ACCEPTED["action"]}',)
    if "pinentry" in table and table.get("action") != "tty":
        yield "pinentry", 'is for a local pinentry only; accepted with action = "tty"'


def _acceptable(key: str, value: Any) -> bool:
    if key == "tty":
        return isinstance(value, bool)
    if not isinstance(value, str) or not value.isprintable():
        return False
    if key == "action":
        return value in ACTIONS
    if key == "hours":
        return _hours(value) is not None
    return key != "pinentry" or value.startswith("/")
