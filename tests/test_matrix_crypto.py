"""Two machines and a key server: what arrives, what is refused, and what survives a lost or old state."""

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from key_server import ONE_TIME, ROOM, House, KeyServer
from vodozemac import Account, GroupSession

from unlatch.errors import Malformed
from unlatch.matrix import fields, olm
from unlatch.matrix.account import MEGOLM, OLM
from unlatch.matrix.crypto import Machine
from unlatch.matrix.errors import (
    MatrixError,
    NobodyToTell,
    Replayed,
    StoreBroken,
    Undecryptable,
    UnknownSession,
    Untrusted,
)
from unlatch.matrix.identity import Reason

KEY = b"k" * 32
ALEX = "@alex:example.org"
BOT = "@bot:example.org"
EVE = "@eve:example.org"


@pytest.fixture
def house() -> House:
    return House()


def copied(machine: Machine) -> Machine:
    """The machine as a state file that was copied now brings it back, through real JSON."""
    return Machine.load(json.loads(json.dumps(machine.dump(KEY))), KEY)


# Sending


def test_a_ring_arrives_and_an_answer_comes_back(house: House) -> None:
    """Encrypted for the phone, readable there; the phone's reply is readable here, from a verified device."""
    assert house.hears(house.phone, house.say(house.bot, "ring")) == "ring"
    decrypted_event = house.say(house.phone, "deny", **{"m.relates_to": {"event_id": "$ring"}})
    house.server.deliver(house.bot)
    decrypted = house.bot.decrypt_room(decrypted_event, ROOM)
    assert (decrypted.verified, decrypted.sender) == (True, ALEX)
    assert decrypted.device is not None
    assert decrypted.device.device_id == "PHONE"
    assert decrypted.plain["content"] == {"body": "deny", "m.relates_to": {"event_id": "$ring"}}
    assert decrypted.plain["event_id"] == decrypted_event["event_id"]


def test_the_server_sees_nothing_but_the_relation(house: House) -> None:
    """Only what routing needs is in the open."""
    relation = {"rel_type": "m.replace", "event_id": "$ring"}
    content = house.encrypt(house.bot, "the link", **{"m.relates_to": relation}).content
    assert set(content) == {"algorithm", "ciphertext", "session_id", "sender_key", "device_id", "m.relates_to"}
    assert content["m.relates_to"] == relation
    assert "the link" not in json.dumps(content)


def test_edits_go_with_the_ring_and_the_next_burst_starts_anew(house: House) -> None:
    """Within one burst nothing is claimed or shared again; a new burst has a new session and fresh one-time keys."""
    first, edit = house.encrypt(house.bot, "ring"), house.encrypt(house.bot, "edit")
    assert edit.to_device is None
    assert first.content["session_id"] == edit.content["session_id"]
    house.bot.begin_burst(ROOM)
    second = house.encrypt(house.bot, "ring")
    assert second.to_device is not None
    assert second.content["session_id"] != first.content["session_id"]
    assert len(house.server.handed_out) == len(set(house.server.handed_out)) == 2
    assert house.hears(house.phone, house.event(house.bot, second.content)) == "ring"


def test_every_send_is_a_new_olm_session(house: House) -> None:
    """No Olm session is used twice for sending, even after the phone answered in it."""
    sessions = []
    for _ in range(3):
        house.bot.begin_burst(ROOM)
        house.hears(house.phone, house.say(house.bot, "ring"))
        house.phone.begin_burst(ROOM)
        house.hears(house.bot, house.say(house.phone, "ok"))
        sessions.append([each.session_id for each in house.bot._olm.sessions[house.phone._device.curve25519]])
    assert len(set(sessions[-1])) == len(sessions[-1]) == 6


@pytest.mark.parametrize("change", ["messages", "week", "clock went back", "device"])
def test_a_session_ends(house: House, change: str) -> None:
    """After 100 messages, a week, a clock that cannot be right, or when the set of devices changed."""
    first, now = house.encrypt(house.bot, "ring", 1000.0), 1001.0
    if change == "messages":
        for _ in range(99):
            assert house.encrypt(house.bot, "edit", now).to_device is None
    elif change == "device":
        other = Machine.create(ALEX, "TABLET")
        house.server.upload(other)
        keys = house.server.devices[ALEX]["TABLET"]
        house.server.devices[ALEX]["TABLET"] = house.phone._cross.sign("self_signing", keys)
        house.query()
    else:
        now = 1000.0 + 7 * 24 * 3600 if change == "week" else 999.0
    second = house.encrypt(house.bot, "ring", now)
    assert second.to_device is not None
    assert second.content["session_id"] != first.content["session_id"]


