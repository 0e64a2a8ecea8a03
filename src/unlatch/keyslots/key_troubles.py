"""What can go wrong with a security key, in words: the errors of key, kernel and python-fido2, translated once."""

import contextlib
import errno
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from unlatch.gnupg.card_errors import tries_left
from unlatch.keyslots.errors import SlotFailed

if TYPE_CHECKING:
    from fido2.ctap import CtapError

TOUCH_SECONDS = 30  # how long a key may wait for a finger


class NeedsTouch(SlotFailed):
    """The key gives nothing without a touch."""

    def __init__(self) -> None:
        super().__init__("this security key gives nothing without a touch", "leave --no-touch out")


class NotPlugged(SlotFailed):
    """The key that is wanted is not there, which plugging it in mends."""


class WrongPin(SlotFailed):
    """The key refused the PIN, which cost a try. ``tries`` are left; ``replug``: it takes none before that."""

    def __init__(self, tries: int, *, replug: bool) -> None:
        rest = "; it takes none until it is pulled out and plugged in again" if replug else ""
        super().__init__(f"wrong PIN, {tries_left(tries)}{rest}", _REPLUG if replug else _AGAIN)
        self.replug = replug


_AGAIN = "run the command again"
_REPLUG = "pull the security key out, plug it in, run the command again"


@contextlib.contextmanager
def translated(path: str = "") -> Iterator[None]:
    """Turn what happens inside into SlotFailed. A key that talks nonsense makes python-fido2 raise nearly anything."""
    from fido2.ctap import CtapError
    from fido2.hid import ConnectionFailure

    try:
        yield
    except CtapError as error:
        raise _said(error) from None
    except OSError as error:
        raise _lost(error, path) from None
    except (ConnectionFailure, ValueError, TypeError, LookupError, AttributeError, AssertionError, struct.error):
        raise SlotFailed("the security key gave an answer that makes no sense", _REPLUG) from None


def none_plugged() -> NotPlugged:
    """No key is there."""
    return NotPlugged("no security key is plugged in", "plug it in, run the command again")


def other_keys(plugged: int) -> NotPlugged:
    """Keys are there, and the one of the keyslot is not among them."""
    which = "the one that is plugged in is not" if plugged == 1 else f"none of the {plugged} that are plugged in is"
    return NotPlugged(f"{which} the security key of the keyslot", "plug in the other one")


def all_enrolled(plugged: int) -> NotPlugged:
    """Keys are there, and each has a keyslot of this secret already."""
    which = "the security key that is plugged in is" if plugged == 1 else f"the {plugged} plugged-in security keys are"
    return NotPlugged(f"{which} enrolled for this secret already", "plug in another one")


def paused(tries: int) -> SlotFailed:
    """Three wrong PINs in a row."""
    return SlotFailed(f"after three wrong PINs the security key takes none for now; {tries_left(tries)}", _REPLUG)


def locked() -> SlotFailed:
    """Eight wrong PINs."""
    why = "the PIN of the security key is locked for good, and with it this keyslot"
    return SlotFailed(why, "open the secret with another keyslot; a reset makes the key good for a new one")


def last_try(tries: int, path: str) -> SlotFailed:
    """The last try is for a person who sits there, not for one who was woken."""
    hint = f'if you are sure of it: "fido2-token -L -r {path}" asks for it, and a right one counts anew'
    return SlotFailed(f"the security key has {tries_left(tries)} before its PIN locks for good", hint)


def _said(error: "CtapError") -> SlotFailed:
    """What an error code means to people (CTAP 2.1, 8.2)."""
    match error.code.name:
        case "KEEPALIVE_CANCEL" | "USER_ACTION_TIMEOUT" | "ACTION_TIMEOUT" | "TIMEOUT":
            return SlotFailed(f"nobody touched the security key within {TOUCH_SECONDS} seconds", _AGAIN)
        case "OPERATION_DENIED":
            return SlotFailed("it was denied on the security key", _AGAIN)
        case "NO_CREDENTIALS" | "INVALID_CREDENTIAL":
            return other_keys(1)
        case "CHANNEL_BUSY":
            return SlotFailed("another program uses the security key", _AGAIN)
        case "PIN_BLOCKED":
            return locked()
        case "PIN_AUTH_BLOCKED":
            return SlotFailed("the security key takes no PIN for now", _REPLUG)
        case "PUAT_REQUIRED":
            return SlotFailed(
                "the security key wants its PIN since this keyslot was made",
                "open the secret with another keyslot, then give it one with: unlatch secret add-slot --pin",
            )
        case name:
            return SlotFailed(f"the security key refused: {name.lower().replace('_', ' ')}")


def _lost(error: OSError, path: str) -> SlotFailed:
    if path and error.errno in (errno.EACCES, errno.EPERM):
        why = f"this user may not open the security key at {path}"
        return SlotFailed(why, "a udev rule gives it to a group: docs/secrets-fido2.md has one")
    if isinstance(error, TimeoutError):
        return SlotFailed("the security key does not answer", _REPLUG)
    if error.errno in (errno.ENODEV, errno.EIO, errno.ENXIO, errno.EPIPE, errno.ESHUTDOWN):
        return SlotFailed("the security key was pulled out", "plug it in, run the command again")
    return SlotFailed(f"the security key cannot be used: {(error.strerror or type(error).__name__).lower()}")
