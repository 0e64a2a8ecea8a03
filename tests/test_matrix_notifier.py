"""The notifier: the contract that all keep, its settings, and how it lives in the broker. The homeserver is real."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from matrix.bot import Running, notice
from matrix.reader import Room
from matrix.synapse import Synapse
from notifier_contract import NotifierContract
from waiting import until

from unlatch import config
from unlatch.broker.notice import Notice
from unlatch.broker.ringing import Ringer
from unlatch.broker.setup import add_notifiers
from unlatch.notify import Lasting, Notifier
from unlatch.notify.matrix import MatrixNotifier
from unlatch.notify.matrix_place import state_directory


class Once(MatrixNotifier):
    """One that lets go after each message, as every test of the contract has its own event loop."""

    async def ring(self, notice: Notice) -> None:
        try:
            await super().ring(notice)
        finally:
            await self.close()

    async def remind(self, notice: Notice) -> None:
        try:
            await super().remind(notice)
        finally:
            await self.close()

    async def end(self, notice: Notice, outcome: str) -> None:
        try:
            await super().end(notice, outcome)
        finally:
            await self.close()


class TestMatrix(NotifierContract):
    """As every notifier."""

    @pytest.fixture(autouse=True)
    def room(self, synapse: Synapse, tmp_path: Path) -> None:
        self.house = Room(synapse, tmp_path)
        self.said = ""

    def make(self) -> Notifier:
        return Once("matrix", str(self.house.bot.state))

    def told(self) -> str:
        self.said += "\n".join(self.house.texts())
        return self.said

    def make_broken(self) -> Notifier:
        return Once("matrix", str(self.house.bot.state) + "-that-is-not-there")

    def test_it_lasts(self) -> None:
        """The broker asks it for a note, and closes it."""
        assert isinstance(self.make(), Lasting)


@pytest.fixture
def room(synapse: Synapse, tmp_path: Path) -> Room:
    return Room(synapse, tmp_path)


@pytest.fixture
def broker(room: Room) -> Iterator[Running]:
    with room.bot.running() as running:
        yield running


def test_a_loud_ring_for_the_same_prompt_is_a_new_message(room: Room, broker: Running) -> None:
    """Its fresh link sounds; the older message loses its link and refers to the newer."""
    asked = notice()
    broker.ring(asked)
    broker.ring(asked._replace(link=f"{asked.link}-fresh", text="Too many pages opened the last link."))
    texts = room.texts()
    assert sum(text.endswith("Open this room for the link.") for text in texts) == 2
    assert "rung again: see the newer message" in texts
    assert any(f"{asked.link}-fresh" in text for text in texts)
    assert not any(text.endswith(asked.link) for text in texts)
    broker.end(asked, "accepted")
    assert not any("http" in text for text in room.texts())


def test_a_text_that_comes_back_is_shown_again(room: Room, broker: Running) -> None:
    """The page cannot be reached, can, cannot: each edit counts, although the first and the last say the same."""
    asked = notice()
    broker.ring(asked._replace(page_trouble="name: unknown"))
    for trouble in ("", "name: unknown"):
        broker.ring(asked._replace(page_trouble=trouble, quiet=True))
    texts = [text for text in room.texts() if "http" in text]
    assert "name: unknown" in texts[-1]


def test_the_status_tells_who_was_skipped(room: Room, synapse: Synapse, broker: Running) -> None:
    """A stranger in the room; the admin is told all the same."""
    stranger = synapse.register()
    token = synapse.login(room.admin.user)["access_token"]
    path = f"/_matrix/client/v3/rooms/{room.id}"
    synapse.call("POST", f"{path}/invite", {"user_id": stranger.user_id}, token)
    synapse.call("POST", f"{path}/join", {}, synapse.login(stranger)["access_token"])
    broker.ring(notice())
    assert broker.notifier.note == f"not sent to {stranger.user_id}: in the room, but not one of the admins"


def test_an_unclear_denial_is_answered(room: Room) -> None:
    """When the broker cannot tell which prompt is meant, the admin hears that nothing ended."""
    asked = notice()
    with room.bot.running() as broker:
        broker.ends = 0
        broker.ring(asked)
        root = next(heard.plain["event_id"] for heard in room.read() if "m.relates_to" not in heard.plain["content"])
        room.say({"msgtype": "m.text", "body": "deny birch", "m.relates_to": {"m.in_reply_to": {"event_id": root}}})
        until(lambda: broker.denials, "the denial")
        assert broker.denials == [(asked.id, room.admin.user.user_id, "birch")]
        until(lambda: any("that ended nothing" in text for text in room.texts()), "the answer")


# Settings


def settings(tmp_path: Path, text: str) -> config.Loaded:
    file = tmp_path / "unlatch.toml"
    file.write_text(f'[people.a]\nusers = ["*"]\nnotify = ["m"]\n[notify.m]\n{text}')
    return config.load(str(file), {}, 0)


def test_settings(tmp_path: Path) -> None:
    """A directory, or true for the default one; end-to-end unless plaintext is allowed."""
    (chosen,) = settings(tmp_path, 'matrix = "/srv/matrix"').settings.notifiers
    assert (chosen.kind, chosen.options["matrix"], chosen.end_to_end) == ("matrix", "/srv/matrix", True)
    (chosen,) = settings(tmp_path, "matrix = true\nallow_plaintext_room = true").settings.notifiers
    assert (chosen.options["matrix"], chosen.options["allow_plaintext_room"]) == ("", True)
    loaded = settings(tmp_path, "matrix = true\nallow_plaintext_room = true")

    async def made() -> bool:
        ringer = Ringer(lambda *_: None)
        (notifier,) = add_notifiers(ringer, loaded.settings, {}, None, lambda *_: 0, loopback=False)
        return notifier.end_to_end

    assert asyncio.run(made()) is False


@pytest.mark.parametrize(
    "text", ["matrix = false", 'matrix = "relative"', "terminal = true\nallow_plaintext_room = true", 'matrix = ""']
)
def test_mistakes(tmp_path: Path, text: str) -> None:
    """Each disables this notifier only."""
    loaded = settings(tmp_path, text)
    assert [mistake.fatal for mistake in loaded.mistakes] == [False]
    assert loaded.settings.notifiers == ()


def test_places() -> None:
    """What is chosen, else systemd's place, else the user's own."""
    assert state_directory("/x", {"STATE_DIRECTORY": "/var/lib/unlatch"}) == "/x"
    assert state_directory("", {"STATE_DIRECTORY": "/var/lib/unlatch:/y", "HOME": "/h"}) == "/var/lib/unlatch/matrix"
    assert state_directory("", {"HOME": "/h"}) == "/h/.local/state/unlatch/matrix"


# In the broker


def test_closing_is_clean(room: Room) -> None:
    """After a ring with a listener nothing is left: no task, no connection, no lock."""

    async def story() -> None:
        notifier = MatrixNotifier("matrix", str(room.bot.state))
        await notifier.ring(notice())
        await asyncio.sleep(0.05)
        assert len(asyncio.all_tasks()) == 2
        await notifier.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())


def test_nobody_listens_without_an_open_prompt(room: Room) -> None:
    """The last prompt's end ends the listening too."""

    async def story() -> None:
        notifier = MatrixNotifier("matrix", str(room.bot.state))
        first, second = notice(), notice()
        await notifier.ring(first)
        await notifier.ring(second)
        await notifier.end(first._replace(link=""), "accepted")
        assert len(asyncio.all_tasks()) == 2
        await notifier.end(second._replace(link=""), "accepted")
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        await notifier.close()

    asyncio.run(story())


def test_nothing_of_a_link_is_on_the_disk(room: Room, broker: Running) -> None:
    """Of a message only ids are remembered."""
    asked = notice()
    broker.ring(asked)
    kept = b"".join(path.read_bytes() for path in room.bot.state.iterdir())
    assert asked.id.encode() in kept
    for part in (b"fragment-that", b"AAAAAAAAAAAAAAAAAAAAAA#", b"amber", b"Unlock"):
        assert part not in kept


def test_to_listen_is_not_to_be_busy(room: Room) -> None:
    """A broker that only waits for replies may idle out; closing the ringer ends the listening."""

    async def story() -> None:
        reports: list[tuple[bool, str]] = []
        ringer = Ringer(lambda prompt_id, name, delivered, why: reports.append((delivered, why)))
        ringer.add(MatrixNotifier("matrix", str(room.bot.state)), "matrix", 10.0)
        ringer.ring("p", notice("p"), ("matrix",))
        while ringer.busy:
            await asyncio.sleep(0.01)
        assert reports == [(True, "")]
        assert [row["note"] for row in ringer.status()] == [""]
        assert len(asyncio.all_tasks()) == 2
        await ringer.close(1)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(story())
