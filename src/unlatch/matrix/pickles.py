"""The machine's state as JSON and back. Private parts are vodozemac's encrypted pickles. Pure."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vodozemac import Account, InboundGroupSession, Session

from unlatch.matrix.account import CrossSigning, OwnDevice
from unlatch.matrix.errors import StoreBroken
from unlatch.matrix.identity import Pin
from unlatch.matrix.megolm import Inbound, Place

VERSION = 1


class Parts(NamedTuple):
    """What a machine is made of, and what survives a restart. Megolm sessions for sending do not (see megolm.py)."""

    device: OwnDevice
    cross: CrossSigning
    pins: dict[str, Pin]
    olm: dict[str, list[Session]]
    megolm: dict[Place, Inbound]


def dump(parts: Parts, key: bytes) -> dict[str, Any]:
    """JSON for :func:`load`; ``key``: 32 bytes."""
    device = parts.device
    return {
        "version": VERSION,
        "user_id": device.user_id,
        "device_id": device.device_id,
        "account": device.account.pickle(key),
        "published": device.published,
        "cross_signing": {usage: account.pickle(key) for usage, account in parts.cross.accounts.items()},
        "pins": {user: list(pin) for user, pin in parts.pins.items()},
        "olm": {their_key: [session.pickle(key) for session in each] for their_key, each in parts.olm.items()},
        "megolm": [
            {
                "place": list(place),
                "session": inbound.session.pickle(key),
                "curve25519": inbound.curve25519,
                "ed25519": inbound.ed25519,
                "read": {str(index): event_id for index, event_id in inbound.read.items()},
                "floor": inbound.floor,
            }
            for place, inbound in parts.megolm.items()
        ],
    }


def load(dumped: Mapping[str, Any], key: bytes) -> Parts:
    """What was dumped.

    Raises:
        StoreBroken: another key, another version, or not what dump made.
    """
    try:
        if dumped["version"] != VERSION:
            raise StoreBroken("matrix state", "it is of another version of Unlatch")
        account = Account.from_pickle(dumped["account"], key)
        device = OwnDevice(str(dumped["user_id"]), str(dumped["device_id"]), account, bool(dumped["published"]))
        signing = {usage: Account.from_pickle(pickle, key) for usage, pickle in dumped["cross_signing"].items()}
        return Parts(
            device,
            CrossSigning(device.user_id, signing),
            {str(user): Pin(str(master), str(verified)) for user, (master, verified) in dumped["pins"].items()},
            {str(k): [Session.from_pickle(pickle, key) for pickle in each] for k, each in dumped["olm"].items()},
            dict(_inbound(each, key) for each in dumped["megolm"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StoreBroken("matrix state", "it is damaged, or pickle.key belongs to another one") from None


def _inbound(thing: Mapping[str, Any], key: bytes) -> tuple[Place, Inbound]:
    room_id, sender, session_id = thing["place"]
    session = InboundGroupSession.from_pickle(thing["session"], key)
    read = {int(index): str(event_id) for index, event_id in thing["read"].items()}
    inbound = Inbound(session, str(thing["curve25519"]), str(thing["ed25519"]), read, int(thing["floor"]))
    return Place(str(room_id), str(sender), str(session_id)), inbound
