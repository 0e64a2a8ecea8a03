"""Grants of the agent: until when a key stays unlocked, as people say it and as it is written down. No processes here.

gpg-agent itself knows no end for a passphrase that was preset, apart from max-cache-ttl. So ``key unlock --for`` has
somebody come back at the end (``grant_end``), and writes down which end counts, because a key may be unlocked again
meanwhile. A record holds for one life of one agent: a new agent has forgotten all anyway.

All ends are CLOCK_BOOTTIME: they go on while the machine sleeps, and no clock that is set moves them.
"""

import contextlib
import errno
import json
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from unlatch import origin, runtime
from unlatch.errors import UnlatchError

UNTIL_REBOOT = "until-reboot"
LONGEST = 365 * 86_400  # seconds; a max-cache-ttl of that is no limit to anybody
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"([0-9]{1,9}) ?(s|m|min|h|d|w)\Z")
_MAX_RECORD = 4096  # bytes; some two hundred
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class NotASpan(UnlatchError):
    """Not a time that a grant can have."""


class Grant(NamedTuple):
    """A key that stays unlocked. ``agent`` names one life of one agent; ``end`` 0 is that agent's own end."""

    directory: str  # the GNUPGHOME
    grip: str
    agent: str
    end: float
    scheduled: str = ""  # what comes back at the end, as ``ending`` names it


def parse_span(text: str) -> int:
    """Seconds from "90s", "30m", "8h", "30d", "2w"; 0 for "until-reboot".

    Raises:
        NotASpan
    """
    if text == UNTIL_REBOOT:
        return 0
    found = _SPAN.match(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST:
        raise NotASpan(text)
    return seconds


def agent_life(pid: int) -> str:
    """What names this life of this process: boot, pid, and when it started; "" when it cannot be seen from here."""
    started = origin.started(pid)
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            boot = file.read(64).strip()
    except OSError:
        return ""
    return f"{boot} {pid} {started}" if started is not None else ""


class Records:
    """The grants of one home that were written down, a file for each key."""

    def __init__(self, directory: str, uid: int, environ: Mapping[str, str], user_home: str) -> None:
        self._directory = directory
        self._uid = uid
        self._folder = f"{runtime.own(uid, environ, user_home).state}/grants"

    def prepare(self) -> None:
        """See that there is a place to write grants down.

        Raises:
            OSError, Untrusted: there is none.
        """
        runtime.make_private(self._folder, self._uid)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self._folder)

    def write(self, grant: Grant) -> None:
        """Write a grant down, in place of what was known of its key.

        Raises:
            OSError, Untrusted: there is no place for it.
        """
        self.prepare()
        path = self._path(grant.grip)
        new = f"{path}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            json.dump(grant._asdict(), file)
        os.replace(new, path)

    def read(self, grip: str) -> Grant | None:
        """What is written down about a key; None for nothing, and for what cannot be read."""
        try:
            with open(self._path(grip), encoding="ascii") as file:
                fields = json.loads(file.read(_MAX_RECORD))
            grant = Grant(**fields)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        texts = (grant.directory, grant.grip, grant.agent, grant.scheduled)
        sound = all(isinstance(text, str) for text in texts) and isinstance(grant.end, int | float)
        return grant if sound and grant[:2] == (self._directory, grip) else None

    def forget(self, grip: str) -> None:
        """Remove what is written down about a key."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(grip))

    def mention(self, scheduled: str) -> bool:
        """Whether any grant of this home is ended by what is named so."""
        prefix = os.path.basename(self._path(""))
        try:
            names = [name for name in os.listdir(self._folder) if name.startswith(prefix)]
        except OSError:
            return False
        grants = (self.read(name.removeprefix(prefix)) for name in names)
        return any(grant is not None and grant.scheduled == scheduled for grant in grants)

    def _path(self, grip: str) -> str:
        # hashlib would map OpenSSL; this only keeps homes apart, and a record says itself which it is of.
        from binascii import crc32

        return f"{self._folder}/{crc32(os.fsencode(self._directory)):08x}-{grip}"


def is_over(record: Grant | None, asked: Grant, agent: str, now: float) -> str:
    """What to do when somebody comes back for the end of ``asked``: "clear", "wait", or nothing ("").

    ``record`` is what is written down about the key, ``agent`` the agent that lives now. In doubt the key is cleared.
    """
    if agent != asked.agent:
        return ""  # another life: it knows nothing of that grant
    if record is not None and record.agent == agent and record.end != asked.end:
        return ""  # unlocked again since, with another end
    return "clear" if now >= asked.end else "wait"
