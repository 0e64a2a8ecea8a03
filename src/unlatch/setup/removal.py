"""Before the Debian package goes: who still needs it, and the end of those who wait (packaging/deb/prerm).

python3 -m unlatch.setup.removal check     exit 1, and say who, if a gpg-agent.conf names this pinentry, or a service
                                           of /etc/pam.d the module: it would let nobody in any more
python3 -m unlatch.setup.removal end       end every asker that runs from the package
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

from unlatch.cli import voice
from unlatch.doctor.check import command
from unlatch.doctor.host import pam_places
from unlatch.setup import holders
from unlatch.setup.holders import Holder

PYTHON = "/usr/lib/unlatch/bin/python3"
ENDING = 10.0  # seconds; an asker obeys at once, a broker tells people first that their links are over
OVERRIDE = "UNLATCH_REMOVE=anyway"
LOGINS = ["pam", "serve"]  # systemd ends it: it says goodbye to those who log in


def check() -> int:
    """Say who would be left with "No pinentry", or locked out; 1 if anybody."""
    locked_out = _check_logins()
    found = holders.without_repetition(holders.find())
    if not found:
        return locked_out
    for holder in found:
        state = f"names {holders.PINENTRY}" if holder.known else "could not be read in time"
        voice.tell(voice.clean(f"{holder.file} (of {holder.user}) {state}"))
    voice.complain(
        voice.Problem(
            'without this pinentry the next use of a key ends in "No pinentry" and "No secret key"',
            *map(voice.clean, dict.fromkeys(undo(holder) for holder in found)),
            'or by hand: take "pinentry-program" out; then, as its user: gpgconf --kill gpg-agent',
            f"to remove it all the same: {OVERRIDE} dpkg --remove unlatch",
        )
    )
    return voice.FAILED


def _check_logins() -> int:
    """Say which services would let nobody in any more; 1 if any."""
    uses = pam_places.uses()
    if not uses:
        return voice.OK
    for use in uses:
        voice.tell(voice.clean(f"{pam_places.PAM_D}/{use.service}, line {use.number}, names {pam_places.MODULE}"))
    voice.complain(
        voice.Problem(
            "without this module nobody can log in by these services",
            "keep a root session open, put back what stood there, and log in once from elsewhere",
            *(command("vi", f"+{use.number}", f"{pam_places.PAM_D}/{use.service}") for use in uses),
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
    """End the askers: their callers fail now rather than wait for a link that nobody can answer any more.

    Brokers come after them, so that those whom they rang are told.
    """
    waiting = _end(_askers, seconds)
    if waiting:
        voice.tell(f"ended {waiting} {'process' if waiting == 1 else 'processes'} that waited for an answer")
    _end(_brokers, seconds)
    return voice.OK


def _end(find: Callable[[], list[int]], seconds: float) -> int:
    """Ask the processes to end, and wait for it; how many they were."""
    found = find()
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + seconds
    while find() and time.monotonic() < until:
        time.sleep(0.02)
    return len(found)


def _askers() -> list[int]:
    """The package's commands and pinentries."""
    return [pid for pid, words in _ours() if _is_script(words) and words[3] != "serve" and words[3:5] != LOGINS]


def _brokers() -> list[int]:
    """What "unlatch serve" and askers started (start.py); those of systemd are among them."""
    return [pid for pid, words in _ours() if "--on-demand" in words or (_is_script(words) and words[3] == "serve")]


def _is_script(words: list[str]) -> bool:
    return os.path.basename(words[2]).startswith(("unlatch", "pinentry-unlatch"))


def _ours() -> Iterator[tuple[int, list[str]]]:
    """Everything that runs with the package's interpreter, but for this process: PYTHON -I SCRIPT ARGUMENT..."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                words = os.fsdecode(file.read(1 << 17)).removesuffix("\0").split("\0")
                if words[0] == PYTHON:
                    yield int(name), [*words, "", "", ""]


if __name__ == "__main__":
    sys.exit({"check": check, "end": end}[sys.argv[1]]())
