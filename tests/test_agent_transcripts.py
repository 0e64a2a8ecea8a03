"""What gpg-agent and our client say to each other, as recorded: a real agent still says so, and we do."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House
from scripted_agent import FOLDER, Scripted, agents_lines, client_lines, fits, perform, read
from software_keys import SoftwareKeys

from unlatch.gnupg.homes import AGENT, EXTRA

TRANSCRIPTS = sorted(FOLDER.glob("*.txt"))
GRIP, OTHER = "A" * 40, "0" * 40


@pytest.fixture(scope="module")
def locked() -> Iterator[tuple[SoftwareKeys, str]]:
    """A home with a locked key, and its keygrip."""
    house = House()
    made = SoftwareKeys(house)
    grip = made.make("vault@web03.example")
    made.lock_all()
    yield made, grip
    house.clear()


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_real_agent_says_so(path: Path, locked: tuple[SoftwareKeys, str]) -> None:
    """Line by line, over a plain socket."""
    made, grip = locked
    name = EXTRA if path.stem == "forbidden" else AGENT
    place = next(place for place in made.home.sockets(name) if os.path.exists(place))
    transcript = read(path, GRIP=grip, OTHER=OTHER)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(place)
        with connection.makefile("rb") as lines:

            def expect(line: str) -> None:
                said = lines.readline().decode().rstrip("\n")
                assert fits(said, line), f"{said!r} instead of {line!r}"

            expect(transcript.greeting)
            for act in transcript.acts:
                for mark, line in act.lines:
                    if mark == ">":
                        connection.sendall(line.encode() + b"\n")
                    else:
                        expect(line)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_we_do(path: Path) -> None:
    """Each command becomes the lines that stand there, and what comes back becomes data or the named exception."""
    transcript = read(path, GRIP=GRIP, OTHER=OTHER)
    scripted = Scripted(agents_lines(transcript))
    with scripted as agent:
        for act in transcript.acts:
            outcome = perform(act, agent)
            assert fits(outcome, act.outcome), f"{act.command}: {outcome}"
    assert [line.decode() for line in scripted.heard] == ["GETINFO pid", *client_lines(transcript)]
