"""A broker that was started on demand ends when nobody needs it, and loses nobody who comes just then."""

import asyncio
import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from house import House
from test_server import admin_of, askers_of, registration
from waiting import until

from unlatch import runtime, start
from unlatch.broker.idle import Departure, IdleWatch


class Porch:
    """A broker's sockets, and a departure from them; ``waiting`` askers come when it looks the last time."""

    def __init__(self, folder: Path) -> None:
        self.askers, self.admin, self.lock = folder / "broker.sock", folder / "admin.sock", folder / "lock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.askers))
        self.listener.listen()
        self.admin.touch()
        self.waiting = 0
        self.departure = Departure(str(self.lock), str(self.askers), str(self.admin), self._accept)

    def _accept(self) -> int:
        assert not self.askers.exists()  # nobody new can come while we look
        return self.waiting


@pytest.fixture
def porch(tmp_path: Path) -> Any:
    porch = Porch(tmp_path)
    yield porch
    porch.listener.close()


def lock_is_free(path: Path) -> bool:
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_who_leaves_takes_the_sockets_away_and_keeps_the_lock(porch: Porch) -> None:
    """So the next asker starts a new broker only after this one has ended."""
    assert porch.departure.leave()
    assert sorted(os.listdir(porch.lock.parent)) == ["lock"]
    assert not lock_is_free(porch.lock)


def test_who_sees_somebody_come_stays(porch: Porch) -> None:
    """The socket is back in its place, the admin's too, and the lock is free."""
    porch.waiting = 1
    assert not porch.departure.leave()
    assert porch.askers.is_socket()
    assert porch.admin.exists()
    assert lock_is_free(porch.lock)


def test_nobody_leaves_while_an_asker_holds_the_lock(porch: Porch) -> None:
    """It is about to connect, or to start a broker."""
    with open(porch.lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not porch.departure.leave()
        assert porch.askers.is_socket()


def test_a_broker_whose_directory_was_removed_may_leave(tmp_path: Path) -> None:
    """Nobody can find it any more."""
    gone = tmp_path / "gone"
    assert Departure(f"{gone}/lock", f"{gone}/broker.sock", f"{gone}/admin.sock", lambda: 0).leave()


def watched(story: Callable[[IdleWatch, list[str]], Any], *, leaves: list[bool], seconds: float = 0.02) -> list[str]:
    """Run a story with a watch whose attempts to leave go as listed; what happened, in order."""
    happened: list[str] = []

    def leave() -> bool:
        left = leaves.pop(0)
        happened.append("left" if left else "stayed")
        return left

    async def told() -> None:
        ended = asyncio.Event()
        watch = IdleWatch(seconds, leave, ended.set)
        await story(watch, happened)
        await asyncio.wait_for(ended.wait(), 20)

    asyncio.run(told())
    return happened


def test_the_watch_tries_again_until_it_can_leave() -> None:
    """An attempt that failed is no reason to stay for ever."""

    async def story(watch: IdleWatch, happened: list[str]) -> None:
        watch.note(idle=True)
        watch.note(idle=True)

    assert watched(story, leaves=[False, False, True]) == ["stayed", "stayed", "left"]


def test_the_watch_starts_over_when_there_was_work() -> None:
    """Only a whole while of idleness counts."""

    async def story(watch: IdleWatch, happened: list[str]) -> None:
        for _ in range(5):
            watch.note(idle=True)
            await asyncio.sleep(0)
            watch.note(idle=False)
        assert watch._timer is None
        assert happened == []
        watch.note(idle=True)

    assert watched(story, leaves=[True]) == ["left"]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brokers started by this process leave at the first idle moment."""
    command = start._command
    monkeypatch.setattr(start, "_command", lambda: [*command(), "--idle", "0"])


def registered(house: House) -> str:
    """Put a prompt as an asker does, starting a broker if need be and trying again when one goes; its link's ticket."""
    environ = house.environ()
    place = runtime.own(os.getuid(), environ, str(house.root))
    owned, message = registration()
    line = json.dumps({"v": 1, **message}).encode() + b"\n"
    for _ in range(50):
        try:
            with start.connect(place, os.getuid(), environ) as asker:
                asker.settimeout(20)
                asker.sendall(line)
                told = asker.makefile("rb").readline()
        except (BrokenPipeError, ConnectionResetError):
            continue
        if told:
            assert json.loads(told)["event"] == "registered"
            return owned.link.ticket_text
    raise AssertionError("fifty brokers left without a word")


@pytest.mark.usefixtures("hasty")
def test_a_broker_leaves_no_trace_when_it_leaves(house: House) -> None:
    """Process and sockets are gone; the next asker finds a clean place."""
    house.settings.write_text('listen = "127.0.0.1:0"\n')
    for _ in range(2):
        assert registered(house)
        until(lambda: not house.brokers(), "the end of the idle broker")
        assert not askers_of(house).exists()
        assert not admin_of(house).exists()
        assert os.listdir(askers_of(house).parent) == []


@pytest.mark.usefixtures("hasty")
def test_nobody_is_lost_between_two_brokers(house: House) -> None:
    """Askers that come and go while brokers leave as fast as they can: each is served, by one broker at a time."""
    house.settings.write_text('listen = "127.0.0.1:0"\n')
    tickets: list[str] = []
    most = 0

    def ask() -> None:
        for _ in range(8):
            tickets.append(registered(house))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, len(house.brokers()))
    for thread in threads:
        thread.join()
    assert len(set(tickets)) == 32
    # One may still be closing its files, with its sockets gone, while the next one starts.
    assert most <= 2


def test_a_broker_with_an_open_prompt_stays(house: House, hasty: None) -> None:
    """However idle it looks."""
    house.settings.write_text('listen = "127.0.0.1:0"\n')
    environ = house.environ()
    place = runtime.own(os.getuid(), environ, str(house.root))
    _, message = registration()
    with start.connect(place, os.getuid(), environ) as asker:
        asker.settimeout(20)
        asker.sendall(json.dumps({"v": 1, **message}).encode() + b"\n")
        assert b"registered" in asker.recv(1000)
        for _ in range(20):
            assert house.ask_admin({"op": "status"})["broker"]["open"] == 1
    until(lambda: not house.brokers(), "the end of the idle broker")
