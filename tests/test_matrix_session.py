"""One login in one directory, used by several, and interrupted anywhere. The homeserver is real."""

import asyncio
import fcntl
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matrix.bot import notice
from matrix.gate import Gate
from matrix.reader import Room
from matrix.synapse import Synapse
from waiting import PATIENCE

from unlatch.matrix.errors import StoreBusy, StoreMissing
from unlatch.matrix.session import LISTENING, NotEncrypted, Session
from unlatch.matrix.store import Store
from unlatch.notify.matrix import MatrixNotifier


@pytest.fixture
def gate(synapse: Synapse) -> Iterator[Gate]:
    """The way to the homeserver, for the bot only."""
    gate = Gate(synapse.port)
    yield gate
    gate.close()


@pytest.fixture
def room(synapse: Synapse, tmp_path: Path, gate: Gate) -> Room:
    return Room(synapse, tmp_path, url=gate.url)


def until() -> float:
    return asyncio.get_running_loop().time() + PATIENCE


def with_session(room: Room, story: Callable[[Session], Awaitable[Any]], **options: Any) -> Any:
    async def told() -> Any:
        session = Session(Store(str(room.bot.state)), **options)
        try:
            async with asyncio.timeout(PATIENCE):
                return await story(session)
        finally:
            await session.close()

    return asyncio.run(told())


async def say(session: Session, text: str, **options: Any) -> str:
    await session.look(until(), age=60)
    content = {"msgtype": "m.text", "body": text}
    return (
        await session.send("m.room.message", content, options.pop("txn", session.unique()), until(), **options)
    ).event_id


def test_many_at_once_lose_nothing(room: Room) -> None:
    """Twelve senders in one process, each with new keys, and two sessions side by side in one directory."""

    async def story(session: Session) -> None:
        other = Session(Store(str(room.bot.state)))
        try:
            await asyncio.gather(*(say((session, other)[n % 2], f"message {n}", burst=True) for n in range(12)))
        finally:
            await other.close()

    with_session(room, story)
    assert sorted(room.texts()) == sorted(f"message {n}" for n in range(12))


def test_the_same_transaction_arrives_once(room: Room) -> None:
    """Sent again, it gives the id of the first, whatever it says."""

    async def story(session: Session) -> None:
        first = await say(session, "first", txn="t")
        assert await say(session, "second", txn="t") == first

    with_session(room, story)
    assert room.texts() == ["first"]


def test_keys_of_which_nobody_knows_whether_they_arrived_are_sent_anew(room: Room) -> None:
    """The request with the room keys is cut off; the next message can be read all the same."""

    async def story(session: Session) -> None:
        await session.look(until())
        real = session.server.to_device

        async def cut(*_: Any) -> None:
            raise asyncio.CancelledError

        session.server.to_device = cut  # type: ignore[method-assign]  # an outage of exactly one request
        with pytest.raises(asyncio.CancelledError):
            await say(session, "lost", burst=True)
        session.server.to_device = real  # type: ignore[method-assign]
        await say(session, "found")

    with_session(room, story)
    assert room.texts() == ["found"]


@pytest.mark.parametrize("steps", [1, 3, 10, 30])
def test_a_cancelled_sender_leaves_a_state_that_works(room: Room, steps: int) -> None:
    """Wherever it is stopped, nothing stays locked and the next message arrives."""

    async def story(session: Session) -> None:
        await session.open(until())
        task = asyncio.ensure_future(say(session, "stopped", burst=True))
        for _ in range(steps):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        await say(session, "after", burst=True)

    with_session(room, story)
    assert room.texts()[-1] == "after"


def test_what_another_process_saved_is_not_written_over(room: Room) -> None:
    """Each change begins with the newest state."""

    async def story(session: Session) -> None:
        other = Session(Store(str(room.bot.state)))
        await session.open(until())
        await other.open(until())
        for number, one in enumerate((session, other, session)):
            async with one.changing(until()) as state:
                state["messages"][str(number)] = {}
        async with other.changing(until(), save=False) as state:
            assert set(state["messages"]) == {"0", "1", "2"}

    with_session(room, story)


def test_half_a_change_is_none(room: Room) -> None:
    """A block that fails leaves disk and memory as they were."""

    async def story(session: Session) -> None:
        async def fail() -> None:
            async with session.changing(until()) as state:
                state["room_id"] = "elsewhere"
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        async with session.changing(until(), save=False) as state:
            assert state["room_id"] == room.id

    with_session(room, story)


def test_a_lock_that_is_kept_is_said(room: Room) -> None:
    """Nobody waits for ever for another process."""

    async def story(session: Session) -> None:
        with Store(str(room.bot.state)).locked(), pytest.raises(StoreBusy):
            await session.open(asyncio.get_running_loop().time() + 0.05)

    with_session(room, story)


def test_nothing_there(tmp_path: Path) -> None:
    """No directory is made by asking for it."""

    async def story() -> None:
        with pytest.raises(StoreMissing):
            await Session(Store(str(tmp_path / "nothing"))).open(until())

    asyncio.run(story())
    assert not (tmp_path / "nothing").exists()


