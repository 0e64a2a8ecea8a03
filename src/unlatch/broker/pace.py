"""How fast one uid may speak to the broker, over all its connections. Pure.

A bucket per uid: a burst at once, and then so many lines a second. Nobody is refused for it, only heard later: a
thousand askers that register again after the broker's restart are a burst, and a flood costs its sender time.
"""

LINES_PER_SECOND = 200.0  # a line takes the broker a tenth of a millisecond or two
_CROWD = 1024  # buckets; beyond that, full ones are forgotten: a full bucket is what a newcomer gets


class Pace:
    """Counts the lines of each uid."""

    def __init__(self, burst: int) -> None:
        self._burst = float(burst)
        self._left: dict[int, tuple[float, float]] = {}  # uid: lines left, and when that was so

    def wait(self, now: float, uid: int) -> float:
        """Seconds until this uid may say a line; 0: now, and it is counted."""
        left = self._left_now(now, uid)
        if left < 1.0 - 1e-6:  # sums of fractions
            return (1.0 - left) / LINES_PER_SECOND
        if len(self._left) >= _CROWD:
            self._left = {uid: self._left[uid] for uid in self._left if self._left_now(now, uid) < self._burst}
        self._left[uid] = (left - 1.0, now)
        return 0.0

    def _left_now(self, now: float, uid: int) -> float:
        left, then = self._left.get(uid, (self._burst, now))
        return min(self._burst, left + (now - then) * LINES_PER_SECOND)
