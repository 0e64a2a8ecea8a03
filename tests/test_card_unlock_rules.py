"""The rules about PIN tries, against a person who types anything and a card that may go away at any moment."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlatch.ask import Released
from unlatch.errors import Denied, Expired, UnlatchError
from unlatch.frontends.asking import NothingGiven, Wanted
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card import BLOCKED, LOCKED, UNLOCKED, PinStatus
from unlatch.gnupg.card_access import PinState
from unlatch.gnupg.card_errors import (
    Blocked,
    Busy,
    CardTrouble,
    Empty,
    FewTries,
    NoKey,
    NotTried,
    OtherCard,
    PulledOut,
    StillLocked,
    WrongPin,
)
from unlatch.gnupg.card_unlock import MAX_QUESTIONS, Look, Session, objection, unlock, visits, wait_for_card
from unlatch.gnupg.errors import BadPin, PinBlocked
from unlatch.gnupg.turns import turn
from unlatch.prompt import Verdict
from unlatch.secret import Secret

AID, OTHER = "D276000124010304FF51000000010000", "D276000124010304FF51000000020000"
PIN = b"123456"


class FakeCard:
    """A card behind scdaemon: what was given to it, and accidents that a test arranges."""

    def __init__(self, tries: int = 3, pin: bytes = PIN) -> None:
        self.aid = AID
        self.pin = pin
        self.tries = tries
        self.unlocked = self.lying = False
        self.useful = True
        self.given: list[bytes] = []
        self.renewed = 0
        self.accidents: dict[int, str] = {}  # number of the PIN that is given -> what happens then

    @contextlib.contextmanager
    def visit(self) -> Iterator[Session]:
        yield self

    def look(self) -> Look:
        if not self.aid:
            raise Empty
        state = UNLOCKED if self.unlocked else BLOCKED if not self.tries else LOCKED
        status = PinStatus(forced=True, longest=127, pin=self.tries, reset=0, admin=3)
        return Look(self.aid, "Anna Meier", PinState(state, self.lying), status, self.useful)

    def give(self, aid: str, pin: Secret) -> None:
        assert aid == self.aid
        self.given.append(bytes(pin.reveal()))
        accident = self.accidents.get(len(self.given), "")
        if accident == "pulled before":
            raise PulledOut
        if not self.lying:  # a scdaemon that lies says OK and does nothing
            self._verify(bytes(pin.reveal()))
        if accident == "pulled after":
            self.unlocked = False
            raise PulledOut

    def renew(self) -> None:
        self.renewed += 1
        self.lying = False

    def _verify(self, pin: bytes) -> None:
        if not self.tries:
            raise PinBlocked(100663426, "PIN blocked")
        if pin != self.pin:
            self.tries -= 1
            raise BadPin(100663383, "Bad PIN")
        self.tries, self.unlocked = 3, True


class Typist:
    """A person who gives these answers, one after the other; an exception is one too."""

    def __init__(self, *answers: bytes | Exception, meanwhile: object = None) -> None:
        self.answers = list(answers)
        self.asked: list[Wanted] = []
        self.verdicts: list[Verdict] = []
        self.coalesced: list[str] = []
        self._open = False

    def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
        self.asked.append(wanted)
        self.coalesced.append(coalesce)
        self._open = False
        answer = self.answers.pop(0) if self.answers else Denied()
        if isinstance(answer, Exception):
            raise answer
        self._open = True
        return Secret(answer)

    def judge(self, verdict: Verdict) -> None:
        if self._open:
            self.verdicts.append(verdict)
            self._open = False

    def close(self) -> None:
        pass

    def __enter__(self) -> "Typist":
        return self

    def __exit__(self, *_: object) -> None:
        pass


PINS = st.sampled_from([PIN, b"000000", b"111111", b"12345", b"", b"1" * 200, b"123456\n", b"123456\0"])
ANSWERS = st.one_of(PINS, st.sampled_from([Released("failed"), Denied(), NothingGiven("")]))


@given(
    answers=st.lists(ANSWERS, max_size=12),
    tries=st.integers(0, 3),
    last_try=st.booleans(),
    accidents=st.dictionaries(st.integers(1, 4), st.sampled_from(["pulled before", "pulled after"]), max_size=2),
    lying=st.booleans(),
)
def test_the_rules(
    answers: list[bytes | Exception], tries: int, last_try: bool, accidents: dict[int, str], lying: bool
) -> None:
    """Whatever is typed, whatever happens: no PIN twice, none that cannot be one, no last try that nobody allowed."""
    card, person = FakeCard(tries), Typist(*answers)
    card.accidents, card.lying = accidents, lying
    with contextlib.suppress(UnlatchError):
        unlock(card.visit, person, last_try=last_try)
        assert card.unlocked
    assert len(card.given) == len(set(card.given))
    assert all(6 <= len(pin) <= 88 and 0 not in pin for pin in card.given)
    assert last_try or card.tries >= min(tries, 1)
    assert tries >= 2 or last_try or not card.given
    assert len(person.asked) <= MAX_QUESTIONS
    assert not person._open, "an answer was left without a verdict"


def test_the_right_pin() -> None:
    """Asked once, given once, accepted; the prompt names the card and may be shared by its serial number."""
    card, person = FakeCard(), Typist(PIN)
    assert unlock(card.visit, person).number == "00000001"
    assert card.given == [PIN]
    assert person.verdicts == [Verdict("accepted")]
    [wanted] = person.asked
    assert (wanted.kind, wanted.keeper, wanted.title) == ("pin", "card", "Unlock the card 00000001 of Anna Meier")
    assert wanted.text.startswith("3 tries left.")
    assert "signature PIN is forced" in wanted.text
    assert wanted.key is not None
    assert wanted.key.serial == "00000001"
    assert person.coalesced == [f"card:{AID}"]


def test_an_unlocked_card_asks_nobody() -> None:
    """There is nothing to do."""
    card, person = FakeCard(), Typist()
    card.unlocked = True
    unlock(card.visit, person)
    assert person.asked == []


def test_one_wrong_pin() -> None:
    """The next question says what was wrong and what is left."""
    card, person = FakeCard(), Typist(b"000000", PIN)
    unlock(card.visit, person)
    assert card.given == [b"000000", PIN]
    assert person.asked[1].error == "Wrong PIN: 2 tries left for the card 00000001."
    assert person.asked[1].text.startswith("2 tries left.")


def test_two_wrong_pins_end_it() -> None:
    """The last try is not touched; the page hears why nobody asks again."""
    card, person = FakeCard(), Typist(b"000000", b"111111", PIN)
    with pytest.raises(WrongPin) as raised:
        unlock(card.visit, person)
    assert (raised.value.tries, card.tries) == (1, 1)
    assert person.verdicts == [Verdict("failed", "Wrong PIN: 1 try left for the card 00000001.")]


def test_the_last_try_is_refused_before_anybody_is_asked() -> None:
    """Nobody is rung for a PIN that would not be tried."""
    card, person = FakeCard(1), Typist(PIN)
    with pytest.raises(FewTries):
        unlock(card.visit, person)
    assert person.asked == []


def test_the_last_try_if_somebody_wants_it() -> None:
    """The page warns; a wrong PIN blocks the card, and that is what the error says."""
    card, person = FakeCard(1), Typist(b"000000")
    with pytest.raises(Blocked):
        unlock(card.visit, person, last_try=True)
    assert "a wrong PIN blocks the card" in person.asked[0].text
    assert person.verdicts == [Verdict("failed", "The PIN of the card 00000001 is blocked.")]
    card, person = FakeCard(1), Typist(PIN)
    unlock(card.visit, person, last_try=True)
    assert card.unlocked


def test_tries_that_were_spent_while_somebody_was_asked() -> None:
    """The counters are read again just before the PIN is given."""
    card = FakeCard()

    class Slow(Typist):
        def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
            card.tries = 1
            return super().ask(wanted, coalesce=coalesce, seconds=seconds)

    person = Slow(PIN)
    with pytest.raises(FewTries):
        unlock(card.visit, person)
    assert card.given == []
    assert person.verdicts[0].outcome == "failed"


def test_a_last_try_that_was_not_the_last_when_somebody_was_asked() -> None:
    """The page said three: who allowed the last try is asked anew, and told that it is the last."""
    card = FakeCard()

    class Slow(Typist):
        def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
            card.tries = 1
            return super().ask(wanted, coalesce=coalesce, seconds=seconds)

    person = Slow(b"000000", PIN)
    unlock(card.visit, person, last_try=True)
    assert card.given == [PIN]
    assert person.asked[1].error.startswith("Only the last try is left by now")
    assert "a wrong PIN blocks the card" in person.asked[1].text


def test_two_commands_do_not_block_a_card_together(tmp_path: Path) -> None:
    """Both would find two tries left; the second looks only when the first is done, and keeps its PIN."""
    card, ended = FakeCard(2), list[type[UnlatchError]]()
    give, both = card.give, threading.Barrier(2)

    def slowly(aid: str, pin: Secret) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):  # nobody else comes, as it should be
            both.wait(0.2)
        give(aid, pin)

    @contextlib.contextmanager
    def visit() -> Iterator[Session]:
        with turn(str(tmp_path)):
            yield card

    def run(pin: bytes) -> None:
        try:
            unlock(visit, Typist(pin, NothingGiven("wrong")))
        except UnlatchError as error:
            ended.append(type(error))

    card.give = slowly  # type: ignore[method-assign]
    commands = [threading.Thread(target=run, args=(pin,)) for pin in (b"000000", b"111111")]
    for command in commands:
        command.start()
    for command in commands:
        command.join()
    assert (card.tries, len(card.given)) == (1, 1)
    assert sorted(each.__name__ for each in ended) == ["FewTries", "WrongPin"]


def test_a_turn_comes_when_the_other_one_is_over(tmp_path: Path) -> None:
    """Nobody waits for ever; what is left of somebody who was killed is in nobody's way."""
    with turn(str(tmp_path)), pytest.raises(Busy), turn(str(tmp_path), seconds=0.05):
        raise AssertionError("two at once")
    with turn(str(tmp_path), seconds=0.0), turn("/nonexistent"):
        pass


