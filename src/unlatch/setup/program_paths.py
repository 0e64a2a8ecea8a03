"""Where the programs of this installation are, by a path that stays the same when it is upgraded."""

import os
import sys

from unlatch.errors import UnlatchError

_STABLE = ("/usr/bin", "/usr/local/bin")


class NotInstalled(UnlatchError):
    """A program of ours that should be beside this one is not."""


def find(name: str, beside: str = "") -> str:
    """The path of ``unlatch`` or ``pinentry-unlatch``: a link of the system's to this installation, or its own place.

    ``beside`` is a directory of this installation's programs; this interpreter's unless given.

    Raises:
        NotInstalled
    """
    own = f"{beside or os.path.dirname(sys.executable)}/{name}"
    if not os.path.isfile(own):
        raise NotInstalled(f"{own} is missing")
    return next((path for path in (f"{folder}/{name}" for folder in _STABLE) if _same(path, own)), own)


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
