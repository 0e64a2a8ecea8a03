"""The audit trail: one JSON line for each thing that happened, to a file and to the journal.

What a record says is decided in ``pending.py`` (never a secret, a fragment or a ticket); here it gets its time and is
written. The file is opened anew for each line, so that it may be renamed by logrotate(8) at any moment.
"""

import contextlib
import json
import os
import socket
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

JOURNAL = "/run/systemd/journal/socket"
# Of one uid. What goes beyond is counted, so that nobody can fill the disk by asking or by being refused.
REFUSALS_PER_MINUTE = 30
RECORDS_PER_MINUTE = 300  # refusals among them
_REFUSALS = ("refusal", "refused")  # of a prompt or a page, and of a whole connection
# O_NONBLOCK: opening a fifo that somebody put there must fail and not wait for its reader.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Audit:
    """Writes records. One that could not be written stops no prompt; ``trouble`` then says why, for the status."""

    def __init__(self, path: str, wall_clock: Callable[[], str], journal: str = JOURNAL) -> None:
        """``wall_clock`` gives the time as RFC 3339 text; ``path`` may be empty for no file."""
        self.path = path
        self.trouble = ""
        self._wall_clock = wall_clock
        self._journal = journal
        self._minute = ""
        self._written: Counter[Any] = Counter()  # in this minute, by uid, as the three below
        self._refusals: Counter[Any] = Counter()
        self._too_many: Counter[Any] = Counter()
        self._refused_too_often: Counter[Any] = Counter()

    def write(self, record: Mapping[str, Any]) -> bool:
        """Write one record to the file and, where there is one, to the journal; whether the file has it.

        Without a file nobody can know, and the journal is believed.
        """
        time = self._wall_clock()
        minute = time[: len("2026-11-22T03:00")]
        if minute != self._minute:
            self._minute = minute
            self._begin_minute(time)
        if self._has_room(record.get("uid"), refusal=record.get("event") in _REFUSALS):
            return self._write({"time": time, **record})
        return False

    def close(self) -> None:
        """At the broker's end: what the last minute had too many."""
        self._begin_minute(self._wall_clock())

    def _has_room(self, uid: Any, *, refusal: bool) -> bool:
        if refusal and self._refusals[uid] >= REFUSALS_PER_MINUTE:
            self._refused_too_often[uid] += 1
            return False
        if self._written[uid] >= RECORDS_PER_MINUTE:
            self._too_many[uid] += 1
            return False
        self._written[uid] += 1
        self._refusals[uid] += refusal
        return True

    def _begin_minute(self, time: str) -> None:
        """Say how much the last one had too many, and count anew."""
        for uid in self._too_many.keys() | self._refused_too_often.keys():
            refusals, others = self._refused_too_often[uid], self._too_many[uid]
            self._write({"time": time, "event": "left-out", "uid": uid, "refusals": refusals, "records": others})
        for counter in (self._written, self._refusals, self._too_many, self._refused_too_often):
            counter.clear()

    def _write(self, record: Mapping[str, Any]) -> bool:
        line = json.dumps(record, separators=(",", ":"))
        # What does not reach the journal is in the file; a machine without systemd has none.
        with contextlib.suppress(OSError):
            _send_to_journal(self._journal, line)
        if self.path:
            try:
                _append(self.path, line.encode("ascii") + b"\n")
            except OSError as error:
                self.trouble = f"{self.path}: {error.strerror}"
            else:
                self.trouble = ""
        return not self.trouble


def _append(path: str, line: bytes) -> None:
    """Append a line with one write(2), which O_APPEND makes atomic among the brokers that share a file.

    Raises:
        OSError: also when the file is not a regular file of our own, as a planted one may be.
    """
    descriptor = os.open(path, _FLAGS, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(1, "not a regular file of the broker's user")
        if status.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
        if os.write(descriptor, line) != len(line):
            raise OSError(28, "no space left on device")
    finally:
        os.close(descriptor)


def _send_to_journal(path: str, line: str) -> None:
    """One datagram in the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL); our line has no newline."""
    fields = ("PRIORITY=6", "SYSLOG_IDENTIFIER=unlatch", f"MESSAGE={line}", "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.setblocking(False)
        journal.sendto("\n".join(fields).encode("ascii"), path)