def test_a_visit_has_its_turn(tmp_path: Path) -> None:
    """No other command is with the card while one is, and the next may come when it has left."""
    ours, theirs = socket.socketpair()
    visit = visits(lambda: Agent(ours, "S.gpg-agent"), "", str(tmp_path))
    with theirs, visit(), pytest.raises(Busy), turn(str(tmp_path), seconds=0.05):
        raise AssertionError("two at once")
    with turn(str(tmp_path), seconds=0.05):
        pass


def test_a_refused_pin_is_not_given_again() -> None:
    """Somebody who types the same wrong PIN, or a browser that fills it in, spends no second try."""
    card, person = FakeCard(), Typist(b"000000", b"000000", PIN)
    unlock(card.visit, person)
    assert card.given == [b"000000", PIN]
    assert person.asked[2].error.startswith("The card has just refused this PIN")


@pytest.mark.parametrize("pin", [b"12345", b"x", b"1" * 89, b"123456\0"])
def test_what_cannot_be_a_pin_never_reaches_the_card(pin: bytes) -> None:
    """The page says so, and that it cost nothing."""
    card, person = FakeCard(), Typist(pin, PIN)
    unlock(card.visit, person)
    assert card.given == [PIN]
    assert "was not tried and cost nothing" in person.asked[1].error


