"""The rehearsal from end to end: what is meant, what must be well before anything is locked, and then the steps."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from unlatch.cli.voice import duration
from unlatch.doctor import registry
from unlatch.doctor.check import Finding, Situation, problem
from unlatch.doctor.child import NotFinished
from unlatch.doctor.rehearsal import card, key
from unlatch.doctor.run import examine, fetch

F = TypeVar("F")

LOCK, ANSWER, PROOF = "rehearsal-lock", "rehearsal-answer", "rehearsal-proof"
ANY_CARD = "card"  # in place of a serial number
# What would leave a key or card locked if it were found out only afterwards.
FOR_BOTH = ("gnupg-home", "one-agent", "rules", "broker-reachable", "who-is-rung")
FOR_KEYS = ("pinentry-line", "pinentry-runs", "agent-pinentry")
_MARGIN = 20.0  # seconds for gpg around the person's time


class Impossible(Exception):
    """Nothing was locked, because of these findings."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__()
        self.findings = findings


class Rehearsal(NamedTuple):
    """What can be done: ``plan`` says it to people, in lines; ``steps`` does it, and ends at the first problem."""

    plan: list[str]
    steps: Callable[[], Iterator[Finding]]


def prepare(situation: Situation, what: str, seconds: float) -> Rehearsal:
    """Find the key or card, and see that everything which can be known beforehand is well. Nothing is changed.

    Raises:
        Impossible
    """
    found, of_card = _find(situation, what)
    checks = FOR_BOTH if of_card is not None else FOR_BOTH + FOR_KEYS
    findings = list(examine(tuple(check for check in registry.ASKER if check.name in checks), (), situation))
    bad = [finding for finding in findings if finding.state in ("problem", "unknown")]
    if bad:
        raise Impossible(bad)
    rung = next((finding.text for finding in findings if finding.check == "who-is-rung"), "")
    if of_card is not None:
        return Rehearsal(
            _plan_card(of_card, situation, rung, seconds), lambda: _card_steps(situation, of_card, seconds)
        )
    return Rehearsal(_plan_key(found, situation, rung, seconds), lambda: _key_steps(situation, found, seconds))


def _find(situation: Situation, what: str) -> tuple[key.Target, card.Target | None]:
    found = key.NOTHING._replace(error="NoSuchKey")
    if what != ANY_CARD:
        found = _fetch(situation, key.Target, lambda: key.find(situation, what))
    # Cards have keys as well, and their numbers look like a key's id.
    if found.error not in ("OnCard", "NoSuchKey", "NotAKey"):
        _demand(key.judge_target(found, situation, what))
        return found, None
    wanted = found.serial or ("" if what == ANY_CARD else what)
    of_card = _fetch(situation, card.Target, lambda: card.find(situation, wanted))
    if of_card.error in ("OtherCard", "NoReader", "NoDaemon", "Empty") and found.error != "OnCard" and what != ANY_CARD:
        _demand(key.judge_target(found, situation, what))
    _demand(card.judge_target(of_card, situation))
    return found, of_card


def _demand(finding: Finding | None) -> None:
    if finding is not None:
        raise Impossible([finding._replace(check=LOCK)])


def _fetch(situation: Situation, kind: type[F], work: Callable[[], F], seconds: float = _MARGIN) -> F:
    try:
        return fetch(situation, kind, work, seconds)
    except NotFinished as error:
        raise Impossible([problem(str(error), "unlatch doctor")._replace(check=LOCK)]) from None


# In words


def _plan_key(target: key.Target, situation: Situation, rung: str, seconds: float) -> list[str]:
    deed = {key.DECRYPT: "gpg decrypts", key.SIGN: "gpg signs"}.get(target.use, "gpg-agent signs")
    lines = [
        f"gpg-agent of {situation.user} forgets {target.name}; services that need it wait, or fail",
        f"{deed} a random text, as a service would; {rung}",
        f"somebody answers within {duration(seconds)}; else the key stays locked",
    ]
    if target.granted:
        lines.append('the end that "unlatch key unlock --for" gave it is lost: then gpg-agent\'s cache times count')
    elif not target.unlocked:
        lines.append("the key is locked now, so nothing is lost")
    return lines


def _plan_card(target: card.Target, situation: Situation, rung: str, seconds: float) -> list[str]:
    return [
        f"the card {target.number} ({target.state} now), and any other of {situation.user}, is locked; jobs that need "
        "it fail meanwhile",
        f"the PIN is asked for; {rung}; {target.tries} tries are left, and only a wrong answer costs one",
        f"somebody answers within {duration(seconds)}; else the card stays locked",
        "the card signs something, to prove it",
    ]


# The steps


def _key_steps(situation: Situation, target: key.Target, seconds: float) -> Iterator[Finding]:
    def locking() -> Finding:
        locked = fetch(situation, key.Locked, lambda: key.lock(situation, target))
        return key.judge_lock(locked, target, situation)

    def answering() -> Finding:
        used = fetch(situation, key.Used, lambda: key.use(situation, target, seconds), seconds + _MARGIN)
        return key.judge_use(used, target, situation)

    def proving() -> Finding:
        used = fetch(situation, key.Used, lambda: key.use_again(situation, target))
        return key.judge_again(used, situation)

    yield from _until_a_problem(((LOCK, locking), (ANSWER, answering), (PROOF, proving)))


def _card_steps(situation: Situation, target: card.Target, seconds: float) -> Iterator[Finding]:
    def locking() -> Finding:
        locked = fetch(situation, card.Locked, lambda: card.lock(situation, target))
        return card.judge_lock(locked, target, situation)

    def answering() -> Finding:
        used = fetch(situation, card.Used, lambda: card.unlock(situation, target, seconds), seconds + _MARGIN)
        return card.judge_unlock(used, target, situation)

    def proving() -> Finding:
        return card.judge_proof(fetch(situation, card.Used, lambda: card.prove(situation, target)), situation)

    yield from _until_a_problem(((LOCK, locking), (ANSWER, answering), (PROOF, proving)))


def _until_a_problem(steps: tuple[tuple[str, Callable[[], Finding]], ...]) -> Iterator[Finding]:
    for name, step in steps:
        try:
            found = step()._replace(check=name)
        except NotFinished as error:
            found = Finding(name, "problem", f"not done: {error}", "unlatch doctor")
        yield found
        if found.state != "ok":
            return
