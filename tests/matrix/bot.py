"""A bot that is set up: an account, a state directory, a room; made in the process of the test, without prompts."""

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from matrix.phone import MatrixPhone
from matrix.synapse import Synapse, User
from waiting import PATIENCE

from unlatch.broker.notice import Notice
from unlatch.matrix.api import Homeserver
from unlatch.matrix.crypto import Machine
from unlatch.matrix.http import parse_address
from unlatch.matrix.store import Store
from unlatch.notify.matrix import MatrixNotifier

LINK = "https://unlock.example.test/web03/AAAAAAAAAAAAAAAAAAAAAA#fragment-that-nobody-else-may-see"


class Bot:
    """``state`` is its directory. ``url`` may lead through a gate."""

    def __init__(self, synapse: Synapse, state: Path, *, url: str = "") -> None:
        self.synapse = synapse
        self.state = state
        self.url = url or synapse.url
        self.user: User = synapse.register()
        self.room = ""

    def set_up(self, room: str, pins: Mapping[str, str], *, verified: str = "emoji") -> None:
        """Log in, publish keys and cross-signing, enter the room, hold each user to a master key."""
        # In a thread: Playwright keeps an event loop in that of the tests.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, self._set_up(room, pins, verified)).result()

    async def _set_up(self, room: str, pins: Mapping[str, str], verified: str) -> None:
        until = asyncio.get_running_loop().time() + PATIENCE
        address = parse_address(self.url)
        assert address is not None
        server = Homeserver(address)
        login = await server.login(self.user.user_id, self.user.password, "web03", until)
        server.token = login["access_token"]
        machine = Machine.create(login["user_id"], login["device_id"])
        upload = machine.keys_upload()
        assert upload is not None
        machine.keys_uploaded(await server.keys("upload", upload, until))
        await server.keys("device_signing/upload", machine.cross_signing_upload(), until)
        for user_id, master_key in pins.items():
            machine.pin(user_id, master_key, verified)
        machine.keys_query_done(await server.keys("query", machine.keys_query(pins), until))
        signatures = machine.signatures_upload()
        assert signatures is not None
        machine.signatures_uploaded(await server.keys("signatures/upload", signatures, until))
        self.room = await server.join(room, until)
        since = (await server.sync("", {"room": {"timeline": {"limit": 0}}}, 0, until))["next_batch"]
        await server.close()
        store = Store(str(self.state))
        store.create(os.urandom)
        with store.locked():
            store.save(
                {
                    "homeserver": self.url,
                    "token": server.token,
                    "room_id": self.room,
                    "since": since,
                    "messages": {},
                    "machine": machine.dump(store.pickle_key()),
                }
            )

    def ring(self, notice: Notice) -> None:
        """One ring by a broker that has only just started."""
        with self.running() as broker:
            broker.ring(notice)

    def end(self, notice: Notice, outcome: str) -> None:
        """One end by a broker that has only just started."""
        with self.running() as broker:
            broker.end(notice, outcome)

    def running(self, **options: Any) -> "Running":
        """A broker that goes on while the test looks elsewhere."""
        return Running(str(self.state), **options)


class Running:
    """A notifier in a thread with an event loop, as a broker has it; ``denials`` are what the room told it."""

    def __init__(self, state: str, *, seconds: float = PATIENCE, **options: Any) -> None:
        self.denials: list[tuple[str, str, str]] = []  # notice.id, user id, what else was said
        self.ends = 1  # how many prompts a denial ends
        self.notifier = MatrixNotifier("matrix", state, seconds=seconds, deny=self._deny, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self.notifier.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ring(self, notice: Notice) -> None:
        self._do(self.notifier.ring(notice))

    def remind(self, notice: Notice) -> None:
        self._do(self.notifier.remind(notice))

    def end(self, notice: Notice, outcome: str) -> None:
        self._do(self.notifier.end(notice._replace(link=""), outcome))

    def _do(self, doing: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(doing, self._loop).result(3 * PATIENCE)

    def _deny(self, name: str, notice_id: str, by: str, said: str) -> int:
        self.denials.append((notice_id, by, said))
        return self.ends


def notice(notice_id: str = "", **changes: Any) -> Notice:
    """A notice with a link; each one is another prompt's."""
    made = Notice(
        id=notice_id or os.urandom(8).hex(), link=LINK, words=("amber", "canal"), host="web03", user="ada", uid=1000,
        person="admin", kind="passphrase", title="Unlock the key Ada", text="for sql-root", command="pass sql-root",
        unit="backup.service", remaining=3600.0,
    )  # fmt: skip
    return made._replace(**changes)


def ring_often(state: str, name: str, times: str) -> None:
    """In a process of its own: rings that are named name0, name1 and so on."""
    with Running(state) as broker:
        for number in range(int(times)):
            broker.ring(notice(words=(f"{name}{number}", "canal")))


def _meet(phone: MatrixPhone, room: str, bot: Bot) -> None:
    """Wait until the phone knows the bot's device, and that the bot vouches for it."""
    phone.wait(room, lambda _: any(phone.trust(bot.user.user_id)["devices"].values()), "the bot's identity")


def paired(
    synapse: Synapse, phone: MatrixPhone, state: Path, *others: MatrixPhone, url: str = "", encrypted: bool = True
) -> Bot:
    """People with verified phones, and a bot that holds to them, in a room of their own."""
    pins = {}
    for one in (phone, *others):
        master_key = one.login(synapse, synapse.register())
        pins[one.user_id] = master_key
    bot = Bot(synapse, state, url=url)
    room = phone.create(bot.user.user_id, *(one.user_id for one in others), encrypted=encrypted)
    for one in others:
        one.join(room)
    bot.set_up(room, pins)
    # A phone that has only seen half of the bot's identity when a message arrives may not look at that message again.
    for one in (phone, *others) if encrypted else ():
        _meet(one, room, bot)
    return bot
