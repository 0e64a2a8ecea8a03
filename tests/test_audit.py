"""The audit trail: one line each, in a file that only the broker's user reads, and in the journal."""

import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from unlatch.broker.audit import RECORDS_PER_MINUTE, REFUSALS_PER_MINUTE, Audit

RECORD = {"event": "view", "uid": 1000, "user": "zoë\n\x1b[2J", "remote": "192.0.2.7"}


def audit(path: Path | str, journal: Path | str = "/nonexistent") -> Audit:
    return Audit(str(path), lambda: "2026-11-22T03:00:00Z", str(journal))


def test_each_record_is_one_line(tmp_path: Path) -> None:
    """Whatever a record holds, it is one line of ASCII JSON with its time; the file is for its owner only."""
    file = tmp_path / "audit.jsonl"
    trail = audit(file)
    trail.write(RECORD)
    trail.write({"event": "answer"})
    first, second = file.read_bytes().splitlines()
    assert json.loads(first) == {"time": "2026-11-22T03:00:00Z", **RECORD}
    assert first.isascii()
    assert json.loads(second)["event"] == "answer"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert trail.trouble == ""


def test_rotation_needs_no_signal(tmp_path: Path) -> None:
    """After logrotate renamed the file, the next line goes to a new one."""
    file = tmp_path / "audit.jsonl"
    trail = audit(file)
    trail.write({"event": "one"})
    file.rename(tmp_path / "audit.jsonl.1")
    trail.write({"event": "two"})
    assert json.loads(file.read_bytes())["event"] == "two"


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    """A mode that is too wide is mended with the next line."""
    file = tmp_path / "audit.jsonl"
    file.touch(0o644)
    audit(file).write(RECORD)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("what", ["link", "fifo", "folder", "missing", "foreign"])
def test_what_is_no_file_of_ours_is_not_written_to(tmp_path: Path, what: str) -> None:
    """A planted link, fifo or file is left alone; the broker goes on and says what is wrong."""
    file, other = tmp_path / "audit.jsonl", tmp_path / "other"
    other.write_text("precious")
    match what:
        case "link":
            file.symlink_to(other)
        case "fifo":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
        case "missing":
            file = tmp_path / "none" / "audit.jsonl"
        case "foreign":
            if os.geteuid() != 0:
                pytest.skip("only root can make files of others")
            file.write_text("")
            os.chown(file, 54321, 54321)
    trail = audit(file)
    trail.write(RECORD)
    assert trail.trouble.startswith(f"{file}: ")
    assert other.read_text() == "precious"
    assert what != "foreign" or file.read_text() == ""


def test_trouble_ends_when_it_works_again(tmp_path: Path) -> None:
    """The status tells of the last line only."""
    trail = audit(tmp_path / "later" / "audit.jsonl")
    trail.write(RECORD)
    assert trail.trouble
    (tmp_path / "later").mkdir()
    trail.write(RECORD)
    assert not trail.trouble


def test_a_full_disk_is_trouble_and_no_end() -> None:
    """/dev/full says ENOSPC to every write, if it were a regular file; as a device it is refused all the same."""
    trail = audit("/dev/full")
    trail.write(RECORD)
    assert trail.trouble


def test_the_journal_gets_the_same_line(tmp_path: Path) -> None:
    """In its native protocol, one datagram for each record; no file is needed for that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        trail = audit("", tmp_path / "journal")
        trail.write(RECORD)
        fields = dict(line.split("=", 1) for line in journal.recv(65536).decode().splitlines())
    assert fields["SYSLOG_IDENTIFIER"] == "unlatch"
    assert fields["PRIORITY"] == "6"
    assert json.loads(fields["MESSAGE"])["user"] == RECORD["user"]
    assert not trail.trouble


def test_a_journal_that_does_not_read_stops_nobody(tmp_path: Path) -> None:
    """When its queue is full, lines go to the file only."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        trail = audit(tmp_path / "audit.jsonl", tmp_path / "journal")
        for uid in range(2000):
            trail.write({**RECORD, "uid": uid})
    assert (tmp_path / "audit.jsonl").read_bytes().count(b"\n") == 2000


def clock_of(*minutes: tuple[str, int]) -> Callable[[], str]:
    """So many looks at the clock in each of these minutes."""
    times = iter([f"2026-11-22T{minute}:00Z" for minute, looks in minutes for _ in range(looks)])
    return lambda: next(times)


@pytest.mark.parametrize("event", ["refused", "refusal"])
def test_nobody_fills_the_disk_by_being_refused(tmp_path: Path, event: str) -> None:
    """Of one uid only so many refusals a minute are written; the rest is counted. Others, and other events, all are."""
    file = tmp_path / "audit.jsonl"
    trail = Audit(str(file), clock_of(("03:00", 1002), ("03:01", 1)), "/nonexistent")
    for _ in range(1000):
        trail.write({"event": event, "uid": 1000})
    trail.write({"event": event, "uid": 1001})
    trail.write({"event": "view", "uid": 1000})
    trail.write({"event": event, "uid": 1000})
    records = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert [record["event"] for record in records[:REFUSALS_PER_MINUTE]] == [event] * REFUSALS_PER_MINUTE
    assert [(record["event"], record["uid"]) for record in records[REFUSALS_PER_MINUTE:]] == [
        (event, 1001), ("view", 1000), ("left-out", 1000), (event, 1000),
    ]  # fmt: skip
    assert (records[-2]["refusals"], records[-2]["records"]) == (1000 - REFUSALS_PER_MINUTE, 0)


def test_nobody_fills_the_disk_by_asking(tmp_path: Path) -> None:
    """Of one uid only so many records a minute are written, whatever they say; at the end, too, the rest is counted."""
    file = tmp_path / "audit.jsonl"
    trail = Audit(str(file), clock_of(("03:00", 1000)), "/nonexistent")
    for _ in range(RECORDS_PER_MINUTE + 7):
        trail.write({"event": "prompt", "uid": 1000})
    trail.write({"event": "prompt", "uid": 1001})
    trail.close()
    records = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert len(records) == RECORDS_PER_MINUTE + 2
    assert (records[-1]["event"], records[-1]["uid"], records[-1]["records"]) == ("left-out", 1000, 7)
