"""Unlock a card: first ask the person, however long that takes, and only then talk to the card.

An open pinentry would keep everybody else from the card, so none is opened. The rules about tries, which nothing here
may break (tests/test_card_unlock_rules.py tries to):

1. A PIN goes to the card once. One that was refused is not given again in this dialogue, whoever types it.
2. A PIN that cannot be one (too short, too long, empty) never reaches the card.
3. With fewer than two tries left nothing is given to the card unless the caller said "last try"; the counters are read
   from the card just before each PIN, and a person who risks the last one was told that it is the last.
4. When it is not known what became of a PIN, the counters are looked at, and nothing is repeated.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from unlatch.ask import Released
from unlatch.errors import Expired, UnlatchError
from unlatch.frontends.asking import NothingGiven, Person, Wanted
from unlatch.gnupg import card, card_access
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card import BLOCKED, LOW, MAX_PIN, MIN_PIN, UNLOCKED, PinStatus
from unlatch.gnupg.card_access import PinState
from unlatch.gnupg.card_errors import (
    Blocked,
    Empty,
    FewTries,
    HeldByAnother,
    Hung,
    NoKey,
    NoReader,
    NotOpenPGP,
    NotTried,
    OtherCard,
    PulledOut,
    StillLocked,
    Unused,
    WrongPin,
    tries_left,
)
from unlatch.gnupg.errors import BadPin, BrokenPipe, CardDaemonEnded, Gone, PinBlocked
from unlatch.gnupg.turns import turn
from unlatch.prompt import Key, Verdict
from unlatch.secret import Secret

MAX_QUESTIONS = 5  # most of them about PINs that never reach the card; somebody who plays must not be rung for ever
WAIT_SECONDS = 1.0  # between two looks for a card that is not there: nobody's operation is disturbed by them
_NOT_THERE = (NoReader, Empty, HeldByAnother, Unused, OtherCard, NotOpenPGP, BrokenPipe)


class Look(NamedTuple):
    """What a look at the card gave."""

    aid: str
    holder: str
    state: PinState
    status: PinStatus
    useful: bool = True  # it has a key that unlocking unlocks

    @property
    def number(self) -> str:
        """The serial number that people know."""
        return card.number_of(self.aid)


class Session(Protocol):
    """One short visit to the card. The real one is :class:`AgentSession`."""

    def look(self) -> Look:
        """The card and its state, as it is now.

        Raises:
            CardTrouble: there is none, or not the wanted one.
        """

    def give(self, aid: str, pin: Secret) -> None:
        """Give it the PIN; raises what :func:`card_access.give_pin` does."""

    def renew(self) -> None:
        """Make scdaemon forget what it believes."""


Visit = Callable[[], "contextlib.AbstractContextManager[Session]"]


class AgentSession:
    """A visit over gpg-agent."""

    def __init__(self, agent: Agent, wanted: str) -> None:
        self._agent = agent
        self._wanted = wanted

    def look(self) -> Look:
        """See :class:`Session`."""
        aid = card_access.select(self._agent, self._wanted)
        holder = card_access.holder_of(self._agent)
        useful = card_access.unlocks_something(self._agent)
        return Look(aid, holder, card_access.state_of(self._agent, aid), card_access.status_of(self._agent), useful)

    def give(self, aid: str, pin: Secret) -> None:
        """See :class:`Session`."""
        card_access.give_pin(self._agent, aid, pin)

    def renew(self) -> None:
        """See :class:`Session`."""
        card_access.renew(self._agent)


def visits(open_agent: Callable[[], Agent], wanted: str, directory: str) -> Visit:
    """How to visit the wanted card. The agent is found anew each time, as hours may lie between two visits.

    ``directory`` is the GNUPGHOME: two commands do not visit its cards at once, so that what a look has shown still
    holds when the PIN is given.
    """

    @contextlib.contextmanager
    def visit() -> Iterator[Session]:
        with turn(directory), open_agent() as agent:
            yield AgentSession(agent, wanted)

    return visit


def wait_for_card(visit: Visit, tell: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    """Return when the card is there; ``tell`` says why it is not, once for each reason.

    Raises:
        UnlatchError: what no waiting mends: two agents, two cards, a restricted socket.
    """
    told = ""
    while True:
        try:
            with visit() as session:
                session.look()
        except _NOT_THERE as trouble:
            if str(trouble) != told:
                told = str(trouble)
                tell(f"waiting: {told}")
        else:
            return
        sleep(WAIT_SECONDS)


def unlock(visit: Visit, person: Person, *, last_try: bool = False, seconds: int = 0, patient: bool = False) -> Look:
    """Unlock the card by asking the person; the card as it was when it turned out to be unlocked.

    ``last_try``: the last try before the card blocks may be used. ``seconds``: how long the person has, 0 for the
    broker's default. ``patient``: a prompt that nobody answered in time is followed by another, for ever.

    Raises:
        Blocked, FewTries: nothing was tried, because of what the card's counters say.
        WrongPin, NotTried: the last answer was no good, and there is no next question.
        CardTrouble: the card cannot be used, or went away.
        Denied, Expired, ...: nobody answered (:class:`unlatch.frontends.asking.Person`).
    """
    dialogue = _Dialogue(visit, person, last_try, seconds, patient)
    try:
        return dialogue.run()
    except UnlatchError as error:
        # The page that waits for a verdict hears why; one that was judged, or never answered, hears nothing.
        person.judge(Verdict("failed", sentence(error)))
        raise
    finally:
        dialogue.forget()


def sentence(error: UnlatchError) -> str:
    """An error as a sentence for the page."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def hurdle(look: Look, *, last_try: bool) -> None:
    """Check that the card may be given a PIN.

    Raises:
        NoKey: it would be of no use.
        Blocked: it takes none any more.
        FewTries: it has fewer than two tries left, and the last one is not to be used.
    """
    status = look.status
    if not look.useful:
        raise NoKey(look.aid, "unlock")
    if look.state.state == BLOCKED or status.pin == 0:
        raise Blocked(look.aid, status.reset, status.admin)
    if status.pin < LOW and not last_try:
        raise FewTries(look.aid, status.pin)


