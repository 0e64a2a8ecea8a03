"""An admin whose client is our own session: quick, and as deaf as ours to what it should not hear. Phones that are not
ours are in phone.py.
"""

import asyncio
from pathlib import Path
from typing import Any

from matrix.bot import Bot
from matrix.synapse import Synapse
from waiting import PATIENCE

from unlatch.matrix.crypto import Machine
from unlatch.matrix.session import Heard, Session
from unlatch.matrix.store import Store

ENCRYPTION = {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


class Room:
    """A bot and its admin, who hold each other to their master keys, in a room of their own."""

    def __init__(self, synapse: Synapse, folder: Path, *, url: str = "", encrypted: bool = True) -> None:
        self.synapse = synapse
        self._looks = 0
        self.bot = Bot(synapse, folder / "bot", url=url)
        self.admin = Bot(synapse, folder / "admin")
        token = synapse.login(self.admin.user)["access_token"]
        body = {
            "preset": "private_chat",
            "invite": [self.bot.user.user_id],
            "initial_state": [ENCRYPTION] if encrypted else [],
        }
        self.id = str(synapse.call("POST", "/_matrix/client/v3/createRoom", body, token)["room_id"])
        self.admin.set_up(self.id, {})
        self.bot.set_up(self.id, {self.admin.user.user_id: _machine(self.admin).master_key})
        store = Store(str(self.admin.state))
        machine = _machine(self.admin)
        machine.pin(self.bot.user.user_id, _machine(self.bot).master_key, "emoji")
        with store.locked():
            store.save(store.load() | {"machine": machine.dump(store.pickle_key())})

    def read(self) -> list[Heard]:
        """What the bot said since the last look, and could be read."""

        async def look() -> list[Heard]:
            session, heard = Session(Store(str(self.admin.state))), list[Heard]()
            # Another timeout each time: Synapse answers the very same request from its cache for two minutes, and since
            # nothing new is nothing to save, we would ask the very same for as long as there is nothing new.
            self._looks += 1
            try:
                await session.poll(self._looks / 1000, PATIENCE, heard.append)
            finally:
                await session.close()
            return heard

        return asyncio.run(look())

    def say(self, content: dict[str, Any]) -> None:
        """Send a message as the admin."""

        async def send() -> None:
            session = Session(Store(str(self.admin.state)))
            until = asyncio.get_running_loop().time() + PATIENCE
            try:
                await session.look(until)
                await session.send("m.room.message", content, session.unique(), until)
            finally:
                await session.close()

        asyncio.run(send())

    def texts(self) -> list[str]:
        """What a person reads of that: an edit's new text; only what was encrypted by the bot's verified device."""
        contents = [heard.plain["content"] for heard in self.read() if heard.trusted]
        return [content.get("m.new_content", content).get("body", "") for content in contents]


def _machine(bot: Bot) -> Machine:
    store = Store(str(bot.state))
    return Machine.load(store.load()["machine"], store.pickle_key())
