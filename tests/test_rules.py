"""Rules decide what rings, goes to a local pinentry, or is refused; the first match wins."""

import pytest

from unlatch.rules import LOCAL_PINENTRY, RING, Facts, Rule, decide, parse_rules

GRIP = "398467EE667B5BC7525EBA1031AF4884CFC39351"
FACTS = Facts("interactive", ("backup.service", "app-1.scope"), GRIP, tty=True)


@pytest.mark.parametrize(
    ("rule", "facts", "matches"),
    [
        (Rule("refuse"), FACTS, True),
        (Rule("refuse"), Facts(), True),
        (Rule("refuse", user_data="interactive"), FACTS, True),
        (Rule("refuse", user_data="Interactive"), FACTS, False),
        (Rule("refuse", user_data="inter*"), FACTS, True),
        (Rule("refuse", user_data=""), FACTS, False),
        (Rule("refuse", user_data=""), Facts(), True),
        (Rule("refuse", user_data="*"), Facts(), True),
        (Rule("refuse", user_data="?*"), Facts(), False),
        (Rule("refuse", unit="backup*"), FACTS, True),
        (Rule("refuse", unit="app-?.scope"), FACTS, True),
        (Rule("refuse", unit="borg*"), FACTS, False),
        (Rule("refuse", unit=""), Facts(), True),
        (Rule("refuse", unit=""), FACTS, False),
        (Rule("refuse", keygrip=GRIP), FACTS, True),
        (Rule("refuse", keygrip=GRIP.lower()), FACTS, True),
        (Rule("refuse", keygrip="3984*"), FACTS, True),
        (Rule("refuse", keygrip="?*"), Facts(), False),
        (Rule("refuse", tty=True), FACTS, True),
        (Rule("refuse", tty=True), Facts(), False),
        (Rule("refuse", tty=False), Facts(), True),
        (Rule("refuse", user_data="interactive", tty=False), FACTS, False),
        (Rule("refuse", hours=(480, 1020)), Facts(minute=479), False),
        (Rule("refuse", hours=(480, 1020)), Facts(minute=480), True),
        (Rule("refuse", hours=(480, 1020)), Facts(minute=1019), True),
        (Rule("refuse", hours=(480, 1020)), Facts(minute=1020), False),
        (Rule("refuse", hours=(1320, 420)), Facts(minute=1319), False),
        (Rule("refuse", hours=(1320, 420)), Facts(minute=1320), True),
        (Rule("refuse", hours=(1320, 420)), Facts(minute=0), True),
        (Rule("refuse", hours=(1320, 420)), Facts(minute=419), True),
        (Rule("refuse", hours=(1320, 420)), Facts(minute=420), False),
        (Rule("refuse", unit="backup*", hours=(0, 60)), FACTS._replace(minute=60), False),
        (Rule("refuse", user_data="interactive", unit="backup.service", keygrip=GRIP, tty=True), FACTS, True),
    ],
)
def test_a_rule_matches_when_all_its_conditions_do(rule, facts, matches):
    """Patterns are case-sensitive globs, a keygrip is hexadecimal in any case, and what is not said matches all."""
    assert (decide([rule], facts) is rule) == matches


def test_the_first_match_wins_and_no_match_rings():
    """Order decides; a prompt that nothing is said about rings."""
    first, second = Rule("tty", tty=True), Rule("refuse")
    assert decide([first, second], FACTS) is first
    assert decide([second, first], FACTS) is second
    assert decide([], FACTS) is RING
    assert decide([first], Facts()) is RING


def test_the_classic_unattended_unless_interactive():
    """Two lines under [[rule]]: whoever sets PINENTRY_USER_DATA=interactive gets the local pinentry, the rest rings."""
    rules, mistakes = parse_rules([{"user_data": "interactive", "action": "tty"}])
    assert mistakes == []
    assert decide(rules, Facts("interactive")) == Rule("tty", "interactive", pinentry=LOCAL_PINENTRY)
    assert decide(rules, Facts("")) is RING
    assert decide(rules, Facts("interactively")) is RING


def test_every_key_is_read():
    """A complete table gives a complete rule."""
    table = {"action": "tty", "user_data": "a", "unit": "b", "keygrip": "C", "tty": False, "pinentry": "/usr/bin/p",
             "hours": "22:30-07:05"}  # fmt: skip
    assert parse_rules([table]) == ([Rule("tty", "a", "b", "C", False, "/usr/bin/p", (1350, 425))], [])


@pytest.mark.parametrize(
    ("hours", "minutes"),
    [("00:00-24:00", (0, 1440)), ("08:00-17:00", (480, 1020)), ("23:59-00:00", (1439, 0)), ("00:00-00:01", (0, 1))],
)
def test_hours_are_minutes_of_the_day(hours, minutes):
    """The end is the first minute that does not match any more, so 24:00 is one."""
    rules, mistakes = parse_rules([{"action": "refuse", "hours": hours}])
    assert (rules, mistakes) == ([Rule("refuse", hours=minutes)], [])


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ({"action": "ask"}, "action"),
        ({"action": 1}, "action"),
        ({"action": ["ring"]}, "action"),
        ({"action": "ring", "tty": "yes"}, "tty"),
        ({"action": "ring", "tty": 1}, "tty"),
        ({"action": "ring", "unit": 5}, "unit"),
        ({"action": "ring", "unit": "a\nb"}, "unit"),
        ({"action": "ring", "user_data": True}, "user_data"),
        ({"action": "ring", "pinentry": "/usr/bin/p"}, "pinentry"),
        ({"action": "tty", "pinentry": "pinentry-curses"}, "pinentry"),
        ({"action": "tty", "pinentry": ""}, "pinentry"),
        ({"action": "ring", "units": "x"}, "units"),
        ({"action": "refuse", "hours": "22:00"}, "hours"),
        ({"action": "refuse", "hours": "22-7"}, "hours"),
        ({"action": "refuse", "hours": "7:00-8:00"}, "hours"),
        ({"action": "refuse", "hours": "22:00-25:00"}, "hours"),
        ({"action": "refuse", "hours": "24:00-07:00"}, "hours"),
        ({"action": "refuse", "hours": "22:00-22:00"}, "hours"),
        ({"action": "refuse", "hours": "22:00-07:00 "}, "hours"),
        ({"action": "refuse", "hours": [22, 7]}, "hours"),
        ({}, None),
    ],
)
def test_a_mistake_names_its_rule_and_key_and_what_is_accepted(table, key):
    """Every wrong value is reported with its place, and its rule is not used."""
    good = {"action": "ring"}
    rules, mistakes = parse_rules([good, table])
    assert rules == [RING]
    [mistake] = mistakes
    assert mistake[:-1] == ((1,) if key is None else (1, key))
    assert "accepted" in mistake[-1]


def test_all_mistakes_are_reported_at_once():
    """Three wrong keys in two rules are three mistakes."""
    _, mistakes = parse_rules([{"action": "no", "tty": 0}, {"unit": "x"}])
    assert [mistake[:-1] for mistake in mistakes] == [(0, "action"), (0, "tty"), (1,)]