def objection(pin: Secret, refused: list[Secret], longest: int) -> str:
    """Why this PIN shall not go to the card; "" if nothing is wrong with it."""
    size, most = len(pin.reveal()), min(longest, MAX_PIN)
    if size < MIN_PIN:
        return f"a PIN has at least {MIN_PIN} characters; this one was not tried and cost nothing"
    if size > most:
        return f"a PIN of this card has at most {most} characters; this one was not tried and cost nothing"
    if 0 in pin.reveal():  # GnuPG would cut it off there, and the card count a wrong PIN
        return "GnuPG cannot give a PIN with a NUL byte to the card; this one was not tried and cost nothing"
    # Each is compared, in constant time (Secret), whichever it is.
    if any([pin == other for other in refused]):  # noqa: C419  # a generator would stop early
        return "the card has just refused this PIN; it was not tried again and cost nothing"
    return ""


def wanted(look: Look, error: str, *, last_try: bool) -> Wanted:
    """What the person is shown."""
    tries = tries_left(look.status.pin)
    parts = [f"{tries[0].upper()}{tries[1:]}."]
    if last_try and look.status.pin < LOW:
        parts.append("This is the last one: a wrong PIN blocks the card.")
    parts.append("The card stays unlocked until it is pulled out or reset.")
    if look.status.forced:
        parts.append("Its signature PIN is forced: signing asks each time; logging in and decrypting do not.")
    return Wanted(
        kind="pin",
        title=f"Unlock the card {look.number}{f' of {look.holder}' if look.holder else ''}"[:120],
        text=" ".join(parts),
        error=error,
        key=Key(name=look.holder, serial=look.number),
        keeper="card",
        ok="Unlock",
    )


