"""The books of the pending table: where to find a prompt by ticket, connection, key or name, and how many there are.

Nothing is decided here, and nothing takes longer because much is open.
"""

from collections.abc import Hashable
from typing import TypeVar

from unlatch.broker.deadlines import Deadlines
from unlatch.broker.records import Follower, OpenLink, OpenPage, OpenPrompt, Waiting, Whose
from unlatch.broker.tombstones import Tombstones
from unlatch.seal import keys_of

_K = TypeVar("_K", bound=Hashable)


class Table:
    """Everything that is open, and the memory of what was."""

    def __init__(self) -> None:
        self.links: dict[str, OpenLink] = {}
        self.followers: dict[str, Follower] = {}
        self.tombstones = Tombstones()
        self.deadlines: Deadlines[OpenPage | Waiting] = Deadlines()
        self.leaders: dict[tuple[Whose, str], OpenPrompt] = {}
        self.named: dict[str, OpenPrompt] = {}  # by id; the newest where several share a message
        self.owed: set[OpenPrompt] = set()  # judged, and the page has not fetched the verdict
        self.open_total = 0
        self._held: dict[Whose, int] = {}
        self._of_conn: dict[Hashable, list[Waiting]] = {}

    def held_of(self, whose: Whose) -> int:
        """How many prompts are kept: open ones, followers, and judged ones until they are forgotten."""
        return self._held.get(whose, 0)

    def of_conn(self, conn: Hashable) -> tuple[Waiting, ...]:
        """What this connection waits for, and what it was judged for a moment ago."""
        return tuple(self._of_conn.get(conn, ()))

    def known(self, ticket: str) -> bool:
        """Whether a ticket was ever seen, as far as memory goes."""
        return ticket in self.links or ticket in self.followers or self.tombstones.find(ticket) is not None

    def add(self, thing: Waiting) -> None:
        """A prompt or follower starts to wait."""
        self.open_total += 1
        self._hold(thing.whose, 1)
        self._of_conn.setdefault(thing.conn, []).append(thing)
        if isinstance(thing, Follower):
            self.followers[thing.ticket] = thing
            thing.leader.followers += (thing,)
            self.deadlines.set(thing, thing.expires)
            return
        self.named[thing.id] = thing
        if thing.coalesce:
            self.leaders.setdefault((thing.whose, thing.coalesce), thing)
        self.reschedule(thing)

    def add_link(self, link: OpenLink) -> None:
        """Another way to a prompt's page."""
        link.prompt.links.append(link)
        self.links[link.ticket] = link

    def reschedule(self, prompt: OpenPrompt) -> None:
        """Something changed that the clock must know of."""
        self.deadlines.set(prompt, prompt.due())

    def bury(self, now: float, link: OpenLink, word: str) -> None:
        """A link dies; ``word`` is what a page that can prove it will hear."""
        del self.links[link.ticket]
        self.tombstones.bury(now, link.ticket, keys_of(link.link()).view, word)
        for page in link.pages:
            self.deadlines.drop(page)

    def stop_counting(self) -> None:
        """An asker waits no more: there is a verdict, or there will be none."""
        self.open_total -= 1

    def stop_leading(self, prompt: OpenPrompt) -> None:
        """Whoever asks for the same key now asks for himself."""
        _drop(self.leaders, (prompt.whose, prompt.coalesce), prompt)
        _drop(self.named, prompt.id, prompt)

    def forget(self, thing: Waiting) -> None:
        """Neither the connection nor the clock has anything to do with this any more."""
        of_conn = self._of_conn.get(thing.conn, [])
        if thing in of_conn:
            of_conn.remove(thing)
        if not of_conn:
            self.leave(thing.conn)
        self.deadlines.drop(thing)
        self._hold(thing.whose, -1)
        if isinstance(thing, Follower):
            self.stop_counting()
            del self.followers[thing.ticket]
            thing.leader.followers = tuple(other for other in thing.leader.followers if other is not thing)
        else:
            self.owed.discard(thing)

    def leave(self, conn: Hashable) -> None:
        """The connection is closed, or waits for nothing."""
        self._of_conn.pop(conn, None)

    def _hold(self, whose: Whose, step: int) -> None:
        self._held[whose] = self._held.get(whose, 0) + step
        if not self._held[whose]:
            del self._held[whose]


def _drop(book: dict[_K, OpenPrompt], key: _K, prompt: OpenPrompt) -> None:
    """Take the prompt out of a book, unless another stands there in the meantime."""
    if book.get(key) is prompt:
        del book[key]
