"""Assuan lines: what is cut, escaped and refused, at either end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlatch.errors import Malformed
from unlatch.wire import assuan


def read_all(reader):
    return list(iter(reader.next_line, None))


def test_lines_end_with_lf_or_crlf():
    """One CR before the LF belongs to the line's end; any other belongs to the line."""
    reader = assuan.LineReader()
    reader.feed(b"one\ntwo\r\nthree\r\r\n\r\n\n\rfour")
    assert read_all(reader) == [b"one", b"two", b"three\r", b"", b""]
    assert reader.incomplete
    reader.feed(b"\n")
    assert read_all(reader) == [b"\rfour"]
    assert not reader.incomplete


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_it_does_not_matter_how_the_stream_is_cut(lines, size):
    """The same lines come out, however the bytes arrive."""
    stream = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    whole, pieces = assuan.LineReader(), assuan.LineReader()
    whole.feed(stream)
    got = []
    for start in range(0, len(stream), size):
        pieces.feed(stream[start : start + size])
        got += read_all(pieces)
    assert got == read_all(whole)
    assert len(got) == len(lines)


@pytest.mark.parametrize(("size", "end"), [(1001, b"\n"), (1000, b"\r\n")])
def test_the_longest_line(size, end):
    """1001 bytes are taken, as libassuan takes them, the CR included; one more is an error."""
    reader = assuan.LineReader()
    reader.feed(b"x" * size + end)
    assert reader.next_line() == b"x" * size
    reader.feed(b"x" * (size + 1) + end)
    with pytest.raises(Malformed):
        reader.next_line()


def test_a_line_that_never_ends_is_an_error_at_once():
    """1002 bytes without a newline are too many; nobody waits for the rest."""
    reader = assuan.LineReader()
    reader.feed(b"x" * 1001)
    assert reader.next_line() is None
    reader.feed(b"x")
    with pytest.raises(Malformed):
        reader.next_line()


def test_what_waits_is_bounded():
    """Nobody can fill the memory of a reader that is not read."""
    reader = assuan.LineReader()
    reader.feed(b"NOP\n" * 16384)
    with pytest.raises(Malformed):
        reader.feed(b"N")


def test_the_rest_can_be_taken_over():
    """What was not asked for comes out as it came in."""
    reader = assuan.LineReader()
    reader.feed(b"one\r\ntwo\r\nthr")
    reader.next_line()
    assert reader.rest() == b"two\r\nthr"
    assert not reader.incomplete


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=4096))
def test_data_lines_carry_every_byte(data):
    """No line is longer than 1000 bytes, only percent, CR and LF are escaped, and all of it comes back."""
    lines = bytes(assuan.data_lines(data)).split(b"\n")
    assert lines.pop() == b""
    assert all(line.startswith(b"D ") and 2 < len(line) <= 1000 for line in lines)
    assert not any(b"\r" in line for line in lines)
    assert assuan.unescape(b"".join(line[2:] for line in lines)) == data


def test_data_lines_are_cut_where_libassuan_cuts():
    """At 998 bytes, and at up to 1000 where an escape would be split."""
    assert [len(line) for line in bytes(assuan.data_lines(b"y" * 1994)).split(b"\n")] == [998, 998, 4, 0]
    assert [len(line) for line in bytes(assuan.data_lines(b"y" * 995 + b"%%")).split(b"\n")] == [1000, 5, 0]
    assert assuan.data_lines(b"") == b""


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (b"", b""),
        (b"a%0Ab", b"a\nb"),
        (b"%25%0d%0D", b"%\r\r"),
        (b"%2525", b"%25"),
        (b"%C3%A9", "é".encode()),
        (b"%00", b"\0"),
        (b"100%", b"100%"),
        (b"%4", b"%4"),
        (b"%zz%4g%g4", b"%zz%4g%g4"),
        (b"%%41", b"%A"),
        (b"%+1% 1%-1", b"%+1% 1%-1"),
        (b"a+b", b"a+b"),
    ],
)
def test_unescape(text, plain):
    """Two hexadecimal digits after a percent are a byte; anything else stays what it is."""
    assert assuan.unescape(text) == plain


def test_status_and_error_lines():
    """A status is one line whatever is said in it; an error carries number and text."""
    assert assuan.status_line("PIN_REPEATED") == b"S PIN_REPEATED\n"
    assert assuan.status_line("ERROR", "a\nb 50%") == b"S ERROR a%0Ab 50%25\n"
    assert len(assuan.status_line("ERROR", "%" * 5000)) <= assuan.MAX_LINE
    assert assuan.AssuanError(83886179, "Operation cancelled <Pinentry>").line() == (
        b"ERR 83886179 Operation cancelled <Pinentry>\n"
    )


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        (b"NOP", (b"NOP", b"")),
        (b"getinfo  pid ", (b"GETINFO", b"pid ")),
        (b"OPTION\t a b", (b"OPTION", b"a b")),
        (b"", (b"", b"")),
    ],
)
def test_split_command(line, parts):
    """The command ends at the first blank; blanks behind its arguments are theirs."""
    assert assuan.split_command(line) == parts
