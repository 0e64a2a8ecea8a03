"""How often one user may ring: so many times an hour, and ten times as often without a sound. Pure.

A bucket for each holds the rings of an hour and fills evenly: a whole hour at once is possible, and after that one ring
each ``3600 / rings`` seconds. A job that asks again each minute edits its message, and a new question still rings. Ten
quiet ones may be owed, so that the second try after a wrong answer does not fail for the ring that was the last.
"""

from collections.abc import Hashable

from unlatch.errors import Refused

_HOUR = 3600.0
_LOUD = 1.0
_QUIET = 0.1
_OWED = 1.0  # by quiet ones
_CROWD = 1024  # buckets; beyond that, full ones are forgotten: a full bucket is what a newcomer gets


class RingQuota:
    """Counts rings; ``whose`` says for whom (:class:`unlatch.broker.records.Whose`)."""

    def __init__(self, rings: int) -> None:
        self._rings = rings
        self._left: dict[Hashable, tuple[float, float]] = {}  # rings left, and when that was so

    def allows(self, now: float, whose: Hashable, *, quiet: bool) -> bool:
        """Count one ring, unless there is none left."""
        left = self._left_now(now, whose) - (_QUIET if quiet else _LOUD)
        if left < (-_OWED if quiet else 0.0) - 1e-6:  # ten tenths are not quite one
            return False
        if len(self._left) >= _CROWD:
            self._left = {each: self._left[each] for each in self._left if self._left_now(now, each) < self._rings}
        self._left[whose] = (left, now)
        return True

    def charge(self, now: float, whose: Hashable, *, quiet: bool) -> None:
        """Count one ring.

        Raises:
            Refused: "quota"
        """
        if not self.allows(now, whose, quiet=quiet):
            raise Refused("quota", "this user has rung too often in the last hour")

    def _left_now(self, now: float, whose: Hashable) -> float:
        left, then = self._left.get(whose, (self._rings, now))
        return min(self._rings, left + (now - then) * self._rings / _HOUR)
