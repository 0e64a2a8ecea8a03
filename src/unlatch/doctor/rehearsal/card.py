"""The rehearsal with a card. Everything here but ``judge_*`` runs as the asking user.

It unlocks as ``unlatch card unlock`` does: first the person, then the card. The only PIN that the card is given is what
that person types; nothing is rehearsed with fewer than two tries left.
"""

import time
from typing import NamedTuple

from unlatch.cli import persons
from unlatch.cli.voice import duration
from unlatch.doctor.check import Finding, Situation, command, ok, problem
from unlatch.errors import UnlatchError
from unlatch.gnupg import card_access, card_unlock, locking
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card import BLOCKED, LOCKED, LOW, UNLOCKED
from unlatch.gnupg.grants import Records
from unlatch.gnupg.homes import Home

# What the process says that ran as the user: names of exceptions, of which this makes sentences.
WHY = {
    "Blocked": "it is blocked",
    "Empty": "there is no card in the reader",
    "FewTries": "it has fewer than two tries left",
    "HeldByAnother": "another program holds it",
    "Hung": "scdaemon hangs",
    "NoBroker": "no broker can be reached",
    "NoDaemon": "there is no scdaemon",
    "NoLoopback": "no-allow-loopback-pinentry in gpg-agent.conf forbids it",
    "NoReader": "there is no card reader",
    "NoReply": "gpg-agent does not answer",
    "NotOpenPGP": "it is no OpenPGP card",
    "Occupied": "somebody is being asked for its PIN already",
    "OtherCard": "another card is in the reader",
    "PulledOut": "it was pulled out",
    "Refused": "the broker, or a rule, refused the prompt",
    "SeveralCards": "there are several cards: name one by its number",
    "StillLocked": "it is locked still",
    "StillVerified": "another program keeps it powered",
    "Touch": "it wants to be touched",
    "TwoAgents": "two gpg-agents run",
    "Unused": "scdaemon does not use its reader",
}
REASON = "A rehearsal: somebody wants to see that this works."


class Target(NamedTuple):
    """The card. ``error`` is the name of what is in the way, "" if nothing is; ``wanted`` what the caller typed."""

    error: str
    wanted: str
    number: str
    holder: str
    state: str
    tries: int


def find(situation: Situation, wanted: str) -> Target:
    """Look at the card, without spending a try."""
    try:
        with card_unlock.visits(lambda: _agent(situation), wanted, _home(situation).directory)() as session:
            look = session.look()
    except (UnlatchError, OSError) as error:
        return Target(type(error).__name__, wanted, "", "", "", 0)
    return Target("", wanted, look.number, look.holder[:100], look.state.state, look.status.pin)


class Locked(NamedTuple):
    """``state`` is the card's afterwards."""

    error: str
    state: str


def lock(situation: Situation, target: Target) -> Locked:
    """Lock all cards that this user's scdaemon reaches, as ``unlatch lock`` does; look at this one."""
    home = _home(situation)
    try:
        records = Records(home.directory, home.uid, situation.environ, situation.home)
        trouble = next(
            (each.trouble for each in locking.lock_cards(locking.Place(home, records)) if each.trouble), None
        )
        if trouble is not None:
            return Locked(type(trouble).__name__, "")
        with Agent.open(home, start=False) as agent:
            return Locked("", card_access.state_of(agent, card_access.select(agent, target.number)).state)
    except (UnlatchError, OSError) as error:
        return Locked(type(error).__name__, "")


class Used(NamedTuple):
    """``seconds`` is how long it took; ``error`` the name of what went wrong."""

    error: str
    seconds: float


def unlock(situation: Situation, target: Target, seconds: float) -> Used:
    """Ask the person, and unlock the card."""
    began = time.monotonic()
    choice = persons.Choice(from_stdin=False, at_tty=False, reason=REASON, timeout=int(seconds))
    visit = card_unlock.visits(lambda: _agent(situation), target.number, _home(situation).directory)
    try:
        with persons.person(choice, "unlatch doctor --rehearse") as person:
            card_unlock.unlock(visit, person, seconds=int(seconds))
    except (UnlatchError, OSError) as error:
        return Used(type(error).__name__, time.monotonic() - began)
    return Used("", time.monotonic() - began)


def prove(situation: Situation, target: Target) -> Used:
    """Have the card sign something while nobody may be asked."""
    began = time.monotonic()
    try:
        with _agent(situation) as agent:
            aid = card_access.select(agent, target.number)
            if card_access.state_of(agent, aid).state != UNLOCKED:
                return Used("StillLocked", time.monotonic() - began)
            card_access.prove(agent, aid)
    except (UnlatchError, OSError) as error:
        return Used(type(error).__name__, time.monotonic() - began)
    return Used("", time.monotonic() - began)


def _agent(situation: Situation) -> Agent:
    return Agent.open(_home(situation), start=False)


def _home(situation: Situation) -> Home:
    return Home.find(situation.environ, situation.uid, situation.home)


# What it means


def judge_target(target: Target, situation: Situation) -> Finding | None:
    """Why nothing can be rehearsed with it; None when all is well."""
    status = situation.as_user("unlatch", "card", "status")
    if target.error == "NoAgent":
        unit = situation.as_root("systemctl", "enable", "--now", f"unlatch-agent@{situation.user}.service")
        return problem(f"no gpg-agent runs for {situation.gnupghome}: start it as it shall run", unit)
    if target.error:
        return problem(f"the card cannot be used: {WHY.get(target.error, target.error)}", status)
    if target.state == BLOCKED or target.tries < LOW:
        text = f"the card {target.number} has {target.tries} tries left; nothing is rehearsed with fewer than {LOW}"
        return problem(text, status)
    return None


def judge_lock(locked: Locked, target: Target, situation: Situation) -> Finding:
    """Whether the card's verified state is gone."""
    if locked.error or locked.state != LOCKED:
        why = WHY.get(locked.error, locked.error) or f"it is {locked.state} still"
        return problem(f"the card {target.number} could not be locked: {why}", _status(situation))
    return ok(f"the card {target.number} is locked; {target.tries} tries are left")


def judge_unlock(used: Used, target: Target, situation: Situation) -> Finding:
    """Whether a person was reached, and the card took the PIN."""
    if not used.error:
        return ok(f"rung, answered and unlocked within {duration(used.seconds)}")
    why = {
        "Denied": "somebody said no",
        "Expired": "nobody answered in time",
        "WrongPin": "the PIN was wrong, which cost a try",
        "NotTried": "no PIN was given that could be one; no try was spent",
    }.get(used.error) or WHY.get(used.error, used.error)
    text = f"not done after {duration(used.seconds)}: {why}. The card stays locked"
    again = situation.as_user("unlatch", "card", "unlock", target.number)
    return problem(text, f"{command('unlatch', 'log', '--since', '10m')}\n{again}")


def judge_proof(used: Used, situation: Situation) -> Finding:
    """Whether the next job finds it unlocked."""
    if not used.error:
        return ok(f"the card signed without asking anybody, in {used.seconds * 1000:.0f} ms")
    if used.error == "NoKey":
        return ok("the card is unlocked; it has no key to sign with")
    why = WHY.get(used.error, used.error)
    return problem(f"the card is unlocked, but does not work unattended: {why}", _status(situation))


def _status(situation: Situation) -> str:
    return situation.as_user("unlatch", "card", "status")
