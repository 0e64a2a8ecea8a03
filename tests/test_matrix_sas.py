"""Emoji verification: both roles, both ways of transport, and everything that must end it."""

import base64
import contextlib
import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from key_server import House
from vodozemac import Curve25519PublicKey, Sas

from unlatch.errors import Malformed
from unlatch.matrix import sas_keys
from unlatch.matrix.emoji import EMOJI
from unlatch.matrix.sas import Outgoing, State, Verification, is_request, transaction

Json = dict[str, Any]
ALEX = "@alex:example.org"
BOT = "@bot:example.org"
ROOM = "!room"
NOW = 1_800_000_000.0
PREFIX = "m.key.verification."

HOUSE = House()
BOTS, ALEXS = HOUSE.bot.party, HOUSE.phone.party
ALEX_SEEN, BOT_SEEN = HOUSE.bot.identities[ALEX], HOUSE.phone.identities[BOT]


def random(size: int) -> bytes:
    return b"r" * size


class Wire:
    """Carries events between two verifications, and lets a test change, drop or hold them."""

    def __init__(self, room_id: str = "", bot_asks: bool = True) -> None:
        self.room_id, self.events = room_id, 0
        self.log: list[tuple[str, Json]] = []
        self.change: Callable[[str, Json], Json] = lambda _kind, content: content
        me, theirs, them, ours = (BOTS, ALEX_SEEN, ALEXS, BOT_SEEN)
        if not bot_asks:
            me, theirs, them, ours = ALEXS, BOT_SEEN, BOTS, ALEX_SEEN
        asking, (request,) = Verification.request(me, theirs, NOW, room_id=room_id, random=random)
        event = self.event(me.user_id, request)
        if room_id:
            asking.sent(event["event_id"])
        asked = Verification.answer(them, ours, event, NOW, room_id=room_id)
        self.bot, self.alex = (asking, asked) if bot_asks else (asked, asking)
        self.asking, self.asked = asking, asked

    def event(self, sender: str, outgoing: Outgoing) -> Json:
        """The event that a server makes of it."""
        content = self.change(outgoing.event_type.removeprefix(PREFIX), copy.deepcopy(outgoing.content))
        event: Json = {"type": outgoing.event_type, "sender": sender, "content": content}
        if outgoing.room_id:
            self.events += 1
            event |= {"event_id": f"$event{self.events}", "origin_server_ts": int(NOW * 1000)}
        self.log.append((sender, event))
        return event

    def carry(self, sender: str, outgoing: list[Outgoing]) -> None:
        """Deliver, and what comes back, until both are silent."""
        for each in outgoing:
            event = self.event(sender, each)
            to, other = (self.alex, ALEX) if sender == BOT else (self.bot, BOT)
            self.carry(other, to.receive(event, NOW))

    def accept(self) -> None:
        self.carry(self.bot.user_id if self.asked is self.alex else self.alex.user_id, self.asked.accept(NOW))

    def confirm(self) -> None:
        self.carry(BOT, self.bot.confirm(NOW))
        self.carry(ALEX, self.alex.confirm(NOW))

    @property
    def states(self) -> tuple[State, State]:
        return self.bot.state, self.alex.state

    @property
    def kinds(self) -> list[str]:
        return [event["type"].removeprefix(PREFIX) for _, event in self.log]


ways = pytest.mark.parametrize(("room_id", "bot_asks"), [("", True), ("", False), (ROOM, True), (ROOM, False)], ids=str)


@ways
def test_two_people_compare_and_both_keys_are_proven(room_id: str, bot_asks: bool) -> None:
    """All of it, whoever asks, in a room or to devices: the same emoji and numbers, then both master keys."""
    wire = Wire(room_id, bot_asks)
    wire.accept()
    assert wire.states == (State.SHOWN, State.SHOWN)
    assert len(wire.bot.emoji()) == 7
    assert wire.bot.emoji() == wire.alex.emoji()
    assert wire.bot.decimals() == wire.alex.decimals()
    assert all(1000 <= number <= 9191 for number in wire.bot.decimals())
    assert wire.bot.strings == ("emoji", "decimal")
    assert wire.bot.master_key == ""
    wire.confirm()
    assert wire.states == (State.DONE, State.DONE)
    assert wire.bot.master_key == ALEXS.master_key
    assert wire.alex.master_key == BOTS.master_key
    request = "m.room.message" if room_id else "request"
    assert wire.kinds == [request, "ready", "start", "accept", "key", "key", "mac", "mac", "done", "done"]
    for _, event in wire.log[1:]:
        assert transaction(event) == wire.bot.transaction_id != ""


