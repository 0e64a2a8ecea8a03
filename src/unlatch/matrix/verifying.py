"""Compare emoji with a person: ask in the room, and answer if they ask, in the room or to our device."""

import time
from collections.abc import Callable
from typing import Protocol

from unlatch.errors import Malformed
from unlatch.matrix.errors import NobodyToTell, Refused
from unlatch.matrix.sas import Outgoing, State, Verification, is_request
from unlatch.matrix.session import Heard, Session

LONG_POLL = 10.0  # seconds
HESITATION = 3.0  # seconds after which we begin, if whoever asked does not
PATIENCE = 20.0  # seconds more for an answer


class Screen(Protocol):
    """Whoever sits before us."""

    def compare(self, verification: Verification) -> bool:
        """Show emoji (or numbers); whether the other side shows the same."""

    def tell(self, text: str) -> None:
        """Say how it goes on."""


class Comparison:
    """One user, until compared or given up."""

    def __init__(
        self,
        session: Session,
        user_id: str,
        screen: Screen,
        *,
        random: Callable[[int], bytes],
        until: Callable[[], float],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._session = session
        self._user_id = user_id
        self._screen = screen
        self._random = random
        self._until = until
        self._now = now
        self._running: list[Verification] = []
        self._begin_at = float("inf")
        self._patient = False

    async def run(self) -> str:
        """Compare; gives the master key that was proven. The caller pins it.

        Raises:
            Refused: cancelled, not the same, or nobody answered within ten minutes.
        """
        self._session.machine.verifying.add(self._user_id)
        try:
            await self._ask()
            while True:
                for verification in list(self._running):
                    await self._carry(verification, verification.tick(self._now()))
                    if self._now() >= self._begin_at:
                        await self._carry(verification, verification.begin())
                    if verification.state is State.SHOWN:
                        await self._show(verification)
                    if verification.state is State.DONE:
                        return verification.master_key
                    if verification.state is State.CANCELLED:
                        self._give_up(verification)
                await self._hear()
        finally:
            self._session.machine.verifying.discard(self._user_id)

    async def _ask(self) -> None:
        await self._session.query([*self._session.machine.pins, self._user_id], self._until())
        await self._session.look(self._until())
        machine = self._session.machine
        verification, request = Verification.request(
            machine.party,
            machine.identities[self._user_id],
            self._now(),
            room_id=self._session.room_id,
            random=self._random,
        )
        self._running.append(verification)
        await self._carry(verification, request)

    async def _hear(self) -> None:
        heard: list[Heard] = []
        wait = LONG_POLL if self._begin_at == float("inf") else HESITATION / 2
        await self._session.poll(wait, PATIENCE, heard.append, patient=self._wait_for_turn)
        for each in heard:
            if is_request(each.plain):
                await self._answer(each)
            for verification in list(self._running):
                await self._carry(verification, verification.receive(each.plain, self._now()))

    async def _answer(self, heard: Heard) -> None:
        """They asked: from now on that is the one that counts."""
        if heard.plain.get("sender") != self._user_id:
            return
        await self._session.query([*self._session.machine.pins, self._user_id], self._until())
        machine = self._session.machine
        room_id = self._session.room_id if "event_id" in heard.plain else ""
        theirs = machine.identities[self._user_id]
        try:
            asked = Verification.answer(machine.party, theirs, heard.plain, self._now(), room_id=room_id)
        except Malformed:
            return  # not for us, or too old
        for ours in self._running:
            await self._carry(ours, ours.cancel())
        self._running = [asked]
        self._screen.tell(f"{self._user_id} asks to compare")
        await self._carry(asked, asked.accept(self._now()))
        self._begin_at = self._now() + HESITATION

    async def _show(self, verification: Verification) -> None:
        self._begin_at = float("inf")
        same = self._screen.compare(verification)
        await self._carry(
            verification, verification.confirm(self._now()) if same else verification.mismatch(self._now())
        )
        if same:
            self._screen.tell("waiting for the other side to confirm")

    async def _carry(self, verification: Verification, events: list[Outgoing]) -> None:
        for each in events:
            try:
                verification.sent(await self._session.carry(each, self._until()))
            except NobodyToTell:
                if verification.state is not State.CANCELLED:
                    raise

    def _give_up(self, verification: Verification) -> None:
        self._running.remove(verification)
        if not self._running:
            who = "the other side" if verification.by_them else "we"
            raise Refused(f"{who} ended it: {verification.reason}")

    def _wait_for_turn(self) -> None:
        if not self._patient:
            self._screen.tell("a broker is listening to the room; waiting for our turn")
        self._patient = True
