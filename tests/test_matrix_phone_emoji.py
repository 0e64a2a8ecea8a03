"""Emoji with a client that is not ours (matrix-js-sdk): in an encrypted room and to devices, both roles."""

import asyncio
import os
import time
from typing import Any

import pytest
from matrix.phone import MatrixPhone, Phones
from matrix.synapse import Synapse
from waiting import PATIENCE

from unlatch.matrix.api import Homeserver
from unlatch.matrix.crypto import Machine
from unlatch.matrix.http import parse_address
from unlatch.matrix.sas import Outgoing, State, Verification, is_request

Json = dict[str, Any]


class EmojiBot:
    """A bot that does nothing but to verify one person; room events are encrypted for that person's devices."""

    def __init__(self, synapse: Synapse, phone: MatrixPhone) -> None:
        self.phone = phone
        self.user = synapse.register()
        address = parse_address(synapse.url)
        assert address is not None
        self.server = Homeserver(address)
        self.until = 0.0
        self.since = ""
        self.room = ""
        self.machine: Machine
        self.verification: Verification | None = None

    async def set_up(self) -> None:
        self.until = asyncio.get_running_loop().time() + PATIENCE
        login = await self.server.login(self.user.user_id, self.user.password, "bot", self.until)
        self.server.token = login["access_token"]
        self.machine = machine = Machine.create(login["user_id"], login["device_id"])
        machine.keys_uploaded(await self.server.keys("upload", machine.keys_upload() or {}, self.until))
        await self.server.keys("device_signing/upload", machine.cross_signing_upload(), self.until)
        machine.verifying.add(self.phone.user_id)
        await self.query()
        await self.sign()
        assert machine.cross_signed()

    async def query(self) -> None:
        body = self.machine.keys_query([self.phone.user_id])
        self.machine.keys_query_done(await self.server.keys("query", body, self.until))

    async def sign(self) -> None:
        if body := self.machine.signatures_upload():
            self.machine.signatures_uploaded(await self.server.keys("signatures/upload", body, self.until))
            await self.query()

    async def send(self, outgoing: list[Outgoing]) -> None:
        for each in outgoing:
            if not each.room_id:
                body = {"messages": {each.user_id: dict.fromkeys(each.device_ids, each.content)}}
                await self.server.to_device(each.event_type, os.urandom(8).hex(), body, self.until)
                continue
            devices = self.machine.recipients([self.phone.user_id], verifying=True).devices
            wanted = self.machine.unshared(self.room, devices, time.time())
            if wanted:
                claimed = await self.server.keys("claim", self.machine.keys_claim(wanted), self.until)
                self.machine.keys_claimed(claimed)
            encrypted = self.machine.encrypt(self.room, each.event_type, each.content, devices, time.time())
            if encrypted.to_device:
                to_device = encrypted.to_device
                await self.server.to_device(to_device.event_type, os.urandom(8).hex(), to_device.body, self.until)
            sent = await self.server.send(
                self.room, "m.room.encrypted", os.urandom(8).hex(), encrypted.content, self.until
            )
            if self.verification is not None:
                self.verification.sent(sent)

    async def ask(self) -> None:
        identity = self.machine.identities[self.phone.user_id]
        self.verification, request = Verification.request(
            self.machine.party, identity, time.time(), room_id=self.room, random=os.urandom
        )
        await self.send(request)

    async def hear(self) -> None:
        """One sync; what it says of verifications is answered."""
        response = await self.server.sync(self.since, {"presence": {"not_types": ["*"]}}, 1.0, self.until)
        self.since = response["next_batch"]
        plain = [self.machine.receive_to_device(event) for event in response.get("to_device", {}).get("events", [])]
        room = response.get("rooms", {}).get("join", {}).get(self.room, {})
        for event in room.get("timeline", {}).get("events", []):
            if event["type"] == "m.room.encrypted" and event["sender"] == self.phone.user_id:
                plain.append(self.machine.decrypt_room(event, self.room).plain)
            else:  # this client does not encrypt its part of a verification
                plain.append(event)
        for event in plain:
            if event is not None:
                await self.take(event)

    async def take(self, event: Json) -> None:
        if self.verification is None and is_request(event):
            identity = self.machine.identities[self.phone.user_id]
            room_id = self.room if "event_id" in event else ""
            self.verification = Verification.answer(self.machine.party, identity, event, time.time(), room_id=room_id)
            await self.send(self.verification.accept(time.time()))
        elif self.verification is not None:
            await self.send(self.verification.receive(event, time.time()))

    async def hear_until(self, *states: State) -> None:
        while self.verification is None or self.verification.state not in states:
            await self.hear()
            assert asyncio.get_running_loop().time() < self.until, self.verification

    async def finish(self) -> None:
        """Our person confirms; then the admin is pinned and signed for."""
        assert self.verification is not None
        await self.send(self.verification.confirm(time.time()))
        await self.hear_until(State.DONE, State.CANCELLED)
        assert self.verification.state is State.DONE, self.verification.reason
        self.machine.pin(self.phone.user_id, self.verification.master_key, "emoji")
        await self.sign()
        assert self.machine.signatures_upload() is None


@pytest.mark.parametrize("in_room", [True, False], ids=["room", "devices"])
@pytest.mark.parametrize("we_ask", [True, False], ids=["we-ask", "they-ask"])
def test_both_show_the_same_emoji(
    synapse: Synapse, phone: MatrixPhone, phones: Phones, in_room: bool, we_ask: bool
) -> None:
    """The phone shows the emoji that we show; confirmed on both sides, each holds the other's master key."""
    master_key = phone.login(synapse, synapse.register())
    bot = EmojiBot(synapse, phone)
    shared = phone.create(bot.user.user_id)
    room = shared if in_room else ""

    doing = asyncio.to_thread

    async def compare() -> None:
        await bot.set_up()
        await bot.server.join(shared, bot.until)
        bot.room = room
        # The phone learns of the bot's device, as in any room that is used.
        await doing(phone.wait, shared, lambda _: phone.trust(bot.user.user_id)["devices"], "the bot's device")
        if we_ask:
            await bot.ask()
            seen = await doing(phone.verification, room, lambda one: one.phase == "Requested" and not one.mine, "it")
            name = seen.id
            await doing(phone.accept, name)
        else:
            name = await doing(
                lambda: phone.verify(bot.user.user_id, room=room, device="" if room else bot.machine.device_id)
            )
            while bot.verification is None:
                await bot.hear()
            await doing(phone.verification, room, lambda one: one.id == name and one.phase == "Ready", "ready")
            await doing(phone.start, name)
        await bot.hear_until(State.SHOWN, State.CANCELLED)
        assert bot.verification is not None
        assert bot.verification.state is State.SHOWN, bot.verification.reason
        names = await doing(phone.emoji, name, room)
        assert [each.name.lower() for each in bot.verification.emoji()] == [each.lower() for each in names]
        await doing(phone.confirm, name)
        await bot.finish()
        assert bot.verification.master_key == master_key
        assert (await doing(phone.finished, name, room)).phase == "Done"

    async def closing() -> None:
        try:
            await compare()
        finally:
            await bot.server.close()

    asyncio.run(closing())
    phone.wait(shared, lambda _: phone.trust(bot.user.user_id)["verified"], "its trust in the bot")