@ways
def test_the_other_order_of_confirmations(room_id: str, bot_asks: bool) -> None:
    """Their confirmation may come before ours; nothing is proven until our person looked too."""
    wire = Wire(room_id, bot_asks)
    wire.accept()
    wire.carry(ALEX, wire.alex.confirm(NOW))
    assert wire.states == (State.SHOWN, State.CONFIRMED)
    assert wire.bot.master_key == ""
    wire.carry(BOT, wire.bot.confirm(NOW))
    assert wire.states == (State.DONE, State.DONE)


def test_the_one_who_was_asked_may_start() -> None:
    """Who accepts a request may also begin, when the other client waits for it."""
    wire = Wire(ROOM, bot_asks=False)
    ready = wire.event(BOT, wire.bot.accept(NOW)[0])
    start = wire.bot.begin()
    wire.alex._we_asked = True
    assert wire.bot.begin() == []
    assert [each.event_type for each in wire.alex.receive(ready, NOW)] == [PREFIX + "start"]  # both have started now
    answer = wire.alex.receive(wire.event(BOT, start[0]), NOW)
    assert answer == []  # @alex is smaller: hers counts


@pytest.mark.parametrize("room_id", ["", ROOM])
@pytest.mark.parametrize("bot_asks", [True, False])
def test_both_start_at_once(room_id: str, bot_asks: bool) -> None:
    """The start of the smaller user id counts, on both sides, whatever the order of arrival."""
    wire = Wire(room_id, bot_asks)
    asked_user = ALEX if bot_asks else BOT
    asking_user = BOT if bot_asks else ALEX
    ready = wire.event(asked_user, wire.asked.accept(NOW)[0])
    (early,) = wire.asked.begin()
    (start,) = [each for each in wire.asking.receive(ready, NOW) if each.event_type == PREFIX + "start"]
    wire.carry(asked_user, [early])
    wire.carry(asking_user, [start])
    assert wire.states == (State.SHOWN, State.SHOWN)
    assert wire.bot.emoji() == wire.alex.emoji()
    assert wire.alex._we_started
    assert not wire.bot._we_started
    wire.confirm()
    assert wire.states == (State.DONE, State.DONE)


def test_starts_of_different_methods_end_it() -> None:
    """Two starts that disagree cannot be reconciled."""
    wire = Wire()
    wire.change = lambda kind, content: {**content, "method": "m.other"} if kind == "start" else content
    wire.carry(ALEX, wire.alex.accept(NOW))
    assert wire.alex.code == wire.bot.code == "m.unknown_method"
    wire = Wire()
    ready = wire.event(ALEX, wire.alex.accept(NOW)[0])
    wire.bot.receive(ready, NOW)
    (start,) = wire.alex.begin()
    content = {**start.content, "method": "m.other"}
    wire.bot.receive({"type": start.event_type, "sender": ALEX, "content": content}, NOW)
    assert wire.bot.code == "m.unexpected_message"


def changed(kind: str, **fields: object) -> Callable[[str, Json], Json]:
    return lambda this, content: {**content, **fields} if this == kind else content


def only_once(kind: str, change: Callable[[Json], Json]) -> Callable[[str, Json], Json]:
    """Change the first event of a kind."""
    done: list[bool] = []

    def first(this: str, content: Json) -> Json:
        if this != kind or done:
            return content
        done.append(True)
        return change(content)

    return first


