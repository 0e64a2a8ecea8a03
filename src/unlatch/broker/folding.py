"""Which prompts one message is about. Pure; ``now`` as everywhere in the broker.

When a host boots, ten services ask within seconds. The first rings at once. Those that come shortly after it, for the
same people through the same notifier, join its message: it becomes a list. The rules that hold here:
- A message is named by the prompt that began it, and keeps that name although this prompt may be the first to end.
- Its link is that of the oldest open prompt; the others stand in ``Notice.more``, the ended ones without a link.
- It is over when all of its prompts are.
- Nobody hears of the end of a prompt whose beginning nobody can have heard of.
"""

from collections.abc import Iterator
from typing import NamedTuple

from unlatch.broker.notice import Also, Notice

BURST_SECONDS = 5.0  # after the last prompt that joined, another still joins
LONGEST_SECONDS = 30.0  # but none later than this after the message began
MOST = 12  # prompts in a message: 3 KiB, where several services cut at 4; nobody reads more on a phone


class Entry:
    """One prompt of a message. ``tried``: people may have heard of it."""

    def __init__(self, prompt_id: str, notice: Notice, now: float, *, tried: bool = False) -> None:
        self.prompt_id = prompt_id
        self.notice = notice
        self.at = now
        self.tried = tried
        self.outcome = ""


class Message:
    """One message of one notifier, and the prompts that it is about, oldest first."""

    def __init__(self, name: str, notice: Notice, now: float) -> None:
        self.id = notice.id
        self.notifier = name
        self.person = notice.person
        self.began = self.joined = now
        self.reminded: float | None = None
        self.entries: dict[str, Entry] = {}  # by the prompts' own ids

    def open(self) -> list[Entry]:
        """The prompts that still wait."""
        return [entry for entry in self.entries.values() if not entry.outcome]

    def takes(self, now: float) -> bool:
        """Whether another prompt may join."""
        fresh = now - self.joined <= BURST_SECONDS and now - self.began <= LONGEST_SECONDS
        return fresh and len(self.entries) < MOST and bool(self.open())

    def notice(self, now: float) -> Notice:
        """What the message says now."""
        shown = next(iter(self.open()), None) or next(iter(self.entries.values()))
        more = tuple(_also(entry) for entry in self.entries.values() if entry is not shown)
        remaining = max(0.0, shown.notice.remaining - (now - shown.at))
        return shown.notice._replace(id=self.id, remaining=remaining, more=more)

    def outcome(self) -> str:
        """How the prompt ended that the message is named after, or the oldest that it still knows."""
        return next(iter(self.entries.values())).outcome


class Place(NamedTuple):
    """Where a prompt went. ``joined``: into a message that others began."""

    message: Message
    joined: bool


class Folding:
    """All messages that are not over."""

    def __init__(self) -> None:
        self._messages: dict[tuple[str, str], Message] = {}  # by notifier and prompt
        self._newest: dict[tuple[str, str], Message] = {}  # by notifier and person

    def ring(self, now: float, name: str, prompt_id: str, notice: Notice) -> Place:
        """A prompt rings, or has a new link. What rings quietly has a message of its own from before."""
        message = self._messages.get((name, notice.id))
        joined = False
        if message is None:
            newest = self._newest.get((name, notice.person))
            joined = newest is not None and newest.takes(now) and not notice.quiet
            message = newest if newest is not None and joined else Message(name, notice, now)
            message.joined = now
            self._messages[name, notice.id] = self._newest[name, notice.person] = message
        known = message.entries.get(notice.id)
        message.entries[notice.id] = Entry(prompt_id, notice, now, tried=known is not None and known.tried)
        return Place(message, joined)

    def remind(self, now: float, name: str, prompt_id: str, notice: Notice) -> Message | None:
        """The message to remind of; None if that was done a moment ago for another of its prompts."""
        message = self._messages.get((name, notice.id)) or self.ring(now, name, prompt_id, notice).message
        tried = message.entries[notice.id].tried
        message.entries[notice.id] = Entry(prompt_id, notice, now, tried=tried)
        if len(message.open()) > 1 and message.reminded is not None and now - message.reminded < LONGEST_SECONDS:
            return None
        message.reminded = now
        return message

    def end(self, now: float, name: str, prompt_id: str, notice: Notice, outcome: str, *, told: bool) -> Message | None:
        """The message that has to say that a prompt is over; None if nobody can have heard of it.

        ``told``: it was delivered, perhaps by an earlier broker.
        """
        message = self._messages.get((name, notice.id))
        entry = message.entries.get(notice.id) if message is not None else None
        if message is None or entry is None:
            if not told:
                return None
            message = Message(name, notice, now)
            message.entries[notice.id] = entry = Entry(prompt_id, notice, now)
        if told or entry.tried:
            entry.outcome, entry.notice = outcome, notice
        else:
            del message.entries[notice.id]
            self._messages.pop((name, notice.id), None)
        if not message.open():
            self._forget(message)
        return message

    def messages(self) -> Iterator[Message]:
        """Every message with an open prompt, once."""
        return iter(dict.fromkeys(self._messages.values()))

    def meant(self, name: str, message_id: str, said: str) -> tuple[str, ...]:
        """Which prompt somebody means who replies to a message; nothing when that is not clear.

        In a list the two match words must tell which.
        """
        message = self._messages.get((name, message_id))
        if message is None:
            return () if said.strip() else (message_id,)  # an earlier broker's; the table knows what is still open
        spoken = set(said.lower().split())
        meant = [entry for entry in message.open() if not spoken or spoken >= {*map(str.lower, entry.notice.words)}]
        return (meant[0].prompt_id,) if len(meant) == 1 else ()

    def _forget(self, message: Message) -> None:
        for prompt in message.entries:
            self._messages.pop((message.notifier, prompt), None)
        if self._newest.get((message.notifier, message.person)) is message:
            del self._newest[message.notifier, message.person]


def _also(entry: Entry) -> Also:
    notice = entry.notice
    link = "" if entry.outcome else notice.link
    return Also(link, notice.words, notice.user, notice.title, notice.command, notice.unit, entry.outcome)
