"""Encrypt to devices and to a room: who has which room key, and which one-time keys are at hand. No input or output.

Nothing here is ever saved; see megolm.py and olm.py for why.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vodozemac import Curve25519PublicKey

from unlatch.errors import Malformed
from unlatch.matrix import canonical, fields
from unlatch.matrix.account import MEGOLM, ONE_TIME, CrossSigning, OwnDevice
from unlatch.matrix.errors import BadSignature, NobodyToTell, Undecryptable
from unlatch.matrix.identity import Device, Identity, Reason, Skipped
from unlatch.matrix.megolm import Outbound
from unlatch.matrix.olm import OlmSessions

ENCRYPTED = "m.room.encrypted"

Json = dict[str, Any]


class ToDevice(NamedTuple):
    """A body for ``PUT /sendToDevice/{event_type}/{txnId}``."""

    event_type: str
    body: Json


class Encrypted(NamedTuple):
    """A room event to send as ``m.room.encrypted``, after ``to_device`` (if any) went out."""

    to_device: ToDevice | None
    content: Json
    skipped: list[Skipped]  # devices that should have got the key and could not: no one-time key


class Sending:
    """One process's sessions for sending."""

    def __init__(self, device: OwnDevice, cross: CrossSigning, olm: OlmSessions) -> None:
        self._device = device
        self._cross = cross
        self._olm = olm
        self.outbound: dict[str, Outbound] = {}  # by room
        self.claimed: dict[tuple[str, str], str] = {}  # fresh one-time keys, each taken out by its one use

    def take_over(self, earlier: "Sending") -> None:
        """The same process's sessions before another one saved the state."""
        self.outbound, self.claimed = earlier.outbound, earlier.claimed

    def unshared(self, room_id: str, devices: Iterable[Device], now: float) -> list[Device]:
        """See :meth:`Machine.unshared`."""
        wanted = frozenset(devices)
        session = self.outbound.get(room_id)
        return [] if session is not None and session.fits(wanted, now) else sorted(wanted)

    def take_claimed(self, response: Mapping[str, Any], identities: Mapping[str, Identity]) -> None:
        """See :meth:`Machine.keys_claimed`."""
        for user, devices in fields.table(response, "one_time_keys", "answer to /keys/claim").items():
            known = identities.get(user)
            for device_id, keys in devices.items() if isinstance(devices, dict) else ():
                device = known.device(device_id) if known is not None else None
                if device is not None and (key := _signed_key(device, keys)):
                    self.claimed[user, device_id] = key

    def to_room(self, room_id: str, event_type: str, content: Json, devices: Iterable[Device], now: float) -> Encrypted:
        """See :meth:`Machine.encrypt`."""
        wanted = frozenset(devices)
        new = self.unshared(room_id, wanted, now)
        to_device, skipped = None, list[Skipped]()
        if new or not wanted:
            session = Outbound(wanted, now)
            to_device, skipped = self.to_devices("m.room_key", session.room_key(room_id), new)
            self.outbound[room_id] = session
        session = self.outbound[room_id]
        encrypted: Json = {
            "algorithm": MEGOLM,
            "ciphertext": session.encrypt(room_id, event_type, content),
            "session_id": session.session_id,
            "sender_key": self._device.curve25519,  # these two for older clients (specification, "Megolm")
            "device_id": self._device.device_id,
        }
        if "m.relates_to" in content:  # the server needs it in the open: threads, edits
            encrypted["m.relates_to"] = content["m.relates_to"]
        return Encrypted(to_device, encrypted, skipped)

    def to_devices(self, event_type: str, content: Json, devices: list[Device]) -> tuple[ToDevice, list[Skipped]]:
        """One Olm message for each device, each in its own new session.

        Raises:
            NobodyToTell: no key is at hand for any of them.
        """
        device_keys = self._cross.sign("self_signing", self._device.keys())
        messages: dict[str, Json] = {}
        skipped = []
        for device in devices:
            try:
                key = self.claimed.pop((device.user_id, device.device_id))
                message = self._olm.encrypt(device, key, event_type, content, device_keys)
            except (KeyError, Undecryptable):
                skipped.append(Skipped(device.user_id, device.device_id, Reason.NO_KEY))
                continue
            messages.setdefault(device.user_id, {})[device.device_id] = message
        if not messages:
            raise NobodyToTell(skipped)
        return ToDevice(ENCRYPTED, {"messages": messages}), skipped


def _signed_key(device: Device, keys: object) -> str:
    """The one-time or fallback key that the device signed, or ""."""
    for name, key in keys.items() if isinstance(keys, dict) else ():
        if not name.startswith(f"{ONE_TIME}:") or not isinstance(key, dict):
            continue
        try:
            canonical.verify(key, device.user_id, f"ed25519:{device.device_id}", device.ed25519, "one-time key")
            Curve25519PublicKey.from_base64(fields.text(key, "key", "one-time key"))
        except (BadSignature, Malformed, ValueError):
            continue
        return str(key["key"])
    return ""
