"""``unlatch log``: the audit trail, read back."""

import contextlib
import json
import os
import re
import shlex
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from unlatch import runtime
from unlatch.cli import admin, voice
from unlatch.config import load

MAX_RECORD = 65_536  # bytes; the broker's longest line is a tenth of that
_SPAN = re.compile(r"([0-9]{1,6})([smhd])\Z")
_PLAIN = re.compile(r"[\w.@:/+-]+", re.ASCII)  # needs no quotes: it cannot pose as another name=value
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command(
    short_help="Print the audit trail.",
    epilog="""\b
Examples:
  $ unlatch log --since 10m
  $ unlatch log --since 2025-06-01T03:00 --json | jq 'select(.event == "refused")'
""",
)
@click.option("--since", metavar="TIME", help="Only what is newer: a span (30s, 10m, 2h, 7d) or an ISO 8601 time.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as they were written, one JSON line each.")
@click.option("--config", "path", metavar="FILE", help="Take the file's place from this configuration.")
def command(since: str | None, as_json: bool, path: str | None) -> int:
    """Print the audit trail: prompts, deliveries, views, answers and refusals.

    It reads the file and the one before it (.1), which logrotate left. Lines that are no records are counted and passed
    over.
    """
    start = _time(since) if since else None
    file = _audit_file(path)
    broken = 0
    for line in _lines(file):
        record = _record(line)
        if record is None:
            broken += 1
        elif start is None or _is_newer(record, start):
            voice.say(line if as_json else _sentence(record))
    if not _has_begun(file):
        voice.tell(f"nothing is written in {voice.clean(file)}")
        if os.geteuid() and os.path.isdir(runtime.HOST_ASKERS):
            voice.tell("hint: the trail of the host's broker is for root to read")
    if broken:
        voice.tell(f"{voice.clean(file)}: {broken} broken {'line' if broken == 1 else 'lines'} passed over")
    return voice.OK


def _time(text: str) -> datetime:
    span = _SPAN.match(text)
    if span:
        return datetime.now(UTC) - timedelta(seconds=int(span[1]) * _UNITS[span[2]])
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        voice.fail("--since takes a span such as 10m or 2h, or an ISO 8601 time", code=voice.USAGE)


def _audit_file(path: str | None) -> str:
    """The file that the configuration names, else the first place of a broker that has one."""
    chosen = load(path, os.environ, os.geteuid()).settings.audit_file
    if chosen:
        return chosen
    uid = os.geteuid()
    places = [f"{place.state}/audit.jsonl" for place in runtime.candidates(uid, os.environ, admin.home(uid))]
    return next((place for place in places if _has_begun(place)), places[-1])


def _has_begun(file: str) -> bool:
    """Whether there is a trail; behind a rotation the present file comes with the next record only."""
    return any(map(os.path.exists, (file, f"{file}.1")))


def _lines(file: str) -> Iterator[str]:
    """The lines of the rotated file, then of the present one; both may be missing, since nothing may have happened."""
    for name in (f"{file}.1", file):
        with contextlib.suppress(FileNotFoundError), open(name, "rb", opener=_open) as opened:
            while line := opened.readline(MAX_RECORD):
                yield line.decode("utf-8", "replace").rstrip("\n")


def _open(name: str, flags: int) -> int:
    """Open a regular file. The directory is the broker's: a fifo or a device there must not hold up root, nor start."""
    place = os.open(name, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            voice.fail(f"{voice.clean(name)} is not a regular file", f"ls -l {shlex.quote(name)}")
        return os.open(f"/proc/self/fd/{place}", flags)
    finally:
        os.close(place)


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and _recorded(record) else None


def _recorded(record: dict[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(record["time"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _is_newer(record: dict[str, Any], start: datetime) -> bool:
    recorded = _recorded(record)
    return recorded is not None and recorded >= start


def _sentence(record: dict[str, Any]) -> str:
    """The time, what happened, then all that was noted about it as name=value."""
    noted = " ".join(
        f"{name}={_value(value)}"
        for name, value in record.items()
        if name not in {"time", "event"} and value not in ("", None, [])
    )
    return voice.clean(f"{record['time']}  {record.get('event', '?')!s:<10}  {noted}").rstrip()


def _value(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)
