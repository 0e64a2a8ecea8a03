"""What a phone does with a picture of a QR code: find it and read it (zbar, which shares no code with ours)."""

import os
import struct
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path

from real import real


def read(picture: Path) -> str | None:
    """What the one QR code of a PNG holds; None when there is none to be found."""
    done = subprocess.run(
        [real("zbarimg"), "--quiet", "--nodbus", "--raw", "-Sdisable", "-Sqrcode.enable", picture],
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}, capture_output=True, timeout=30,
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


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
