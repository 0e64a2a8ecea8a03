"""The public key of a card as a line for authorized_keys (RFC 4253, 6.6; RFC 8709, 4; RFC 5656, 3.1). Pure.

scdaemon gives it as one of libgcrypt's S-expressions in canonical form: ``(10:public-key(3:rsa(1:n3:...)(1:e3:...)))``.
"""

import base64

from unlatch.errors import Malformed

_CURVES = {b"NIST P-256": b"nistp256", b"NIST P-384": b"nistp384", b"NIST P-521": b"nistp521"}
_COMPRESSED = b"\x40"  # GnuPG's prefix of a point in the curve's own form
_MAX_DEPTH = 8


def public_key(expression: bytes, comment: str) -> str:
    """``ssh-rsa AAAA... comment``.

    Raises:
        Malformed: it is no public key that ssh knows.
    """
    try:
        kind, values = _parameters(expression)
        blob = _rsa(values) if kind == b"rsa" else _curve(values)
    except (KeyError, ValueError, IndexError):
        raise Malformed("public key") from None
    name = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode("ascii")
    return f"{name} {base64.b64encode(blob).decode('ascii')} {comment}".rstrip()


def _parameters(expression: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The algorithm, and its parameters: every ``(name value)`` of atoms, as no two share a name."""
    values: dict[bytes, bytes] = {}
    lists: list[list[bytes]] = []
    names: list[bytes] = []
    at = 0
    while at < len(expression):
        character = expression[at : at + 1]
        if character == b"(":
            lists.append([])
            if len(lists) > _MAX_DEPTH:
                raise ValueError("depth")
            at += 1
        elif character == b")":
            atoms = lists.pop()
            if len(atoms) == 2:
                values[atoms[0]] = atoms[1]
            at += 1
        else:
            colon = expression.index(b":", at, at + 6)
            end = colon + 1 + int(expression[at:colon])
            if end > len(expression):
                raise ValueError("length")
            lists[-1].append(expression[colon + 1 : end])
            if len(lists[-1]) == 1:
                names.append(expression[colon + 1 : end])
            at = end
    if lists or names[0] != b"public-key":
        raise ValueError("form")
    return names[1], values


def _rsa(values: dict[bytes, bytes]) -> bytes:
    return b"".join((_string(b"ssh-rsa"), _number(values[b"e"]), _number(values[b"n"])))


def _curve(values: dict[bytes, bytes]) -> bytes:
    point = values[b"q"]
    if values[b"curve"] == b"Ed25519":
        return _string(b"ssh-ed25519") + _string(point.removeprefix(_COMPRESSED) if len(point) == 33 else point)
    curve = _CURVES.get(values[b"curve"], values[b"curve"])
    if curve not in _CURVES.values():
        raise ValueError("curve")
    return _string(b"ecdsa-sha2-" + curve) + _string(curve) + _string(point)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _number(data: bytes) -> bytes:
    """A positive integer: no leading zeros but the one that keeps the highest bit clear (RFC 4251, 5)."""
    bare = data.lstrip(b"\0")
    return _string(b"\0" + bare if bare[:1] >= b"\x80" else bare)