def test_a_card_may_take_shorter_pins_than_gnupg() -> None:
    """Its own limit counts as well."""
    assert objection(Secret(b"1" * 17), [], 16)
    assert not objection(Secret(b"1" * 16), [], 16)


def test_questions_have_an_end() -> None:
    """A person who plays is not rung for ever."""
    card, person = FakeCard(), Typist(*[b"12345"] * 20)
    with pytest.raises(NotTried):
        unlock(card.visit, person)
    assert len(person.asked) == MAX_QUESTIONS


def test_a_prompt_that_expired() -> None:
    """Is the end, or is followed by another; a PIN that was refused hours ago is not given again all the same."""
    with pytest.raises(Expired):
        unlock(FakeCard().visit, Typist(Expired(), PIN))
    card, person = FakeCard(), Typist(*[Expired()] * 20, b"000000", Expired(), b"000000", PIN)
    unlock(card.visit, person, patient=True)
    assert card.given == [b"000000", PIN]
    assert person.asked[-1].error.startswith("The card has just refused this PIN")


def test_a_follower_looks_at_the_card() -> None:
    """Somebody else's prompt unlocked the card: nobody is asked a second time."""
    card = FakeCard()

    class Leader(Typist):
        def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
            card.unlocked = True
            return super().ask(wanted, coalesce=coalesce, seconds=seconds)

    person = Leader(Released("accepted"))
    unlock(card.visit, person)
    assert len(person.asked) == 1
    assert card.given == []


