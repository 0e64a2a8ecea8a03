"""What a watch over cards decides: when a locked card is asked for, once, and when nobody need answer. Pure."""

from typing import NamedTuple

from unlatch.errors import Denied, Expired, NoBroker, Refused, Withdrawn
from unlatch.frontends.asking import Moot
from unlatch.gnupg.card import LOCKED, UNLOCKED
from unlatch.gnupg.card_errors import (
    Blocked,
    Empty,
    FewTries,
    HeldByAnother,
    NoReader,
    NotTried,
    OtherCard,
    PulledOut,
    Unused,
    WrongPin,
)

ABSENT, UNKNOWN = "absent", "unknown"  # besides the states of a PIN
PAUSE, LONGEST_PAUSE = 2.0, 1800.0  # seconds between two tries to ask, while nobody can be asked

# How asking ended; also the exit codes of the process that asks.
DONE, OVER, NOBODY = 0, 1, 2
_AWAY = (PulledOut, NoReader, Empty, HeldByAnother, Unused, OtherCard)


class Seen(NamedTuple):
    """One look. ``aid`` is "" when no card was seen; ``why`` says then what is wrong, without a full stop."""

    state: str
    aid: str = ""
    why: str = ""


class Watch:
    """The decisions. The clock's seconds come in. Its rules:

    1. A card that was seen unlocked, and then locked, is asked for, once.
    2. It was asked for when a person heard of it, whatever came of that. When nobody could be asked (no broker, a
       quota), it is tried again, later and later.
    3. A card that was not seen unlocked is not asked for: that is the business of ``card unlock`` at boot.
    4. Asking ends when the card is unlocked another way. It goes on while the card is away.
    """

    def __init__(self) -> None:
        self.asking = ""  # the application id of the card that somebody is asked for
        self._unlocked: set[str] = set()  # cards that were, since somebody was asked for them
        self._meanwhile = False  # the card that is asked for was unlocked while it was asked for
        self._not_before = 0.0
        self._pause = PAUSE

    def wants(self, seen: Seen, now: float) -> bool:
        """Whether this card is to be asked for now. Call it with every look."""
        if seen.state == UNLOCKED:
            self._unlocked.add(seen.aid)
            self._meanwhile = self._meanwhile or seen.aid == self.asking
            self._not_before, self._pause = 0.0, PAUSE
        lost = seen.state == LOCKED and seen.aid in self._unlocked
        return lost and not self.asking and now >= self._not_before

    def delay(self, now: float) -> float:
        """Seconds until it may be tried again to ask; 0 when that is not waited for."""
        return max(0.0, self._not_before - now)

    def is_moot(self, seen: Seen) -> bool:
        """Whether whoever is being asked need not answer any more."""
        return seen.state == UNLOCKED and seen.aid == self.asking

    def ended(self, outcome: int, now: float) -> None:
        """Asking ended: DONE (it is unlocked), OVER (a person heard of it), or NOBODY was asked.

        A card that was unlocked may be locked again before the next look, and has to be asked for again.
        """
        if outcome == NOBODY:
            self._not_before = now + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        elif outcome == OVER and not self._meanwhile:
            self._unlocked.discard(self.asking)
        self.asking, self._meanwhile = "", False


def outcome_of(error: Exception, *, answered: bool = False) -> int:
    """What an unlocking that failed means for :meth:`Watch.ended`.

    ``answered``: somebody gave a PIN. Then the page has said what went wrong, and the next ring would bring the same
    again; only a card that went away with the PIN is asked for anew when it is back.
    """
    heard = (Denied, Expired, Withdrawn, Moot, WrongPin, NotTried, Blocked, FewTries)
    nobody = (NoBroker, Refused)
    return OVER if isinstance(error, heard) or (answered and not isinstance(error, nobody + _AWAY)) else NOBODY
