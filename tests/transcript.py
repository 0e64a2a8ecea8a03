"""Plays a transcript (tests/transcripts/README) to a pinentry: the replies as they should be and as they are."""

import os
import pty
import re
import select
import subprocess
from pathlib import Path
from typing import NamedTuple, Protocol

from answerer import Page
from house import PINENTRY, House
from waiting import PATIENCE

FOLDER = Path(__file__).with_name("transcripts")
ENDED = "(end)"


class Step(NamedTuple):
    """One thing that is said or done (``>`` or ``@``; "" at first), and the replies that are expected to it."""

    kind: str
    text: bytes
    replies: list[str]


class Person(Protocol):
    """Who answers: at a terminal, or on the page."""

    environ: dict[str, str]

    def expect(self) -> None:
        """A request is about to be made; what was shown so far is old."""

    def do(self, request: bytes, action: bytes, text: bytes) -> None:
        """Type, press ok, cancel or notok, or do nothing."""

    def close(self) -> None:
        """Go away."""


def parse(path: Path, program: str) -> list[Step]:
    """The steps of a transcript, with the replies that ``program`` ("curses" or "unlatch") shall give."""
    steps = [Step("", b"", [])]
    for line in path.read_text().splitlines():
        mark, _, rest = line.partition(" ")
        if mark in (">", "@"):
            steps.append(Step(mark, _bytes(rest), []))
        elif mark in ("<", f"{program}<"):
            steps[-1].replies.append(_bytes(rest).decode("utf-8", "backslashreplace"))
        elif line == ENDED:
            steps[-1].replies.append(ENDED)
        else:
            assert mark in ("", "#", "curses<", "unlatch<"), f"{path.name}: {line}"
    return steps


def _bytes(text: str) -> bytes:
    text = re.sub(r"(\\x..|.)\{(\d+)\}", lambda found: found[1] * int(found[2]), text)
    return re.sub(rb"\\(x[0-9a-f]{2}|\\)", _unescaped, text.encode())


def _unescaped(found: "re.Match[bytes]") -> bytes:
    return b"\\" if found[1] == b"\\" else bytes([int(found[1][1:], 16)])


def matches(expected: str, got: str) -> bool:
    """Whether a reply is the expected one; "*" stands for anything."""
    return bool(re.fullmatch(".*".join(map(re.escape, expected.split("*"))), got))


class Player:
    """One pinentry with a pseudo terminal beside it."""

    def __init__(self, program: str, person: Person, terminal: str) -> None:
        self._person = person
        self._terminal = terminal.encode()
        self._request = b""
        self._buffer = b""
        self._process = subprocess.Popen(
            [program], env=person.environ, cwd="/",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip

    def play(self, step: Step) -> list[str]:
        """What comes back, as many lines as are expected."""
        assert self._process.stdin is not None
        if step.kind == "@":
            action, _, text = step.text.partition(b" ")
            self._person.do(self._request, action, text)
        elif step.kind == ">":
            if step.text.split(b" ")[0] in (b"GETPIN", b"CONFIRM", b"MESSAGE"):
                self._request = step.text
                self._person.expect()
            self._process.stdin.write(step.text.replace(b"TTY", self._terminal) + b"\n")
        return [self._line() for _ in step.replies]

    def end(self) -> str:
        """Close its input; what it says that was not expected."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        rest = self._line()
        return "" if rest == ENDED else rest

    def close(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        with self._process:
            pass

    def _line(self) -> str:
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
            assert ready, "no reply"
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                return ENDED if not self._buffer else self._buffer.decode("utf-8", "backslashreplace")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "backslashreplace")


class AtTheTerminal:
    """Somebody who sits in front of pinentry-curses and sees it on the pseudo terminal ``keyboard``."""

    def __init__(self, keyboard: int) -> None:
        self.environ = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        self._keyboard = keyboard

    def expect(self) -> None:
        """Take the old dialogue off the screen."""
        while self._look(0.0):
            pass

    def do(self, request: bytes, action: bytes, text: bytes) -> None:
        """Wait for the dialogue, then press keys: the input field or OK has the focus, Tab goes to the next."""
        self._see(b"OK>")
        cancel = b"\t\t\r" if request.startswith(b"GETPIN") else b"\t\r"
        keys = {b"type": text + b"\r", b"ok": b"\r", b"cancel": cancel, b"notok": b"\t\r", b"nothing": b""}[action]
        for start in range(0, len(keys), 100):
            os.write(self._keyboard, keys[start : start + 100])
            self._look(0.0)

    def close(self) -> None:
        """Nothing is left to do."""

    def _see(self, wanted: bytes) -> None:
        seen = b""
        while wanted not in seen:
            seen += self._look(PATIENCE)
            assert seen, "nothing on the terminal"

    def _look(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._keyboard], [], [], seconds)
        return os.read(self._keyboard, 65536) if ready else b""


class OnThePage:
    """Somebody who opens the links that the phone receives, and sees the pseudo terminal too."""

    def __init__(self, keyboard: int) -> None:
        self._house = House()
        self._keyboard = keyboard
        self._rings = 0
        self._page: Page | None = None
        self._typed = False
        self.environ = self._house.environ()

    def expect(self) -> None:
        """The phone keeps what is old apart."""

    def do(self, request: bytes, action: bytes, text: bytes) -> None:
        """Answer on the page: the one that is open if it goes on by itself, else that of the next ring."""
        page = self._next_page()
        match action:
            case b"type":
                page.unlock(text)
            case b"ok":
                page.allow(self._digits(page))
            case b"cancel" | b"notok":
                page.deny()
        self._page = page if action == b"type" else None  # a yes and a no are final

    def close(self) -> None:
        """End the broker."""
        self._house.clear()

    def _next_page(self) -> Page:
        if self._page is not None:
            return self._page.follow(self._page.verdict())
        self._rings += 1
        return self._house.open(self._house.phone.ring(self._rings)["link"])

    def _digits(self, page: Page) -> str:
        assert page.prompt is not None
        if not page.prompt.digits:
            return ""
        ready, _, _ = select.select([self._keyboard], [], [], PATIENCE)
        assert ready, "no digits on the terminal"
        digits: list[str] = re.findall(r"type (\d\d) on", os.read(self._keyboard, 65536).decode())
        return digits[-1]


def record(path: Path, program: str) -> list[tuple[str, list[str], list[str]]]:
    """Play a transcript to ``program``: for each step what it was, the replies expected, the replies given."""
    keyboard, terminal = pty.openpty()
    person: Person = AtTheTerminal(keyboard) if program == "curses" else OnThePage(keyboard)
    try:
        player = Player("pinentry-curses" if program == "curses" else str(PINENTRY), person, os.ttyname(terminal))
        try:
            played = [
                (step.text.decode(errors="replace")[:80], step.replies, player.play(step))
                for step in parse(path, program)
            ]
            return [*played, ("(end of input)", [""], [player.end()])]
        finally:
            player.close()
    finally:
        person.close()
        os.close(keyboard)
        os.close(terminal)
