"""The PIN and the admin PIN of a card that is set up: ask for what is in force, prove it, change it.

The rules about tries are those of card_unlock: a value that the card refused is not given to it again, one that cannot
be right never reaches it, and the last try is left alone. The factory values are tried once each, if the person agreed,
and it is said.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

from unlatch.frontends.asking import NothingGiven, Person, Wanted
from unlatch.gnupg import card, card_access
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card import LOW, MAX_PIN, MIN_PIN, UNLOCKED
from unlatch.gnupg.card_access import troubles
from unlatch.gnupg.card_errors import CardTrouble, NoLoopback, PulledOut, tries_left
from unlatch.gnupg.card_init import FACTORY_ADMIN, FACTORY_PIN, MIN_ADMIN
from unlatch.gnupg.errors import BadPin, Cancelled, CardFault, CardRemoved, CardReset, GpgError, NoDevice, PinBlocked
from unlatch.prompt import Key, Verdict
from unlatch.secret import Secret

MAX_QUESTIONS = 5
SECONDS = 30.0
_FULL = 3  # tries; scdaemon's CHECKPIN proves an admin PIN only as long as none was spent (app-openpgp.c, do_check_pin)

Visit = Callable[[], AbstractContextManager[Agent]]


class Which(NamedTuple):
    """One of the two: what people call it, its number in PASSWD, what it has when new, and its length in bytes."""

    name: str
    number: int
    factory: bytes
    least: int
    most: int


def pin_of(longest: int) -> Which:
    """The PIN."""
    return Which("PIN", 1, FACTORY_PIN, MIN_PIN, min(longest, MAX_PIN))


def admin_of(longest: int) -> Which:
    """The admin PIN."""
    return Which("admin PIN", 3, FACTORY_ADMIN, MIN_ADMIN, min(longest, MAX_PIN))


class WrongValue(CardTrouble):
    """The card refused the last value that was given. ``tries`` are left for ``which``."""

    def __init__(self, aid: str, which: Which, tries: int) -> None:
        super().__init__(f"wrong {which.name}: {tries_left(tries)} for the card {card.number_of(aid)}")
        self.aid = aid
        self.which = which
        self.tries = tries


class NoTries(CardTrouble):
    """Nothing was tried: ``which`` is blocked, or one more wrong value would block it."""

    def __init__(self, aid: str, which: Which, tries: int) -> None:
        what = "is blocked" if not tries else f"has {tries_left(tries)}, and a wrong one would block it"
        super().__init__(f"the {which.name} of the card {card.number_of(aid)} {what}")
        self.aid = aid
        self.which = which
        self.tries = tries


class NotGiven(CardTrouble):
    """A value that was not given to the card, so that it cost nothing. The text says why."""


class Pins:
    """What is known of a card's two PINs in this run. Use it in ``with``: at the end they are wiped.

    ``person`` opens a dialogue with whoever is asked, one for each question; ``twice`` says that a new PIN has to be
    asked for twice there, ``tell`` is told what is about to be tried.
    """

    def __init__(
        self,
        visit: Visit,
        aid: str,
        person: Callable[[], AbstractContextManager[Person]],
        tell: Callable[[str], None],
        *,
        twice: bool,
        last_try: bool,
        seconds: int = 0,
    ) -> None:
        self._visit = visit
        self._aid = aid
        self._person = person
        self._tell = tell
        self._twice = twice
        self._last_try = last_try
        self._seconds = seconds
        self._known: dict[str, Secret] = {}
        self._refused: list[Secret] = []

    def __enter__(self) -> "Pins":
        return self

    def __exit__(self, *_: object) -> None:
        for secret in (*self._known.values(), *self._refused):
            secret.wipe()

    def current(self, which: Which, *, factory: bool) -> Secret:
        """The value in force, proved by the card. ``factory``: a new card's may be tried first, once.

        Raises:
            NoTries, WrongValue, NotGiven, CardTrouble
            Denied, Expired, ...: nobody answered.
        """
        if which.name not in self._known:
            self._known[which.name] = self._find(which, factory=factory)
        return self._known[which.name]

    def is_factory(self, which: Which) -> bool:
        """Whether the value that is known is a new card's."""
        return self._known.get(which.name) == Secret(which.factory)

    def change(self, which: Which) -> None:
        """Have the person choose another value for what :meth:`current` gave, and give it to the card.

        Raises:
            NotGiven: none that would do was chosen.
            CardTrouble: what became of it; the text says whether the new value is in force.
        """
        new = self._choose(which)
        try:
            with self._visit() as agent:
                self._change(agent, which, new)
        except BaseException:
            new.wipe()
            raise
        old, self._known[which.name] = self._known[which.name], new
        old.wipe()

    def write(self, agent: Agent, command: str, which: Which) -> None:
        """Run a command that needs the admin PIN, which :meth:`current` has proved."""
        _ask(agent, command, iter([self._known[which.name]]))

    def prove(self, which: Which) -> None:
        """Give the card again what it has accepted before: it forgets it when its algorithms change."""
        with self._visit() as agent:
            self._prove(agent, which, self._known[which.name])

    def _find(self, which: Which, *, factory: bool) -> Secret:
        if factory:
            self._check_tries(which)
            self._tell(f"trying the factory {which.name} {which.factory.decode('ascii')}, once")
            value = Secret(which.factory)
            wrong = self._try(which, value)
            if wrong is None:
                return value
            self._tell(str(wrong))
        trouble: CardTrouble | None = None  # with what the person said; the factory value was not theirs
        for _ in range(MAX_QUESTIONS):
            tries = self._check_tries(which, trouble)
            with self._person() as person:
                value = self._ask_current(person, which, tries, trouble)
                trouble = self._objection(which, value) or self._try(which, value)
                person.judge(Verdict("failed", _sentence(trouble)) if trouble else Verdict("accepted"))
            if trouble is None:
                return value
        assert trouble is not None
        raise trouble

    def _check_tries(self, which: Which, trouble: CardTrouble | None = None) -> int:
        with self._visit() as agent:
            tries = self._tries(agent, which)
        if not tries or (tries < LOW and not self._last_try):
            raise trouble if isinstance(trouble, WrongValue) and tries else NoTries(self._aid, which, tries)
        return tries

    def _tries(self, agent: Agent, which: Which) -> int:
        status = card_access.status_of(agent)
        return status.pin if which.number == 1 else status.admin

    def _ask_current(self, person: Person, which: Which, tries: int, trouble: CardTrouble | None) -> Secret:
        number = card.number_of(self._aid)
        wanted = Wanted(
            kind="pin",
            title=f"{which.name[0].upper()}{which.name[1:]} of the card {number}",
            text=f"The card is set up. {tries_left(tries)[0].upper()}{tries_left(tries)[1:]}. "
            f"A new card has {which.factory.decode('ascii')}.",
            error=_sentence(trouble) if trouble else "",
            key=Key(serial=number),
            keeper="card",
            label=which.name,
        )
        try:
            return person.ask(wanted, seconds=self._seconds)
        except NothingGiven:
            raise trouble or NotGiven(f"no {which.name} was given on standard input") from None

    def _objection(self, which: Which, value: Secret) -> NotGiven | None:
        size = len(value.reveal())
        if not which.least <= size <= which.most or 0 in value.reveal():
            return NotGiven(
                f"the {which.name} of this card has {which.least} to {which.most} characters; this one cost nothing"
            )
        # Each is compared, in constant time (Secret), whichever it is.
        if any([value == other for other in self._refused]):  # noqa: C419  # a generator would stop early
            return NotGiven(f"the card has just refused this {which.name}; it was not tried again and cost nothing")
        return None

    def _try(self, which: Which, value: Secret) -> WrongValue | None:
        with self._visit() as agent:
            before = self._tries(agent, which)
            try:
                self._prove(agent, which, value)
            except (BadPin, PinBlocked):
                self._refused.append(Secret(value.reveal()))
                after = self._tries(agent, which)
            else:
                return None
        value.wipe()
        return WrongValue(self._aid, which, min(before, after))

    def _prove(self, agent: Agent, which: Which, value: Secret) -> None:
        if which.number == 1:
            if card_access.state_of(agent, self._aid).state == UNLOCKED:
                card_access.renew(agent)  # it would say OK to anything, and not ask the card
                card_access.select(agent, self._aid)
            card_access.give_pin(agent, self._aid, value)
        elif self._tries(agent, which) == _FULL:
            _ask(agent, f"SCD CHECKPIN {self._aid}[CHV3]", iter([value]))
        else:  # write again what stands there
            language = card_access.learn(agent).language
            _ask(agent, f"SCD SETATTR DISP-LANG {language}", iter([value]))

    def _choose(self, which: Which) -> Secret:
        number, error = card.number_of(self._aid), ""
        for _ in range(MAX_QUESTIONS):
            wanted = Wanted(
                kind="new-passphrase",
                title=f"New {which.name} for the card {number}",
                text=f"{which.least} to {which.most} characters. Keep it: nobody can read it from the card.",
                error=error,
                key=Key(serial=number),
                keeper="card",
                label=f"new {which.name}",
            )
            with self._person() as person:
                try:
                    value = person.ask(wanted, seconds=self._seconds)
                    again = person.ask(Wanted("new-passphrase", "", label="again")) if self._twice else value
                except NothingGiven:
                    raise NotGiven(error or f"no new {which.name} was given on standard input") from None
                error = self._objection_to_new(which, value, again)
                person.judge(Verdict("failed", error) if error else Verdict("accepted"))
            if again is not value:
                again.wipe()
            if not error:
                return value
            value.wipe()
        raise NotGiven(error)

    def _objection_to_new(self, which: Which, value: Secret, again: Secret) -> str:
        if value != again:
            return "The two are not the same."
        if not which.least <= len(value.reveal()) <= which.most or 0 in value.reveal():
            return f"The {which.name} of this card has {which.least} to {which.most} characters; nothing was changed."
        if value in (Secret(FACTORY_PIN), Secret(FACTORY_ADMIN)):
            return "That is the one that every new card has; nothing was changed."
        return ""

    def _change(self, agent: Agent, which: Which, new: Secret) -> None:
        before = self._tries(agent, which)
        try:
            # scdaemon asks for the old one, the new one, and the new one again.
            _ask(agent, f"SCD PASSWD {which.number}", iter([self._known[which.name], new, new]))
        except (BadPin, PinBlocked):
            raise WrongValue(self._aid, which, min(before, self._tries(agent, which))) from None
        except PulledOut:
            raise PulledOut(
                f"the card went away while its {which.name} was changed; either the old or the new one is in force"
            ) from None


def _ask(agent: Agent, command: str, values: Iterator[Secret]) -> None:
    """Run a command of the card's that asks for these PINs, in this order, and for no more.

    Raises:
        BadPin, PinBlocked: the card refused one.
        PulledOut: the card went away.
        CardTrouble
    """

    def give(_: str) -> "Secret | bytes":
        value = next(values, None)
        if value is None:
            raise NotGiven("scdaemon asks for a PIN that it was given already")
        return value

    with troubles(agent):
        try:
            agent.ask("OPTION pinentry-mode=loopback", seconds=SECONDS)
        except GpgError:
            raise NoLoopback from None
        try:
            agent.ask(command, inquire={"PASSPHRASE": give, "NEW_PASSPHRASE": give}, seconds=SECONDS)
        except (CardFault, NoDevice, CardRemoved, CardReset):
            raise PulledOut("the card went away, or did not do as it was told") from None
        except Cancelled:
            raise NoLoopback from None


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