FOREIGN_KEY = "hS1jV2tJBqEOIlhHkNPDQBnBzD0jj6KAMVRVhPpqzAQ"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (changed("ready", methods=["m.other"]), "m.unknown_method"),
        (changed("ready", methods=None), "m.unknown_method"),
        (changed("ready", from_device="UNKNOWN"), "m.key_mismatch"),
        (changed("ready", from_device=5), "m.invalid_message"),
        (changed("start", from_device="OTHER"), "m.user_mismatch"),
        (changed("start", method="m.qr"), "m.unknown_method"),
        (changed("start", hashes=["md5"]), "m.unknown_method"),
        (changed("start", message_authentication_codes=["hkdf-hmac-sha256"]), "m.unknown_method"),
        (changed("start", key_agreement_protocols=["curve25519"]), "m.unknown_method"),
        (changed("start", short_authentication_string="emoji"), "m.unknown_method"),
        (changed("start", more=1.5), "m.invalid_message"),
        (changed("start", more="added on the way"), "m.mismatched_commitment"),
        (changed("accept", commitment="A" * 43), "m.mismatched_commitment"),
        (changed("accept", commitment=None), "m.invalid_message"),
        (changed("accept", commitment="\ud800"), "m.invalid_message"),
        (changed("accept", hash="md5"), "m.unknown_method"),
        (changed("accept", message_authentication_code="hkdf-hmac-sha256"), "m.unknown_method"),
        (changed("accept", short_authentication_string=[]), "m.unknown_method"),
        (changed("key", key="A" * 43), "m.invalid_message"),
        (changed("key", key="short"), "m.invalid_message"),
        (changed("key", key=5), "m.invalid_message"),
        (changed("mac", mac={}), "m.key_mismatch"),
        (changed("mac", mac={"a": 5}), "m.invalid_message"),
        (changed("mac", mac={str(n): "x" for n in range(17)}), "m.invalid_message"),
        (changed("mac", keys="wrong"), "m.key_mismatch"),
        (changed("mac", keys=None), "m.invalid_message"),
    ],
)
def test_a_changed_event_ends_it(change: Callable[[str, Json], Json], code: str) -> None:
    """A server that changes any event makes both sides give up, with a code, and nothing is pinned."""
    wire = Wire()
    wire.change = change
    wire.accept()
    wire.confirm()
    assert State.DONE not in wire.states
    assert State.CANCELLED in wire.states
    assert code in (wire.bot.code, wire.alex.code)
    assert wire.bot.master_key == wire.alex.master_key == ""


def test_keys_exchanged_in_the_middle_show_other_emoji_or_break_the_promise() -> None:
    """The one who started finds the promise broken; a key that only the other one gets shows other emoji."""
    wire = Wire()
    wire.change = only_once("key", lambda content: {**content, "key": FOREIGN_KEY})  # the starter's key
    wire.accept()
    assert wire.states == (State.SHOWN, State.SHOWN)
    assert wire.bot.emoji() != wire.alex.emoji()
    wire.confirm()  # two people who do not look: the MACs are made with different secrets
    assert State.DONE not in wire.states
    seen: list[Json] = []
    wire = Wire()
    wire.change = lambda kind, content: (
        {**content, "key": FOREIGN_KEY} if kind == "key" and (seen.append(content) or len(seen) == 2) else content
    )
    wire.accept()
    assert wire.bot.code == "m.mismatched_commitment"
    assert wire.alex.by_them
    assert wire.alex.code == "m.mismatched_commitment"


def test_our_own_key_thrown_back_is_refused() -> None:
    """A key that equals ours makes a secret, but proves nobody."""
    agreement = sas_keys.Agreement()
    end = sas_keys.End(BOT, "BOT")
    with pytest.raises(Malformed):
        agreement.take(agreement.public_key, end, end, True, "t")


@pytest.mark.parametrize("missing", ["PHONE", "master"])
def test_both_the_device_and_the_master_key_must_be_vouched_for(missing: str) -> None:
    """A client that vouches for one of them only does not prove what we pin."""
    wire = Wire()
    wire.accept()
    party = wire.alex._me
    keys = {f"ed25519:{party.device_id}": party.ed25519, f"ed25519:{party.master_key}": party.master_key}
    del keys["ed25519:PHONE" if missing == "PHONE" else f"ed25519:{party.master_key}"]
    content = wire.alex._agreement.macs(keys, wire.alex._us(), wire.alex._them(), wire.alex.transaction_id)
    wire.carry(ALEX, [wire.alex._event("mac", content)])
    assert wire.bot.code == "m.key_mismatch"


