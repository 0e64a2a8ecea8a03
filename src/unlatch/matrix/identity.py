"""Who may read our messages: devices and cross-signing keys, and the master keys that setup pinned. Pure.

The chain that must hold for each device (Matrix client-server specification, "Cross-signing"):
1. its owner's master key is the one that is pinned for this user,
2. that master key signed the owner's self-signing key,
3. that self-signing key signed the device's keys, which name this user and this device,
4. the device signed its own keys.
Whatever breaks the chain gets nothing, with a reason that status and doctor can show.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from unlatch.errors import Malformed
from unlatch.matrix import canonical, fields
from unlatch.matrix.errors import BadSignature


class Reason(StrEnum):
    """Why a device, or a whole user (device ""), gets no keys."""

    STRANGER = "in the room, but not one of the admins"
    RESET = "the identity was reset: its master key is not the verified one"
    NO_IDENTITY = "no cross-signing identity"
    BROKEN_IDENTITY = "the cross-signing keys are not signed by the master key"
    UNSIGNED = "the device is not verified by its owner"
    BROKEN_DEVICE = "the device's keys are malformed or wrongly signed"
    NO_DEVICES = "no device that can decrypt"
    NO_KEY = "the homeserver had no one-time key for the device"
    ABSENT = "not in the room"
    UNKNOWN = "the homeserver lists no such device"


class Pin(NamedTuple):
    """The master key that we hold a user to. ``verified``: "emoji" or "first-use"."""

    master_key: str
    verified: str


class Device(NamedTuple):
    """A device whose keys are signed by itself. That alone is no reason to trust it."""

    user_id: str
    device_id: str
    ed25519: str
    curve25519: str
    name: str = ""


class Skipped(NamedTuple):
    """A device (or, with device "", a user) that gets no keys."""

    user_id: str
    device_id: str
    reason: str


class Recipients(NamedTuple):
    """Who gets a message and who does not."""

    devices: list[Device]
    skipped: list[Skipped]


class Identity(NamedTuple):
    """What the homeserver says of one user, after every signature in it was checked. Not yet compared with a pin.

    ``master_key`` is "" where there is none, as is ``self_signing_key`` where step 2 fails; ``signed``: devices for
    which 2, 3 and 4 hold; ``unsigned``: those for which only 4 holds; ``broken``: ids of those for which not even that
    does. ``master`` is the master key's object as the server has it, with the signatures it shows us.
    """

    user_id: str
    master_key: str
    self_signing_key: str
    signed: dict[str, Device]
    unsigned: dict[str, Device]
    broken: tuple[str, ...]
    master: dict[str, Any]

    def device(self, device_id: str) -> Device | None:
        """A device that holds step 4, signed by its owner or not."""
        return self.signed.get(device_id) or self.unsigned.get(device_id)

    def device_with(self, curve25519: str, ed25519: str) -> Device | None:
        """The device that has both keys."""
        for device in (*self.signed.values(), *self.unsigned.values()):
            if (device.curve25519, device.ed25519) == (curve25519, ed25519):
                return device
        return None


def read_identity(user_id: str, response: Mapping[str, Any]) -> Identity:
    """One user of a ``/keys/query`` response; whatever is malformed is left out or named in ``broken``."""
    master = fields.optional_table(response, "master_keys", user_id)
    master_key = _cross_signing_key(master, user_id, "master")
    signing = fields.optional_table(response, "self_signing_keys", user_id)
    signing_key = _cross_signing_key(signing, user_id, "self_signing")
    if not _signed(signing, user_id, master_key):
        signing_key = ""
    identity = Identity(user_id, master_key, signing_key, {}, {}, (), master if master_key else {})
    broken = []
    for device_id, keys in fields.optional_table(response, "device_keys", user_id).items():
        try:
            device = read_device(user_id, device_id, keys)
        except (Malformed, BadSignature):
            broken.append(device_id)
            continue
        listed = identity.signed if _signed(keys, user_id, signing_key) else identity.unsigned
        listed[device_id] = device
    return identity._replace(broken=tuple(broken))


def read_device(user_id: str, device_id: str, keys: object) -> Device:
    """One device of a ``/keys/query`` response, if it signed its own keys (step 4).

    Raises:
        Malformed, BadSignature
    """
    named = fields.table(keys, "keys", "device keys")
    if not isinstance(keys, dict) or (keys.get("user_id"), keys.get("device_id")) != (user_id, device_id):
        raise Malformed("device keys")  # another device's keys under this name
    ed25519 = fields.text(named, f"ed25519:{device_id}", "device keys")
    curve25519 = fields.text(named, f"curve25519:{device_id}", "device keys")
    canonical.verify(keys, user_id, f"ed25519:{device_id}", ed25519, "device keys")
    name = fields.optional_table(keys, "unsigned").get("device_display_name")
    return Device(user_id, device_id, ed25519, curve25519, name[:100] if isinstance(name, str) else "")


def decide(
    pins: Mapping[str, Pin], identities: Mapping[str, Identity], members: Iterable[str], ourselves: str
) -> Recipients:
    """Which devices of the room's members get a message: only those under the master key pinned for their user."""
    present = set(members) - {ourselves}
    devices: list[Device] = []
    skipped = [Skipped(user, "", Reason.ABSENT) for user in sorted(set(pins) - present)]
    for user in sorted(present):
        identity, pin = identities.get(user), pins.get(user)
        reason = distrust(pin, identity)
        if reason:
            skipped.append(Skipped(user, "", reason))
        elif identity is not None:
            devices += identity.signed.values()
            skipped += [Skipped(user, device_id, Reason.UNSIGNED) for device_id in identity.unsigned]
            skipped += [Skipped(user, device_id, Reason.BROKEN_DEVICE) for device_id in identity.broken]
    return Recipients(devices, skipped)


def distrust(pin: Pin | None, identity: Identity | None) -> str:
    """Why nobody of this user's devices is trusted, or "" (steps 1 and 2; the devices of ``signed`` hold the rest)."""
    if pin is None:
        return Reason.STRANGER
    if identity is None or not identity.master_key:
        return Reason.NO_IDENTITY
    if identity.master_key != pin.master_key:
        return Reason.RESET
    if not identity.self_signing_key:
        return Reason.BROKEN_IDENTITY
    if not (identity.signed or identity.unsigned or identity.broken):
        return Reason.NO_DEVICES
    return ""


def _cross_signing_key(thing: dict[str, Any], user_id: str, usage: str) -> str:
    """The one public key of a cross-signing object that names this user and this usage, or ""."""
    keys, usages = fields.optional_table(thing, "keys"), thing.get("usage")
    if thing.get("user_id") != user_id or not isinstance(usages, list) or usage not in usages or len(keys) != 1:
        return ""
    ((key_id, public_key),) = keys.items()
    return public_key if isinstance(public_key, str) and key_id == f"ed25519:{public_key}" else ""


def _signed(thing: dict[str, Any], user_id: str, public_key: str) -> bool:
    """Whether a cross-signing key signed the object (a cross-signing key is its own id)."""
    try:
        canonical.verify(thing, user_id, f"ed25519:{public_key}", public_key, "keys")
    except BadSignature:
        return False
    return True
