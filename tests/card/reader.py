"""A reader as a hand holds it: put a card in, take it out, take it out at the worst moment, let it be slow."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import NamedTuple

from waiting import until

from card import vpcd
from card.card import Card

# Instructions at which a test may want to pull a card.
VERIFY, SIGN_OR_DECIPHER, AUTHENTICATE, GET_DATA, PUT_DATA, GENERATE = 0x20, 0x2A, 0x88, 0xCA, 0xDA, 0x47


class Notices(NamedTuple):
    """What pcscd has noticed so far."""

    came: int
    went: int


class Reader:
    """One reader.

    Args:
        connect: opens a line to its driver in pcscd.
        witnesses: the words of all programs that run there.
        noticed: what pcscd has noticed of this reader, None when it does not run. It looks every 0.4 s: a card that
            comes back before it has looked was never away for pcscd and scdaemon, and nobody selects its application
            again.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        witnesses: Callable[[], list[list[str]]],
        noticed: Callable[[], Notices | None],
    ) -> None:
        self._connect = connect
        self._noticed = noticed
        self._witnesses = witnesses
        self._line: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self.card: Card | None = None
        self.cards: list[Card] = []  # all that were in it since the test began
        self.untouch()

    def untouch(self) -> None:
        """No delay, no accident ahead, nothing held."""
        self.delay = 0.0  # seconds that each command takes longer
        self.commands: list[bytes] = []  # every command's first four bytes
        self.cards = []
        self._pull_at: int | None = None
        self._pull_after = False
        self._go = threading.Event()
        self._go.set()

    def insert(self, card: Card) -> None:
        """Put a card in and wait until pcscd has noticed."""
        assert self._line is None, "there is a card in this reader"
        self._take(card)
        until(self._is_settled, "pcscd's notice that the last card went")
        self._line = until(self._dial, "pcscd's virtual reader")
        self._thread = threading.Thread(target=self._serve, args=(self._line,), daemon=True)
        self._thread.start()
        until(lambda: not self._is_settled(), "pcscd's notice of the card")

    def remove(self) -> None:
        """Take the card out and wait until pcscd has noticed, unless nobody looks any more."""
        self.pull()
        until(self._is_settled, "pcscd's notice that the card went")

    def pull(self) -> None:
        """Take the card out; who looks will see."""
        if self._line is not None:
            self._cut(self._line)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10)
            assert not self._thread.is_alive()
        self._line = self._thread = self.card = None

    def replug(self) -> None:
        """Take the card out and put it back; pcscd has noticed both."""
        card = self.card
        assert card is not None
        self.remove()
        self.insert(card)

    def exchange_silently(self, card: Card) -> None:
        """Another card in the same place, which nobody notices who is not talking to it: only between two tests."""
        assert self._line is not None
        self._take(card)

    def is_inserted(self) -> bool:
        """Is there a card, and is pcscd there?"""
        return self._thread is not None and self._thread.is_alive()

    def pull_at(self, instruction: int, *, after: bool = False) -> None:
        """Take the card out when the next such command comes, before it is done or after: no answer in either case."""
        self._pull_at, self._pull_after = instruction, after

    def hold(self) -> None:
        """Answer nothing from now on, as a card with a bad contact does."""
        self._go.clear()

    def release(self) -> None:
        """Answer again, beginning with what has been waiting."""
        self._go.set()

    def _is_settled(self) -> bool:
        """Does pcscd know of no card here, or is there no pcscd?"""
        notices = self._noticed()
        return notices is None or notices.came == notices.went

    def _take(self, card: Card) -> None:
        card.power_on()
        self.card = card
        self.cards.append(card)

    def _dial(self) -> socket.socket | None:
        with contextlib.suppress(ConnectionRefusedError):
            return self._connect()
        return None

    def _serve(self, line: socket.socket) -> None:
        for message in vpcd.receive(line):
            card = self.card
            assert card is not None
            if message == vpcd.ANSWER_TO_RESET:
                answer = card.answer_to_reset()
            elif len(message) == 1:
                card.power_on()
                continue
            else:
                answer = self._command(card, message)
            try:
                if not answer:
                    break
                vpcd.send(line, answer)
            except OSError:
                break
        self._cut(line)
        line.close()

    def _command(self, card: Card, message: bytes) -> bytes:
        """The answer, or nothing if the card was pulled."""
        self.commands.append(message[:4])
        pulled = message[1] == self._pull_at
        if pulled:
            self._pull_at = None
            if not self._pull_after:
                return b""
        if self.delay:
            threading.Event().wait(self.delay)
        self._go.wait()
        spent = card.wrong_pin_count()
        answer = card.exchange(message)
        if card.wrong_pin_count() > spent:
            card.account.spend(self._witnesses())
        return b"" if pulled else answer

    def _cut(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
