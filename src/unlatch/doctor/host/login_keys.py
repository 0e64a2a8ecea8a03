"""Keys of record: can each be read, and encrypted to for some time yet? One that has expired lets its user in no more,
and a new expiry date in somebody's keyring does not reach the copy that root keeps.
"""

import re
import subprocess
import tempfile
import time
from typing import NamedTuple

from unlatch.doctor.check import Check, Finding, Situation, ok, problem, warning
from unlatch.doctor.host.words import listed
from unlatch.pam import record
from unlatch.pam.errors import Unfit
from unlatch.pam.worker import Places

DAYS = 30  # of warning: new keys have to be enrolled on every host
SECONDS = 4.0
MOST = 64  # records; the others are left to "unlatch pam list"
_BAD = frozenset("reidn")  # revoked, expired, invalid, disabled, not trusted: GnuPG's doc/DETAILS, field 2
_FIELDS = 12
_GPG = ("gpg", "--no-options", "--batch", "--no-tty", "--no-keyring", "--no-auto-check-trustdb",
        "--trust-model", "always", "--with-colons", "--show-keys")  # fmt: skip


class Kept(NamedTuple):
    """One user's record. ``trouble``: why it cannot be used, or nothing; ``days``: how long all of
    its keys can be encrypted to, -1 for ever.
    """

    user: str
    trouble: str
    days: int


class Facts(NamedTuple):
    """``more``: records that were not looked at."""

    kept: tuple[Kept, ...]
    more: int


def probe(situation: Situation) -> Facts:  # noqa: ARG001  # the same for everybody
    """Read the records, which everybody may, and have gpg read their keys."""
    directory = Places().records
    names = record.names(directory)
    until = time.monotonic() + SECONDS
    found = []
    # In /tmp, which is sticky, and not in TMPDIR, which su keeps: in a directory of the user's, he could put another
    # home, with settings for root's gpg.
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        for name in names[:MOST]:
            if time.monotonic() > until:
                break
            found.append(_look(directory, name, home))
    return Facts(tuple(found), len(names) - len(found))


def _look(directory: str, name: str, home: str) -> Kept:
    try:
        kept = record.read(directory, name)
        if kept is None:
            return Kept(name, "it is gone", 0)
        left = [days_left(_listing(block, home), time.time()) for block in kept.blocks]
    except (Unfit, OSError, subprocess.SubprocessError) as error:
        return Kept(name, str(error), 0)
    # The challenge is encrypted to all of them, so the worst one decides.
    usable = [days for days in left if days is not None]
    if len(usable) < len(left):
        return Kept(name, "a key has expired, was revoked, or cannot encrypt", 0)
    return Kept(name, "", min((days for days in usable if days >= 0), default=-1))


def _listing(block: bytes, home: str) -> str:
    done = subprocess.run(
        [_GPG[0], "--homedir", home, *_GPG[1:]], input=block, capture_output=True, timeout=SECONDS, check=True
    )
    return done.stdout.decode("utf-8", "replace")


def days_left(listing: str, now: float) -> int | None:
    """For how many days a key can be encrypted to, by its colon listing; -1 for ever, None if it cannot. Pure."""
    ends, primary = [], 0.0
    for line in listing.splitlines():
        fields = [*line.split(":"), *[""] * _FIELDS]
        if fields[0] not in ("pub", "sub"):
            continue
        end = float(fields[6]) if re.fullmatch(r"[0-9]{1,12}", fields[6]) else float("inf")
        if fields[0] == "pub":
            if fields[1][:1] in _BAD or "D" in fields[11]:
                return None
            primary = end
        if "e" in fields[11] and fields[1][:1] not in _BAD:
            ends.append(min(primary, end))
    best = max(ends, default=0.0)
    if best <= now:
        return None
    return -1 if best == float("inf") else int((best - now) // 86400)


def judge(facts: Facts, situation: Situation) -> list[Finding]:
    """One line for each that needs something."""
    found = []
    for kept in facts.kept:
        enrol = situation.as_root("unlatch", "pam", "enrol", kept.user, "FINGERPRINT", "--file", f"{kept.user}.asc")
        if kept.trouble:
            found.append(problem(f"{kept.user} cannot log in by a challenge: {kept.trouble}", enrol))
        elif 0 <= kept.days < DAYS:
            text = (
                f"the key of record of {kept.user} expires in {kept.days} days; enrol it again when it has a new date"
            )
            found.append(warning(text, enrol))
    if facts.more:
        text = f"{facts.more} keys of record were not looked at"
        found.append(warning(text, situation.as_root("unlatch", "pam", "list")))
    good = [kept.user for kept in facts.kept]
    return found or [ok(f"{listed(good)} can be challenged" if good else "nobody has a key of record")]


LOGIN_KEYS = Check(
    "login-keys",
    "every key of record can be read and encrypted to, for 30 days at least",
    "`unlatch pam enrol` with the key as it is now: a new expiry date in a keyring does not reach the record",
    Facts,
    probe,
    judge,
)
