"""QR codes in the characters of a terminal: read back by another's scanner from what the terminal would show."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qr_reader import HALVES, picture, pixels, read

from unlatch.pam import qr
from unlatch.wire import pam

LINK = "http://192.0.2.10:8430/k3xq9zab"


def drawn(text: str, **how: bool) -> str:
    code = qr.modules(text)
    assert code is not None
    drawing = qr.half_blocks(code, 200, 100, **how)
    assert drawing is not None
    return drawing


@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
@pytest.mark.parametrize("raw", [False, True], ids=["ink", "colours"])
def test_a_scanner_reads_it_at_either_terminal(dark: bool, raw: bool, tmp_path: Path) -> None:
    """Dark on light for the scanner, whether the terminal is dark, light, or told its colours."""
    drawing = drawn(LINK, light=not dark, raw=raw)
    assert read(picture(pixels(drawing, dark=dark), tmp_path / "code.png")) == LINK
    if raw:  # whatever was believed of the terminal
        assert read(picture(pixels(drawing, dark=not dark), tmp_path / "code.png")) == LINK


@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=700))
@settings(max_examples=15)
def test_any_text_comes_back(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What goes in as characters comes out as the same characters, at any size."""
    place = tmp_path_factory.getbasetemp() / "any.png"
    assert read(picture(pixels(drawn(text), dark=True), place)) == text


def test_a_code_for_ssh_is_characters_only() -> None:
    """ssh(1) writes anything else out as digits: half blocks, blanks and line ends are all there is."""
    assert set(drawn(LINK)) <= {*HALVES, "\n"}
    assert set(drawn(LINK, light=True)) <= {*HALVES, "\n"}


def test_the_quiet_zone_is_as_wide_as_there_is_room() -> None:
    """Four modules where they fit, two where they do not, and no code with less."""
    code = qr.modules(LINK)
    assert code is not None
    size = len(code)
    for columns, rows, border in ((size + 8, 99, 4), (size + 7, 99, 2), (size + 4, 99, 2), (99, (size + 5) // 2, 2)):
        drawing = qr.half_blocks(code, columns, rows)
        assert drawing is not None
        lines = drawing.split("\n")
        assert len(lines) == (size + 2 * border + 1) // 2 <= rows
        assert {len(line) for line in lines} == {size + 2 * border}
        assert lines[: border // 2] == ["█" * (size + 2 * border)] * (border // 2)
        assert all(line[:border] == "█" * border == line[-border:] for line in lines)
    assert qr.half_blocks(code, size + 3, 99) is None
    assert qr.half_blocks(code, 99, (size + 5) // 2 - 1) is None


def test_a_code_is_the_smallest_that_holds_the_text() -> None:
    """32 bytes are 25 modules (ISO/IEC 18004, version 2 at level L), and one more is the next size."""
    assert [len(qr.modules("a" * length) or ()) for length in (32, 33, 321, 322)] == [25, 29, 61, 65]


def test_what_no_code_holds_has_none() -> None:
    """2953 bytes are the most (version 40 at level L)."""
    assert len(qr.modules("a" * 2953) or ()) == 177
    assert qr.modules("a" * 2954) is None


@pytest.mark.parametrize("raw", [False, True])
def test_whatever_is_drawn_fits_a_packet(raw: bool) -> None:
    """A code that is too large for the module is none; one below that is carried."""
    carried = [_bytes_of(length, raw) for length in (1400, 1700, 2900)]
    assert 0 < carried[0] <= pam.MAX_PACKET
    assert carried[1] <= pam.MAX_PACKET
    assert carried[2] == 0


def _bytes_of(length: int, raw: bool) -> int:
    """Of the packet with the code of so long a text; 0: there is none."""
    drawing = qr.half_blocks(qr.modules("a" * length) or (), 1000, 1000, raw=raw)
    return len(pam.word_to_packet("say", drawing)) if drawing else 0
