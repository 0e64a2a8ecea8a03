"""A homeserver's part in encryption, in memory: it keeps keys and passes events on, as the specification says.

It is as trusted as a real one: tests reach into its tables and lie.
"""

import copy
from collections import defaultdict
from typing import Any

from unlatch.matrix.crypto import Encrypted, Machine, ToDevice
from unlatch.matrix.identity import Device

Json = dict[str, Any]
ONE_TIME = "signed_curve25519"


class KeyServer:
    """Keys of all users; to-device events on their way."""

    def __init__(self) -> None:
        self.devices: dict[str, dict[str, Json]] = defaultdict(dict)
        self.one_time: dict[tuple[str, str], dict[str, Json]] = defaultdict(dict)
        self.fallback: dict[tuple[str, str], dict[str, Json]] = defaultdict(dict)
        self.cross: dict[str, dict[str, Json]] = defaultdict(dict)
        self.inbox: dict[tuple[str, str], list[Json]] = defaultdict(list)
        self.handed_out: list[str] = []

    def upload(self, machine: Machine) -> None:
        """``/keys/upload``, if there is anything; Synapse's refusal of a reused key id included."""
        body = machine.keys_upload()
        if body is None:
            return
        place = (machine.user_id, machine.device_id)
        if "device_keys" in body:
            self.devices[machine.user_id][machine.device_id] = copy.deepcopy(body["device_keys"])
        for key_id, key in body.get("one_time_keys", {}).items():
            assert key_id not in self.one_time[place], "one-time key already exists"
            self.one_time[place][key_id] = key
        self.fallback[place] = body.get("fallback_keys", self.fallback[place])
        machine.keys_uploaded({"one_time_key_counts": {ONE_TIME: len(self.one_time[place])}})

    def counts(self, machine: Machine) -> None:
        """What a sync says about our keys."""
        left = len(self.one_time[machine.user_id, machine.device_id])
        machine.one_time_key_counts({ONE_TIME: left}, [ONE_TIME])

    def cross_sign(self, machine: Machine) -> None:
        """``/keys/device_signing/upload``, then ``/keys/signatures/upload`` until nothing is missing."""
        self.cross[machine.user_id] = copy.deepcopy(machine.cross_signing_upload())
        self.query(machine)
        self.signatures(machine)

    def signatures(self, machine: Machine) -> None:
        """``/keys/signatures/upload``, if there is anything."""
        for user, things in (machine.signatures_upload() or {}).items():
            for name, thing in things.items():
                stored = self.devices[user].get(name) or self.cross[user]["master_key"]
                for signer, keys in thing["signatures"].items():
                    stored.setdefault("signatures", {}).setdefault(signer, {}).update(keys)
        machine.signatures_uploaded({"failures": {}})
        self.query(machine)

    def answer_query(self, body: Json, asker: str) -> Json:
        """``/keys/query``: user-signing keys only for their owner."""
        users = body["device_keys"]
        answer: Json = {"device_keys": {user: copy.deepcopy(self.devices[user]) for user in users}, "failures": {}}
        for kind in ("master", "self_signing", "user_signing"):
            shown = [user for user in users if f"{kind}_key" in self.cross[user]]
            answer[f"{kind}_keys"] = {
                user: copy.deepcopy(self.cross[user][f"{kind}_key"])
                for user in shown
                if kind != "user_signing" or user == asker
            }
        return answer

    def query(self, machine: Machine, *users: str) -> None:
        machine.keys_query_done(self.answer_query(machine.keys_query(users), machine.user_id), users)

    def answer_claim(self, body: Json) -> Json:
        """``/keys/claim``: each one-time key once, then the fallback key."""
        answer: Json = {}
        for user, devices in body["one_time_keys"].items():
            for device in devices:
                fresh, fallback = self.one_time[user, device], self.fallback[user, device]
                if fresh:
                    key_id = next(iter(fresh))
                    found = {key_id: fresh.pop(key_id)}
                elif fallback:
                    found = dict(fallback)
                else:
                    continue
                self.handed_out += found
                answer.setdefault(user, {})[device] = found
        return {"one_time_keys": answer, "failures": {}}

    def claim(self, machine: Machine, devices: list[Device]) -> None:
        if devices:
            machine.keys_claimed(self.answer_claim(machine.keys_claim(devices)))

    def send(self, sender: Machine, to_device: ToDevice) -> None:
        """``PUT /sendToDevice``."""
        for user, devices in to_device.body["messages"].items():
            for device, content in devices.items():
                event = {"type": to_device.event_type, "sender": sender.user_id, "content": copy.deepcopy(content)}
                self.inbox[user, device].append(event)

    def deliver(self, machine: Machine) -> list[Json]:
        """Give a machine what waits for it; the plain events it passes on."""
        waiting = self.inbox.pop((machine.user_id, machine.device_id), [])
        plain = [machine.receive_to_device(event) for event in waiting]
        return [event for event in plain if event is not None]


ROOM = "!room"


class House:
    """A bot and an admin with one phone, both cross-signed, who verified each other, in one room."""

    def __init__(self, verified: str = "emoji") -> None:
        self.server = KeyServer()
        self.bot = self.join("@bot:example.org", "BOT")
        self.phone = self.join("@alex:example.org", "PHONE")
        self.events = 0
        self.bot.pin(self.phone.user_id, self.phone.master_key, verified)
        self.phone.pin(self.bot.user_id, self.bot.master_key, verified)
        self.query()

    def join(self, user: str, device: str) -> Machine:
        machine = Machine.create(user, device)
        self.server.upload(machine)
        self.server.cross_sign(machine)
        return machine

    @property
    def members(self) -> list[str]:
        return [self.bot.user_id, self.phone.user_id]

    def query(self) -> None:
        self.server.query(self.bot, *self.members)
        self.server.query(self.phone, *self.members)

    def encrypt(self, sender: Machine, text: str, now: float = 0.0, **more: Any) -> Encrypted:
        """What a sender makes for everybody it trusts: claims, shares, encrypts; the room event is not sent."""
        devices = sender.recipients(self.members).devices
        self.server.claim(sender, sender.unshared(ROOM, devices, now))
        encrypted = sender.encrypt(ROOM, "m.room.message", {"body": text, **more}, devices, now)
        if encrypted.to_device is not None:
            self.server.send(sender, encrypted.to_device)
        return encrypted

    def event(self, sender: Machine, content: Json) -> Json:
        """The room event that a server makes of it."""
        self.events += 1
        event_id = f"$event{self.events}"
        return {
            "type": "m.room.encrypted",
            "sender": sender.user_id,
            "event_id": event_id,
            "origin_server_ts": 1,
            "content": copy.deepcopy(content),
        }

    def say(self, sender: Machine, text: str, **more: Any) -> Json:
        """Encrypt and send: the room event."""
        return self.event(sender, self.encrypt(sender, text, **more).content)

    def hears(self, receiver: Machine, event: Json) -> str:
        """The text that a receiver reads, from a verified device."""
        self.server.deliver(receiver)
        decrypted = receiver.decrypt_room(event, ROOM)
        assert decrypted.verified
        return str(decrypted.plain["content"]["body"])
