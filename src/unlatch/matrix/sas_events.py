"""What a verification's events look like, and which verification they belong to. Pure."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from unlatch.matrix import fields

PREFIX = "m.key.verification."
REQUEST = PREFIX + "request"

Json = dict[str, Any]


class State(Enum):
    """Where a verification stands."""

    REQUESTED = "requested"  # one side asked
    READY = "ready"  # both want
    STARTED = "started"  # keys are being exchanged
    SHOWN = "shown"  # emoji() and decimals() can be compared
    CONFIRMED = "confirmed"  # our person said that they match; the other one has not
    DONE = "done"  # master_key is proven
    CANCELLED = "cancelled"  # see code and reason


class Party(NamedTuple):
    """Ourselves: what we vouch for."""

    user_id: str
    device_id: str
    ed25519: str
    master_key: str


class Outgoing(NamedTuple):
    """An event to send: into ``room_id`` if there is one (encrypted as usual), else to these devices."""

    event_type: str
    content: Json
    user_id: str
    device_ids: tuple[str, ...]
    room_id: str


def is_request(event: Mapping[str, Any]) -> bool:
    """Whether a plain event (to-device, or of a room) asks for a verification."""
    if event.get("type") == "m.room.message":
        return fields.optional_table(event, "content").get("msgtype") == REQUEST
    return event.get("type") == REQUEST


def transaction(event: Mapping[str, Any]) -> str:
    """Which verification a plain event belongs to (transaction id, or the request's event id), or ""."""
    content = fields.optional_table(event, "content")
    if "event_id" not in event:
        found = content.get("transaction_id")
    elif is_request(event):
        found = event["event_id"]
    else:
        relation = fields.optional_table(content, "m.relates_to")
        found = relation.get("event_id") if relation.get("rel_type") == "m.reference" else ""
    return found if isinstance(found, str) else ""


def vouched_keys(device_id: str, ed25519: str, master_key: str) -> dict[str, str]:
    """Key id -> key, for the MACs: the device's key and the master key."""
    return {f"ed25519:{device_id}": ed25519, f"ed25519:{master_key}": master_key}


def printable(value: object, otherwise: str) -> str:
    """A short text from the other side, safe for a terminal."""
    return value[:100] if isinstance(value, str) and value.isprintable() and value else otherwise
