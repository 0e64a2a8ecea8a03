"""base64url without padding, one spelling for each byte string (RFC 4648 sections 3.5 and 5)."""

import binascii
import re

from unlatch.errors import Malformed

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*\Z")


def encode(data: bytes) -> str:
    """The text for ``data``, without padding."""
    text = binascii.b2a_base64(data, newline=False).decode("ascii")
    return text.rstrip("=").replace("+", "-").replace("/", "_")


def decode(text: object, what: str, size: int | None = None) -> bytes:
    """The bytes of ``text``; ``what`` names the field in the error.

    Raises:
        Malformed: not text, foreign characters, padding, trailing bits that are not zero, or not ``size`` bytes.
    """
    if not isinstance(text, str) or not _ALPHABET.match(text) or len(text) % 4 == 1:
        raise Malformed(what)
    data = binascii.a2b_base64(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
    if encode(data) != text or (size is not None and len(data) != size):
        raise Malformed(what)
    return data
