"""The data objects of a card: what lies where, who may write it, how long it may be (specification 4.4)."""

from card import apdu, tlv
from card.pins import ADMIN, USE

RID = bytes.fromhex("D27600012401")  # FSFE's registered identifier and the OpenPGP application
VERSION = bytes([3, 4])
# 0xFF00-0xFFFE: serial numbers that nobody administers (4.2.1), so no real card is ever mistaken for one of ours.
MANUFACTURER = 0xFF51

MAX_COMMAND, MAX_ANSWER = 2048, 2048  # 7F66
MAX_CHALLENGE, MAX_CERTIFICATE, MAX_SPECIAL = 255, 2048, 255  # in C0
KEY_IMPORT, CHANGE_C4, PRIVATE_OBJECTS, CHANGE_ALGORITHM, GET_CHALLENGE = 0x20, 0x10, 0x08, 0x04, 0x40  # C0, first byte

# Plain data objects: tag -> (longest value, who may write).
PLAIN = {
    0x5B: (39, ADMIN),  # name
    0x5E: (MAX_SPECIAL, ADMIN),  # login
    0x5F2D: (8, ADMIN),  # languages
    0x5F35: (1, ADMIN),  # salutation
    0x5F50: (MAX_SPECIAL, ADMIN),  # address of the public key
    0x7F21: (MAX_CERTIFICATE, ADMIN),
    0x0101: (MAX_SPECIAL, USE),
    0x0102: (MAX_SPECIAL, ADMIN),
    0x0103: (MAX_SPECIAL, USE),
    0x0104: (MAX_SPECIAL, ADMIN),
}
READ_WITH = {0x0103: USE, 0x0104: ADMIN}  # everything else may be read by anybody
# Written one by one, read as one: tag -> (the object it is a part of, its place there, length).
PARTS = {
    **{0xC7 + number: (0xC5, number, 20) for number in range(3)},  # fingerprints
    **{0xCA + number: (0xC6, number, 20) for number in range(3)},  # fingerprints of authorities
    **{0xCE + number: (0xCD, number, 4) for number in range(3)},  # times of generation
}
SIZE = {0xC5: 60, 0xC6: 60, 0xCD: 12}
NO_SALUTATION = b"9"  # ISO 5218: not applicable


def application_identifier(serial: int) -> bytes:
    """Data object 4F: what scdaemon calls the serial number of a card."""
    return RID + VERSION + MANUFACTURER.to_bytes(2, "big") + serial.to_bytes(4, "big") + b"\0\0"


class Objects:
    """What was written to a card."""

    def __init__(self) -> None:
        self._values = dict.fromkeys(PLAIN, b"") | {tag: bytes(size) for tag, size in SIZE.items()}
        self._values[0x5F35] = NO_SALUTATION

    def get(self, tag: int) -> bytes:
        """The value of a plain object, or of one that is written in parts."""
        return self._values[tag]

    def put(self, tag: int, value: bytes) -> None:
        """Write one plain object or one part.

        Raises:
            Status: UNKNOWN_DATA, or WRONG_DATA for a value that does not fit.
        """
        if tag in PARTS:
            whole, number, size = PARTS[tag]
            if len(value) != size:
                raise apdu.Status(apdu.WRONG_DATA)
            old = self._values[whole]
            self._values[whole] = old[: number * size] + value + old[(number + 1) * size :]
        elif tag in PLAIN:
            if len(value) > PLAIN[tag][0]:
                raise apdu.Status(apdu.WRONG_DATA)
            self._values[tag] = value
        else:
            raise apdu.Status(apdu.UNKNOWN_DATA)


def holder(objects: Objects) -> bytes:
    """Data object 65: cardholder related data."""
    return b"".join(tlv.pack(tag, objects.get(tag)) for tag in (0x5B, 0x5F2D, 0x5F35))


def historical_bytes(extended: bool, operational: bool) -> bytes:
    """Data object 5F52 (section 6): the services, the abilities of the card, its life cycle."""
    chaining_and_length = 0x80 | 0x40 * extended
    return bytes([0x00, 0x31, 0xC5, 0x73, 0xC0, 0x01, chaining_and_length, 0x05 if operational else 0x03, 0x90, 0x00])


def extended_capabilities() -> bytes:
    """Data object C0."""
    features = KEY_IMPORT | CHANGE_C4 | PRIVATE_OBJECTS | CHANGE_ALGORITHM | GET_CHALLENGE
    sizes = b"".join(size.to_bytes(2, "big") for size in (MAX_CHALLENGE, MAX_CERTIFICATE, MAX_SPECIAL))
    return bytes([features, 0]) + sizes + b"\0\0"


def length_information() -> bytes:
    """Data object 7F66."""
    return b"".join(tlv.pack(0x02, size.to_bytes(2, "big")) for size in (MAX_COMMAND, MAX_ANSWER))
