"""The ear of the ``matrix`` notifier: while a prompt is open an admin may deny it by a reply; nothing approves it."""

import asyncio
from collections.abc import Callable

from unlatch.broker.notice import Notice
from unlatch.errors import UnlatchError
from unlatch.matrix import events
from unlatch.matrix.excuses import excuse
from unlatch.matrix.messages import Messages
from unlatch.matrix.session import Heard, Session

LONG_POLL = 25.0  # seconds that the homeserver keeps us waiting for news
PATIENCE = 10.0  # seconds more than that for an answer
LONGEST_PAUSE = 60.0  # seconds between two tries to listen
EXPLAIN_AGAIN = (1.0, 3.0)  # seconds before the second and the third try
GRACE = 60.0  # seconds after a prompt's time for which we believe that its end is still to come


class Replies:
    """Listens as long as a prompt is open. ``deny``: notice id, who, what else was said -> how many it ended."""

    def __init__(self, session: Session, deny: Callable[[str, str, str], int], now: Callable[[], float]) -> None:
        self.trouble = ""  # why replies are not heard, for the status
        self._session = session
        self._deny = deny
        self._now = now
        self._open: dict[str, float] = {}  # by notice.id: until when, by the loop's clock
        self._task: asyncio.Task[None] | None = None

    def await_for(self, notice: Notice) -> None:
        """The prompt is open."""
        loop = asyncio.get_running_loop()
        self._open[notice.id] = loop.time() + notice.remaining + GRACE
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._listen())

    def forget(self, notice_id: str) -> None:
        """The prompt is over."""
        self._open.pop(notice_id, None)
        if not self._open and self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Listen no more."""
        self._open.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listen(self) -> None:
        pause = 1.0
        while self._someone_waits():
            try:
                await self._session.poll(LONG_POLL, PATIENCE, self._hear)
                await self._tell()
                self.trouble, pause = "", 1.0
            except (UnlatchError, OSError) as error:
                self.trouble = str(excuse(error))
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)

    def _someone_waits(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._open = {notice_id: end for notice_id, end in self._open.items() if end > now}
        return bool(self._open)

    def _hear(self, heard: Heard) -> None:
        """Write a denial down in the state that is about to be saved: it may be about another process's prompt."""
        denial = events.denial(heard.plain) if heard.trusted else None
        if denial is not None:
            messages = Messages(self._session.state["messages"])
            notice_id = messages.find(denial.event_id)
            if notice_id:
                messages.open(notice_id, self._now()).deny(heard.plain["sender"], denial.said)

    async def _tell(self) -> None:
        for notice_id in list(self._open):
            message = Messages(self._session.state["messages"]).get(notice_id)
            if message.denied is None or not message.denied_untold:
                continue
            until = asyncio.get_running_loop().time() + PATIENCE
            async with self._session.changing(until) as state:
                Messages(state["messages"]).open(notice_id, self._now()).tell()
            if not self._deny(notice_id, *message.denied):
                await self._explain(message.root)

    async def _explain(self, root: str) -> None:
        """Say that a denial ended nothing. It counts as told already and nobody else will say this: insist a little."""
        for pause in EXPLAIN_AGAIN:
            try:
                return await self._say_unclear(root, asyncio.get_running_loop().time() + PATIENCE)
            except (UnlatchError, OSError):
                await asyncio.sleep(pause)
        return await self._say_unclear(root, asyncio.get_running_loop().time() + PATIENCE)

    async def _say_unclear(self, root: str, until: float) -> None:
        text = 'that ended nothing: it is too late, or say "deny" and the two words of the one that you mean'
        content = events.said(text, calm=True)
        content = events.in_thread(root, content) if root else content
        await self._session.look(until, age=3600)
        await self._session.send("m.room.message", content, self._session.unique(), until)
