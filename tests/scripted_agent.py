"""Transcripts of gpg-agent (tests/agent_transcripts/README), and an agent that plays one; or says what a test wants."""

import fnmatch
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from waiting import PATIENCE

from unlatch.gnupg.agent import Agent

FOLDER = Path(__file__).parent / "agent_transcripts"


class Act(NamedTuple):
    """One command: what is asked of the client, the lines of both sides, the secrets to give, and what comes of it."""

    command: str
    lines: list[tuple[str, str]]
    secrets: dict[str, bytes]
    outcome: str


class Transcript(NamedTuple):
    """What the agent says first, and all that follows."""

    greeting: str
    acts: list[Act]


def read(path: Path, **words: str) -> Transcript:
    """A transcript, with its placeholders replaced."""
    text = path.read_text()
    for word, value in words.items():
        text = text.replace(word, value)
    greeting, acts, secrets = "", list[Act](), dict[str, bytes]()
    for line in text.splitlines():
        mark, _, rest = line.partition(" ")
        match mark:
            case "<" if not acts:
                greeting = rest
            case "=":
                acts.append(Act(rest, [], secrets, ""))
                secrets = {}
            case "$":
                name, _, secret = rest.partition(" ")
                secrets[name] = _bytes(secret)
            case ":":
                acts[-1] = acts[-1]._replace(outcome=rest)
            case "<" | ">":
                acts[-1].lines.append((mark, rest))
    return Transcript(greeting, acts)


def _bytes(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


def perform(act: Act, agent: Agent) -> str:
    """Do what an act asks of our client; what came of it, as a transcript says it."""
    inquire = {name: lambda _, secret=secret: secret for name, secret in act.secrets.items()}
    try:
        data = agent.ask(act.command, inquire=inquire)
    except Exception as error:
        return type(error).__name__
    return data.decode().replace("\n", "\\n")


def fits(said: str, expected: str) -> bool:
    """Is this what a transcript's line says?"""
    return fnmatch.fnmatchcase(said, re.sub(r"([\[?])", r"[\1]", expected))


class Scripted:
    """An agent on a socket that greets, tells its pid, and then says ``speech``; None in it is a line to wait for.

    ``heard`` are the lines that came. Use it in ``with``, for the connected client.
    """

    def __init__(self, speech: list[bytes | None], *, pid: bytes = b"D 4242\nOK\n", stay: bool = False) -> None:
        self.heard: list[bytes] = []
        self._speech = [b"OK Pleased to meet you\n", None, pid, *speech]
        self._stay = stay
        self._folder = tempfile.mkdtemp(prefix="unlatch-", dir="/tmp")
        self.path = f"{self._folder}/S.gpg-agent"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._speak)

    def __enter__(self) -> Agent:
        self._thread.start()
        try:
            self.agent = Agent.at(self.path, os.getuid())
        except BaseException:
            self._end()
            raise
        return self.agent

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.agent.close()
        self._end()

    def _end(self) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()
        shutil.rmtree(self._folder)

    def _speak(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE)
        with connection, connection.makefile("rb") as lines:
            for saying in self._speech:
                try:
                    if saying is None:
                        self.heard.append(lines.readline().rstrip(b"\n"))
                    else:
                        connection.sendall(saying)
                except OSError:  # the client had enough
                    return
            if self._stay:
                self._over.wait(PATIENCE)


def agents_lines(transcript: Transcript) -> list[bytes | None]:
    """The agent's part, to be said by a scripted one."""
    lines = (line for act in transcript.acts for line in act.lines)
    return [None if mark == ">" else f"{line}\n".encode() for mark, line in lines]


def client_lines(transcript: Transcript) -> Iterator[str]:
    """What the client must have said."""
    return (line for act in transcript.acts for mark, line in act.lines if mark == ">")