def test_more_keys_than_needed_are_fine() -> None:
    """A client may vouch for other keys too; they are part of the list that is checked, and otherwise ignored."""
    wire = Wire()
    wire.accept()
    party = wire.alex._me
    keys = {
        f"ed25519:{party.device_id}": party.ed25519,
        f"ed25519:{party.master_key}": party.master_key,
        "ed25519:more": "more",
    }
    content = wire.alex._agreement.macs(keys, wire.alex._us(), wire.alex._them(), wire.alex.transaction_id)
    wire.carry(ALEX, [wire.alex._event("mac", content)])
    wire.carry(BOT, wire.bot.confirm(NOW))
    assert wire.bot.state is State.DONE


def test_a_homeserver_that_lies_about_the_identity_is_found_out() -> None:
    """If the server showed us another master key than their client has, its MAC does not fit."""
    lie = ALEX_SEEN._replace(master_key=BOTS.master_key)
    wire = Wire()
    wire.bot._theirs = lie
    wire.accept()
    wire.confirm()
    assert wire.bot.code == "m.key_mismatch"
    assert wire.bot.master_key == ""
    wire = Wire()
    wire.bot._theirs = ALEX_SEEN._replace(master_key="")
    wire.accept()
    wire.confirm()
    assert wire.bot.code == "m.key_mismatch"


def test_a_device_named_like_a_master_key_is_no_proof_of_both() -> None:
    """One MAC must not count for two keys."""
    master = ALEXS.master_key
    device = ALEX_SEEN.signed["PHONE"]._replace(device_id=master, ed25519=master)
    wire = Wire()
    wire.accept()
    wire.bot._theirs = ALEX_SEEN._replace(signed={master: device})
    wire.bot._device_id = master
    keys = {f"ed25519:{master}": master}
    them = sas_keys.End(ALEX, master)
    content = wire.alex._agreement.macs(keys, them, wire.alex._them(), wire.alex.transaction_id)
    wire.carry(ALEX, [wire.alex._event("mac", content)])
    assert wire.bot.code == "m.key_mismatch"


def test_mismatch_cancel_and_silence() -> None:
    """A person who sees other emoji, a person who gives up, ten minutes: both sides end, with the right code."""
    for end, code in (
        (lambda it: it.mismatch(NOW), "m.mismatched_sas"),
        (lambda it: it.cancel(), "m.user"),
        (lambda it: it.tick(NOW + 601), "m.timeout"),
        (lambda it: it.confirm(NOW + 601), "m.timeout"),
    ):
        wire = Wire(ROOM)
        wire.accept()
        wire.carry(BOT, end(wire.bot))
        assert wire.states == (State.CANCELLED, State.CANCELLED)
        assert (wire.bot.code, wire.bot.by_them) == (code, False)
        assert (wire.alex.code, wire.alex.by_them) == (code, True)
        assert wire.bot.cancel() == wire.bot.confirm(NOW) == wire.bot.tick(NOW + 9999) == []
        assert wire.alex.receive(wire.log[-1][1], NOW) == []
    wire = Wire()
    assert wire.bot.tick(NOW + 600) == []
    assert [each.content["code"] for each in wire.alex.accept(NOW + 601)] == ["m.timeout"]