def test_unlocked_by_somebody_else_while_asking() -> None:
    """The PIN is not needed any more, and stays with us."""
    card = FakeCard()

    class Slow(Typist):
        def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
            card.unlocked = True
            return super().ask(wanted, coalesce=coalesce, seconds=seconds)

    person = Slow(b"000000")
    unlock(card.visit, person)
    assert card.given == []
    assert person.verdicts == [Verdict("accepted")]


@pytest.mark.parametrize("accident", ["pulled before", "pulled after"])
def test_pulled_out_with_the_right_pin(accident: str) -> None:
    """It cost no try, and it is not given again."""
    card, person = FakeCard(), Typist(PIN, PIN)
    card.accidents = {1: accident}
    with pytest.raises(PulledOut, match="cost no try"):
        unlock(card.visit, person)
    assert card.given == [PIN]
    assert person.verdicts[0].outcome == "failed"


def test_pulled_out_with_a_wrong_pin() -> None:
    """The counter tells, so the dialogue goes on."""
    card, person = FakeCard(), Typist(b"000000", PIN)
    real = card._verify

    def verify(pin: bytes) -> None:
        with contextlib.suppress(BadPin):
            real(pin)
        if pin != PIN:
            raise PulledOut

    card._verify = verify  # type: ignore[method-assign]
    unlock(card.visit, person)
    assert card.given == [b"000000", PIN]
    assert person.asked[1].error.startswith("Wrong PIN: 2 tries left")


def test_another_card_came_meanwhile() -> None:
    """A PIN is for the card that the person was shown."""
    card = FakeCard()

    class Swapped(Typist):
        def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
            card.aid = OTHER
            return super().ask(wanted, coalesce=coalesce, seconds=seconds)

    with pytest.raises(OtherCard):
        unlock(card.visit, Swapped(PIN))
    assert card.given == []


def test_scdaemon_that_believes_the_card_to_be_unlocked() -> None:
    """It would not show the card any PIN, so it is renewed before somebody is asked."""
    card, person = FakeCard(), Typist(PIN)
    card.lying = True
    unlock(card.visit, person)
    assert (card.renewed, card.given, card.unlocked) == (1, [PIN], True)


def test_a_card_that_says_yes_and_stays_locked() -> None:
    """Success is what the card says afterwards."""
    card, person = FakeCard(), Typist(PIN)
    card._verify = lambda pin: None  # type: ignore[method-assign]
    with pytest.raises(StillLocked):
        unlock(card.visit, person)
    assert person.verdicts[0].outcome == "failed"


def test_a_card_without_keys() -> None:
    """Nobody is asked for a PIN that would unlock nothing."""
    card, person = FakeCard(), Typist(PIN)
    card.useful = False
    with pytest.raises(NoKey):
        unlock(card.visit, person)
    assert person.asked == []


def test_standard_input_has_one_try() -> None:
    """The error is what was wrong with the first PIN."""
    card = FakeCard()
    with pytest.raises(WrongPin) as raised:
        unlock(card.visit, Typist(b"000000", NothingGiven("...")))
    assert raised.value.tries == 2
    with pytest.raises(NotTried, match="at least 6"):
        unlock(card.visit, Typist(b"12345", NothingGiven("...")))
    with pytest.raises(NotTried, match="no PIN was given"):
        unlock(card.visit, Typist(NothingGiven("")))


def test_waiting_for_a_card_says_why_once() -> None:
    """Each reason is told when it begins; what no waiting mends is raised."""
    reasons: list[CardTrouble | None] = [Empty(), Empty(), OtherCard(AID, (OTHER,)), Empty(), None]
    told: list[str] = []
    slept: list[float] = []
    card = FakeCard()

    @contextlib.contextmanager
    def visit() -> Iterator[Session]:
        reason = reasons.pop(0)
        if reason is not None:
            raise reason
        yield card

    wait_for_card(visit, told.append, slept.append)
    assert told == [
        "waiting: no card is in the reader",
        "waiting: the card 00000001 is wanted, and 00000002 is in the reader",
        "waiting: no card is in the reader",
    ]
    assert len(slept) == 4
    reasons = [NoKey(AID, "unlock")]
    with pytest.raises(NoKey):
        wait_for_card(visit, told.append, slept.append)
