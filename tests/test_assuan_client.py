"""The client's half of Assuan without I/O: its rules, its bounds, and whatever bytes a server may send."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlatch.errors import Malformed
from unlatch.wire import assuan
from unlatch.wire.pinentry import Dialogue

GREETING = b"OK Pleased to meet you, process 1\n"


def greeted(**bounds: int) -> assuan.Client:
    """A client that heard a greeting."""
    client = assuan.Client(**bounds)
    client.feed(GREETING)
    assert client.reply() == ("OK", b"Pleased to meet you, process 1")
    return client


def asked(command: str = "NOP", **bounds: int) -> assuan.Client:
    """A client that waits for the replies to a command."""
    client = greeted(**bounds)
    client.command(command)
    return client


def replies(client: assuan.Client) -> list[tuple[str, bytes]]:
    return list(iter(client.reply, None))


# Commands


def test_a_command_waits_for_the_greeting() -> None:
    """Nothing may be sent to a server that has not said that it takes commands."""
    with pytest.raises(ValueError, match="still open"):
        assuan.Client().command("NOP")


def test_one_command_at_a_time() -> None:
    """The next one may be given after OK or ERR, not after data or a status."""
    client = asked()
    client.feed(b"S PROGRESS x\nD x\n")
    assert len(replies(client)) == 2
    with pytest.raises(ValueError, match="still open"):
        client.command("NOP")
    client.feed(b"ERR 1 General error\n")
    assert replies(client) == [("ERR", b"1 General error")]
    assert client.command("NOP") == b"NOP\n"


@pytest.mark.parametrize("line", ["", "a\nb", "a\rb", "a\0b", "x" * 1001, "é" * 501])
def test_what_is_no_line_is_not_sent(line: str) -> None:
    """A line break would be a second command; libassuan ends a connection for a longer line."""
    client = greeted()
    with pytest.raises(ValueError, match="not a line"):
        client.command(line)
    assert client.command("x" * 1000) == b"x" * 1000 + b"\n"


# Inquiries


def test_an_answer_is_data_and_an_end() -> None:
    """Escaped, in lines that libassuan takes; nothing is an answer too."""
    for data, sent in ((b"a%\r\n", b"D a%25%0D%0A\nEND\n"), (b"", b"END\n")):
        client = asked()
        client.feed(b"INQUIRE PASSPHRASE for what\n")
        assert client.reply() == ("INQUIRE", b"PASSPHRASE for what")
        assert bytes(client.answer(data)) == sent
        client.feed(b"OK\n")
        assert client.reply() == ("OK", b"")


def test_an_answer_needs_a_question() -> None:
    """Given to nobody, a secret would be taken for a command."""
    client = asked()
    for answer in (lambda: client.answer(b"secret"), client.cancel):
        with pytest.raises(ValueError, match="does not inquire"):
            answer()
    client.feed(b"INQUIRE X\n")
    client.reply()
    assert client.cancel() == b"CAN\n"
    with pytest.raises(ValueError, match="does not inquire"):
        client.answer(b"secret")


def test_a_server_that_inquires_waits() -> None:
    """What it says before it has an answer belongs to nothing."""
    client = asked()
    client.feed(b"INQUIRE X\nOK\n")
    client.reply()
    with pytest.raises(Malformed):
        client.reply()


@given(st.binary(max_size=4096))
def test_every_byte_of_an_answer_arrives(data: bytes) -> None:
    """As a server reads it, with lines of at most 1000 bytes."""
    client = asked()
    client.feed(b"INQUIRE X\n")
    client.reply()
    *lines, end, nothing = bytes(client.answer(data)).split(b"\n")
    assert (end, nothing) == (b"END", b"")
    assert all(line.startswith(b"D ") and len(line) <= 1000 for line in lines)
    assert assuan.unescape(b"".join(line[2:] for line in lines)) == data


# Replies


def test_data_is_unescaped_and_the_rest_is_not() -> None:
    """A status has an escape of its own, which depends on its keyword. Comments are for nobody."""
    client = asked()
    client.feed(b"# hello\nS KEYWORD a%20b \nD a%20%0A b \nOK\n")
    assert replies(client) == [("S", b"KEYWORD a%20b"), ("D", b"a \n b "), ("OK", b"")]


@pytest.mark.parametrize("line", [b"", b"ok", b"OKAY", b"X", b"END", b"NOP", b" OK", b"\xff", b"\tOK"])
def test_anything_else_is_no_reply(line: bytes) -> None:
    """Nobody guesses what a broken server may have meant."""
    client = asked()
    client.feed(line + b"\n")
    with pytest.raises(Malformed):
        client.reply()


def test_nobody_asked() -> None:
    """A second OK would be taken for the answer to the next command."""
    client = asked()
    client.feed(b"OK\nOK\n")
    client.reply()
    with pytest.raises(Malformed):
        client.reply()


def test_replies_are_bounded() -> None:
    """By the bytes of one command's replies, however they are cut; a line by libassuan's limit."""
    client = asked(most=4000)
    for _ in range(4):
        client.feed(b"S " + b"x" * 997 + b"\n")
        assert len(replies(client)) == 1
    with pytest.raises(Malformed):
        client.feed(b"S\n")
    client = asked(most=4000)
    for _ in range(10):
        client.feed(b"S " + b"x" * 997 + b"\nOK\n")
        assert len(replies(client)) == 2
        client.command("NOP")
    client.feed(b"x" * 1002)
    with pytest.raises(Malformed):
        client.reply()


def test_half_a_line_at_the_end_is_a_loss() -> None:
    """A server that ends in mid-line did not end in order."""
    client = asked()
    client.feed(b"OK")
    with pytest.raises(Malformed):
        client.feed(b"")


@pytest.mark.parametrize(
    ("text", "code"), [(b"1", 1), (b"67108875 Bad passphrase <GPG Agent>", 67108875), (b"4294967295 x", 2**32 - 1)]
)
def test_an_error_is_a_number(text: bytes, code: int) -> None:
    """Of 32 bits, with or without words."""
    error = assuan.parse_error(text)
    assert (error.code, error.text) == (code, text.decode().partition(" ")[2])


@pytest.mark.parametrize("text", [b"", b"x", b"-1", b"+1", b"4294967296", b"1" * 5000, b"\xb2", b"1x"])
def test_what_is_no_number_is_no_error(text: bytes) -> None:
    """Nor does it reach int(), which would take blanks, signs and other alphabets' digits."""
    with pytest.raises(Malformed):
        assuan.parse_error(text)


