"""All users who have something to ask, not only the one that is examined: is somebody rung, and by how many ways?"""

import os
import pwd
from typing import NamedTuple

from unlatch.broker.connections import overflow_uid
from unlatch.broker.policy import Policy
from unlatch.broker.setup import make_policy
from unlatch.doctor.check import Check, Finding, Situation, ok, problem, warning
from unlatch.doctor.host.served import Served, served
from unlatch.doctor.host.words import edit, listed
from unlatch.errors import Refused
from unlatch.prompt import Prompt
from unlatch.settings import NotifierSettings, Settings
from unlatch.setup import agent_conf, holders

MOST_USERS = 64  # named in the settings, or with a gpg-agent of ours


class Rung(NamedTuple):
    """``people`` and ``notifiers`` that a user's prompt rings; ``refusal`` is why it is refused, or nothing."""

    user: str
    people: str
    notifiers: tuple[str, ...]
    refusal: str


class Facts(NamedTuple):
    """``idle``: people without a notifier; ``unused``: notifiers that nobody has."""

    file: str
    rung: tuple[Rung, ...]
    idle: tuple[str, ...]
    unused: tuple[str, ...]


def probe(situation: Situation) -> Facts:
    """Apply the rules to the asking user, to all that the settings name, and to all whose gpg-agent calls us."""
    found = served(situation)
    settings = found.loaded.settings
    used = {name for person in settings.people for name in person.notify}
    return Facts(
        found.loaded.path,
        tuple(who_is_rung(settings, uid, name) for name, uid in _users(situation, settings, found)),
        tuple(person.name for person in settings.people if not person.notify),
        tuple(sorted(each.name for each in settings.notifiers if each.name not in used)),
    )


def who_is_rung(settings: Settings, uid: int, user: str) -> Rung:
    """What the broker would decide for this user's prompts."""
    policy = _policy(settings)
    try:
        policy.admit(uid, user)
        audience = policy.audience(uid, user, Prompt("passphrase", "", ("", ""), 0))
    except Refused as error:
        return Rung(user, "", (), error.text)
    return Rung(user, audience.person, audience.notifiers, "")


class _Named:
    """As much of a notifier as the rules look at."""

    def __init__(self, settings: NotifierSettings) -> None:
        self.name = settings.name
        self.end_to_end = settings.end_to_end


def _policy(settings: Settings) -> Policy:
    rung = [_Named(each) for each in settings.notifiers]
    loopback = not (settings.people or settings.notifiers)
    return make_policy(settings, "", loopback=loopback, overflow_uid=overflow_uid(), rung=rung)  # type: ignore[arg-type]


def _users(situation: Situation, settings: Settings, found: Served) -> list[tuple[str, int]]:
    """The asking user first."""
    named = {*settings.allow_users, *(user for person in settings.people for user in person.users)} - {"*"}
    accounts = {situation.user: situation.uid}
    for name in sorted(named):
        uid = _uid(name)
        if uid is not None:
            accounts.setdefault(name, uid)
    if found.place.host:
        accounts.update((each.pw_name, each.pw_uid) for each in pwd.getpwall() if _asks(each.pw_dir))
    return list(accounts.items())[:MOST_USERS]


def _uid(name: str) -> int | None:
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _asks(home: str) -> bool:
    """Whether this home's gpg-agent calls our pinentry, as far as we may see."""
    # Somebody's own file, or link: it may lead to a fifo that nobody writes to, or to a watchdog that opening starts.
    options = agent_conf.values(holders.read(f"{home}/.gnupg/gpg-agent.conf"))
    return os.path.basename(options.get("pinentry-program", "")) == "pinentry-unlatch"


def judge(facts: Facts, situation: Situation) -> list[Finding]:
    """One line for each other user, and one for what is named and rings nobody."""
    change = edit(situation, facts.file)
    found = [_judge_one(rung, change) for rung in facts.rung if rung.user != situation.user]
    if facts.idle:
        verb = "has no notifier and is" if len(facts.idle) == 1 else "have no notifier and are"
        found.append(warning(f"{listed(facts.idle)} {verb} never rung", change))
    if facts.unused:
        found.append(warning(f"nobody is rung by {listed(facts.unused)}", change))
    return found or [ok("no other user of this host asks, as far as can be seen")]


def _judge_one(rung: Rung, change: str) -> Finding:
    if rung.refusal:
        return problem(f"every prompt of {rung.user} is refused: {rung.refusal}", change)
    if not rung.notifiers:
        return problem(f"for {rung.user} nothing rings: {rung.people or 'whoever is named'} has no notifier", change)
    return ok(f"{rung.people} is rung for {rung.user}, by {listed(rung.notifiers)}")


def judge_one_notifier(facts: Facts, situation: Situation) -> Finding:
    """When the only way to a phone is down, nobody is rung."""
    alone = [rung for rung in facts.rung if len(rung.notifiers) == 1]
    if not alone:
        nobody = not any(rung.notifiers for rung in facts.rung)
        return ok("no notifier rings anybody" if nobody else "nobody hangs on one notifier alone")
    names = sorted({rung.notifiers[0] for rung in alone})
    text = f"for {listed([rung.user for rung in alone])} only one notifier rings ({listed(names)})"
    return warning(f"{text}; when it is down, nobody is rung", edit(situation, facts.file))


OTHER_USERS = Check(
    "other-users",
    "for every other user whom `unlatch.toml` names, or whose gpg-agent calls `pinentry-unlatch`, somebody is rung "
    "too; and every person has a notifier, every notifier a person",
    "add the user to `users` of a `[people.NAME]` table, give that person a notifier in `notify`, and restart the "
    "broker",
    Facts,
    probe,
    judge,
)
ONE_NOTIFIER = Check(
    "one-notifier",
    "each user's people are reached by two notifiers at least",
    "add a second one that shares nothing with the first: another server, another app",
    Facts,
    probe,
    judge_one_notifier,
)
