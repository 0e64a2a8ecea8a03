"""What a session is shown of a challenge, in its order. Pure.

The armour first, for who decrypts beside the session; then where a page has it; then a QR code for the phone. What
comes last stays in sight: the code stands right above the prompt that follows. It is the challenge's own code where
the terminal has room for it, else the code of the page's link.
"""

from typing import NamedTuple

from unlatch.pam import qr
from unlatch.pam.screen import Screen

# Lines that are still to come below: a prompt, which may wrap behind ssh's "(alice@web-01) ", and the cursor's.
BELOW = 3


class Link(NamedTuple):
    """A page with the challenge; ``name`` and ``password`` are empty when it asks for none."""

    url: str
    name: str = ""
    password: str = ""


def texts(
    screen: Screen, armour: str, link: Link | None = None, *, light: bool = False, below: int = BELOW
) -> list[str]:
    """What to say, each a text of lines. The first begins with a plain line: ssh(1) puts something in front of it.

    ``light``: the terminal writes dark on light, where that matters. ``below``: lines that the caller will add.
    """
    message = armour.strip()
    said = [f"Decrypt this message with your key. The response is in it.\n\n{message}\n"]
    page = _page(link) if link else ""
    code = _drawn(message, screen, below, light)
    if code is None and link:
        code = _drawn(link.url, screen, below + len(page.splitlines()), light)
    return [*said, *([page] if page else []), *([code] if code else [])]


def _page(link: Link) -> str:
    if not link.name:
        return f"It is also here:\n  {link.url}"
    return f"It is also here (name {link.name}, password {link.password}):\n  {link.url}"


def _drawn(text: str, screen: Screen, below: int, light: bool) -> str | None:
    columns, rows = screen.columns, screen.rows - below
    # A module holds less than a bit. Making a code to find that it is far too large takes longer than gpg.
    if 8 * len(text) > min(columns, 2 * rows) ** 2 or rows < 1:
        return None
    code = qr.modules(text)
    return None if code is None else qr.half_blocks(code, columns, rows, light=light, raw=screen.raw)
