"""The PIN of a security key: ask the person, however long that takes, and only then talk to the key.

What nothing here may break: a PIN goes to the key once, and one that was refused is not given again; what cannot be a
PIN never reaches it; the tries are read from the key before each question and again before each PIN; below two tries
left none is spent; and after a third wrong PIN in a row the key itself takes none until it is plugged in anew.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from unlatch.frontends.asking import NothingGiven, Person, Wanted
from unlatch.gnupg.card_errors import tries_left
from unlatch.keyslots.errors import SlotFailed
from unlatch.keyslots.key_troubles import TOUCH_SECONDS, WrongPin
from unlatch.keyslots.plugged import Visit
from unlatch.keyslots.security_key import SecurityKey
from unlatch.keyslots.slots import Helpers, Subject
from unlatch.prompt import Key, Verdict
from unlatch.secret import Secret

MAX_QUESTIONS = 5  # most of them about PINs that never reach the key


class Purpose(NamedTuple):
    """What the PIN is for, as the page says it. ``enrol``: for a new credential; ``coalesce`` as in Person.ask."""

    subject: Subject
    title: str
    touch: bool
    enrol: bool = False
    coalesce: str = ""


@contextlib.contextmanager
def proven(visit: Visit, purpose: Purpose, helpers: Helpers) -> Iterator[tuple[SecurityKey, Secret]]:
    """The key, and the PIN that it has just taken; both end with the block, and then the person hears how it went.

    ``visit`` finds the key anew each time: hours may lie between question and answer, and nobody is kept from it.

    Raises:
        SlotFailed: there is no key, or none that takes a PIN; the person gave none that is right.
        Denied, Expired, ...: nobody answered (:class:`unlatch.frontends.asking.Person`).
    """
    dialogue = _Dialogue(visit, purpose, helpers.seconds)
    with helpers.person() as person, contextlib.ExitStack() as stack:
        stack.callback(dialogue.forget)
        try:
            yield dialogue.run(person, stack)
        except SlotFailed as failed:
            person.judge(Verdict("failed", _sentence(failed.why)))
            raise
        person.judge(Verdict("accepted"))


class _Dialogue:
    """What was refused so far, and why the last answer was no good."""

    def __init__(self, visit: Visit, purpose: Purpose, seconds: int) -> None:
        self._visit = visit
        self._purpose = purpose
        self._seconds = seconds
        self._given: list[Secret] = []
        self._trouble: SlotFailed | None = None

    def forget(self) -> None:
        """Wipe all PINs."""
        for pin in self._given:
            pin.wipe()

    def run(self, person: Person, stack: contextlib.ExitStack) -> tuple[SecurityKey, Secret]:
        """Ask until the key takes a PIN; that visit to it goes on in ``stack``."""
        for _ in range(MAX_QUESTIONS):
            pin = self._ask(person, self._wanted())
            with contextlib.ExitStack() as visit:
                key = visit.enter_context(self._visit())
                self._trouble = self._refusal(key, pin)
                self._given.append(pin)
                if self._trouble is None:
                    stack.enter_context(visit.pop_all())
                    return key, pin
        raise self._trouble or SlotFailed("no PIN was right")

    def _ask(self, person: Person, wanted: Wanted) -> Secret:
        try:
            return person.ask(wanted, coalesce=self._purpose.coalesce, seconds=self._seconds)
        except NothingGiven:
            if self._trouble is None:
                raise
            raise self._trouble from None

    def _refusal(self, key: SecurityKey, pin: Secret) -> SlotFailed | None:
        """Give the PIN to the key if it can be one; why that was no good.

        Raises:
            SlotFailed: the key takes no further PIN now.
        """
        why = key.objection(pin)
        # Each is compared, in constant time (Secret), whichever it is.
        if any([pin == other for other in self._given]):  # noqa: C419  # a generator would stop early
            why = "this PIN was refused just now; it was not tried again and cost nothing"
        if why:
            return SlotFailed(why)
        try:
            key.prove(pin, making=self._purpose.enrol)
        except WrongPin as wrong:
            if wrong.replug:
                raise
            return wrong
        return None

    def _wanted(self) -> Wanted:
        """What the person is shown.

        Raises:
            SlotFailed: the key takes no PIN now; after a wrong one, that is what went wrong.
        """
        try:
            with self._visit() as key:
                tries, name = key.tries(), key.name
        except SlotFailed:
            if isinstance(self._trouble, WrongPin):
                raise self._trouble from None
            raise
        subject = self._purpose.subject
        texts = [
            f"{_sentence(tries_left(tries))} After three wrong ones in a row it must be plugged in anew.",
            f"It is for the keyslot {subject.label} of the stored secret {subject.secret}.",
        ]
        if self._purpose.touch:
            texts.append(f"Then somebody must touch the key, at the server, within {TOUCH_SECONDS} seconds.")
        return Wanted(
            kind="pin",
            title=self._purpose.title[:120],
            text=" ".join(texts),
            error=_sentence(self._trouble.why) if self._trouble else "",
            key=Key(name=name),
            keeper="card",
            ok="Unlock",
        )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
