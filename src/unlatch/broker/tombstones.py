"""The memory of dead links: a page that can prove the link learns why it is dead. Pure."""

from typing import NamedTuple

MEMORY_SECONDS = 3600  # docs/protocol.md section 3.8
MOST = 10_000  # about 3 MB


class Tombstone(NamedTuple):
    """What is left of a link: the key that proves it, and one word of docs/protocol.md section 3.8."""

    view_key: bytes
    word: str
    until: float

    def __repr__(self) -> str:
        return f"Tombstone({self.word})"


class Tombstones:
    """Dead tickets in the order of their death, so the oldest are always in front."""

    def __init__(self) -> None:
        self._stones: dict[str, Tombstone] = {}

    def bury(self, now: float, ticket: str, view_key: bytes, word: str) -> None:
        """Remember a ticket that just died; forget the oldest if there are too many."""
        self._stones[ticket] = Tombstone(view_key, word, now + MEMORY_SECONDS)
        if len(self._stones) > MOST:
            del self._stones[next(iter(self._stones))]

    def forget(self, now: float) -> None:
        """Drop those that were remembered long enough."""
        while self._stones and self._stones[oldest := next(iter(self._stones))].until <= now:
            del self._stones[oldest]

    def find(self, ticket: str) -> Tombstone | None:
        """What is remembered of this ticket."""
        return self._stones.get(ticket)