def test_a_device_without_one_time_keys_is_named(house: House) -> None:
    """It is skipped with a reason; if nobody is left there is nothing to send, and nothing is pretended."""
    house.server.one_time.clear()
    house.server.fallback.clear()
    with pytest.raises(NobodyToTell) as raised:
        house.encrypt(house.bot, "ring")
    assert raised.value.skipped == [(ALEX, "PHONE", Reason.NO_KEY)]
    with pytest.raises(NobodyToTell):
        house.bot.encrypt(ROOM, "m.room.message", {"body": "ring"}, [], 0)


def test_the_fallback_key_serves_when_one_time_keys_ran_out(house: House) -> None:
    """A phone that was offline for long can still be rung, again and again."""
    house.server.one_time.clear()
    for text in ("one", "two"):
        house.bot.begin_burst(ROOM)
        assert house.hears(house.phone, house.say(house.bot, text)) == text


def test_a_one_time_key_that_the_device_did_not_sign_is_dropped(house: House) -> None:
    """A homeserver that hands out its own key gets no room key."""
    eve = Machine.create(ALEX, "PHONE")
    theirs = eve.keys_upload() or {}
    house.server.one_time[ALEX, "PHONE"] = theirs["one_time_keys"]
    with pytest.raises(NobodyToTell):
        house.encrypt(house.bot, "ring")
    good = copy.deepcopy(house.phone._device.sign({"key": eve._device.curve25519}))
    good["key"] = house.phone._device.curve25519
    house.server.one_time[ALEX, "PHONE"] = {f"{ONE_TIME}:x": good, "curve25519:y": good["key"], f"{ONE_TIME}:z": None}
    with pytest.raises(NobodyToTell):
        house.encrypt(house.bot, "ring")


def test_an_unusable_one_time_key_skips_the_device(house: House) -> None:
    """A signed key that would make the secret known (a small-order point) is not used."""
    zero = house.phone._device.sign({"key": "A" * 43})
    house.server.one_time[ALEX, "PHONE"] = {f"{ONE_TIME}:x": zero}
    with pytest.raises(NobodyToTell):
        house.encrypt(house.bot, "ring")


# Receiving


def test_a_stranger_cannot_open_a_ring(house: House) -> None:
    """A member without the key has nothing to decrypt with, even if the room event is given to him."""
    eve = house.join(EVE, "EVE")
    event = house.say(house.bot, "ring")
    assert house.server.deliver(eve) == []
    with pytest.raises(UnknownSession):
        eve.decrypt_room(event, ROOM)


def test_a_strangers_message_is_not_opened(house: House) -> None:
    """A user nobody pinned cannot make us spend a one-time key, nor bring a room key."""
    eve = house.join(EVE, "EVE")
    eve.pin(BOT, house.bot.master_key, "emoji")
    house.server.query(eve, BOT)
    before = house.bot.dump(KEY)["olm"]
    event = house.say(eve, "deny")
    house.server.deliver(house.bot)
    assert house.bot.dump(KEY)["olm"] == before == {}
    with pytest.raises(UnknownSession):
        house.bot.decrypt_room(event, ROOM)


def test_a_room_key_of_an_unsigned_device_is_refused(house: House) -> None:
    """The server lists the device, its owner never signed it: its keys are refused, whoever it says it is."""
    other = Machine.create(ALEX, "TABLET")
    house.server.upload(other)
    other.pin(BOT, house.bot.master_key, "emoji")
    house.server.query(other, *house.members)
    house.server.query(house.bot, *house.members)
    event = house.say(other, "deny")
    with pytest.raises(Untrusted) as raised:
        house.server.deliver(house.bot)
    assert (raised.value.device_id, raised.value.why) == ("TABLET", Reason.UNSIGNED)
    with pytest.raises(UnknownSession):
        house.bot.decrypt_room(event, ROOM)