def test_other_devices_are_told() -> None:
    """A request went to all their devices: once one accepts, or refuses, the others stop ringing."""
    tablet = ALEX_SEEN.signed["PHONE"]._replace(device_id="TABLET")
    several = ALEX_SEEN._replace(unsigned={"TABLET": tablet})
    bot, (request,) = Verification.request(BOTS, several, NOW, random=random)
    assert request.device_ids == ("PHONE", "TABLET")
    ready = {"from_device": "PHONE", "methods": ["m.sas.v1"], "transaction_id": bot.transaction_id}
    told, start = bot.receive({"type": PREFIX + "ready", "sender": ALEX, "content": ready}, NOW)
    assert (told.event_type, told.content["code"], told.device_ids) == (PREFIX + "cancel", "m.accepted", ("TABLET",))
    assert (start.event_type, start.device_ids) == (PREFIX + "start", ("PHONE",))
    second = {**ready, "from_device": "TABLET"}
    assert bot.receive({"type": PREFIX + "ready", "sender": ALEX, "content": second}, NOW) == []
    assert bot.state is State.STARTED
    bot, _ = Verification.request(BOTS, several, NOW, random=random)
    refusal = {"code": "m.user", "reason": "no\x1b[31m", "transaction_id": bot.transaction_id}
    (told,) = bot.receive({"type": PREFIX + "cancel", "sender": ALEX, "content": refusal}, NOW)
    assert (told.content["code"], told.device_ids) == ("m.user", ("PHONE", "TABLET"))
    assert (bot.state, bot.reason) == (State.CANCELLED, "no reason given")


def test_events_of_others_are_ignored() -> None:
    """Another user, another verification, another way, another device: none of them can disturb this one."""
    wire = Wire(ROOM)
    cancel = {"code": "m.user", "m.relates_to": {"rel_type": "m.reference", "event_id": wire.bot.transaction_id}}
    event = {"type": PREFIX + "cancel", "sender": ALEX, "event_id": "$x", "content": cancel}
    other = {"m.relates_to": {"rel_type": "m.reference", "event_id": "$other"}}
    for foreign in (
        {**event, "sender": "@eve:example.org"},
        {**event, "sender": BOT},
        {**event, "content": cancel | other},
        {**event, "content": {**cancel, "m.relates_to": {"rel_type": "m.thread", "event_id": "$event1"}}},
        {**event, "room_id": "!other"},
        {"type": PREFIX + "cancel", "sender": ALEX, "content": {"transaction_id": wire.bot.transaction_id}},
    ):
        assert wire.bot.receive(foreign, NOW) == []
        assert wire.bot.state is State.REQUESTED
    wire.bot.receive(event, NOW)
    assert wire.bot.state is State.CANCELLED
    wire = Wire()
    wire.accept()
    event = {"type": PREFIX + "cancel", "sender": ALEX, "content": {"transaction_id": wire.bot.transaction_id}}
    assert wire.bot.receive({**event, "sender_device": "TABLET"}, NOW) == []
    assert wire.bot.state is State.SHOWN


@pytest.mark.parametrize("kind", ["accept", "key", "mac", "done", "start", "unknown"])
def test_an_event_out_of_order_ends_it(kind: str) -> None:
    """Whoever skips a step is cancelled."""
    wire = Wire()
    content = {"transaction_id": wire.bot.transaction_id, "key": FOREIGN_KEY, "from_device": "PHONE"}
    (cancel,) = wire.bot.receive({"type": PREFIX + kind, "sender": ALEX, "content": content}, NOW)
    assert cancel.content["code"] == wire.bot.code == "m.unexpected_message"


def test_a_second_key_or_mac_ends_it() -> None:
    """Each step happens once."""
    for kind, before in (("key", False), ("mac", True)):
        wire = Wire()
        wire.accept()
        if before:
            wire.carry(ALEX, wire.alex.confirm(NOW))
        (event,) = [event for sender, event in wire.log if sender == ALEX and event["type"] == PREFIX + kind]
        wire.bot.receive(event, NOW)
        assert wire.bot.code == "m.unexpected_message"


