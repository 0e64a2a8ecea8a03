"""How often an hour an account's person may be rung about logins, so that nobody says yes to have peace.

What was rung and not approved stands in a file for each account, in a directory of the service's in /run: a restart of
the service does not forget it, a boot does. It holds the times of the last hour (CLOCK_BOOTTIME, seconds), a line each,
with "no" behind those to which somebody said no: ssh asks again at once, and a person who says no shall not have to say
it six times. Root's askings and those of a uid that asks for itself have files of their own: what runs as the user must
not be able to use up what a real login needs. The challenge is never limited by this.
"""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from unlatch.pam.errors import Unfit

HOUR = 3600.0
PEACE = 120.0  # seconds after a no: longer than sshd and ssh go on by themselves (LoginGraceTime)
MOST = 100  # the most that [pam] approvals accepts
MAX_FILE = 64 * MOST  # bytes
LOCK_SECONDS = 2.0  # whoever holds the lock reads and writes a few lines


class Ring(NamedTuple):
    """One ring: when, and whether somebody said no to it (then ``at`` is when that was)."""

    at: float
    denied: bool = False


def recent(rings: tuple[Ring, ...], now: float) -> tuple[Ring, ...]:
    """Those of the last hour. What lies in the future is of an earlier boot, and over."""
    return tuple(ring for ring in rings if now - HOUR < ring.at <= now)


def take(directory: str, uid: int, *, own: bool, most: int, now: float) -> None:
    """Count one ring for this account, before it is rung; ``own``: the account's own uid asks, not root.

    Raises:
        Unfit: it was rung ``most`` times within the last hour, somebody said no just now, or nobody can know.
    """
    with _opened(directory, uid, own=own) as file:
        rings = recent(_read(file), now)
        if len(rings) >= most:
            raise Unfit(f"rings without a yes in the last hour: {len(rings)}, and [pam] approvals is {most}")
        said_no = max((ring.at for ring in rings if ring.denied), default=now - PEACE)
        if now - said_no < PEACE:
            raise Unfit(f"somebody said no {now - said_no:.0f} s ago, and is not rung for {PEACE:.0f} s")
        _write(file, (*rings, Ring(now)))


def give_back(directory: str, uid: int, *, own: bool, at: float) -> None:
    """Nobody was rung after all, or said yes: uncount what was counted at that time.

    Raises:
        Unfit: as :func:`take`.
    """
    _replace(directory, uid, own=own, at=at)


def leave_in_peace(directory: str, uid: int, *, own: bool, at: float, now: float) -> None:
    """Somebody said no to what was rung at that time.

    Raises:
        Unfit: as :func:`take`.
    """
    _replace(directory, uid, Ring(now, denied=True), own=own, at=at)


def _replace(directory: str, uid: int, *instead: Ring, own: bool, at: float) -> None:
    with _opened(directory, uid, own=own) as file:
        rings = list(_read(file))
        with contextlib.suppress(ValueError):
            rings.remove(Ring(at))
            rings += instead
        _write(file, tuple(rings))


@contextlib.contextmanager
def _opened(directory: str, uid: int, *, own: bool) -> Iterator[int]:
    """The locked file of one account; by its uid, which is a safe name and the same under each name of the account."""
    path = f"{directory}/{'own' if own else 'root'}-{uid}"
    file = -1
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(path, flags, 0o600)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise Unfit(f"{path} is not a file that only this service writes")
        _lock(file, path)
        yield file
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not what this service wrote; remove it"
        raise Unfit(f"{path}: {why}") from None
    finally:
        if file >= 0:
            os.close(file)


def _lock(file: int, path: str) -> None:
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise Unfit(f"{path} is locked by another process") from None
            time.sleep(0.01)
        else:
            return


def _read(file: int) -> tuple[Ring, ...]:
    """Raises ValueError for anything but a few lines with a number each, perhaps with "no" behind it."""
    data = os.pread(file, MAX_FILE + 1, 0)
    if len(data) > MAX_FILE or (data and not data.endswith(b"\n")):
        raise ValueError
    words = [line.partition(" ") for line in data.decode("ascii").splitlines()]
    rings = tuple(Ring(float(at), bool(no)) for at, _, no in words)
    # NaN and infinity are out of range too.
    if not all(0 <= ring.at < 2**40 and no in ("", "no") for ring, (_, _, no) in zip(rings, words, strict=True)):
        raise ValueError
    return rings


def _write(file: int, rings: tuple[Ring, ...]) -> None:
    """Raises OSError when it does not stand there: a ring that cannot be counted must not happen."""
    data = "".join(f"{ring.at!r}{' no' * ring.denied}\n" for ring in rings[-MOST:]).encode("ascii")
    if os.pwrite(file, data, 0) != len(data):
        raise OSError(28, "no space left for the whole file")
    os.ftruncate(file, len(data))