def test_trust_that_is_lost_later_counts(house: House) -> None:
    """A session taken from a verified device proves nothing once the identity was reset."""
    first, second = house.say(house.phone, "deny"), house.say(house.phone, "deny")
    house.server.deliver(house.bot)
    assert house.bot.decrypt_room(first, ROOM).verified
    house.server.cross[ALEX] = Machine.create(ALEX, "PHONE").cross_signing_upload()
    house.query()
    assert not house.bot.decrypt_room(second, ROOM).verified


def test_a_device_newer_than_the_last_query(house: House) -> None:
    """Its key is kept, but nothing it says is read before a query shows it, signed by its owner."""
    other = Machine.create(ALEX, "TABLET")
    house.server.upload(other)
    keys = house.server.devices[ALEX]["TABLET"]
    house.server.devices[ALEX]["TABLET"] = house.phone._cross.sign("self_signing", keys)
    other.pin(BOT, house.bot.master_key, "emoji")
    house.server.query(other, *house.members)
    event = house.say(other, "deny")
    house.server.deliver(house.bot)
    assert house.bot.stale == {ALEX}
    with pytest.raises(Untrusted):
        house.bot.decrypt_room(event, ROOM)
    house.query()
    assert house.bot.stale == set()
    assert house.bot.decrypt_room(event, ROOM).verified


def test_a_place_is_read_once(house: House) -> None:
    """The same event again, and another event with the same ciphertext, are replays; also after a restart."""
    event = house.say(house.phone, "deny")
    house.hears(house.bot, event)
    for machine in (house.bot, copied(house.bot)):
        house.server.query(machine, *house.members)
        with pytest.raises(Replayed) as raised:
            machine.decrypt_room(event, ROOM)
        assert raised.value.same_event
        with pytest.raises(Replayed) as raised:
            machine.decrypt_room({**event, "event_id": "$other"}, ROOM)
        assert not raised.value.same_event


def test_replay_memory_is_bounded_and_refuses_what_it_forgot(house: House) -> None:
    """After many messages in one session the oldest places are below a floor, not open again."""
    events = []
    for number in range(100):
        events.append(house.say(house.phone, str(number)))
        house.hears(house.bot, events[-1])
    (inbound,) = house.bot._inbox.sessions.values()
    for index in range(100, 400):
        inbound.mark(index, "$x")
    assert len(inbound.read) == 256
    with pytest.raises(Replayed):
        house.bot.decrypt_room(events[0], ROOM)


def test_another_sender_room_or_text_is_refused(house: House) -> None:
    """The server cannot move an event to another user or room, nor change it."""
    event = house.say(house.phone, "deny")
    house.server.deliver(house.bot)
    with pytest.raises(UnknownSession):
        house.bot.decrypt_room({**event, "sender": EVE}, ROOM)
    with pytest.raises(UnknownSession):
        house.bot.decrypt_room(event, "!other")
    place = next(iter(house.bot._inbox.sessions))
    house.bot._inbox.sessions[place._replace(room_id="!other")] = house.bot._inbox.sessions[place]
    with pytest.raises(Undecryptable, match="another room"):
        house.bot.decrypt_room(event, "!other")
    ciphertext = event["content"]["ciphertext"]
    changed = ciphertext[:30] + ("A" if ciphertext[30] != "A" else "B") + ciphertext[31:]
    with pytest.raises(Undecryptable):
        house.bot.decrypt_room({**event, "content": {**event["content"], "ciphertext": changed}}, ROOM)
    assert house.bot.decrypt_room(event, ROOM).verified


def test_an_admin_cannot_take_another_ones_session(house: House) -> None:
    """A second admin who passes the first one's room key on as her own shuts nobody out: sessions are filed by user."""
    eve = house.join(EVE, "EVE")
    eve.pin(BOT, house.bot.master_key, "emoji")
    house.bot.pin(EVE, eve.master_key, "emoji")
    house.server.query(eve, *house.members)
    house.server.query(house.bot, EVE)
    event = house.say(house.phone, "deny")
    genuine = house.server.inbox.pop((BOT, "BOT"))
    stolen = house.phone._sending.outbound[ROOM].room_key(ROOM)
    devices = eve.recipients([BOT]).devices
    house.server.claim(eve, devices)
    house.server.send(eve, eve.encrypt_to_device("m.room_key", stolen, devices[0]))
    house.server.inbox[BOT, "BOT"] += genuine  # hers is there first
    house.server.deliver(house.bot)
    with pytest.raises(Undecryptable):  # she can only pass on what lies ahead of her
        house.bot.decrypt_room({**event, "sender": EVE}, ROOM)
    assert house.bot.decrypt_room(event, ROOM).sender == ALEX


