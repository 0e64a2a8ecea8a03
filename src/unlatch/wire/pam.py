"""Packets between ``pam_unlatch.so`` and ``unlatch pam serve`` (docs/protocol.md section 8). Bytes in, words out.

The socket keeps the packets apart (unix(7), SOCK_SEQPACKET), so neither side ever cuts a stream. A packet is one or
more fields, each with a NUL after it. The module speaks first, with a :class:`Hello`; from then on the service says
one :data:`WORDS` after the other, and the module answers ``ask`` and ``hide`` only.
"""

import re
from typing import NamedTuple

from unlatch.errors import Malformed

VERSION = b"unlatch-pam-1"
MAX_PACKET = 32768  # bytes; pam/pam_unlatch.c has the same
MAX_HELLO = 16384
MAX_FIELD = 8192  # SSH_AUTH_INFO_0 holds whole public keys
MAX_ANSWER = 1024  # bytes of what somebody typed; PAM_MAX_RESP_SIZE is 512
MAX_ARGUMENTS = 8

# What the service says. ``say`` and ``warn`` show a line or more (PAM_TEXT_INFO, PAM_ERROR_MSG), ``ask`` and ``hide``
# prompt with and without echo, ``wait`` says that the service lives; the others end the conversation.
SHOWING = ("say", "warn", "ask", "hide")
ENDING = ("allow", "deny", "fail")
WORDS = (*SHOWING, "wait", *ENDING)


class Hello(NamedTuple):
    """What the module knows of a login. All but ``service`` may be empty; none of it is proven.

    ``connection`` is sshd's SSH_CONNECTION, ``authinfo`` its SSH_AUTH_INFO_0: what succeeded before, a line each.
    ``arguments`` are those of the line in /etc/pam.d.
    """

    service: str
    user: str
    rhost: str = ""
    ruser: str = ""
    tty: str = ""
    connection: str = ""
    authinfo: str = ""
    arguments: tuple[str, ...] = ()


# C0, DEL and C1 break lines and terminals; what is no UTF-8 cannot be shown at all.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def hello_to_packet(hello: Hello) -> bytes:
    """The module's first packet, as the C module sends it."""
    return _packet(VERSION, *(field.encode() for field in (*hello[:7], *hello.arguments)))


def hello_from_packet(packet: bytes) -> Hello:
    """Read the module's first packet.

    Raises:
        Malformed: another version, too few, too many or too long fields, or control characters (``authinfo`` may have
            line breaks).
    """
    if len(packet) > MAX_HELLO:
        raise Malformed("hello")
    fields = _fields(packet)
    if fields[0] != VERSION or not 8 <= len(fields) <= 8 + MAX_ARGUMENTS:
        raise Malformed("hello")
    texts = [_text(field) for field in fields[1:]]
    if not texts[0] or any(_CONTROL.search(text) for text in (*texts[:6], *texts[7:])):
        raise Malformed("hello")
    service, user, rhost, ruser, tty, connection, authinfo, *arguments = texts
    return Hello(service, user, rhost, ruser, tty, connection, authinfo, tuple(arguments))


def word_to_packet(word: str, text: str = "") -> bytes:
    """What the service says. ``text`` goes with the words of :data:`SHOWING` only; it may have line breaks.

    Raises:
        Malformed: the packet would be larger than the module takes, or the text holds a NUL.
    """
    shown = text.encode("utf-8", "replace")
    if word not in WORDS or (text and word not in SHOWING) or b"\0" in shown:
        raise Malformed("word")
    packet = _packet(word.encode(), shown) if word in SHOWING else _packet(word.encode())
    if len(packet) > MAX_PACKET:
        raise Malformed("word")
    return packet


def word_from_packet(packet: bytes) -> tuple[str, str]:
    """Read what the service said: the word, and its text or "".

    Raises:
        Malformed
    """
    fields = _fields(packet)
    word = fields[0].decode("ascii", "replace")
    if word not in WORDS or len(fields) != (2 if word in SHOWING else 1):
        raise Malformed("word")
    return word, fields[1].decode("utf-8", "replace") if word in SHOWING else ""


def answer_to_packet(answer: bytes) -> bytes:
    """What somebody typed, as the module sends it."""
    return _packet(b"answer", answer)


def answer_from_packet(packet: bytes) -> bytes:
    """Read what somebody typed. The error never quotes it.

    Raises:
        Malformed
    """
    fields = _fields(packet)
    if len(fields) != 2 or fields[0] != b"answer" or len(fields[1]) > MAX_ANSWER:
        raise Malformed("answer")
    return fields[1]


def _packet(*fields: bytes) -> bytes:
    return b"".join(field + b"\0" for field in fields)


def _fields(packet: bytes) -> list[bytes]:
    if not packet.endswith(b"\0"):  # an empty one too
        raise Malformed("packet")
    return packet[:-1].split(b"\0")


def _text(field: bytes) -> str:
    if len(field) > MAX_FIELD:
        raise Malformed("hello")
    try:
        return field.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("hello") from None
