"""Just enough of DNS (RFC 1035) to ask for the addresses of a name. Pure: bytes to send out, addresses of what came.

Only for a name that /etc/hosts makes a loopback address, as Debian does with a host's own: phones do not read that
file, and the system's resolver offers no way around it.
"""

import socket
import struct

from unlatch.errors import Malformed

A, AAAA = 1, 28  # RFC 1035 section 3.2.2, RFC 3596
_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_RECURSE = 0x0100
_RESPONSE = 0x8000
_IN = 1


def question(name: str, kind: int, number: int) -> bytes:
    """A query; ``number`` is 16 random bits that the response must repeat.

    Raises:
        Malformed: the name is none.
    """
    labels = name.rstrip(".").encode("ascii", "replace").split(b".")
    if not all(0 < len(label) < 64 for label in labels):
        raise Malformed("name")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return _HEADER.pack(number, _RECURSE, 1, 0, 0, 0) + encoded + struct.pack("!HH", kind, _IN)


def addresses(response: bytes, kind: int, number: int) -> tuple[str, ...]:
    """The addresses in a response, those behind aliases too; a name without any gives none.

    Raises:
        Malformed: it is no response to that query.
    """
    try:
        return _addresses(response, kind, number)
    except (struct.error, IndexError, ValueError, OSError):
        raise Malformed("dns") from None


def _addresses(response: bytes, kind: int, number: int) -> tuple[str, ...]:
    their_number, flags, questions, answers, _, _ = _HEADER.unpack_from(response)
    if their_number != number or not flags & _RESPONSE:
        raise ValueError
    at = _HEADER.size
    for _ in range(questions):
        at = _after_name(response, at) + 4
    found = []
    for _ in range(answers):
        at = _after_name(response, at)
        record, _, _, length = _RECORD.unpack_from(response, at)
        at += _RECORD.size
        if record == kind:
            family = socket.AF_INET if kind == A else socket.AF_INET6
            found.append(socket.inet_ntop(family, response[at : at + length]))
        at += length
    return tuple(found)


def _after_name(response: bytes, at: int) -> int:
    """Where a name ends: at its zero, or behind the pointer that goes on elsewhere (section 4.1.4)."""
    while True:
        length = response[at]
        if length & 0xC0:
            return at + 2
        at += 1 + length
        if not length:
            return at
