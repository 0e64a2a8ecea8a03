"""Peers that talk too much: everybody gets a turn, a flood waits, and who is refused again and again is hung up on."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from unlatch.broker.connections import MOST_REFUSALS, Connection
from unlatch.broker.pace import LINES_PER_SECOND, Pace


class Listener:
    """A side that notes what it hears."""

    max_unread = 1_000_000

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.there = 0
        self.impatient = False

    def came(self, connection: Connection) -> None:
        self.there += 1

    def patience(self, connection: Connection) -> float:
        return 0.01 if self.impatient else 0.0

    def said(self, connection: Connection, line: bytes, *, first: bool) -> None:
        self.heard.append(line)
        if line == b"no":
            connection.send({"event": "refused"})

    def refuse(self, connection: Connection, why: str, text: str) -> None:
        raise AssertionError(text)

    def left(self, connection: Connection) -> None:
        self.there -= 1


def run(story: Callable[[Listener], Awaitable[None]]) -> None:
    async def told() -> None:
        side = Listener()
        await story(side)
        await everybody_gone(side)

    asyncio.run(asyncio.wait_for(told(), 20))


async def everybody_gone(side: Listener) -> None:
    while side.there:
        await asyncio.sleep(0)


async def connect(side: Listener) -> socket.socket:
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(side), ours)
    theirs.setblocking(False)
    return theirs


async def hear(side: Listener, count: int) -> None:
    while len(side.heard) < count:
        await asyncio.sleep(0)


def test_everybody_gets_a_turn() -> None:
    """A thousand lines in one packet, and another peer's one line: it is heard after a few of them."""

    async def story(side: Listener) -> None:
        with await connect(side) as flood, await connect(side) as other:
            flood.send(b"flood\n" * 1000)
            await hear(side, 1)
            other.send(b"me too\n")
            await hear(side, 1001)
        assert side.heard.index(b"me too") < 10

    run(story)


def test_all_lines_are_heard_before_the_end() -> None:
    """Who says much and hangs up at once is heard to the last line."""

    async def story(side: Listener) -> None:
        with await connect(side) as peer:
            peer.send(b"line\n" * 100)
        await everybody_gone(side)
        assert len(side.heard) == 100

    run(story)


def test_while_lines_wait_no_more_is_read() -> None:
    """A peer that must wait fills the kernel's buffer and not ours; then it is heard."""

    async def story(side: Listener) -> None:
        side.impatient = True
        loop = asyncio.get_running_loop()
        with await connect(side) as peer:
            sending = asyncio.create_task(loop.sock_sendall(peer, b"line\n" * 500_000))
            assert not (await asyncio.wait([sending], timeout=0.1))[0]
            assert side.heard == []
            side.impatient = False
            await hear(side, 1000)
            sending.cancel()

    run(story)


def test_who_is_refused_again_and_again_is_hung_up_on() -> None:
    """A front end gives up after the first refusal."""

    async def story(side: Listener) -> None:
        with await connect(side) as peer:
            peer.send(b"no\n" * 1000)
            await everybody_gone(side)
        assert len(side.heard) == MOST_REFUSALS

    run(story)


def test_a_burst_is_heard_and_then_so_many_a_second() -> None:
    """Per uid; what is not said today is not saved beyond a burst."""
    pace = Pace(burst=3)
    assert [pace.wait(100.0, 1000) for _ in range(3)] == [0, 0, 0]
    assert pace.wait(100.0, 1000) == pytest.approx(1 / LINES_PER_SECOND)
    assert pace.wait(100.0, 1001) == 0
    assert pace.wait(100.0 + 1 / LINES_PER_SECOND, 1000) == 0
    assert [pace.wait(9999.0, 1000) > 0 for _ in range(4)] == [False, False, False, True]


def test_many_uids_take_little_room() -> None:
    """Whoever has not spoken for a while is forgotten."""
    pace = Pace(burst=3)
    for uid in range(10_000):
        assert pace.wait(float(uid), uid) == 0
    assert len(pace._left) <= 1024
