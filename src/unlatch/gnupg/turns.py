"""One of our commands at a time gives PINs to the cards of a GnuPG home.

Between reading a card's counters and giving it a PIN lie some milliseconds. Two commands that do so at once (a person
on the phone and one at a terminal, a script that runs twice) would both find two tries left, and block the card
together, although neither was told that it may.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from unlatch.gnupg.card_errors import Busy

SECONDS = 60.0  # a visit takes milliseconds; one to a scdaemon that hangs is over after 30 s
_POLL = 0.02  # seconds; flock(2) knows no time limit


@contextlib.contextmanager
def turn(
    directory: str,
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Be alone with the cards of this home. The directory itself is locked, and the kernel ends that with the process.

    Where a directory cannot be locked, as on NFS (flock(2)), nobody waits for anybody.

    Raises:
        Busy: it was not our turn within so many seconds.
    """
    with contextlib.ExitStack() as opened:
        with contextlib.suppress(OSError):  # no home: there is no agent either, which is for others to say
            holder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, holder)
            _take(holder, clock() + seconds, clock, sleep)
        yield


def _take(holder: int, until: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    while True:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock() > until:
                raise Busy from None
        else:
            return
        sleep(_POLL)
