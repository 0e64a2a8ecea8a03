"""Several notifiers ring side by side, each in its own time, each again and again while its prompt is open.

For one message and one notifier there is one conversation. It sends one thing at a time, in order, and only what is
true when it is sent: what is overtaken while it waits to try again (a ring by the prompt's end) is never sent. What a
message is about is decided in ``folding.py``.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from unlatch.broker.folding import Folding, Message
from unlatch.broker.notice import Notice
from unlatch.notify import Lasting, NotDelivered, Notifier, NotYet

if TYPE_CHECKING:
    from unlatch.broker.probe import PageWatch

BACKOFF = (2.0, 5.0, 15.0, 30.0, 60.0)  # seconds between tries; the last one again and again
MOST_TRIES = {"remind": 1, "end": 4}  # a ring is tried until the prompt is over
AT_ONCE = 8  # messages that one notifier sends at the same time
GATHER_SECONDS = 1.0  # a message that becomes a list waits so long for more of the same burst

Report = Callable[[str, str, bool, str], None]  # prompt id, notifier, delivered, why not


class Wanted(NamedTuple):
    """What a conversation shall say next: "ring", "remind" or "end". ``loud``: people shall hear it; ``owed``: because
    of a ring before this one that has not been said. ``after`` is a time before which it need not be said.
    """

    event: str
    loud: bool = False
    owed: bool = False
    after: float = 0.0


class Health:
    """How a notifier has done, for the status."""

    def __init__(self, notifier: Notifier, kind: str, seconds: float) -> None:
        self.notifier = notifier
        self.kind = kind
        self.seconds = seconds
        self.turns = asyncio.Semaphore(AT_ONCE)
        self.delivered = 0
        self.failed = 0
        self.why = ""
        self.last: float | None = None  # when the last message arrived


class Ringer:
    """Performs the actions Ring, Remind and End."""

    def __init__(self, report: Report, clock: Callable[[], float] = time.monotonic) -> None:
        self.page: PageWatch | None = None  # set where links have to be reachable from elsewhere
        self._report = report
        self._clock = clock
        self._folding = Folding()
        self._notifiers: dict[str, Health] = {}
        self._missing: list[dict[str, Any]] = []
        self._conversations: dict[tuple[str, str], _Conversation] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, notifier: Notifier, kind: str, seconds: float) -> None:
        """Use a notifier; each of its messages gets ``seconds``."""
        self._notifiers[notifier.name] = Health(notifier, kind, seconds)

    def note_missing(self, name: str, kind: str, why: str) -> None:
        """Show in the status a notifier that cannot work here."""
        self._missing.append({"name": name, "kind": kind, "end_to_end": False, "delivered": 0, "failed": 0, "why": why})

    @property
    def busy(self) -> bool:
        """Whether anything is still to be said."""
        return bool(self._conversations)

    def ring(self, prompt_id: str, notice: Notice, names: tuple[str, ...]) -> None:
        """Send the link through each of these notifiers."""
        now = self._clock()
        for name in self._known(names):
            message, joined = self._folding.ring(now, name, prompt_id, notice)
            # Who joins is heard with the message that has just sounded, or is about to.
            after = now + GATHER_SECONDS if joined else 0.0
            self._want(message, Wanted("ring", loud=not notice.quiet and not joined, after=after))

    def remind(self, prompt_id: str, notice: Notice, names: tuple[str, ...]) -> None:
        """Call attention to the link again."""
        for name in self._known(names):
            message = self._folding.remind(self._clock(), name, prompt_id, notice)
            if message is not None:
                self._want(message, Wanted("remind", loud=True))

    def resume(self, notice: Notice, names: tuple[str, ...]) -> None:
        """An earlier broker sent this link: hear replies to its message."""
        for name in self._known(names):
            notifier = self._notifiers[name].notifier
            if isinstance(notifier, Lasting):
                notifier.resume(notice)

    def end(self, prompt_id: str, notice: Notice, names: tuple[str, ...], outcome: str) -> None:
        """Say how it ended, also where a try may have got through that was counted as failed."""
        for name in self._notifiers:
            message = self._folding.end(self._clock(), name, prompt_id, notice, outcome, told=name in names)
            if message is None:
                continue
            if message.entries:
                self._want(message, Wanted("ring" if message.open() else "end"))
            elif (talk := self._conversations.get((message.id, name))) is not None:
                talk.give_up()

    def meant(self, name: str, notice_id: str, said: str) -> tuple[str, ...]:
        """Which prompt a reply to a message means; see :meth:`Folding.meant`."""
        return self._folding.meant(name, notice_id, said)

    def open_link(self) -> str:
        """A link that was rung and is open, or nothing."""
        links = [entry.notice.link for message in self._folding.messages() for entry in message.open()]
        return links[-1] if links else ""

    def correct(self) -> None:
        """Something that all messages say has changed: edit those that people may have read."""
        for message in self._folding.messages():
            if any(entry.tried for entry in message.entries.values()):
                self._want(message, Wanted("ring"))

    def status(self) -> Iterator[dict[str, Any]]:
        """A row for each notifier."""
        for name, health in self._notifiers.items():
            yield {
                "name": name,
                "kind": health.kind,
                "end_to_end": health.notifier.end_to_end,
                "delivered": health.delivered,
                "failed": health.failed,
                "last": None if health.last is None else int(self._clock() - health.last),
                "why": health.why,
                "note": health.notifier.note if isinstance(health.notifier, Lasting) else "",
            }
        yield from self._missing

    async def close(self, seconds: float) -> None:
        """Finish what is being said, but for no longer than this."""
        if self.page is not None:
            self.page.close()
        for talk in self._conversations.values():
            if talk.wanted is not None and talk.wanted.event != "end":
                talk.give_up()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for health in self._notifiers.values():
            if isinstance(health.notifier, Lasting):
                await health.notifier.close()

    def _known(self, names: tuple[str, ...]) -> Iterator[str]:
        return (name for name in names if name in self._notifiers)

    def _want(self, message: Message, wanted: Wanted) -> None:
        key = (message.id, message.notifier)
        talk = self._conversations.get(key)
        if talk is not None:
            talk.want(message, wanted)
            return
        talk = _Conversation(self._notifiers[message.notifier], self)
        self._conversations[key] = talk
        talk.want(message, wanted)
        task = asyncio.get_running_loop().create_task(self._hold(key, talk))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hold(self, key: tuple[str, str], talk: "_Conversation") -> None:
        try:
            while talk.wanted is not None:
                await talk.say()
        finally:
            del self._conversations[key]

    def now(self) -> float:
        """Seconds, of the clock that was given."""
        return self._clock()

    def report(self, prompt_id: str, name: str, delivered: bool, why: str) -> None:
        """Tell whoever asked for the ring what became of it."""
        self._report(prompt_id, name, delivered, why)


class _Conversation:
    """What one notifier says about one message. :meth:`say` is run until nothing is wanted."""

    def __init__(self, health: Health, ringer: Ringer) -> None:
        self.wanted: Wanted | None = None
        self._message: Message
        self._health = health
        self._ringer = ringer
        self._news = asyncio.Event()

    def want(self, message: Message, wanted: Wanted) -> None:
        """Say this next, together with, or in the place of, what is not said yet."""
        self._message = message
        before, self.wanted = self.wanted, _with_unsaid(self.wanted, wanted)
        if self.wanted is not before:
            self._news.set()

    def give_up(self) -> None:
        """Say no more: nobody has heard of it, or nobody needs to."""
        self.wanted = None
        self._news.set()

    async def say(self) -> None:
        """Say what is wanted until it is said, overtaken or given up."""
        wanted, failures = self.wanted, 0
        assert wanted is not None
        self._news.clear()
        if wanted.after:
            await self._news_within(wanted.after - self._ringer.now())
        if wanted.loud and self._ringer.page is not None:
            await self._ringer.page.look()
        while self.wanted is wanted:
            if await self._try(wanted):
                break
            failures += 1
            if failures == MOST_TRIES.get(wanted.event):
                break
            if self.wanted is wanted:
                await self._news_within(BACKOFF[min(failures, len(BACKOFF)) - 1])
        if self.wanted is wanted:
            self.wanted = None

    async def _try(self, wanted: Wanted) -> bool:
        """Send once; whether that succeeded. What was overtaken while it queued is not sent."""
        health, message = self._health, self._message
        async with health.turns:
            if self.wanted is not wanted:
                return False
            waiting = message.open()
            for entry in waiting:
                entry.tried = True
            try:
                why = await _send(health, wanted, self._say_now(message, wanted), message.outcome())
            except NotYet:
                return False
        health.why = why
        if why:
            health.failed += 1
        else:
            health.delivered += 1
            health.last = self._ringer.now()
            if self.wanted is not None and self.wanted is not wanted and self.wanted.owed:
                self.wanted = self.wanted._replace(loud=False, owed=False)  # they have just heard it
        if wanted.event != "end":
            for entry in waiting:
                self._ringer.report(entry.prompt_id, health.notifier.name, not why, why)
        return not why

    def _say_now(self, message: Message, wanted: Wanted) -> Notice:
        notice = message.notice(self._ringer.now())
        page = self._ringer.page
        trouble = page.trouble if page is not None and wanted.event != "end" else ""
        return notice._replace(quiet=not wanted.loud, page_trouble=trouble)

    async def _news_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()


def _with_unsaid(unsaid: Wanted | None, wanted: Wanted) -> Wanted:
    """What to say when something is wanted while something else is unsaid. An end is all there is to say."""
    if unsaid is None or unsaid.event == "end" or wanted.event == "end":
        return wanted
    if unsaid.event == "ring" and wanted.event == "remind":
        return unsaid  # nobody has heard of it: the ring itself is still to be said
    # Both are "ring", or the reminder has to be said with what is new.
    owed = unsaid.loud and not wanted.loud
    after = min(unsaid.after, wanted.after)
    return Wanted(unsaid.event, loud=unsaid.loud or wanted.loud, owed=owed, after=after)


async def _send(health: Health, wanted: Wanted, notice: Notice, outcome: str) -> str:
    """Send once; returns why it failed, or nothing. The reason never quotes a notifier's own words: they may hold the
    link.

    Raises:
        NotYet
    """
    try:
        async with asyncio.timeout(health.seconds):
            match wanted.event:
                case "ring":
                    await health.notifier.ring(notice)
                case "remind":
                    await health.notifier.remind(notice)
                case _:
                    await health.notifier.end(notice, outcome)
    except NotYet:
        raise
    except NotDelivered as error:
        return error.why
    except TimeoutError:
        return f"took longer than {health.seconds:g} s"
    except Exception as error:  # a notifier's mistake must not end the broker
        return f"failed: {type(error).__name__}"
    return ""