def test_a_room_key_in_the_open_is_ignored(house: House) -> None:
    """Only Olm proves who sent a key."""
    key = {"type": "m.room_key", "sender": ALEX, "content": {"algorithm": MEGOLM, "room_id": ROOM}}
    assert house.bot.receive_to_device(key) is None
    assert house.bot._inbox.sessions == {}


@pytest.mark.parametrize("lie", ["sender", "recipient", "recipient_keys", "keys"])
def test_every_name_in_an_olm_payload_is_checked(house: House, lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload with another sender, recipient or key was meant for, or made by, somebody else."""
    honest = olm.canonical.encode

    def lying(payload: Any) -> bytes:
        if isinstance(payload, dict) and lie in payload and "recipient" in payload:
            other = {"ed25519": house.bot.master_key} if isinstance(payload[lie], dict) else EVE
            payload = {**payload, lie: other}
        return honest(payload)

    monkeypatch.setattr(olm.canonical, "encode", lying)
    event = house.say(house.phone, "deny")
    monkeypatch.undo()
    if lie == "keys":  # no listed device has both keys: kept for a query that might show one, never believed
        house.server.deliver(house.bot)
        with pytest.raises(Untrusted):
            house.bot.decrypt_room(event, ROOM)
    else:
        with pytest.raises(Undecryptable):
            house.server.deliver(house.bot)
        with pytest.raises(UnknownSession):
            house.bot.decrypt_room(event, ROOM)


def test_an_olm_message_is_opened_once(house: House) -> None:
    """Delivered again, by mistake or on purpose, it is an error and changes nothing."""
    house.say(house.phone, "deny")
    (event,) = house.server.inbox[BOT, "BOT"]
    house.server.deliver(house.bot)
    before = [[each.session_id for each in sessions] for sessions in house.bot._olm.sessions.values()]
    with pytest.raises(Undecryptable):
        house.bot.receive_to_device(event)
    assert [[each.session_id for each in sessions] for sessions in house.bot._olm.sessions.values()] == before


def test_a_message_for_another_device(house: House) -> None:
    """An event without our key in it, or with an unknown algorithm, is named as such."""
    house.say(house.phone, "deny")
    (event,) = house.server.inbox[BOT, "BOT"]
    (message,) = event["content"]["ciphertext"].values()
    with pytest.raises(Undecryptable, match="not encrypted for this device"):
        house.bot.receive_to_device({**event, "content": {**event["content"], "ciphertext": {"x": message}}})
    with pytest.raises(Malformed):
        house.bot.receive_to_device({**event, "content": {**event["content"], "algorithm": "m.other"}})
    own = {house.bot._device.curve25519: {"type": 1, "body": message_within_a_session()}}
    with pytest.raises(Undecryptable, match="no session"):
        house.bot.receive_to_device({**event, "content": {**event["content"], "ciphertext": own}})


def test_relations_outside_only_are_taken_over(house: House) -> None:
    """Some clients put m.relates_to only beside the ciphertext; what is inside wins."""
    event = house.say(house.phone, "deny")
    event["content"]["m.relates_to"] = {"event_id": "$outer"}
    house.server.deliver(house.bot)
    assert house.bot.decrypt_room(event, ROOM).plain["content"]["m.relates_to"] == {"event_id": "$outer"}
    event = house.say(house.phone, "deny", **{"m.relates_to": {"event_id": "$inner"}})
    event["content"]["m.relates_to"] = {"event_id": "$outer"}
    assert house.bot.decrypt_room(event, ROOM).plain["content"]["m.relates_to"] == {"event_id": "$inner"}


# Verification before there is a pin


def test_somebody_being_verified_can_talk_but_is_not_verified() -> None:
    """Room keys pass both ways while a verification runs; rings never go there, and nothing counts as verified."""
    house = House()
    house.bot.unpin(ALEX)
    assert house.bot.recipients(house.members).devices == []
    assert house.bot.recipients(house.members, verifying=True).devices == []
    house.bot.verifying.add(ALEX)
    assert house.bot.recipients(house.members).devices == []
    devices = house.bot.recipients(house.members, verifying=True).devices
    house.server.claim(house.bot, house.bot.unshared(ROOM, devices, 0))
    encrypted = house.bot.encrypt(ROOM, "m.key.verification.start", {}, devices, 0)
    assert encrypted.to_device is not None
    house.server.send(house.bot, encrypted.to_device)
    house.server.deliver(house.phone)
    assert house.phone.decrypt_room(house.event(house.bot, encrypted.content), ROOM).verified
    event = house.say(house.phone, "deny")
    house.server.deliver(house.bot)
    assert not house.bot.decrypt_room(event, ROOM).verified


def test_verification_events_pass_encrypted_or_not(house: House) -> None:
    """To-device verification events come out plain; an encrypted one with the device that is proven to have sent it."""
    plain = {"type": "m.key.verification.key", "sender": EVE, "content": {"key": "x"}}
    assert house.bot.receive_to_device({**plain, "sender_device": "FORGED"}) == plain
    device = house.phone.recipients([BOT]).devices[0]
    with pytest.raises(NobodyToTell):
        house.phone.encrypt_to_device("m.key.verification.key", {"key": "x"}, device)
    house.server.claim(house.phone, [device])
    house.server.send(house.phone, house.phone.encrypt_to_device("m.key.verification.key", {"key": "x"}, device))
    assert house.server.deliver(house.bot) == [{**plain, "sender": ALEX, "sender_device": "PHONE"}]
    house.server.claim(house.phone, [device])
    house.server.send(house.phone, house.phone.encrypt_to_device("m.dummy", {}, device))
    assert house.server.deliver(house.bot) == []


# One-time keys


def test_keys_are_uploaded_when_they_run_low() -> None:
    """Fifty at first; more when fewer than half are left; a fallback key at first and whenever it was used."""
    server, bot = KeyServer(), Machine.create(BOT, "BOT")
    body = bot.keys_upload() or {}
    assert body == bot.keys_upload()  # the same until it arrived
    assert (len(body["one_time_keys"]), len(body["fallback_keys"])) == (50, 1)
    assert all(key["fallback"] is True for key in body["fallback_keys"].values())
    server.upload(bot)
    assert bot.keys_upload() is None
    bot.one_time_key_counts({ONE_TIME: 30}, [ONE_TIME])
    assert bot.keys_upload() is None
    bot.one_time_key_counts({ONE_TIME: 24}, [ONE_TIME])
    assert {name: len(value) for name, value in (bot.keys_upload() or {}).items()} == {"one_time_keys": 26}
    server.upload(bot)
    bot.one_time_key_counts({ONE_TIME: 50}, [])
    assert set(bot.keys_upload() or {}) == {"fallback_keys"}
    with pytest.raises(Malformed):
        bot.keys_uploaded({})
    server.upload(bot)
    assert bot.keys_upload() is None


def test_keys_of_an_upload_nobody_confirmed_are_not_offered_again() -> None:
    """After a crash between upload and answer the keys still open messages, but are not uploaded twice."""
    house = House()
    house.bot.one_time_key_counts({ONE_TIME: 0}, [ONE_TIME])
    sent = (house.bot.keys_upload() or {})["one_time_keys"]
    again = copied(house.bot)
    house.server.one_time[BOT, "BOT"] = dict(sent)  # it did arrive
    house.server.query(again, *house.members)
    event = house.say(house.phone, "deny")
    assert house.hears(again, event) == "deny"
    again.one_time_key_counts({ONE_TIME: 0}, [ONE_TIME])
    fresh = (again.keys_upload() or {})["one_time_keys"]
    assert fresh
    assert not set(fresh) & set(sent)


# A state restored from a copy


def test_a_restored_copy_reuses_no_session(house: House) -> None:
    """The copy rings with another Megolm session and fresh one-time keys; the phone reads all, in any order."""
    house.hears(house.phone, house.say(house.bot, "before"))
    copy_of_bot = copied(house.bot)
    house.server.query(copy_of_bot, *house.members)
    original = [house.encrypt(house.bot, "one"), house.encrypt(house.bot, "two")]
    restored = [house.encrypt(copy_of_bot, "three"), house.encrypt(copy_of_bot, "four")]
    assert original[0].content["session_id"] != restored[0].content["session_id"]
    events = [house.event(house.bot, each.content) for each in (*restored, *original)]
    house.server.deliver(house.phone)
    texts = [house.phone.decrypt_room(event, ROOM).plain["content"]["body"] for event in events]
    assert texts == ["three", "four", "one", "two"]
    assert len(house.server.handed_out) == len(set(house.server.handed_out))


def test_a_restored_copy_names_new_keys_anew(house: House) -> None:
    """Key ids that the lost state used for other keys are not used again: a server would refuse them for ever."""
    copy_of_bot = copied(house.bot)
    for machine in (house.bot, copy_of_bot):
        machine.one_time_key_counts({ONE_TIME: 0}, [])
        house.server.upload(machine)  # the key server asserts that no id comes twice


def test_a_restored_copy_hears_the_answer_to_its_ring(house: House) -> None:
    """Keys that only the lost state had are gone; but the phone answers in the session of the newest ring."""
    copy_of_bot = copied(house.bot)
    house.server.query(copy_of_bot, *house.members)
    house.bot.one_time_key_counts({ONE_TIME: 0}, [])
    house.server.one_time[BOT, "BOT"].clear()
    house.server.upload(house.bot)  # from here on the server hands out keys that the copy does not have
    house.say(house.phone, "deny")
    with pytest.raises(Undecryptable, match="one-time key"):
        house.server.deliver(copy_of_bot)
    assert set(copy_of_bot.keys_upload() or {}) == {"fallback_keys"}  # the one thing that can be replaced
    house.server.upload(copy_of_bot)
    house.hears(house.phone, house.say(copy_of_bot, "ring"))
    answer = house.phone._olm  # a foreign client goes on in the newest session: so does this one, by hand
    session = answer.sessions[house.bot._device.curve25519][-1]
    payload = {
        "type": "m.key.verification.done",
        "content": {},
        "sender": ALEX,
        "recipient": BOT,
        "recipient_keys": {"ed25519": house.bot.ed25519},
        "keys": {"ed25519": house.phone.ed25519},
    }
    kind, body = session.encrypt(json.dumps(payload).encode()).to_parts()
    message = {house.bot._device.curve25519: {"type": kind, "body": fields.to_base64(body)}}
    content = {"algorithm": OLM, "sender_key": house.phone._device.curve25519, "ciphertext": message}
    event = {"type": "m.room.encrypted", "sender": ALEX, "content": content}
    assert kind == 1
    heard = copy_of_bot.receive_to_device(event)
    assert heard is not None
    assert heard["sender_device"] == "PHONE"
    with pytest.raises(Undecryptable):
        copy_of_bot.receive_to_device(event)


def message_within_a_session() -> str:
    """An Olm message of type 1, of a session that we do not have."""
    one, other = Account(), Account()
    other.generate_one_time_keys(1)
    (one_time,) = other.one_time_keys.values()
    first = one.create_outbound_session(other.curve25519_key, one_time).encrypt(b"hello").to_pre_key()
    assert first is not None
    session, _ = other.create_inbound_session(one.curve25519_key, first)
    kind, body = session.encrypt(b"hello").to_parts()
    assert kind == 1
    return fields.to_base64(body)


def test_two_processes_take_turns(house: House) -> None:
    """A process that loads what another one saved keeps its own Megolm session and its claimed keys."""
    house.say(house.bot, "ring")
    session = house.bot._sending.outbound[ROOM].session_id
    other = copied(house.bot)
    house.server.query(other, *house.members)
    house.say(other, "from the other")
    again = Machine.load(other.dump(KEY), KEY, earlier=house.bot)
    assert house.encrypt(again, "edit").to_device is None
    assert again._sending.outbound[ROOM].session_id == session
    assert again.recipients(house.members).devices == house.bot.recipients(house.members).devices


# The state itself


def test_a_dump_holds_no_private_key_in_the_open(house: House) -> None:
    """Another pickle key opens nothing, and neither dump nor repr shows a Megolm session key."""
    house.hears(house.bot, house.say(house.phone, "deny"))
    dumped = house.bot.dump(KEY)
    with pytest.raises(StoreBroken):
        Machine.load(dumped, b"x" * 32)
    assert house.phone._sending.outbound[ROOM].room_key(ROOM)["session_key"] not in json.dumps(dumped)
    assert repr(house.bot) == "Machine('@bot:example.org', 'BOT')"
    assert Machine.load(dumped, KEY).dump(KEY).keys() == dumped.keys()


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths(thing: object, *before: Any) -> list[tuple[Any, ...]]:
    found = [before] if before else []
    items = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
    for name, inner in items:
        found += paths(inner, *before, name)
    return found


def replaced(thing: Any, path: tuple[Any, ...], value: object) -> Any:
    thing = copy.deepcopy(thing)
    place = thing
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return thing


TALK = House()
TALK.hears(TALK.bot, TALK.say(TALK.phone, "x"))
TALK_DUMP = TALK.bot.dump(KEY)
TALK_EVENT = TALK.say(TALK.phone, "deny")
TALK.phone.begin_burst(ROOM)
TALK.say(TALK.phone, "deny")
TALK_TO_DEVICE = TALK.server.inbox[BOT, "BOT"][0]
CLAIM = TALK.server.answer_claim(TALK.bot.keys_claim(TALK.bot.recipients([ALEX]).devices))


@settings(deadline=None)
@given(st.sampled_from(paths(TALK_DUMP)), junk)
def test_a_damaged_state_is_one_clear_error(path: tuple[Any, ...], value: object) -> None:
    """Whatever stands anywhere in the state, loading it works or raises StoreBroken."""
    with contextlib.suppress(StoreBroken):
        Machine.load(replaced(TALK_DUMP, path, value), KEY)


@settings(deadline=None)
@given(st.sampled_from(paths(TALK_EVENT)), junk)
def test_malformed_room_events_raise_documented_errors_only(path: tuple[Any, ...], value: object) -> None:
    """Whatever a server puts anywhere into an event, it is read, or refused with one of our errors."""
    bot = Machine.load(TALK_DUMP, KEY, earlier=TALK.bot)
    with contextlib.suppress(Malformed, Undecryptable, Untrusted):
        assert bot.decrypt_room(replaced(TALK_EVENT, path, value), ROOM).plain["content"]["body"] == "deny"


@settings(deadline=None)
@given(st.sampled_from(paths(TALK_TO_DEVICE)), junk)
def test_malformed_to_device_events_raise_documented_errors_only(path: tuple[Any, ...], value: object) -> None:
    """The same for to-device events."""
    bot = Machine.load(TALK_DUMP, KEY, earlier=TALK.bot)
    with contextlib.suppress(Malformed, Undecryptable, Untrusted):
        bot.receive_to_device(replaced(TALK_TO_DEVICE, path, value))


@settings(deadline=None)
@given(junk, st.sampled_from(paths(CLAIM)), junk)
def test_malformed_answers_raise_documented_errors_only(whole: object, path: tuple[Any, ...], value: object) -> None:
    """Answers to a claim, a query, an upload: a foreign key is never taken, and only Malformed escapes."""
    bot = Machine.load(TALK_DUMP, KEY, earlier=TALK.bot)
    bot._sending.claimed = {}
    for take in (bot.keys_claimed, bot.keys_query_done, bot.keys_uploaded, bot.signatures_uploaded):
        for answer in (whole, {"device_keys": whole, "one_time_keys": whole, "one_time_key_counts": whole}):
            with contextlib.suppress(Malformed, MatrixError):
                take(answer)  # type: ignore[arg-type]
    bot = Machine.load(TALK_DUMP, KEY, earlier=TALK.bot)
    bot._sending.claimed = {}
    with contextlib.suppress(Malformed):
        bot.keys_claimed(replaced(CLAIM, path, value))
    (honest,) = CLAIM["one_time_keys"][ALEX]["PHONE"].values()
    assert set(bot._sending.claimed.values()) <= {honest["key"]}


@settings(deadline=None)
@given(junk, st.dictionaries(st.sampled_from(["algorithm", "room_id", "session_id", "session_key"]), junk))
def test_malformed_room_keys_raise_malformed_only(whole: object, parts: dict[str, object]) -> None:
    """A verified device may still send nonsense."""
    bot = Machine.load(TALK_DUMP, KEY)
    session = GroupSession()
    honest = {"algorithm": MEGOLM, "room_id": ROOM, "session_id": session.session_id}
    honest["session_key"] = session.session_key.to_base64()
    for content in ({**honest, **parts}, whole if isinstance(whole, dict) else {}):
        with contextlib.suppress(Malformed):
            bot._inbox.take_key(content, ALEX, "c", "e")