def test_requests_that_are_not_for_us() -> None:
    """A request must be fresh, for us, from a device we know, and offer emoji."""
    _, (room_request,) = Verification.request(ALEXS, BOT_SEEN, NOW, room_id=ROOM, random=random)
    _, (request,) = Verification.request(ALEXS, BOT_SEEN, NOW, random=random)
    content = {**request.content, "transaction_id": "t"}
    event = {"type": request.event_type, "sender": ALEX, "content": content}
    stamp = int(NOW * 1000)
    in_room = {"type": "m.room.message", "sender": ALEX, "event_id": "$e", "origin_server_ts": stamp}
    in_room["content"] = room_request.content
    assert is_request(event)
    assert is_request(in_room)
    assert not is_request({"type": "m.room.message", "content": {"msgtype": "m.text"}})
    Verification.answer(BOTS, ALEX_SEEN, event, NOW)
    Verification.answer(BOTS, ALEX_SEEN, in_room, NOW, room_id=ROOM)
    for bad, room_id in (
        ({**event, "sender": "@eve:example.org"}, ""),
        (event, ROOM),
        (in_room, ""),
        ({**event, "content": {**content, "timestamp": stamp - 600_001}}, ""),
        ({**event, "content": {**content, "timestamp": stamp + 300_001}}, ""),
        ({**event, "content": {**content, "timestamp": None}}, ""),
        ({**event, "content": {**content, "methods": ["m.qr"]}}, ""),
        ({**event, "content": {**content, "methods": "m.sas.v1"}}, ""),
        ({**event, "content": {**content, "from_device": "UNKNOWN"}}, ""),
        ({**event, "content": {**content, "transaction_id": ""}}, ""),
        ({**event, "content": None}, ""),
        ({**in_room, "content": {**room_request.content, "to": ALEX}}, ROOM),
        ({**in_room, "origin_server_ts": stamp - 600_001}, ROOM),
        ({**event, "type": PREFIX + "start"}, ""),
    ):
        with pytest.raises(Malformed):
            Verification.answer(BOTS, ALEX_SEEN, bad, NOW, room_id=room_id)


def test_nothing_can_be_shown_or_confirmed_too_early() -> None:
    """Emoji exist only once both keys are there; confirming earlier does nothing."""
    wire = Wire()
    with pytest.raises(RuntimeError):
        wire.bot.emoji()
    assert wire.bot.confirm(NOW) == wire.bot.accept(NOW) == wire.bot.begin() == []
    assert wire.bot.state is State.REQUESTED


def test_the_room_request_before_its_event_id_is_known() -> None:
    """Without a name there is nothing to send when it is given up."""
    bot, _ = Verification.request(BOTS, ALEX_SEEN, NOW, room_id=ROOM, random=random)
    assert bot.cancel() == []
    assert bot.state is State.CANCELLED


def test_the_strings_are_the_specifications() -> None:
    """A client written here by hand from the specification's words agrees with ours: no mistake made on both sides."""
    theirs, transaction_id, me = Sas(), "72" * 16, f"{BOT}BOT"
    public = theirs.public_key.to_base64()
    bot, _ = Verification.request(BOTS, ALEX_SEEN, NOW, random=random)
    told: list[Outgoing] = []

    def say(kind: str, **content: object) -> None:
        event = {"type": f"m.key.verification.{kind}", "sender": ALEX}
        told[:] = bot.receive({**event, "content": {**content, "transaction_id": transaction_id}}, NOW)

    say("ready", from_device="PHONE", methods=["m.sas.v1", "m.qr_code.scan.v1"])
    start = (
        '{"from_device":"BOT","hashes":["sha256"],"key_agreement_protocols":["curve25519-hkdf-sha256"],'
        '"message_authentication_codes":["hkdf-hmac-sha256.v2"],"method":"m.sas.v1",'
        f'"short_authentication_string":["decimal","emoji"],"transaction_id":"{transaction_id}"}}'
    )
    assert json.loads(start) == told[0].content
    promise = base64.b64encode(hashlib.sha256((public + start).encode()).digest()).decode().rstrip("=")
    say(
        "accept",
        commitment=promise,
        hash="sha256",
        key_agreement_protocol="curve25519-hkdf-sha256",
        message_authentication_code="hkdf-hmac-sha256.v2",
        short_authentication_string=["emoji"],
    )
    our_key = told[0].content["key"]
    say("key", key=public)
    shared = theirs.diffie_hellman(Curve25519PublicKey.from_base64(our_key))
    info = f"MATRIX_KEY_VERIFICATION_SAS|{BOT}|BOT|{our_key}|{ALEX}|PHONE|{public}|{transaction_id}"
    assert bot.strings == ("emoji",)
    assert [EMOJI[index] for index in shared.bytes(info).emoji_indices] == list(bot.emoji())
    mac = bot.confirm(NOW)[0].content
    base = f"MATRIX_KEY_VERIFICATION_MAC{me}{ALEX}PHONE{transaction_id}"
    ids = sorted(["ed25519:BOT", f"ed25519:{BOTS.master_key}"])
    shared.verify_mac(",".join(ids), base + "KEY_IDS", mac["keys"])
    shared.verify_mac(BOTS.ed25519, base + "ed25519:BOT", mac["mac"]["ed25519:BOT"])
    shared.verify_mac(BOTS.master_key, base + f"ed25519:{BOTS.master_key}", mac["mac"][f"ed25519:{BOTS.master_key}"])
    assert sorted(mac["mac"]) == ids
    base = f"MATRIX_KEY_VERIFICATION_MAC{ALEX}PHONE{me}{transaction_id}"
    keys = {"ed25519:PHONE": ALEXS.ed25519, f"ed25519:{ALEXS.master_key}": ALEXS.master_key}
    macs = {key_id: shared.calculate_mac(key, base + key_id) for key_id, key in keys.items()}
    say("mac", mac=macs, keys=shared.calculate_mac(",".join(sorted(keys)), base + "KEY_IDS"))
    assert [each.event_type for each in told] == ["m.key.verification.done"]
    assert (bot.state, bot.master_key) == (State.DONE, ALEXS.master_key)