# Whatever may come

LINES = st.one_of(
    st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")),
    st.sampled_from(
        (b"OK", b"ERR 1 x", b"S A b", b"D %0", b"D %41", b"INQUIRE A", b"INQUIRE", b"S", b"D", b"#", b"ERR")
    ),
)


def play(pieces: list[bytes]) -> list[Any]:
    """All that comes of a stream: replies, and how it ended. Inquiries are answered, commands follow each other."""
    client, seen = assuan.Client(), list[Any]()
    try:
        for piece in pieces:
            client.feed(piece)
            while reply := client.reply():
                seen.append(reply)
                match reply:
                    case "INQUIRE", _:
                        client.answer(b"x")
                    case "ERR", text:
                        seen.append(assuan.parse_error(text).code)
                if client.idle:
                    client.command("NOP")
    except Malformed as error:
        seen.append(error.what)
    return seen


@given(st.lists(LINES, max_size=20), st.integers(1, 50))
def test_anything_may_be_said(lines: list[bytes], size: int) -> None:
    """Whatever a server sends, in whatever pieces: replies or Malformed, the same for all pieces; nothing else."""
    stream = GREETING + b"".join(line + b"\n" for line in lines)
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert play(pieces) == play([stream])


@given(st.binary(max_size=3000))
def test_any_bytes_may_come(stream: bytes) -> None:
    """The only exception that a server can cause is Malformed."""
    play([stream])


def test_both_halves_understand_each_other() -> None:
    """Our client and our pinentry, joined in memory: data, a refusal, a status before the answer, an end."""
    client, server = assuan.Client(), Dialogue("1.0", 42, lambda options: options.get("ttyname", "-"))
    client.feed(GREETING)
    assert client.reply() is not None

    def ask(line: str) -> list[tuple[str, bytes]]:
        client.feed(bytes(server.feed(client.command(line))))
        return replies(client)

    assert ask("GETINFO pid") == [("D", b"42"), ("OK", b"")]
    assert ask("NONSENSE")[0][0] == "ERR"
    assert ask("SETDESC 100%25") == [("OK", b"")]
    assert ask("GETPIN") == []
    assert server.request is not None
    assert server.request.text("desc") == "100%"
    client.feed(bytes(server.give(b"100%\r\n")))
    assert replies(client) == [("D", b"100%\r\n"), ("OK", b"")]
    assert ask("BYE") == [("OK", b"closing connection")]
