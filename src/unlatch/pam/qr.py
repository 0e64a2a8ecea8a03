"""QR codes of a challenge or of a link: for a terminal, and for a page. Pure.

A terminal's colours are unknown, and ssh(1) shows no escape sequences, only characters. So a code is drawn with half
blocks in the terminal's own ink: light modules on a dark terminal, dark modules on a light one. Drawn the wrong way
round it is a negative, which not every scanner reads. On a terminal of this host both colours are said outright.
"""

import segno

from unlatch import base64url

# Modules of quiet zone around a code. ISO/IEC 18004 wants four; scanners do with two, and a terminal has little room.
BORDERS = (4, 2)
MAX_DRAWING = 30000  # bytes of one drawing; wire.pam.MAX_PACKET is 32768
# Two modules, one above the other, in one character: (upper is inked, lower is inked) -> character.
_GLYPHS = {(0, 0): " ", (0, 1): "\u2584", (1, 0): "\u2580", (1, 1): "\u2588"}
_BLACK_ON_WHITE, _AS_BEFORE = "\x1b[30;107m", "\x1b[0m"  # ECMA-48 SGR

Modules = tuple[bytes, ...]  # rows of a code without its quiet zone; 1 is dark


def modules(text: str) -> Modules | None:
    """The smallest code that holds the text (level L, or better where that costs no room); None: none holds it."""
    try:
        code = segno.make_qr(text, error="l")
    except segno.DataOverflowError:  # more than 2953 bytes
        return None
    return tuple(bytes(row) for row in code.matrix)


def half_blocks(code: Modules, columns: int, rows: int, *, light: bool = False, raw: bool = False) -> str | None:
    """A code as lines for a terminal with this much room, or None when it does not fit.

    ``light``: the terminal writes dark on light. ``raw``: it obeys escape sequences, and its colours do not matter.
    """
    for border in BORDERS:
        size = len(code) + 2 * border
        if size <= columns and (size + 1) // 2 <= rows:
            drawing = "\n".join(_lines(_framed(code, border), light=light, raw=raw))
            return drawing if len(drawing.encode()) <= MAX_DRAWING else None
    return None


def svg(code: Modules, label: str) -> str:
    """A code as an image inside HTML, dark on light whatever the page's colours; ``label`` is HTML for its name."""
    size = len(code) + 2 * BORDERS[0]
    # One horizontal stroke for each run of dark modules.
    runs = "".join(
        f"M{BORDERS[0] + start} {BORDERS[0] + y}.5h{length}"
        for y, row in enumerate(code)
        for start, length in _runs(row)
    )
    return (
        f'<svg class="code" role="img" aria-label="{label}" viewBox="0 0 {size} {size}" shape-rendering="crispEdges">'
        f'<path fill="#fff" d="M0 0h{size}v{size}H0z"/><path stroke="#000" d="{runs}"/></svg>'
    )


def packed(code: Modules) -> str:
    """A code as docs/protocol.md section 2 has it for pages: its modules row by row, eight to a byte, base64url."""
    bits = "".join("1" if module else "0" for row in code for module in row)
    size = (len(bits) + 7) // 8
    return base64url.encode(int(bits.ljust(size * 8, "0"), 2).to_bytes(size, "big"))


def _framed(code: Modules, border: int) -> list[bytes]:
    """With the quiet zone, and an even number of rows: two make a line."""
    width = len(code) + 2 * border
    rows = [bytes(width)] * border + [bytes(border) + row + bytes(border) for row in code] + [bytes(width)] * border
    return rows + [bytes(width)] * (len(rows) % 2)


def _lines(rows: list[bytes], *, light: bool, raw: bool) -> list[str]:
    inked = 1 if light or raw else 0  # which modules the ink is for
    lines = [
        "".join(_GLYPHS[above == inked, below == inked] for above, below in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
    return [f"{_BLACK_ON_WHITE}{line}{_AS_BEFORE}" for line in lines] if raw else lines


def _runs(row: bytes) -> list[tuple[int, int]]:
    """Where dark modules begin, and how many follow one another."""
    runs, start = [], 0
    while (start := row.find(1, start)) >= 0:
        end = row.find(0, start)
        end = len(row) if end < 0 else end
        runs.append((start, end - start))
        start = end
    return runs