def locked(file: Path) -> bool:
    if not file.exists():
        return False
    with file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_one_listens_at_a_time(room: Room) -> None:
    """The second waits for its turn and says so; what the first took is saved for both."""

    async def story(session: Session) -> None:
        other, told = Session(Store(str(room.bot.state))), asyncio.Event()
        await say(session, "hello")
        first = asyncio.ensure_future(session.poll(60, PATIENCE, lambda heard: None))
        while not locked(room.bot.state / LISTENING):
            await asyncio.sleep(0.01)
        second = asyncio.ensure_future(other.poll(0, PATIENCE, lambda heard: None, patient=told.set))
        await told.wait()
        first.cancel()
        await asyncio.wait([first])
        await second
        await other.close()

    with_session(room, story)


# Rooms that are not encrypted


def test_encrypted_once_is_encrypted_for_ever(synapse: Synapse, tmp_path: Path) -> None:
    """A homeserver that denies it later, and settings that would allow plaintext, change nothing."""
    room = Room(synapse, tmp_path, encrypted=False)

    async def story(session: Session) -> str:
        async with session.changing(until()) as state:
            state["encrypted"] = True
        return await say(session, "secret")

    event_id = with_session(room, story, allow_plaintext=True)
    token = synapse.login(room.admin.user)["access_token"]
    assert synapse.event(room.id, event_id, token)["type"] == "m.room.encrypted"


def test_plaintext_needs_a_word_in_the_settings(synapse: Synapse, tmp_path: Path) -> None:
    """Without it nothing is sent."""
    room = Room(synapse, tmp_path, encrypted=False)
    with pytest.raises(NotEncrypted):
        with_session(room, lambda session: say(session, "x"))
    event_id = with_session(room, lambda session: say(session, "x"), allow_plaintext=True)
    token = synapse.login(room.admin.user)["access_token"]
    assert synapse.event(room.id, event_id, token)["type"] == "m.room.message"


# What a notifier does when nobody knows whether something arrived


class Slow(MatrixNotifier):
    """One whose answers to the sending of events number ``lost`` are lost on the way back."""

    def __init__(self, room: Room, *lost: int) -> None:
        super().__init__("matrix", str(room.bot.state), seconds=PATIENCE)
        self._lost = lost
        self._sent = 0

    async def begin(self) -> None:
        await self._session.open(until())
        send = self._session.server.send

        async def lossy(*arguments: Any) -> str:
            event_id = await send(*arguments)
            self._sent += 1
            if self._sent in self._lost:
                raise asyncio.CancelledError
            return event_id

        self._session.server.send = lossy  # type: ignore[method-assign]  # the network, at one place exactly


@pytest.mark.parametrize("lost", [(1,), (2,), (1, 2), (1, 3)])
def test_a_ring_whose_answer_was_lost_rings_once(room: Room, lost: tuple[int, ...]) -> None:
    """Tried again, it makes no second message; at the end every link is gone, also the one nobody heard of."""
    asked = notice()

    async def story() -> None:
        notifier = Slow(room, *lost)
        await notifier.begin()
        for _ in lost:
            with pytest.raises(asyncio.CancelledError):
                await notifier.ring(asked)
        await notifier.ring(asked)
        await notifier.end(asked._replace(link=""), "accepted")
        await notifier.close()

    asyncio.run(story())
    check_over(room, messages=1)


@pytest.mark.parametrize("lost", [(1,), (2,)])
def test_a_prompt_that_ends_before_its_ring_is_known_to_have_arrived(room: Room, lost: tuple[int, ...]) -> None:
    """What may have got through is found out, edited and redacted."""
    asked = notice()

    async def story() -> None:
        notifier = Slow(room, *lost)
        await notifier.begin()
        with pytest.raises(asyncio.CancelledError):
            await notifier.ring(asked)
        await notifier.end(asked._replace(link=""), "withdrawn")
        await notifier.close()

    asyncio.run(story())
    check_over(room, messages=1)


def test_what_could_not_be_said_is_said_later(room: Room, gate: Gate) -> None:
    """The end of a prompt fails for good; the next ring of another process catches up."""
    asked = notice()

    async def first() -> None:
        notifier = MatrixNotifier("matrix", str(room.bot.state), seconds=PATIENCE)
        await notifier.ring(asked)
        gate.shut()
        with pytest.raises(Exception, match="cannot be used"):
            await notifier.end(asked._replace(link=""), "expired")
        await notifier.close()
        gate.reopen()

    async def second() -> None:
        notifier = MatrixNotifier("matrix", str(room.bot.state), seconds=PATIENCE)
        await notifier.ring(later)
        await notifier.end(later._replace(link=""), "accepted")
        await notifier.close()

    later = notice(words=("birch", "delta"))
    asyncio.run(first())
    asyncio.run(second())
    texts = check_over(room, messages=2)
    assert any(text.startswith("expired at ") and "amber canal" in text for text in texts)


def check_over(room: Room, messages: int) -> list[str]:
    """Nothing in the room holds a link any more, and no more messages were sent than there should be."""
    heard = room.read()
    contents = [one.plain["content"] for one in heard]
    assert not [content for content in contents if "fragment-that" in json.dumps(content)]
    own = [content for content in contents if content and "m.relates_to" not in content]
    assert len(own) == messages
    texts = [content["m.new_content"]["body"] for content in contents if "m.new_content" in content]
    assert any(" at " in text for text in texts)
    saved = Store(str(room.bot.state)).load()["messages"]
    assert [row["holding"] for row in saved.values()] == [{}] * messages
    return texts
