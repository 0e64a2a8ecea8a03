"""The questions of systemd-ask-password(1), and the answers to them (systemd.io/PASSWORD_AGENTS). Pure.

A question is a small file ``ask.XXXXXX`` with one section, ``[Ask]``; the answer is one datagram to the socket that it
names: ``+`` and the passwords, each but the last with a zero byte behind it, or ``-`` for "nobody gives one".
"""

from typing import NamedTuple

from unlatch.errors import Malformed

MAX_FILE = 65536  # bytes; systemd's own are below 1 KiB
MAX_TEXT = 1000  # characters of one value
NAME = "ask."  # what the names of questions start with
REFUSAL = b"-"
INFINITY = 2**64 - 1  # USEC_INFINITY: what "--timeout=infinity" writes, meaning no limit


class Question(NamedTuple):
    """One question. ``not_after`` is microseconds of CLOCK_MONOTONIC, 0 for no limit; ``pid`` 0 for not said."""

    socket: str
    message: str
    id: str
    pid: int
    not_after: int
    echo: bool
    silent: bool

    @property
    def title(self) -> str:
        """The message on one line."""
        return " ".join(self.message.split())[:120].rstrip(": ") or "A program asks for a password"


def parse(data: bytes) -> Question:
    """Read a question. Keys that are not known are passed over, as systemd's own agents do.

    Raises:
        Malformed: no question, or one that cannot be answered.
    """
    if len(data) > MAX_FILE:
        raise Malformed("question: too long")
    fields: dict[str, str] = {}
    section = ""
    for line in data.decode("utf-8", "replace").splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text
        elif section == "[Ask]" and "=" in text and text[0] not in "#;":
            name, _, value = text.partition("=")
            fields[name.strip()] = value.strip()[:MAX_TEXT]
    socket = fields.get("Socket", "")
    if not socket.startswith("/") or "\0" in socket:
        raise Malformed("question: Socket")
    return Question(
        socket=socket,
        message=fields.get("Message", ""),
        id=fields.get("Id", ""),
        pid=_pid(fields.get("PID", "0")),
        not_after=_number(fields.get("NotAfter", "0"), "NotAfter") % INFINITY,
        echo=fields.get("Echo", "0") == "1",
        silent=fields.get("Silent", "0") == "1",
    )


def is_over(question: Question, now: int, *, alive: bool) -> bool:
    """Whether nobody waits for an answer any more; ``now`` is microseconds of CLOCK_MONOTONIC."""
    return (question.pid > 0 and not alive) or 0 < question.not_after <= now


def answer(secret: memoryview) -> bytearray:
    """The datagram that gives one password, for the caller to wipe."""
    datagram = bytearray(b"+")
    datagram += secret
    return datagram


def _pid(text: str) -> int:
    number = _number(text, "PID")
    if number > 2**31 - 1:
        raise Malformed("question: PID")
    return number


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        raise Malformed(f"question: {what}")
    return int(text)
