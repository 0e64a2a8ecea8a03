"""The code in a terminal, read from a picture of that terminal, and the message decrypted by gpg.

A program shows what a session is shown, at the terminal that it measures itself, and then prompts as PAM does.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import headless
from pam_message import CURVE, RSA, TEXT, Keys
from playwright.sync_api import Browser, Playwright
from qr_reader import read
from rendered_terminal import Tmux

LINK = "http://192.0.2.10:8430/k3xq9zab"
PROMPT = "Response, or Enter after you approved: "
# argv: the armour's file, "ssh" or "here", the background, and columns x rows of [pam] terminal
SESSION = f"""
import os, sys
from unlatch.pam.screen import measure
from unlatch.pam.shown import Link, texts
armour, where, background, columns, rows = sys.argv[1:]
tty = os.ttyname(0) if where == "here" else "ssh"
screen = measure(tty, os.geteuid(), (int(columns), int(rows)))
for text in texts(screen, open(armour).read(), Link({LINK!r}), light=background == "light"):
    print(text)
input({PROMPT!r})
"""


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    keys = Keys(CURVE, RSA)
    yield keys
    keys.clear()


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    with headless(playwright) as browser:
        yield browser


def photographed(
    browser: Browser, folder: Path, armour: str, size: tuple[int, int], *, where: str, ink: str, scheme: str
) -> tuple[str | None, str]:
    """What a scanner reads from the terminal, and all that was shown there."""
    (folder / "message.asc").write_text(armour)
    columns, rows = size
    session = [sys.executable, "-c", SESSION, str(folder / "message.asc"), where, ink, str(columns), str(rows)]
    with Tmux(columns, rows, session) as terminal:
        terminal.shows(PROMPT.strip())
        return read(terminal.photograph(browser, scheme, folder / f"{scheme}.png")), terminal.history()


@pytest.mark.parametrize(
    ("where", "ink", "scheme"),
    [("ssh", "dark", "dark"), ("ssh", "light", "light"), ("here", "dark", "dark"), ("here", "dark", "light")],
)
@pytest.mark.parametrize(
    ("size", "algorithm", "signed"),
    [((80, 50), CURVE, False), ((120, 70), RSA, False), ((120, 70), CURVE, True)],
    ids=["80x50", "120x70-rsa", "120x70-signed"],
)
def test_the_message_is_read_from_the_terminal(
    size: tuple[int, int], algorithm: str, signed: bool, where: str, ink: str, scheme: str, browser: Browser,
    keys: Keys, tmp_path: Path,
) -> None:  # fmt: skip
    """Where there is room the code holds the message itself, above a prompt that is in sight too."""
    armour = keys.armour(algorithm, signed=signed)
    code, shown = photographed(browser, tmp_path, armour, size, where=where, ink=ink, scheme=scheme)
    assert code == armour.strip()
    assert keys.decrypted(code) == TEXT
    assert armour.strip() in shown
    assert LINK in shown


@pytest.mark.parametrize(("where", "ink", "scheme"), [("ssh", "dark", "dark"), ("here", "dark", "light")])
def test_the_link_is_read_from_a_small_terminal(
    where: str, ink: str, scheme: str, browser: Browser, keys: Keys, tmp_path: Path
) -> None:
    """80x24 has no room for the message: the page's link has a code of its own, and the armour has scrolled by."""
    armour = keys.armour()
    code, shown = photographed(browser, tmp_path, armour, (80, 24), where=where, ink=ink, scheme=scheme)
    assert code == LINK
    assert armour.strip() in shown
    assert f"It is also here:\n  {LINK}\n" in shown


def test_the_wrong_background_is_a_negative(browser: Browser, keys: Keys, tmp_path: Path) -> None:
    """Why there is a setting: through ssh the ink of a dark terminal is no code on a light one, for this scanner."""
    code, _ = photographed(browser, tmp_path, keys.armour(), (80, 50), where="ssh", ink="dark", scheme="light")
    assert code is None
