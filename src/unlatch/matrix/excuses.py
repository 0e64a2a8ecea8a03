"""What went wrong with Matrix, in words for the status and for setup, with what to do about it.

Nothing of what was sent is in them, and nothing that the homeserver said in its own words.
"""

from collections.abc import Sequence
from typing import NamedTuple

from unlatch.matrix.api import LoggedOut, NoHomeserver, ServerSaid, TooFast
from unlatch.matrix.errors import NobodyToTell, StoreBroken, StoreBusy, StoreMissing
from unlatch.matrix.http import NoContact
from unlatch.matrix.session import NotEncrypted, NotInRoom, NotSetUp

SETUP = 'run "unlatch matrix setup"'
_HINTS: dict[type[Exception], tuple[str, str]] = {  # the text before the error's own, and the hint
    NoContact: ("the homeserver cannot be used: ", ""),
    NoHomeserver: (
        "the homeserver's address ",
        "see whether it runs behind its proxy, and whether the address is right",
    ),
    LoggedOut: ("the homeserver logged us out: ", SETUP),
    TooFast: ("", "raise its limits for this user"),
    NotInRoom: ("", f"invite the bot's user, then {SETUP}"),
    NotEncrypted: ("nothing is sent: ", "encrypt the room, or say allow_plaintext_room = true"),
    NobodyToTell: ("", SETUP),
    StoreMissing: ("", SETUP),
    NotSetUp: ("", SETUP),
    StoreBroken: ("the Matrix state cannot be used: ", f"mend that, or move the directory away and {SETUP}"),
    StoreBusy: ("the Matrix state is locked: ", ""),
    ServerSaid: ("", ""),
}


class Excuse(NamedTuple):
    """``hint`` may be empty."""

    why: str
    hint: str

    def __str__(self) -> str:
        return f"{self.why}; {self.hint}" if self.hint else self.why


def excuse(error: Exception) -> Excuse:
    """The words for one of our errors, or of the operating system's about the state."""
    if isinstance(error, OSError):
        return Excuse(f"the Matrix state cannot be used: {(error.strerror or 'no reason given').lower()}", "")
    before, hint = next((words for kind, words in _HINTS.items() if isinstance(error, kind)), ("", ""))
    if isinstance(error, NobodyToTell):
        return Excuse(f"no verified device may read it ({skipped_text(error.skipped) or 'nobody is pinned'})", hint)
    return Excuse(before + str(error), hint)


def skipped_text(skipped: Sequence[tuple[str, str, str]], most: int = 5) -> str:
    """Who got nothing, and why."""
    named = [f"{user} {device}".strip() + f": {why}" for user, device, why in skipped[:most]]
    more = [f"and {len(skipped) - most} more"] if len(skipped) > most else []
    return "; ".join(named + more)
