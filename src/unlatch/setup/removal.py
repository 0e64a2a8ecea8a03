"""Before the Debian package goes: who still needs it, and the end of those who wait (packaging/deb/prerm).

python3 -m unlatch.setup.removal check     exit 1, and say who, if a gpg-agent.conf names this pinentry
python3 -m unlatch.setup.removal end       end every asker that runs from the package
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator

from unlatch.cli import voice
from unlatch.doctor.check import command
from unlatch.setup import holders
from unlatch.setup.holders import Holder

PYTHON = b"/usr/lib/unlatch/bin/python3"
ENDING = 5.0  # seconds; an asker obeys at once, even in the middle of a prompt
OVERRIDE = "UNLATCH_REMOVE=anyway"


def check() -> int:
    """Say who would be left with "No pinentry"; 1 if anybody."""
    found = holders.without_repetition(holders.find())
    if not found:
        return voice.OK
    for holder in found:
        state = f"names {holders.PINENTRY}" if holder.known else "could not be read in time"
        voice.tell(voice.clean(f"{holder.file} (of {holder.user}) {state}"))
    voice.complain(
        voice.Problem(
            'without this pinentry the next use of a key ends in "No pinentry" and "No secret key"',
            *map(voice.clean, dict.fromkeys(undo(holder) for holder in found)),
            'or by hand: take "pinentry-program" out of the file; then, as its user: gpgconf --kill gpg-agent',
            f"to remove it all the same: {OVERRIDE} dpkg --remove unlatch",
        )
    )
    return voice.FAILED


def undo(holder: Holder) -> str:
    """The command that takes the line out again."""
    if holder.file == holders.GLOBAL:
        return f"take pinentry-program out of {holders.GLOBAL}"
    if holder.in_home:
        return command("unlatch", "setup", "--undo", "--user", holder.user)
    home = os.path.dirname(holder.file)
    return command("unlatch", "setup", "--undo", "--user", holder.user, "--gnupghome", home)


def end(seconds: float = ENDING) -> int:
    """End the askers: their callers fail now rather than wait for a link that nobody can answer any more."""
    waiting = list(_askers())
    for pid in waiting:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    if waiting:
        voice.tell(f"ended {len(waiting)} {'process' if len(waiting) == 1 else 'processes'} that waited for an answer")
    until = time.monotonic() + seconds
    while list(_askers()) and time.monotonic() < until:
        time.sleep(0.05)
    return voice.OK


def _askers() -> Iterator[int]:
    """Processes of this package that are neither a broker nor this one: PYTHON -I[S] SCRIPT ARGUMENTS."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read(4096).split(b"\0")
                scripts = (b"unlatch", b"pinentry-unlatch")
                if words[0] == PYTHON and words[2].rpartition(b"/")[2] in scripts and words[3] != b"serve":
                    yield int(name)


if __name__ == "__main__":
    sys.exit({"check": check, "end": end}[sys.argv[1]]())
