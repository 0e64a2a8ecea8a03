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
    OURSELVES = "another login of our own user"


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

    ``master_key`` is "" where there is none; ``self_signed``: step 2 holds; ``signed``: devices for which 2, 3 and 4
    hold; ``unsigned``: those for which 4 holds but not 3; ``broken``: ids of those for which nothing holds.
    """

    user_id: str
    master_key: str
    self_signed: bool
    signed: dict[str, Device]
    unsigned: dict[str, Device]
    broken: tuple[str, ...]

    def device(self, device_id: str) -> Device | None:
        """A device that holds step 4, signed by its owner or not."""
        return self.signed.get(device_id) or self.unsigned.get(device_id)


def read_identity(user_id: str, response: Mapping[str, Any]) -> Identity:
    """One user of a ``/keys/query`` response; whatever is malformed is left out or named in ``broken``."""
    raise NotImplementedError


def decide(
    pins: Mapping[str, Pin], identities: Mapping[str, Identity], members: Iterable[str], ourselves: str
) -> Recipients:
    """Which devices of the room's members get a message: only those under the master key pinned for their user."""
    raise NotImplementedError
