"""Read fields of bodies that a homeserver, or another client through it, made up. Pure."""

import base64
import json
from collections.abc import Mapping
from typing import Any

from unlatch.errors import Malformed

MAX_TEXT = 65536  # characters; a Matrix event is at most 64 KiB


def text(thing: object, name: str, what: str) -> str:
    """A text of at most 64 KiB that UTF-8 can carry.

    Raises:
        Malformed: ``what`` is named.
    """
    value = thing.get(name) if isinstance(thing, Mapping) else None
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise Malformed(what)
    try:
        value.encode()  # json.loads makes lone surrogates of bad escapes; nothing below us takes them
    except UnicodeEncodeError:
        raise Malformed(what) from None
    return value


def table(thing: object, name: str, what: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Malformed: ``what`` is named.
    """
    value = thing.get(name) if isinstance(thing, Mapping) else None
    if not isinstance(value, dict):
        raise Malformed(what)
    return value


def optional_table(thing: object, *names: str) -> dict[str, Any]:
    """The JSON object at the end of a path, or an empty one."""
    for name in names:
        thing = thing.get(name) if isinstance(thing, Mapping) else None
    return thing if isinstance(thing, dict) else {}


def parse(plaintext: bytes, what: str) -> dict[str, Any]:
    """The JSON object of a decrypted payload.

    Raises:
        Malformed: ``what`` is named.
    """
    try:
        value = json.loads(plaintext)
    except (ValueError, RecursionError):
        raise Malformed(what) from None
    if not isinstance(value, dict):
        raise Malformed(what)
    return value


def to_base64(data: bytes) -> str:
    """Unpadded base64, as Matrix writes it."""
    return base64.b64encode(data).decode("ascii").rstrip("=")


def from_base64(value: str, what: str) -> bytes:
    """The bytes of base64, padded or not.

    Raises:
        Malformed: ``what`` is named.
    """
    bare = value.rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except ValueError:
        raise Malformed(what) from None
