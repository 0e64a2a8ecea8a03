"""Several notifiers ring side by side, each in its own time, each again and again while its prompt is open.

For one message (``notice.id``) and one notifier there is one conversation. It sends one thing at a time, in order, and
only the newest: what is overtaken while it waits to try again (a ring by the prompt's end) is never sent.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from unlatch.broker.notice import Notice
from unlatch.notify import NotDelivered, Notifier

BACKOFF = (2.0, 5.0, 15.0, 30.0, 60.0)  # seconds between tries; the last one again and again
MOST_TRIES = {"remind": 1, "end": 4}  # a ring is tried until the prompt is over
AT_ONCE = 8  # messages that one notifier sends at the same time

Report = Callable[[str, str, bool, str], None]  # prompt id, notifier, delivered, why not


class Wanted(NamedTuple):
    """What a conversation shall say next: "ring", "remind" or "end"."""

    event: str
    prompt_id: str
    notice: Notice
    outcome: str = ""


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


class Ringer:
    """Performs the actions Ring, Remind and End."""

    def __init__(self, report: Report) -> None:
        self._report = report
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
        self._want(Wanted("ring", prompt_id, notice), names)

    def remind(self, prompt_id: str, notice: Notice, names: tuple[str, ...]) -> None:
        """Call attention to the link again."""
        self._want(Wanted("remind", prompt_id, notice), names)

    def end(self, prompt_id: str, notice: Notice, names: tuple[str, ...], outcome: str) -> None:
        """Say how it ended, also where a try may have got through that was counted as failed."""
        told = set(names)
        for (key, name), talk in self._conversations.items():
            if key == notice.id and talk.give_up(prompt_id):
                told.add(name)
        self._want(Wanted("end", prompt_id, notice, outcome), tuple(told))

    def status(self) -> Iterator[dict[str, Any]]:
        """A row for each notifier."""
        for name, health in self._notifiers.items():
            yield {
                "name": name,
                "kind": health.kind,
                "end_to_end": health.notifier.end_to_end,
                "delivered": health.delivered,
                "failed": health.failed,
                "why": health.why,
            }
        yield from self._missing

    async def close(self, seconds: float) -> None:
        """Finish what is being said, but for no longer than this."""
        for talk in self._conversations.values():
            if talk.wanted is not None and talk.wanted.event != "end":
                talk.give_up(talk.wanted.prompt_id)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _want(self, wanted: Wanted, names: tuple[str, ...]) -> None:
        for name in names:
            key = (wanted.notice.id, name)
            talk = self._conversations.get(key)
            if talk is not None:
                talk.want(wanted)
            elif name in self._notifiers:
                self._conversations[key] = talk = _Conversation(self._notifiers[name], self._report)
                talk.want(wanted)
                task = asyncio.get_running_loop().create_task(self._hold(key, talk))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _hold(self, key: tuple[str, str], talk: "_Conversation") -> None:
        try:
            while talk.wanted is not None:
                await talk.say()
        finally:
            del self._conversations[key]


class _Conversation:
    """What one notifier says about one message. :meth:`say` is run until nothing is wanted."""

    def __init__(self, health: Health, report: Report) -> None:
        self.wanted: Wanted | None = None
        self._tried = False
        self._health = health
        self._report = report
        self._news = asyncio.Event()

    def want(self, wanted: Wanted) -> None:
        """Say this next, in the place of what is not said yet."""
        unsaid = self.wanted
        if unsaid is not None and unsaid.event == "ring" and wanted.event == "remind":
            return  # nobody has heard of it: the ring itself is still to be said
        self.wanted = wanted
        self._news.set()

    def give_up(self, prompt_id: str) -> bool:
        """Say no more about this prompt; returns whether people may have heard of it."""
        if self.wanted is None or self.wanted.prompt_id != prompt_id:
            return False
        self.wanted = None
        self._news.set()
        return self._tried

    async def say(self) -> None:
        """Say what is wanted until it is said, overtaken or given up."""
        wanted, failures = self.wanted, 0
        self._news.clear()
        while wanted is not None and self.wanted is wanted:
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
        health = self._health
        async with health.turns:
            if self.wanted is not wanted:
                return False  # overtaken while it queued
            self._tried = True
            why = await _send(health, wanted)
        health.why = why
        if why:
            health.failed += 1
        else:
            health.delivered += 1
        if wanted.event != "end":
            self._report(wanted.prompt_id, health.notifier.name, not why, why)
        return not why

    async def _news_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()


async def _send(health: Health, wanted: Wanted) -> str:
    """Send once; returns why it failed, or nothing. The reason never quotes a notifier's own words: they may hold the
    link.
    """
    try:
        async with asyncio.timeout(health.seconds):
            match wanted.event:
                case "ring":
                    await health.notifier.ring(wanted.notice)
                case "remind":
                    await health.notifier.remind(wanted.notice)
                case _:
                    await health.notifier.end(wanted.notice, wanted.outcome)
    except NotDelivered as error:
        return error.why
    except TimeoutError:
        return f"took longer than {health.seconds:g} s"
    except Exception as error:  # a notifier's mistake must not end the broker
        return f"failed: {type(error).__name__}"
    return ""
