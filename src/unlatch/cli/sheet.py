"""The recovery sheet of a stored secret: what is printed of six words, as plain text and as a page. Pure."""

import html
import io
from typing import NamedTuple

import segno

BORDER = 4  # modules of white around the code, as ISO/IEC 18004 wants; paper has room
# Two modules, one above the other, in one character: (upper, lower) -> glyph. Ink is dark.
_GLYPHS = {(0, 0): " ", (0, 1): "\u2584", (1, 0): "\u2580", (1, 1): "\u2588"}
_BLACK_ON_WHITE, _AS_BEFORE = "\x1b[30;107m", "\x1b[0m"  # ECMA-48 SGR: a dark terminal would show the negative


class Sheet(NamedTuple):
    """What stands on a sheet. ``words`` are the secret part; ``date`` is when it was printed, year first."""

    name: str
    label: str
    generation: int
    words: str
    host: str
    user: str
    file: str
    date: str

    def __repr__(self) -> str:
        return f"Sheet({self.name}, redacted)"


def scanned(words: str) -> str:
    """What the code holds: capitals, which make it smaller, and which count as the same words."""
    return words.upper()


def as_text(sheet: Sheet, *, terminal: bool) -> str:
    """The sheet for a printer, or for a terminal, which needs colours to show the code right."""
    rows = _rows(sheet)
    width = max(len(title) for title, _ in rows)
    facts = [f"  {title:<{width}}  {value}" for title, value in rows]
    code = [f"{_BLACK_ON_WHITE}{line}{_AS_BEFORE}" if terminal else line for line in _blocks(sheet.words)]
    use = [line for paragraph in _use(sheet) for line in (*paragraph, "")]
    return "\n".join([_title(sheet), "", *facts, "", f"  {sheet.words}", "", *code, "", *use])


def as_html(sheet: Sheet) -> str:
    """The sheet as one page that loads nothing, for a browser's printer."""
    drawing = io.BytesIO()
    _code(sheet.words).save(drawing, kind="svg", scale=6, border=BORDER, xmldecl=False, svgns=True)
    facts = "".join(f"<dt>{title}</dt><dd>{html.escape(value)}</dd>\n" for title, value in _rows(sheet))
    use = "".join(f"<p>{_prose(paragraph)}</p>\n" for paragraph in _use(sheet))
    return _PAGE.format(
        title=html.escape(_title(sheet)), facts=facts, words=sheet.words, code=drawing.getvalue().decode(), use=use
    )


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>
body {{ font: 12pt sans-serif; max-width: 45em; margin: 2em auto; color: #000; background: #fff }}
dt {{ float: left; clear: left; width: 8em }}
dd {{ margin: 0 0 .3em 8em; overflow-wrap: anywhere }}
.words {{ font: bold 20pt monospace; margin: 1.5em 0 1em }}
</style>
<h1>{title}</h1>
<dl>
{facts}</dl>
<p class="words">{words}</p>
{code}
{use}</html>
"""


def _title(sheet: Sheet) -> str:
    return f"Recovery sheet of the secret {sheet.name}"


def _rows(sheet: Sheet) -> list[tuple[str, str]]:
    return [
        ("host", sheet.host),
        ("user", sheet.user),
        ("file", sheet.file),
        ("keyslot", sheet.label),
        ("generation", str(sheet.generation)),
        ("printed", sheet.date),
    ]


def _use(sheet: Sheet) -> list[list[str]]:
    """How to use it: paragraphs of lines; an indented line is a command."""
    return [
        [
            f"The words open the secret, together with its file. On {sheet.host}, as {sheet.user}:",
            f"  unlatch get --slot {sheet.label} {sheet.name}",
            "and type them, or scan the code, on the page that the phone is sent.",
            "Without a phone, at a terminal:",
            f"  unlatch get --tty --slot {sheet.label} {sheet.name}",
            "Capitals, hyphens and line breaks do not matter.",
        ],
        [
            "On another host, put a copy of the file into",
            "  ~/.local/share/unlatch/secrets",
            "(the directory with mode 0700, the file with 0600), and do the same there.",
        ],
        [
            "Whoever has this sheet and the file has the secret: keep it where the file",
            "is not. Is it lost, or seen by others, then:",
            f"  unlatch secret remove-slot {sheet.name} {sheet.label}",
            f"  unlatch secret rotate {sheet.name}",
        ],
        [
            "A rotation makes this sheet void. The generation above must be that of",
            f"  unlatch secret show {sheet.name}",
        ],
    ]


def _prose(lines: list[str]) -> str:
    return "\n".join(
        f"<br><code>{html.escape(line.strip())}</code><br>" if line.startswith("  ") else html.escape(line)
        for line in lines
    )


def _code(words: str) -> segno.QRCode:
    # A quarter of it may be lost to a fold or a stain.
    return segno.make_qr(scanned(words), error="q", boost_error=False)


def _blocks(words: str) -> list[str]:
    rows = [list(row) for row in _code(words).matrix_iter(border=BORDER)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    return [
        "".join(_GLYPHS[int(above), int(below)] for above, below in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
