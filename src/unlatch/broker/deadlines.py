"""When something is due next, for many things at once: a heap, one deadline for each thing. Pure.

Moving or dropping a deadline leaves its old entry in the heap until it comes up; when such leftovers outnumber the
living the heap is made anew, so every operation is O(log n) on average and the dead take no more room than the living.
"""

import heapq
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, TypeVar

_T = TypeVar("_T", bound=Hashable)

_SLACK = 64  # leftovers that are never worth a new heap


class Deadlines(Generic[_T]):
    """At most one deadline for each thing; things are told apart by their hash and need no order."""

    def __init__(self) -> None:
        self._when: dict[_T, float] = {}
        self._heap: list[tuple[float, int, _T]] = []
        self._tie = count()

    def set(self, thing: _T, when: float) -> None:
        """Give the thing this deadline in place of any other."""
        if self._when.get(thing) == when:
            return
        self._when[thing] = when
        heapq.heappush(self._heap, (when, next(self._tie), thing))
        if len(self._heap) > 2 * len(self._when) + _SLACK:
            self._heap = [(when, next(self._tie), thing) for thing, when in self._when.items()]
            heapq.heapify(self._heap)

    def drop(self, thing: _T) -> None:
        """The thing has no deadline any more."""
        self._when.pop(thing, None)

    def due(self, now: float) -> Iterator[_T]:
        """Take out what is due, earliest first. Deadlines may be set and dropped meanwhile."""
        while (when := self.next()) is not None and when <= now:
            thing = heapq.heappop(self._heap)[2]
            del self._when[thing]
            yield thing

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._heap and self._when.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
