"""What a phone does with a picture of a QR code: find it and read it (zbar, which shares no code with ours)."""

import os
import re
import struct
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path

from real import real

# Upper and lower half of each character: 1 is ink.
HALVES = {" ": (0, 0), "▄": (0, 1), "▀": (1, 0), "█": (1, 1)}


def read(picture: Path) -> str | None:
    """What the one QR code of a PNG holds; None when there is none to be found."""
    done = subprocess.run(
        [real("zbarimg"), "--quiet", "--nodbus", "--raw", "-Sdisable", "-Sqrcode.enable", picture],
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    if done.returncode == 4:  # zbarimg(1): nothing found
        return None
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode().removesuffix("\n")


def picture(rows: Sequence[bytes], place: Path, scale: int = 4) -> Path:
    """A PNG of black (0) and white (anything else), each as a square of so many pixels."""
    lines = [b"\0" + b"".join((b"\xff" if pixel else b"\0") * scale for pixel in row) for row in rows]
    size = struct.pack(">IIBBBBB", scale * len(rows[0]), scale * len(rows), 8, 0, 0, 0, 0)
    data = zlib.compress(b"".join(line * scale for line in lines))
    place.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", size) + _chunk(b"IDAT", data) + _chunk(b"IEND", b""))
    return place


def pixels(drawing: str, *, dark: bool) -> list[bytes]:
    """What a drawing of half blocks looks like at a terminal of that background, with a margin of it: 0 is black."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in drawing.split("\n")]
    if "\x1b" in drawing:
        assert all(line.startswith("\x1b[30;107m") and line.endswith("\x1b[0m") for line in drawing.split("\n"))
        dark, around = False, not dark  # the drawing's own colours, in the terminal's
    else:
        around = not dark
    halves = [[HALVES[character][half] for character in line] for line in lines for half in (0, 1)]
    shown = [bytes(half == dark for half in row) for row in halves]
    edge = bytes([around])
    width = len(shown[0]) + 8
    return [edge * width] * 4 + [edge * 4 + row + edge * 4 for row in shown] + [edge * width] * 4


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
