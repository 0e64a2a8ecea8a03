"""What a watch over cards decides, as a table: it rings once, not for ever, and not for nothing."""

import pytest

from unlatch.cli import card_watch, persons
from unlatch.errors import Denied, Expired, NoBroker, Refused, Withdrawn
from unlatch.frontends.asking import AtTerminal, Moot, Person, Wanted
from unlatch.gnupg import card_unlock
from unlatch.gnupg.card import BLOCKED, LOCKED, UNLOCKED
from unlatch.gnupg.card_errors import (
    Blocked,
    Empty,
    FewTries,
    Hung,
    NoLoopback,
    NotTried,
    PulledOut,
    StillLocked,
    WrongPin,
)
from unlatch.gnupg.card_watch import (
    ABSENT,
    DONE,
    LONGEST_PAUSE,
    NOBODY,
    OVER,
    PAUSE,
    UNKNOWN,
    Seen,
    Watch,
    outcome_of,
)
from unlatch.gnupg.homes import Home
from unlatch.secret import Secret

A, B = "D276000124010304FF51000000010000", "D276000124010304FF51000000020000"
AWAY, NOBODY_KNOWS = Seen(ABSENT, why="no card is in the reader"), Seen(UNKNOWN, why="scdaemon is being restarted")


def ask(watch: Watch, aid: str = A) -> None:
    """The loop does what the watch wants."""
    assert watch.wants(Seen(LOCKED, aid), 0.0)
    watch.asking = aid


def unlocked(*aids: str) -> Watch:
    """A watch that has seen these cards unlocked."""
    watch = Watch()
    for aid in aids or (A,):
        assert not watch.wants(Seen(UNLOCKED, aid), 0.0)
    return watch


def test_a_card_that_lost_its_state_is_asked_for_once() -> None:
    """Not again with the next look, nor when the person said no; again when it was unlocked meanwhile."""
    watch = unlocked()
    ask(watch)
    assert not watch.wants(Seen(LOCKED, A), 1.0)
    watch.ended(OVER, 2.0)
    assert not watch.wants(Seen(LOCKED, A), 3.0)
    assert not watch.wants(Seen(LOCKED, A), 1e6)
    watch.wants(Seen(UNLOCKED, A), 1e6)
    assert watch.wants(Seen(LOCKED, A), 1e6 + 1)


@pytest.mark.parametrize("seen", [Seen(LOCKED, A), Seen(BLOCKED, A), AWAY, NOBODY_KNOWS])
def test_a_card_that_was_never_unlocked_is_not_asked_for(seen: Seen) -> None:
    """That is the business of the unlocking at boot."""
    watch = Watch()
    assert not watch.wants(seen, 0.0)
    assert not watch.wants(Seen(LOCKED, A), 1.0)


def test_it_is_asked_for_when_it_is_back() -> None:
    """Away, unknown and blocked are no reason to ask, and none to forget."""
    watch = unlocked()
    for seen in (AWAY, NOBODY_KNOWS, Seen(BLOCKED, A)):
        assert not watch.wants(seen, 0.0)
    assert watch.wants(Seen(LOCKED, A), 0.0)


def test_another_card_is_not_asked_for() -> None:
    """One card was unlocked; the other one never was."""
    assert not unlocked(A).wants(Seen(LOCKED, B), 0.0)


def test_two_cards_are_asked_for_one_after_the_other() -> None:
    """And each once."""
    watch = unlocked(A, B)
    ask(watch, A)
    assert not watch.wants(Seen(LOCKED, B), 0.0)
    watch.ended(OVER, 0.0)
    ask(watch, B)
    watch.ended(OVER, 0.0)
    assert not watch.wants(Seen(LOCKED, A), 0.0)
    assert not watch.wants(Seen(LOCKED, B), 0.0)


def test_when_nobody_could_be_asked_it_is_tried_later_and_later() -> None:
    """The pauses double, up to half an hour; unlocking it another way begins anew."""
    watch, now = unlocked(), 0.0
    for number in range(8):
        watch.asking = A
        watch.ended(NOBODY, now)
        pause = min(PAUSE * 2**number, LONGEST_PAUSE)
        assert not watch.wants(Seen(LOCKED, A), now + pause - 1)
        assert watch.wants(Seen(LOCKED, A), now + pause)
        now += pause
    watch.wants(Seen(UNLOCKED, A), now)
    assert watch.wants(Seen(LOCKED, A), now)


def test_unlocked_another_way_while_somebody_is_asked() -> None:
    """Nobody need answer any more; another card's state says nothing about it."""
    watch = unlocked(A, B)
    ask(watch, A)
    assert not watch.is_moot(Seen(UNLOCKED, B))
    assert not watch.is_moot(Seen(LOCKED, A))
    assert watch.is_moot(Seen(UNLOCKED, A))
    assert not Watch().is_moot(Seen(UNLOCKED, A))


def test_locked_again_before_anybody_looked() -> None:
    """It was unlocked, by the answer or another way, and lost that at once: that is another loss, and another ring."""
    watch = unlocked()
    ask(watch)
    watch.ended(DONE, 0.0)
    ask(watch)
    assert not watch.wants(Seen(UNLOCKED, A), 0.0)
    assert not watch.wants(Seen(LOCKED, A), 0.0)
    watch.ended(OVER, 0.0)
    ask(watch)
    watch.ended(OVER, 0.0)
    assert not watch.wants(Seen(LOCKED, A), 0.0)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Denied(), OVER),
        (Expired(), OVER),
        (Withdrawn(), OVER),
        (Moot(), OVER),
        (WrongPin(A, 1), OVER),
        (NotTried("..."), OVER),
        (Blocked(A, 0, 3), OVER),
        (FewTries(A, 1), OVER),
        (NoBroker([]), NOBODY),
        (Refused("quota", "..."), NOBODY),
        (Empty(), NOBODY),
        (Hung(4.0, 1), NOBODY),
        (PulledOut(), NOBODY),
        (OSError(), NOBODY),
        (ValueError(), NOBODY),
    ],
)
def test_who_heard_of_it(error: Exception, outcome: int) -> None:
    """A person who was asked is not asked again; trouble with card or broker is no answer."""
    assert outcome_of(error) == outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NoLoopback(), OVER),
        (StillLocked(A, lying=True), OVER),
        (Hung(4.0, 1), OVER),
        (ValueError(), OVER),
        (PulledOut(), NOBODY),
        (Empty(), NOBODY),
        (NoBroker([]), NOBODY),
        (Refused("quota", "..."), NOBODY),
    ],
)
def test_who_gave_a_pin_is_not_rung_again(error: Exception, outcome: int) -> None:
    """What came of it stood on the page, and would come of the next one as well; but a card that went is asked for."""
    assert outcome_of(error, answered=True) == outcome


def test_the_watch_knows_whether_somebody_gave_a_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its child tells the same trouble apart before and after an answer."""

    def unlock(_visit: object, person: Person, *, seconds: int) -> None:
        if seconds:
            person.ask(Wanted("pin", "Unlock it"))
        raise NoLoopback

    def outcome(seconds: int) -> int:
        choice = persons.Choice(from_stdin=False, at_tty=False, reason="", timeout=seconds)
        return card_watch._unlock(Home.find({}, 65534, "/nonexistent"), A, choice, -1)

    person = AtTerminal(lambda _: None, lambda _: Secret(b"123456"))
    monkeypatch.setattr(persons, "person", lambda *_, **__: person)
    monkeypatch.setattr(card_unlock, "unlock", unlock)
    assert (outcome(0), outcome(1)) == (NOBODY, OVER)
