"""Whose rights a change is made with: our own, or those of the user in whose home it is.

A process with root's rights that works in a user's home could be led anywhere by a link that the user plants in the
right moment. So what root does there is done by a child that has become that user for good (``unlatch.doctor.child``).
What the child says is one user's word about that user's own files, read strictly and bounded.
"""

import json
import os
from collections.abc import Callable
from typing import NoReturn

from unlatch.doctor import child
from unlatch.doctor.check import Situation
from unlatch.errors import Malformed, UnlatchError
from unlatch.setup import files
from unlatch.setup.files import Changed, FileState, NotPlain

MAX_THERE = 49152  # bytes of a file in another user's home; with its description it fits into what a child may say


class TheirTrouble(UnlatchError):
    """What another user's process could not do. The text is that process's own."""


class Hands:
    """Our own."""

    user = ""  # by whose name the journal knows them; nobody's for our own

    def do(self, work: Callable[[], bytes]) -> bytes:
        """Run it with these rights. It raises what ``work`` does."""
        return work()

    def look(self, path: str) -> FileState:
        """See :func:`files.look`."""
        return files.load(self.do(lambda: files.dump(files.look(path))))

    def put(self, path: str, before: FileState, after: FileState) -> FileState:
        """See :func:`files.put`."""
        return files.load(self.do(lambda: files.dump(files.put(path, before, after))))


class UsersHands(Hands):
    """Another user's; for root."""

    def __init__(self, situation: Situation) -> None:
        self._situation = situation
        self.user = situation.user

    def do(self, work: Callable[[], bytes]) -> bytes:
        """Run it in a child that is this user.

        Raises:
            NotPlain, Changed, OSError, TheirTrouble: what ``work`` raised.
            unlatch.doctor.child.NotFinished: the child was ended, or is too slow.
            Malformed: it said nothing that can be read.
        """
        said = child.run_as(self._situation, lambda: _told(work))
        if said[:1] != b"+":
            _raise(said[1:])
        return said[1:]

    def look(self, path: str) -> FileState:
        """See :func:`files.look`; smaller files only."""
        return files.load(self.do(lambda: files.dump(files.look(path, MAX_THERE))))


def hands_for(situation: Situation) -> Hands:
    """The hands for what belongs to this user."""
    return Hands() if situation.uid == situation.caller else UsersHands(situation)


def _told(work: Callable[[], bytes]) -> bytes:
    try:
        return b"+" + work()
    except NotPlain as error:
        told: list[object] = ["plain", error.path, error.what]
    except Changed as error:
        told = ["changed", error.path]
    except UnlatchError as error:
        told = ["ours", str(error)]
    except OSError as error:
        told = ["os", error.errno or 0, str(error.filename or "")]
    return b"-" + json.dumps(told).encode("ascii")


def _raise(told: bytes) -> NoReturn:
    try:
        what = json.loads(told)
    except (ValueError, RecursionError):
        raise Malformed("answer of the user's process") from None
    match what:
        case ["plain", str(path), str(text)]:
            raise NotPlain(path, text)
        case ["changed", str(path)]:
            raise Changed(path)
        case ["ours", str(text)]:
            raise TheirTrouble(text)
        case ["os", int(number), str(path)]:
            raise OSError(number, os.strerror(number), path or None)
    raise Malformed("answer of the user's process")
