"""Whom we trust now: the pins, what the last queries said, and who is being verified. No input or output."""

from collections.abc import Iterable, Mapping
from typing import Any

from unlatch.matrix import fields, identity
from unlatch.matrix.errors import Untrusted
from unlatch.matrix.identity import Device, Identity, Pin, Reason, Recipients


class Trust:
    """The admins as pinned and as the homeserver shows them.

    Attributes:
        pins: the master keys we hold the admins to, by user id.
        identities: the last ``/keys/query`` answer for each user asked for, checked. Never saved: before the first
            query of a process nobody is trusted.
        verifying: users whom somebody verifies right now; never saved.
        stale: users of whom a device was heard that the last query did not list.
    """

    def __init__(self, ourselves: str, pins: dict[str, Pin]) -> None:
        self._ourselves = ourselves
        self.pins = pins
        self.identities: dict[str, Identity] = {}
        self.verifying: set[str] = set()
        self.stale: set[str] = set()

    def take_over(self, earlier: "Trust") -> None:
        """What lives in memory only, from the same process's trust before another one saved."""
        self.identities, self.verifying, self.stale = earlier.identities, earlier.verifying, earlier.stale

    def take_query(self, response: Mapping[str, Any], users: Iterable[str]) -> None:
        """See :meth:`Machine.keys_query_done`."""
        answered = fields.table(response, "device_keys", "answer to /keys/query")
        for user in {*answered, *users, self._ourselves}:
            self.identities[user] = identity.read_identity(user, response)
            self.stale.discard(user)

    def pin(self, user_id: str, master_key: str, verified: str) -> None:
        """See :meth:`Machine.pin`."""
        known = self.pins.get(user_id)
        if verified != "emoji" and known is not None:
            if known.master_key != master_key:
                raise Untrusted(user_id, "", Reason.RESET)
            return
        self.pins[user_id] = Pin(master_key, verified)

    def recipients(self, room_members: Iterable[str], verifying: bool) -> Recipients:
        """See :meth:`Machine.recipients`."""
        return identity.decide(self._held(verifying), self.identities, room_members, self._ourselves)

    def knows(self, user_id: str) -> bool:
        """Whether a user's messages are opened at all."""
        return user_id in self.pins or user_id in self.verifying

    def sender(self, user_id: str, curve25519: str, ed25519: str) -> Device | None:
        """The listed device with both keys; if there is none, the user is stale."""
        known = self.identities.get(user_id)
        device = known.device_with(curve25519, ed25519) if known is not None else None
        if device is None:
            self.stale.add(user_id)
        return device

    def distrust(self, device: Device, verifying: bool = False) -> str:
        """Why this device is no verified device of a pinned admin (or of a user being verified), or ""."""
        known = self.identities.get(device.user_id)
        if reason := identity.distrust(self._held(verifying).get(device.user_id), known):
            return reason
        return "" if known is not None and known.signed.get(device.device_id) == device else Reason.UNSIGNED

    def _held(self, verifying: bool) -> Mapping[str, Pin]:
        """The pins; with ``verifying`` also what the users say of themselves who are being verified."""
        if not verifying:
            return self.pins
        shown = {user: self.identities[user].master_key for user in self.verifying if user in self.identities}
        return self.pins | {user: Pin(key, "verifying") for user, key in shown.items()}
