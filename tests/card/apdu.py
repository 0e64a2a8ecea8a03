"""Commands and status words of ISO 7816-4, with short and extended lengths."""

from typing import NamedTuple

CHAINED = 0x10  # in the class byte: more of this command follows
OK = 0x9000


class Status(Exception):
    """A command ends with this status word and no data."""

    def __init__(self, word: int) -> None:
        super().__init__(f"{word:04X}")
        self.word = word


# Specification 7.1: the status words that the application knows.
TERMINATED = 0x6285
TRIES_LEFT = 0x63C0  # + the number
MEMORY_FAILURE = 0x6581
WRONG_LENGTH = 0x6700
LAST_OF_CHAIN_EXPECTED = 0x6883
CHAINING_NOT_SUPPORTED = 0x6884
NOT_SATISFIED = 0x6982
BLOCKED = 0x6983
CONDITIONS_NOT_SATISFIED = 0x6985
WRONG_DATA = 0x6A80
NOT_FOUND = 0x6A82
WRONG_PARAMETERS = 0x6B00
UNKNOWN_DATA = 0x6A88
UNKNOWN_INSTRUCTION = 0x6D00
UNKNOWN_CLASS = 0x6E00
MORE = 0x6100  # + the number of bytes that are left, 00 for 256 and more


class Command(NamedTuple):
    """One command; ``wanted`` is the length of the answer that may come (0: none)."""

    cls: int
    ins: int
    p1: int
    p2: int
    data: bytes
    wanted: int
    extended: bool

    @property
    def p(self) -> int:
        """Both parameters as one number."""
        return self.p1 << 8 | self.p2

    @property
    def chained(self) -> bool:
        """Does more of this command follow?"""
        return bool(self.cls & CHAINED)


def parse(raw: bytes) -> Command:
    """Bytes from the reader as a command: cases 1 to 4, short (S) or extended (E).

    Raises:
        Status: WRONG_LENGTH; these bytes are no command.
    """
    if len(raw) < 4:
        raise Status(WRONG_LENGTH)
    head, body = raw[:4], raw[4:]
    if not body:
        return Command(*_four(head), b"", 0, False)
    if len(body) == 1:
        return Command(*_four(head), b"", body[0] or 256, False)
    if body[0]:
        return _split(head, body[1:], body[0], 1)
    if len(body) == 3:
        return Command(*_four(head), b"", int.from_bytes(body[1:], "big") or 65536, True)
    return _split(head, body[3:], int.from_bytes(body[1:3], "big"), 2)


def _split(head: bytes, rest: bytes, size: int, width: int) -> Command:
    """Command data of this size and, if there is more, a length of ``width`` bytes."""
    data, wanted = rest[:size], rest[size:]
    if len(data) != size or len(wanted) not in (0, width) or not size:
        raise Status(WRONG_LENGTH)
    number = (int.from_bytes(wanted, "big") or 256**width) if wanted else 0
    return Command(*_four(head), data, number, width == 2)


def _four(head: bytes) -> tuple[int, int, int, int]:
    cls, ins, p1, p2 = head
    return cls, ins, p1, p2