def test_the_emoji_are_the_specifications() -> None:
    """64 different ones in the specification's order, with its variation selectors; compared once, guarded since."""
    assert len(EMOJI) == len(set(EMOJI)) == 64
    assert (EMOJI[0], EMOJI[21], EMOJI[63]) == (("🐶", "Dog"), ("☁️", "Cloud"), ("📌", "Pin"))
    assert (EMOJI[36].name, EMOJI[41].name) == ("Thumbs Up", "Light Bulb")
    table = "|".join(" ".join(each) for each in EMOJI)
    assert hashlib.sha256(table.encode()).hexdigest().startswith("efb815cb145b4e93168187e55afe50f1")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(thing: Json) -> list[tuple[str, ...]]:
    return [(name,) for name in thing] + [
        (name, inner) for name, value in thing.items() if isinstance(value, dict) for inner in value
    ]


@settings(deadline=None)
@given(st.data())
def test_no_event_whatever_is_in_it_raises(data: st.DataObject) -> None:
    """The other side, or the server, can put anything anywhere: it is ignored or it cancels, and pins nothing false."""
    wire = Wire(data.draw(st.sampled_from(["", ROOM])), data.draw(st.booleans()))
    kind = data.draw(st.sampled_from(["ready", "start", "accept", "key", "mac", "done", "cancel"]))
    honest = wire.change

    def change(this: str, content: Json) -> Json:
        if this != kind:
            return honest(this, content)
        path = data.draw(st.sampled_from(places(content) or [("x",)]))
        value = data.draw(junk)
        if len(path) == 2:
            return {**content, path[0]: {**content[path[0]], path[1]: value}}
        return {**content, path[0]: value}

    wire.change = change
    wire.accept()
    wire.confirm()
    assert wire.bot.master_key in ("", ALEXS.master_key)
    assert wire.alex.master_key in ("", BOTS.master_key)


@settings(deadline=None)
@given(junk, junk, junk)
def test_no_event_of_any_shape_raises(kind: object, content: object, more: object) -> None:
    """Events that are no events at all."""
    wire = Wire()
    for event in (
        {"type": kind, "content": content, "sender": ALEX, "event_id": more},
        {"type": PREFIX + "cancel", "content": content, "sender": more},
        {"type": kind, "content": {"transaction_id": wire.bot.transaction_id, "x": more}, "sender": ALEX},
        {"type": PREFIX + "ready", "content": content, "sender": ALEX, "origin_server_ts": more},
    ):
        wire.bot.receive(event, NOW)
        transaction(event)
        with contextlib.suppress(Malformed):
            Verification.answer(BOTS, ALEX_SEEN, event, NOW)
