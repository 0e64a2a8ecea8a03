"""How a broker that was started on demand ends when nobody needs it, without losing anybody who comes just then.

An asker that finds no broker takes a lock, binds the socket and starts one (``start.py``). So the last broker takes
the same lock before it goes: nobody can start another meanwhile. Then it takes its socket out of the way, so that
nobody new can come, and looks a last time who came before. If anybody did, it puts the socket back and stays. Who
looked up the socket just before it went, but connects just after, is refused or cut off, and tries again, as after any
end of a broker.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable

IDLE_SECONDS = 60.0


class Departure:
    """The way out of a broker: under the lock, with its sockets gone."""

    def __init__(self, lock: str, askers: str, admin: str, accept: Callable[[], int]) -> None:
        """``accept`` takes in the askers who wait now, and says how many."""
        self._lock = lock
        self._askers = askers
        self._admin = admin
        self._accept = accept

    def leave(self) -> bool:
        """Take the sockets away; False: somebody came, or is about to start a broker, so stay.

        After True the lock stays ours until the process ends.
        """
        try:
            lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return True  # the whole directory was taken away: nobody can find us any more
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        if self._somebody_came():
            os.close(lock)
            return False
        return True

    def _somebody_came(self) -> bool:
        aside = f"{self._askers}.leaving"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._askers, aside)
            if self._accept():
                os.rename(aside, self._askers)
                return True
            os.unlink(aside)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._admin)
        return False


class IdleWatch:
    """Ends the broker when it has been idle for a while."""

    def __init__(self, seconds: float, leave: Callable[[], bool], ended: Callable[[], None]) -> None:
        self._seconds = seconds
        self._leave = leave
        self._ended = ended
        self._timer: asyncio.TimerHandle | None = None

    def note(self, *, idle: bool) -> None:
        """Say whether the broker is idle now."""
        if not idle and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif idle and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._over)

    def _over(self) -> None:
        self._timer = None
        if self._leave():
            self._ended()
        else:
            self.note(idle=True)  # whoever came says otherwise in a moment
