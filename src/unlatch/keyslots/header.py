"""The file of a stored secret: its JSON, its typed form, and every limit. Pure; docs/secrets.md section "The file".

Reading is strict, because whoever can write the disk chooses what is read: unknown fields, doubled fields, other types,
other spellings of the same bytes and numbers out of bounds are all refused before anything is computed with them.
"""

import json
import re
from typing import Any, NamedTuple

from unlatch import base64url
from unlatch.errors import Malformed
from unlatch.keyslots.errors import BadName, BadSecretFile

VERSION = 1
MAX_FILE = 1 << 20  # bytes; a key file of 64 KiB in eight gpg slots is well below
MAX_SECRET = 65536  # bytes of content; a key file for borg has about 700, one for LUKS often 4096
MAX_SLOTS = 16
MAX_UNITS = 64
MAX_TEXT = 255  # characters of a label or a unit's name
MAX_NUMBER = 2**53 - 1  # what every reader of JSON counts exactly

ID_SIZE, SLOT_ID_SIZE = 16, 8  # bytes
NONCE_SIZE, TAG_SIZE, KEY_SIZE = 12, 16, 32
WRAPPED_SIZE = NONCE_SIZE + KEY_SIZE + TAG_SIZE

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_KIND = re.compile(r"[a-z][a-z0-9-]{0,15}\Z")

Params = dict[str, Any]


class Slot(NamedTuple):
    """One way to open the secret. ``params`` is plain JSON that belongs to the kind; ``wrapped`` the master key."""

    id: bytes
    kind: str
    label: str
    params: Params
    wrapped: bytes

    def __repr__(self) -> str:
        return f"Slot({self.kind}, {self.label})"


class Header(NamedTuple):
    """Everything in the file but the content. ``created`` is seconds since 1970; ``generation`` counts master keys."""

    id: bytes
    name: str
    created: int
    generation: int
    allow_units: tuple[str, ...]
    slots: tuple[Slot, ...]

    def slot(self, slot_id: bytes) -> Slot | None:
        """The slot with this id."""
        return next((slot for slot in self.slots if slot.id == slot_id), None)

    def with_slot(self, slot: Slot) -> "Header":
        """The same with this slot in the place of the one with its id, or as a further one."""
        if self.slot(slot.id) is None:
            return self._replace(slots=(*self.slots, slot))
        return self._replace(slots=tuple(slot if old.id == slot.id else old for old in self.slots))

    def without_slot(self, slot_id: bytes) -> "Header":
        """The same without it."""
        return self._replace(slots=tuple(slot for slot in self.slots if slot.id != slot_id))


class SecretFile(NamedTuple):
    """A whole file. ``sealed`` is nonce, ciphertext and tag of the content."""

    header: Header
    sealed: bytes


def is_name(name: str) -> bool:
    """Whether a secret can have this name."""
    return _NAME.match(name) is not None


def check_name(name: str) -> str:
    """The name, if a secret can have it.

    Raises:
        BadName
    """
    if not is_name(name):
        raise BadName
    return name


def canonical(header: Header) -> bytes:
    """The header as the content is bound to it: JSON with sorted keys, no blanks, ASCII only."""
    return _dump(_header_fields(header))


def canonical_slot(header: Header, slot: Slot) -> bytes:
    """A slot and where it belongs, as its wrapped key is bound to it; the label may change without the key."""
    return _dump([base64url.encode(header.id), header.generation, base64url.encode(slot.id), slot.kind, slot.params])


def to_json(file: SecretFile) -> bytes:
    """The file's bytes: indented, so that a person can look at it; one newline at the end."""
    fields = _header_fields(file.header) | {"sealed": base64url.encode(file.sealed)}
    return json.dumps(fields, indent=1, sort_keys=True).encode("ascii") + b"\n"


def from_json(data: bytes) -> SecretFile:
    """Read a file. What the slots' parameters mean is checked by their kinds.

    Raises:
        BadSecretFile: with what is wrong.
    """
    if len(data) > MAX_FILE:
        raise BadSecretFile(f"it is larger than {MAX_FILE} bytes")
    try:
        fields = json.loads(data.decode("ascii"), object_pairs_hook=_no_doubles, parse_float=_no_float)
    except (ValueError, RecursionError):
        raise BadSecretFile("it is truncated, or no stored secret of ours") from None
    except Malformed as error:
        raise BadSecretFile(str(error)) from None
    if not isinstance(fields, dict) or "unlatch-secret" not in fields:
        raise BadSecretFile("it is no stored secret of ours")
    version = fields["unlatch-secret"]
    if type(version) is not int or version != VERSION:
        raise BadSecretFile(f"it is of another version of Unlatch; this one reads version {VERSION}")
    try:
        return _file(fields)
    except Malformed as error:
        raise BadSecretFile(str(error)) from None


def _file(fields: dict[str, Any]) -> SecretFile:
    _exactly(
        fields, {"unlatch-secret", "id", "name", "created", "generation", "allow_units", "slots", "sealed"}, "file"
    )
    slots = tuple(_slot(item) for item in _list(fields["slots"], "slots", MAX_SLOTS))
    if not slots or len({slot.id for slot in slots}) != len(slots):
        raise Malformed("slots")
    name = _text(fields["name"], "name")
    if not _NAME.match(name):
        raise Malformed("name")
    sealed = base64url.decode(fields["sealed"], "sealed")
    if len(sealed) < NONCE_SIZE + TAG_SIZE:
        raise Malformed("sealed")
    header = Header(
        id=base64url.decode(fields["id"], "id", ID_SIZE),
        name=name,
        created=_number(fields["created"], "created"),
        generation=_number(fields["generation"], "generation"),
        allow_units=tuple(
            _text(unit, "allow_units") for unit in _list(fields["allow_units"], "allow_units", MAX_UNITS)
        ),
        slots=slots,
    )
    return SecretFile(header, sealed)


def _slot(fields: object) -> Slot:
    if not isinstance(fields, dict):
        raise Malformed("slot")
    _exactly(fields, {"id", "kind", "label", "params", "wrapped"}, "slot")
    kind = _text(fields["kind"], "slot kind")
    if not _KIND.match(kind) or not isinstance(fields["params"], dict):
        raise Malformed("slot kind" if isinstance(fields["params"], dict) else "slot params")
    return Slot(
        id=base64url.decode(fields["id"], "slot id", SLOT_ID_SIZE),
        kind=kind,
        label=_text(fields["label"], "slot label"),
        params=fields["params"],
        wrapped=base64url.decode(fields["wrapped"], "slot wrapped", WRAPPED_SIZE),
    )


def _header_fields(header: Header) -> dict[str, Any]:
    return {
        "unlatch-secret": VERSION,
        "id": base64url.encode(header.id),
        "name": header.name,
        "created": header.created,
        "generation": header.generation,
        "allow_units": list(header.allow_units),
        "slots": [
            slot._asdict() | {"id": base64url.encode(slot.id), "wrapped": base64url.encode(slot.wrapped)}
            for slot in header.slots
        ],
    }


def _dump(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Malformed("file: a field stands there twice")
    return fields


def _no_float(_text: str) -> float:
    raise Malformed("number")


def _exactly(fields: dict[str, Any], names: set[str], what: str) -> None:
    if fields.keys() != names:
        raise Malformed(what)


def _list(value: object, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(what)
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise Malformed(what)
    return value


def _number(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise Malformed(what)
    return value
