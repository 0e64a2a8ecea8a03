"""BER-TLV as the OpenPGP card uses it: tags of one or two bytes, definite lengths (ISO 7816-4, 5.2.2)."""

from collections.abc import Iterator


class BadTLV(ValueError):
    """These bytes are no sequence of data objects."""


def length(number: int) -> bytes:
    """A length field of one to three bytes."""
    if number < 0x80:
        return bytes([number])
    if number < 0x100:
        return bytes([0x81, number])
    return b"\x82" + number.to_bytes(2, "big")


def pack(tag: int, value: bytes) -> bytes:
    """One data object."""
    return tag.to_bytes(2 if tag > 0xFF else 1, "big") + length(len(value)) + value


def unpack(data: bytes) -> list[tuple[int, bytes]]:
    """All data objects of a sequence, in order.

    Raises:
        BadTLV: something is cut off or left over.
    """
    return [(tag, data[start : start + size]) for tag, start, size in _walk(data)]


def find(data: bytes, *path: int) -> bytes:
    """The value that lies below these tags, one within the other.

    Raises:
        BadTLV: there is none.
    """
    for tag in path:
        data = next((value for found, value in unpack(data) if found == tag), b"")
        if not data:
            raise BadTLV(f"no data object {tag:X}")
    return data


def headers(data: bytes) -> list[tuple[int, int]]:
    """Tags and lengths without their values: what a header list such as 7F48 is made of."""
    found, at = [], 0
    while at < len(data):
        tag, size, at = header(data, at)
        found.append((tag, size))
    return found


def header(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, length and the place behind them."""
    try:
        tag = data[at]
        at += 1
        if tag & 0x1F == 0x1F:
            tag = tag << 8 | data[at]
            at += 1
        size = data[at]
        at += 1
        if size in (0x81, 0x82):
            more = size - 0x80
            size = int.from_bytes(data[at : at + more], "big")
            at += more
        elif size > 0x7F:
            raise BadTLV(f"length field {size:02X}")
    except IndexError:
        raise BadTLV("cut off") from None
    return tag, size, at


def _walk(data: bytes) -> Iterator[tuple[int, int, int]]:
    at = 0
    while at < len(data):
        tag, size, at = header(data, at)
        if at + size > len(data):
            raise BadTLV("cut off")
        yield tag, at, size
        at += size
