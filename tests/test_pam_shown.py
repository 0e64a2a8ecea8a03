"""What a session is shown, in which order, and what of it stays in sight."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qr_reader import picture, pixels, read

from unlatch.pam.screen import Screen
from unlatch.pam.shown import BELOW, Link, texts


def armour(length: int) -> str:
    """As long as gpg's; a code does not care what is in it."""
    body = "".join(chr(97 + index % 26) for index in range(length))
    lines = [body[start : start + 64] for start in range(0, length, 64)]
    return "\n".join(["-----BEGIN PGP MESSAGE-----", "", *lines, "=abcd", "-----END PGP MESSAGE-----", ""])


SMALL, LARGE = armour(290), armour(720)  # about what cv25519 and rsa3072 need
PLAIN = Link("http://192.0.2.10:8430/k3xq9zab")
ASKING = Link("https://[2001:db8::10]:8430/k3xq9zab", "kuvoxa", "m3nq7rtw2xyz")
BROKER = Link(f"https://unlatch.example.org/{'t' * 22}#{'f' * 86}")


def has_code(text: str) -> bool:
    return "▀" in text


@pytest.mark.parametrize(
    ("columns", "rows", "message", "link", "shown"),
    [
        (80, 24, SMALL, None, ["armour"]),
        (80, 24, SMALL, PLAIN, ["armour", "page", "code of the page"]),
        (80, 24, SMALL, ASKING, ["armour", "page", "code of the page"]),
        (80, 24, SMALL, BROKER, ["armour", "page"]),
        (80, 50, SMALL, None, ["armour", "code"]),
        (80, 50, SMALL, PLAIN, ["armour", "page", "code"]),
        (80, 50, LARGE, PLAIN, ["armour", "page", "code of the page"]),
        (80, 50, LARGE, BROKER, ["armour", "page", "code of the page"]),
        (120, 70, LARGE, PLAIN, ["armour", "page", "code"]),
        (120, 70, LARGE, None, ["armour", "code"]),
        (20, 5, SMALL, PLAIN, ["armour", "page"]),
    ],
)
def test_what_is_shown(
    columns: int, rows: int, message: str, link: Link | None, shown: list[str], tmp_path: Path
) -> None:
    """The armour, then the page, then the code of the message, or of the page's link where only that has room."""
    said = texts(Screen(columns, rows), message, link)
    assert message.strip() in said[0]
    kinds = {message.strip(): "code", link.url if link else None: "code of the page"}
    for text in said:
        if has_code(text):
            assert kinds[read(picture(pixels(text, dark=True), tmp_path / "code.png"))] == shown[-1]
    assert [bool(link and link.url in text) for text in said] == [kind == "page" for kind in shown]
    assert [has_code(text) for text in said] == [kind.startswith("code") for kind in shown]


def test_the_first_line_is_plain_words() -> None:
    """ssh(1) puts "(alice@web-01) " in front of it, which would break a code or an armour."""
    for screen in (Screen(80, 24), Screen(120, 70, raw=True)):
        first = texts(screen, SMALL, PLAIN)[0].split("\n")[0]
        assert first == "Decrypt this message with your key. The response is in it."
        assert len("(alice@web-01.example.org) " + first) < 100


def test_a_page_that_asks_has_its_name_and_password_beside_the_link() -> None:
    """All that is needed to open the page stands in one place, the address on a line of its own, to be marked."""
    asking, plain = texts(Screen(80, 24), SMALL, ASKING)[1], texts(Screen(80, 24), SMALL, PLAIN)[1]
    assert asking.split("\n") == [
        "It is also here (name kuvoxa, password m3nq7rtw2xyz):",
        "  https://[2001:db8::10]:8430/k3xq9zab",
    ]
    assert plain.split("\n") == ["It is also here:", "  http://192.0.2.10:8430/k3xq9zab"]


@given(
    columns=st.integers(20, 150), rows=st.integers(5, 80), length=st.sampled_from([290, 720]), below=st.integers(1, 8),
    link=st.sampled_from([None, PLAIN, ASKING, BROKER]),
)  # fmt: skip
@settings(max_examples=40)
def test_the_code_stays_in_sight_above_the_prompt(
    columns: int, rows: int, length: int, below: int, link: Link | None
) -> None:
    """At no size does a code wrap, or leave the screen at its top before the prompt is there."""
    said = texts(Screen(columns, rows), armour(length), link, below=below)
    if has_code(said[-1]):
        lines = said[-1].split("\n")
        assert max(map(len, lines)) <= columns
        assert len(lines) + below <= rows
    assert not any(has_code(text) for text in said[:-1])


def test_a_light_terminal_gets_the_other_ink() -> None:
    """The background that the administrator names counts, unless colours can be said outright."""
    dark, light = (texts(Screen(80, 50), SMALL, light=light)[-1] for light in (False, True))
    swapped = str.maketrans("█ ▀▄", " █▄▀")
    assert light == dark.translate(swapped)
    raw = [texts(Screen(80, 50, raw=True), SMALL, light=light)[-1] for light in (False, True)]
    assert raw[0] == raw[1] != dark
    assert BELOW == 3
