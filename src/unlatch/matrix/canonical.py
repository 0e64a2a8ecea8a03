"""Canonical JSON, and signatures in JSON objects (Matrix specification, appendices "Canonical JSON", "Signing JSON").

Pure. Signing is a function handed in, so that nothing here ever holds a private key.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from vodozemac import Ed25519PublicKey, Ed25519Signature

from unlatch.errors import Malformed
from unlatch.matrix.errors import BadSignature

MAX_DEPTH = 32  # what Matrix signs is three levels deep; Python's own limit would be a RecursionError
MAX_INTEGER = 2**53 - 1  # the specification's range, either sign

Signer = Callable[[bytes], str]  # bytes -> unpadded base64 of the Ed25519 signature


def encode(value: object) -> bytes:
    """The one spelling of a JSON value: sorted keys, no spaces, UTF-8, no fractions.

    Raises:
        Malformed: it has no canonical form (fractions, huge integers, lone surrogates, too deep, not JSON).
    """
    _check(value, MAX_DEPTH)
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Malformed("canonical JSON") from None


def signed_part(thing: Mapping[str, Any]) -> dict[str, Any]:
    """What a signature covers: everything but ``signatures`` and ``unsigned``."""
    return {name: value for name, value in thing.items() if name not in ("signatures", "unsigned")}


def sign(thing: Mapping[str, Any], user_id: str, key_id: str, signer: Signer) -> dict[str, Any]:
    """A copy without ``unsigned``, with this signature beside those it has. ``key_id``: "ed25519:DEVICE" or so."""
    bare = signed_part(thing)
    signatures = {user: dict(keys) for user, keys in thing.get("signatures", {}).items()}
    signatures.setdefault(user_id, {})[key_id] = signer(encode(bare))
    return {**bare, "signatures": signatures}


def verify(thing: Mapping[str, Any], user_id: str, key_id: str, public_key: str, what: str) -> None:
    """Check one signature; ``what`` names the object in the error.

    Raises:
        BadSignature: it is missing, malformed or wrong.
    """
    try:
        signature = Ed25519Signature.from_base64(thing["signatures"][user_id][key_id])
        Ed25519PublicKey.from_base64(public_key).verify_signature(encode(signed_part(thing)), signature)
    except (KeyError, TypeError, ValueError, AttributeError, Malformed):  # vodozemac's errors are ValueErrors
        raise BadSignature(what) from None


def _check(value: object, depth: int) -> None:
    if depth == 0:
        raise Malformed("canonical JSON")
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise Malformed("canonical JSON")
            _check(inner, depth - 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check(inner, depth - 1)
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise Malformed("canonical JSON")
    elif value is not None and not isinstance(value, str):
        raise Malformed("canonical JSON")
