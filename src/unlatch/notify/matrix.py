"""The ``matrix`` notifier: encrypted messages in one room, edited as a prompt goes on, redacted when it is over."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from unlatch.broker.notice import Notice
from unlatch.errors import UnlatchError
from unlatch.matrix import events
from unlatch.matrix.excuses import excuse, skipped_text
from unlatch.matrix.messages import Message, Messages
from unlatch.matrix.session import Session
from unlatch.matrix.store import Store
from unlatch.notify import Deny, NotDelivered
from unlatch.notify.matrix_replies import Replies

FRESH = 5.0  # seconds for which we believe who is in the room: a message is two events
OLD = 3600.0  # the same for what carries no link
SAY = "m.room.message"


class MatrixNotifier:
    """One room. ``seconds`` is the time limit of a message; what the homeserver asks us to wait is kept within it."""

    def __init__(
        self,
        name: str,
        directory: str,
        *,
        end_to_end: bool = True,
        allow_plaintext_room: bool = False,
        seconds: float = 10.0,
        deny: Deny = lambda name, notice_id, by, said: 0,  # noqa: ARG005 (for one that is never replied to)
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.end_to_end = end_to_end and not allow_plaintext_room
        self._seconds = seconds * 0.95  # so that the excuse is ours, and says more than "too long"
        self._wall_clock = wall_clock
        self._session = Session(Store(directory), allow_plaintext=allow_plaintext_room)
        self._replies = Replies(self._session, lambda *said: deny(name, *said), wall_clock)

    @property
    def note(self) -> str:
        """What the status says beside the last result: who was skipped and why, and whether replies are heard."""
        skipped, deaf = skipped_text(self._session.skipped), self._replies.trouble
        parts = [f"not sent to {skipped}" if skipped else "", f"replies are not heard: {deaf}" if deaf else ""]
        return "; ".join(part for part in parts if part)

    async def ring(self, notice: Notice) -> None:
        async with self._sending() as until:
            message = await self._find(notice.id, until)
            former, root = "", message.root
            if not root or (message.rung and not notice.quiet):
                former, root = root, await self._sound(notice, message, until)
            content = events.ring(notice, self._clock(notice.remaining), link=True)
            await self._send_link(notice.id, events.replacement(root, content), until, root)
        self._replies.await_for(notice)
        with contextlib.suppress(NotDelivered):  # the link is out; this is for tidiness, and is seen to again
            async with self._sending() as until:
                await self._tidy(notice.id, former, until)

    async def remind(self, notice: Notice) -> None:
        async with self._sending() as until:
            message = await self._find(notice.id, until)
            content = events.reminder(notice, max(1, round(notice.remaining / 60)), self._admins())
            if message.root:
                content = events.in_thread(message.root, content)
            await self._send_link(notice.id, content, until)
        self._replies.await_for(notice)

    async def end(self, notice: Notice, outcome: str) -> None:
        self._replies.forget(notice.id)
        async with self._sending() as until:
            message = await self._find(notice.id, until)
            by = message.denied[0] if message.denied is not None and outcome == "denied" else ""
            ended = events.ended(notice, outcome, self._clock(0), by, calm=not message.txn)
            await self._change(notice.id, until, lambda message: message.owe(ended))
            await self._settle(notice.id, until)

    def resume(self, notice: Notice) -> None:
        """Hear replies to what an earlier broker sent."""
        self._replies.await_for(notice)

    async def close(self) -> None:
        """Stop listening and close the connections."""
        await self._replies.close()
        await self._session.close()

    # Saying

    async def _sound(self, notice: Notice, message: Message, until: float) -> str:
        """Send the event that people hear (a calm one for a quiet ring that has nothing to edit); gives its id."""
        begun = message.txn if message.txn and not message.root else ""  # tried, and nobody knows what became of it
        txn = begun or self._session.unique()
        content = events.ring(notice, self._clock(notice.remaining), self._admins(), link=False, calm=notice.quiet)

        def begin(state: dict[str, Any]) -> None:
            message = self._open(state, notice.id)
            if message.txn != txn:
                message.begin(txn)

        await self._session.look(until, age=FRESH)
        return (await self._session.send(SAY, content, txn, until, burst=True, note=begin)).event_id

    async def _send_link(self, notice_id: str, content: events.Content, until: float, root: str = "") -> None:
        """Send what holds a link; before, it is written down that it will have to be redacted."""
        txn = self._messages.get(notice_id).transaction(content)

        def will_hold(state: dict[str, Any]) -> None:
            message = self._open(state, notice_id)
            if root and message.root != root:
                message.heard(root)
            message.will_hold(txn)

        await self._session.look(until, age=FRESH)
        sent = await self._session.send(SAY, content, txn, until, note=will_hold)
        await self._change(notice_id, until, lambda message: message.holds(txn, sent.event_id))

    async def _settle(self, notice_id: str, until: float) -> None:
        """Say how it ended, in the place of all links. What is done already is not done twice."""
        await self._session.look(until, age=OLD)
        message = self._messages.get(notice_id)
        ended, root = message.owed, message.root
        if message.txn and not root:  # sent again in the same transaction, it comes back as the event that arrived
            root = await self._send(ended, message.txn, until)
            await self._change(notice_id, until, lambda message: message.heard(root))
        content = events.replacement(root, ended) if root else ended
        await self._send(content, self._messages.get(notice_id).transaction(content), until)
        await self._redact(notice_id, content, until)
        await self._change(notice_id, until, lambda message: message.settle())

    async def _tidy(self, notice_id: str, former: str, until: float) -> None:
        """Take older links away, refer from an older message to the newer, and catch up with what could not be said."""
        overtaken = events.said("rung again: see the newer message")
        message = self._messages.get(notice_id)
        if former:
            content = events.replacement(former, overtaken)
            await self._send(content, message.transaction(content), until)
        if len(message.holding) > 1:
            newest = list(message.holding)[-1]
            await self._redact(notice_id, events.replacement(message.root, overtaken), until, but=newest)
        for owing in self._messages.owing():
            await self._settle(owing, until)

    async def _redact(self, notice_id: str, harmless: events.Content, until: float, but: str = "") -> None:
        """Redact everything that holds a link. Where nobody knows whether something arrived, sending ``harmless`` in
        the same transaction tells: the homeserver gives the id of what came first.
        """
        for txn, event_id in list(self._messages.get(notice_id).holding.items()):
            if txn != but:
                known = event_id or await self._send(harmless, txn, until)
                await self._session.redact(known, f"{txn}-redact", until)
                await self._change(notice_id, until, lambda message, txn=txn: message.redacted(txn))  # type: ignore[misc]

    async def _send(self, content: events.Content, txn: str, until: float) -> str:
        return (await self._session.send(SAY, content, txn, until)).event_id

    # What we remember

    @property
    def _messages(self) -> Messages:
        return Messages(self._session.state["messages"])

    async def _find(self, notice_id: str, until: float) -> Message:
        """What the newest state knows of a message; another process may have sent it."""
        async with self._session.changing(until, save=False):
            return self._messages.get(notice_id)

    async def _change(self, notice_id: str, until: float, change: Callable[[Message], object]) -> None:
        async with self._session.changing(until) as state:
            change(self._open(state, notice_id))

    def _open(self, state: dict[str, Any], notice_id: str) -> Message:
        return Messages(state["messages"]).open(notice_id, self._wall_clock())

    def _admins(self) -> list[str]:
        return list(self._session.machine.pins)

    def _clock(self, ahead: float) -> str:
        return time.strftime("%H:%M UTC", time.gmtime(self._wall_clock() + ahead))

    @contextlib.asynccontextmanager
    async def _sending(self) -> AsyncIterator[float]:
        """Gives the time until which all must be done; turns what goes wrong into an excuse without the link."""
        try:
            yield asyncio.get_running_loop().time() + self._seconds
        except (UnlatchError, OSError) as error:
            raise NotDelivered(str(excuse(error))) from None
