"""The password agent: questions that share an Id, that have no end, and that go as soon as they came."""

import os
import signal
import socket
from pathlib import Path

import pytest
from house import UNLATCH, House
from real import absent
from waiting import until

from unlatch.errors import Malformed
from unlatch.frontends.asking import Person
from unlatch.frontends.systemd_agent import Agent, Place
from unlatch.wire import askfile

SECRET = b"correct horse"


@pytest.fixture
def directory(house: House) -> Path:
    """A directory of questions with our agent at it."""
    if os.getuid():
        absent("systemd takes answers of root only")
    directory = house.root / "ask-password"
    directory.mkdir(mode=0o755)
    return directory


def start(house: House, directory: Path) -> int:
    """The agent, ready; its pid."""
    agent = house.start(UNLATCH, "systemd-agent", "--directory", directory)
    assert agent.stderr is not None
    assert b"watching" in agent.stderr.readline()
    return agent.pid


def plant(directory: Path, name: str, question: str = "Message=Volume\nId=test:volume\n") -> socket.socket:
    """A question with a listening socket."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    door.bind(str(directory / f"sck.{name}"))
    door.settimeout(20)
    beside = directory / f"tmp.{name}"
    beside.write_text(f"[Ask]\nPID={os.getpid()}\nSocket={directory}/sck.{name}\n{question}")
    beside.rename(directory / f"ask.{name}")
    return door


def test_two_questions_with_one_id_are_both_answered(house: House, directory: Path) -> None:
    """The same Id rings once at a time; when the first question has its answer, the second one asks for its own."""
    start(house, directory)
    doors = {name: plant(directory, name) for name in ("one", "two")}
    link = house.phone.ring(1)["link"]

    def follows() -> bool:
        prompts = house.ask_admin({"op": "status"})["prompts"]
        return len(prompts) == 1 and len(prompts[0]["followers"]) == 1

    until(follows, "one follower")
    house.open(link).unlock(SECRET)
    house.open(house.phone.ring(2)["link"]).unlock(SECRET)
    for door in doors.values():
        assert door.recv(100) == b"+" + SECRET
        door.close()


def test_a_question_without_an_end_is_answered(house: House, directory: Path) -> None:
    """systemd-ask-password --timeout=infinity writes the largest number, which means no limit."""
    start(house, directory)
    door = plant(directory, "one", f"Message=Volume\nNotAfter={2**64 - 1}\n")
    house.open(house.phone.ring()["link"]).unlock(SECRET)
    assert door.recv(100) == b"+" + SECRET
    door.close()


def test_a_question_that_goes_at_once_ends_its_child_and_not_the_agent(house: House, directory: Path) -> None:
    """Of many questions that are withdrawn as soon as they appear, none stops the agent or leaves it waiting."""
    agent = start(house, directory)
    for number in range(40):
        plant(directory, f"gone{number}").close()
        (directory / f"ask.gone{number}").unlink()
    door = plant(directory, "stays", "Message=Stays\n")
    link = next(message["link"] for message in _rings(house) if message["title"] == "Stays")
    house.open(link).unlock(SECRET)
    assert door.recv(100) == b"+" + SECRET
    door.close()
    os.kill(agent, signal.SIGTERM)


def test_a_child_never_has_the_handlers_of_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes right after the fork waits until the child ends of it; the agent is not told to end."""
    held: list[set[int]] = []

    def fork() -> int:
        held.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        return os.getpid()  # as in the parent

    def nobody(moot: int) -> Person:
        raise AssertionError(moot)

    monkeypatch.setattr(os, "fork", fork)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    agent = Agent(Place(str(tmp_path), os.getuid()), (), nobody, print)
    agent._begin("ask.x", askfile.parse(b"[Ask]\nSocket=/x\n"))
    assert {signal.SIGTERM, signal.SIGINT} <= held[0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.parametrize(("text", "limit"), [("0", 0), ("7", 7), (str(2**64 - 1), 0), (str(2**63), 2**63)])
def test_times_are_those_of_systemd(text: str, limit: int) -> None:
    """NotAfter is an unsigned 64-bit number, and the largest is none."""
    assert askfile.parse(f"[Ask]\nSocket=/x\nNotAfter={text}\n".encode()).not_after == limit


@pytest.mark.parametrize("field", ["PID=2147483648", "NotAfter=184467440737095516150"])
def test_numbers_that_no_kernel_has_are_refused(field: str) -> None:
    """A pid is at most what pid_t holds."""
    with pytest.raises(Malformed):
        askfile.parse(f"[Ask]\nSocket=/x\n{field}\n".encode())


def _rings(house: House) -> list[dict[str, str]]:
    until(lambda: any(ring["title"] == "Stays" for ring in house.phone.messages("ring")), "the last question rings")
    return house.phone.messages("ring")
