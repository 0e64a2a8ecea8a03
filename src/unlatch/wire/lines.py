"""JSON lines as asker, admin and broker exchange them (docs/protocol.md sections 4 and 5). Bytes in, objects out."""

import json
from typing import Any

from unlatch.errors import Malformed

VERSION = 1
# The largest line is a sealed answer (11 KiB of base64url in 256-byte steps, sealed, base64url again) or sealed details
# of a long process chain; both stay under 40 KiB. json.loads recurses, so the bound also bounds nesting.
MAX_LINE = 65536


def encode(message: dict[str, Any]) -> bytes:
    """One line with its newline. ASCII only, so a line can be cut or shown anywhere."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object of one line.

    Raises:
        Malformed: not UTF-8, not JSON, not an object, or nested beyond reason.
    """
    try:
        message = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Malformed("line") from None
    if not isinstance(message, dict):
        raise Malformed("line")
    return message


class LineBuffer:
    """Cuts a stream into lines."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their newlines.

        Raises:
            Malformed: a line is longer than ``MAX_LINE``.
        """
        self._pending += data
        *lines, rest = self._pending.split(b"\n")
        self._pending = rest
        if len(rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            raise Malformed("line")
        return [bytes(line) for line in lines]
