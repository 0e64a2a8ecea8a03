"""The module's reader in C and wire/pam.py in Python take the same packets for the same."""

import ctypes
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pam_build import ROOT, Workshop

from unlatch.errors import Malformed
from unlatch.wire import pam

NUMBERS = ("", *pam.WORDS[:4], "wait", "allow", "deny", "fail")  # enum word of pam/fields.h
Reader = Callable[[bytes], tuple[str, bytes]]

shown = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=200)
parts = st.sampled_from([b"\0", b"x", b"\xff", *(word.encode() for word in pam.WORDS)])
nearly = st.builds(lambda word, rest: b"".join([word.encode(), *rest]), st.sampled_from(pam.WORDS), st.lists(parts))
packets = st.one_of(st.binary(max_size=60), nearly)


@pytest.fixture(scope="module")
def reader(workshop: Workshop) -> Reader:
    """``read_word`` of pam/fields.h: the word and its text."""
    read = ctypes.CDLL(str(workshop.reader())).read_it

    def call(packet: bytes) -> tuple[str, bytes]:
        memory = ctypes.create_string_buffer(packet, len(packet))
        text = ctypes.c_char_p()
        word = NUMBERS[read(memory, ctypes.c_size_t(len(packet)), ctypes.byref(text))]
        return word, text.value or b""

    return call


def python(packet: bytes) -> tuple[str, str]:
    """What wire/pam.py takes it for."""
    try:
        return pam.word_from_packet(packet)
    except Malformed:
        return "", ""


@settings(max_examples=2000)
@given(packet=packets)
@example(packet=b"")
@example(packet=b"allow\0")
@example(packet=b"say\0\0")
@example(packet=b"ask\0a\0b\0")
def test_both_take_a_packet_for_the_same(reader: Reader, packet: bytes) -> None:
    """The same word and text, or both take it for nothing."""
    word, text = reader(packet)
    assert (word, text.decode("utf-8", "replace") if word else "") == python(packet)


@given(
    word=st.sampled_from(pam.WORDS), text=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=200)
)
def test_what_python_writes_arrives(reader: Reader, word: str, text: str) -> None:
    """Every packet that the service can say is read back whole."""
    text = text if word in pam.SHOWING else ""
    assert reader(pam.word_to_packet(word, text)) == (word, text.encode())


def test_the_limits_are_the_same() -> None:
    """Sizes that stand in both sources."""
    source = Path(ROOT / "pam/pam_unlatch.c").read_text()
    for name in ("MAX_PACKET", "MAX_HELLO", "MAX_ANSWER"):
        assert f"#define {name} {getattr(pam, name)}" in source
    assert f'#define VERSION "{pam.VERSION.decode()}"' in source
