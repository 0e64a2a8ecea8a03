"""What can go wrong between us, the homeserver and an admin's client. No error quotes a key, a token or a message."""

from collections.abc import Sequence

from unlatch.errors import UnlatchError


class MatrixError(UnlatchError):
    """The root of what this package raises on purpose, apart from :class:`unlatch.errors.Malformed`."""


class BadSignature(MatrixError):
    """A signed object is not signed by the key that should have signed it. ``what`` names the object."""

    def __init__(self, what: str) -> None:
        super().__init__(f"no valid signature on the {what}")
        self.what = what


class Undecryptable(MatrixError):
    """An encrypted event cannot be read. ``why`` is printable and quotes nothing of it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot decrypt: {why}")
        self.why = why


class UnknownSession(Undecryptable):
    """Nobody gave us the key of this room message (yet): it may come with a later sync."""

    def __init__(self) -> None:
        super().__init__("its key is not known")


class Replayed(Undecryptable):
    """The event's place in its Megolm session was used before. ``same_event``: by this very event, delivered again."""

    def __init__(self, same_event: bool) -> None:
        super().__init__("the event was already read" if same_event else "another event used its place")
        self.same_event = same_event


class Untrusted(MatrixError):
    """A message came from a device that is no verified device of a pinned admin. ``why`` is an identity.Reason."""

    def __init__(self, user_id: str, device_id: str, why: str) -> None:
        super().__init__(f"{user_id} {device_id}: {why}")
        self.user_id = user_id
        self.device_id = device_id
        self.why = why


class NobodyToTell(MatrixError):
    """No device may get the message. ``skipped`` says for each device why."""

    def __init__(self, skipped: Sequence[tuple[str, str, str]]) -> None:
        super().__init__("no verified device of a pinned admin is in the room")
        self.skipped = list(skipped)


class Refused(MatrixError):
    """The homeserver did not take what it must take. ``why`` is printable."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class StoreMissing(MatrixError):
    """There is no state here: ``unlatch matrix setup`` has not run, or somebody deleted it."""


class StoreBroken(MatrixError):
    """The state cannot be used: truncated, changed, another format, another owner or open to others. ``why`` tells."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


class StoreBusy(MatrixError):
    """Another process held the lock for too long."""