class _Dialogue:
    """One unlocking: what was refused so far, and the trouble with the last answer."""

    def __init__(self, visit: Visit, person: Person, last_try: bool, seconds: int, patient: bool) -> None:
        self._visit = visit
        self._person = person
        self._last_try = last_try
        self._seconds = seconds
        self._patient = patient
        self._refused: list[Secret] = []
        self._trouble: WrongPin | NotTried | None = None

    def forget(self) -> None:
        """Wipe the PINs that were refused."""
        for pin in self._refused:
            pin.wipe()

    def run(self) -> Look:
        """Ask and try until the card is unlocked."""
        questions = 0
        while questions < MAX_QUESTIONS:
            look = self._look()
            if look.state.state == UNLOCKED:
                # After a wrong PIN, somebody else was faster with the right one.
                self._person.judge(Verdict("failed", sentence(self._trouble)) if self._trouble else Verdict("accepted"))
                return look
            self._check(look)
            try:
                pin = self._ask(look)
            except Released:  # somebody else's prompt for this card is over: look what it did
                self._trouble = None
                questions += 1
                continue
            except Expired:
                if not self._patient:
                    raise
                continue
            questions += 1
            try:
                self._trouble = self._try(look, pin)
            finally:
                pin.wipe()
            if self._trouble is None:
                self._person.judge(Verdict("accepted"))
                return look
        raise self._trouble or NotTried(f"{MAX_QUESTIONS} prompts were opened, and none unlocked the card")

    def _look(self) -> Look:
        with self._visit() as session:
            look = session.look()
            if not look.state.lying:
                return look
            session.renew()  # it would say OK to any PIN, and not show it to the card
        with self._visit() as session:
            return session.look()

    def _check(self, look: Look) -> None:
        """What stands in the way of another question; after a wrong PIN, that PIN is what went wrong."""
        try:
            hurdle(look, last_try=self._last_try)
        except FewTries:
            raise self._trouble or FewTries(look.aid, look.status.pin) from None

    def _ask(self, look: Look) -> Secret:
        error = sentence(self._trouble) if self._trouble else ""
        question = wanted(look, error, last_try=self._last_try)
        try:
            return self._person.ask(question, coalesce=f"card:{look.aid}", seconds=self._seconds)
        except NothingGiven:
            raise self._trouble or NotTried("no PIN was given on standard input") from None

    def _try(self, asked: Look, pin: Secret) -> WrongPin | NotTried | None:
        """Give the PIN to the card; None when that unlocked it."""
        why = objection(pin, self._refused, asked.status.longest)
        if why:
            return NotTried(why)
        with self._visit() as session:
            before = session.look()
            if before.aid != asked.aid:
                raise OtherCard(asked.aid, (before.aid,))
            if before.state.state == UNLOCKED:  # somebody else did it meanwhile: the PIN is not needed
                return None
            hurdle(before, last_try=self._last_try)
            if before.status.pin < LOW <= asked.status.pin:
                return NotTried("only the last try is left by now; this PIN was not tried and cost nothing")
            try:
                session.give(before.aid, pin)
            except (BadPin, PinBlocked):
                self._refused.append(Secret(pin.reveal()))
                return _refusal(before, session.look())
            except (PulledOut, Hung, BrokenPipe, CardDaemonEnded, Gone) as error:
                broken_off: UnlatchError | None = error
            else:
                broken_off, after = None, session.look()
        if broken_off is not None:  # this visit is over, and another would not be let in beside it
            return self._broken_off(before, pin, broken_off)
        if after.state.state != UNLOCKED:
            raise StillLocked(after.aid, lying=after.state.lying)
        return None

    def _broken_off(self, before: Look, pin: Secret, error: UnlatchError) -> WrongPin:
        """Nobody said what became of the PIN. What can be known is what the card's counters say, if it is there."""
        try:
            with self._visit() as session:
                after = session.look()
        except UnlatchError:
            raise PulledOut(f"{error}; what became of the PIN is not known") from None
        if after.aid == before.aid and after.status.pin < before.status.pin:
            self._refused.append(Secret(pin.reveal()))
            return WrongPin(after.aid, after.status.pin)
        raise PulledOut(f"{error}, which cost no try")


def _refusal(before: Look, after: Look) -> WrongPin | NotTried:
    if after.status.pin == before.status.pin:  # scdaemon refused it by itself
        return NotTried("scdaemon did not take this PIN for one; it cost nothing")
    return WrongPin(after.aid, after.status.pin)
