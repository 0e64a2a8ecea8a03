"""Verify a user by seven emoji (Matrix client-server specification, "Short Authentication String"). No input or output.

Both ways of transport (in the room, to-device), both roles. Whoever carries the events gives each received one to
:meth:`Verification.receive` and sends what any method returns; the other side's mistakes never raise, they cancel.

    verification, request = Verification.request(me, theirs, now, room_id=..., random=...)
    event_id = send(request); verification.sent(event_id)          # in the room only
    verification = Verification.answer(me, theirs, event, now)     # or: they asked
    send(verification.accept(now)); send(verification.receive(event, now)); ...
    if verification.state is State.SHOWN: show verification.emoji(); send(verification.confirm(now))
    if verification.state is State.DONE: machine.pin(theirs.user_id, verification.master_key, "emoji")
"""

from collections.abc import Callable, Mapping
from typing import Any

from unlatch.errors import Malformed
from unlatch.matrix import fields, sas_keys
from unlatch.matrix.emoji import Emoji
from unlatch.matrix.identity import Identity
from unlatch.matrix.sas_events import (
    PREFIX,
    REQUEST,
    Json,
    Outgoing,
    Party,
    State,
    is_request,
    printable,
    transaction,
    vouched_keys,
)
from unlatch.matrix.sas_keys import Agreement, End

__all__ = ["Emoji", "Outgoing", "Party", "State", "Verification", "is_request", "transaction"]

SECONDS = 600  # for all of it, and the greatest age of a request (specification, "Key verification framework")
AHEAD = 300  # s that the other clock may be ahead of ours


class Verification:
    """One verification with one user.

    Attributes:
        state: where it stands.
        user_id: the other side.
        transaction_id: its name; in a room the request's event id ("" until :meth:`sent`).
        room_id: "" = to-device.
        strings: what both can show: "emoji", "decimal"; once SHOWN.
        master_key: theirs, proven, once DONE; else "".
        code, reason: why it was cancelled ("m.user", "m.timeout", ...), once CANCELLED; ``by_them``: not by us.
    """

    def __init__(self, me: Party, theirs: Identity, transaction_id: str, room_id: str, now: float) -> None:
        self.state = State.REQUESTED
        self.user_id = theirs.user_id
        self.transaction_id = transaction_id
        self.room_id = room_id
        self.strings: tuple[str, ...] = ()
        self.master_key = self.code = self.reason = ""
        self.by_them = False
        self._me = me
        self._theirs = theirs
        self._deadline = now + SECONDS
        self._device_id = ""  # theirs, once one of their devices took part
        self._we_asked = False
        self._expects = ""  # the one event that may come while STARTED
        self._start: Json | None = None  # the start event's content that counts, ours or theirs
        self._we_started = False
        self._commitment = ""
        self._agreement = Agreement()
        self._vouched = False  # their MACs were right

    @classmethod
    def request(
        cls, me: Party, theirs: Identity, now: float, *, room_id: str = "", random: Callable[[int], bytes]
    ) -> "tuple[Verification, list[Outgoing]]":
        """We ask: in the room, or to all their devices. ``now``: Unix time in seconds, for every method."""
        verification = cls(me, theirs, "" if room_id else random(16).hex(), room_id, now)
        verification._we_asked = True
        content: Json = {"from_device": me.device_id, "methods": [sas_keys.METHOD]}
        if not room_id:
            return verification, [verification._event("request", content | {"timestamp": int(now * 1000)})]
        content |= {"msgtype": REQUEST, "to": theirs.user_id, "body": f"{me.user_id} wants to verify you"}
        return verification, [Outgoing("m.room.message", content, theirs.user_id, (), room_id)]

    @classmethod
    def answer(
        cls, me: Party, theirs: Identity, event: Mapping[str, Any], now: float, *, room_id: str = ""
    ) -> "Verification":
        """They ask: ``event`` is the request; ``theirs`` comes from a query made after it.

        Raises:
            Malformed: no request, not for us, too old, from an unknown device or without a method of ours. Ignore it.
        """
        content = fields.table(event, "content", "verification request")
        in_room = event.get("type") == "m.room.message"
        made = event.get("origin_server_ts") if in_room else content.get("timestamp")
        methods, device_id = content.get("methods"), content.get("from_device")
        if (
            not is_request(event)
            or in_room != bool(room_id)
            or event.get("sender") != theirs.user_id
            or (in_room and content.get("to") != me.user_id)
            or not isinstance(made, int)
            or not -AHEAD <= now - made / 1000 <= SECONDS
            or not isinstance(methods, list)
            or sas_keys.METHOD not in methods
            or not isinstance(device_id, str)
            or theirs.device(device_id) is None
            or not transaction(event)
        ):
            raise Malformed("verification request")
        verification = cls(me, theirs, transaction(event), room_id, now)
        verification._device_id = device_id
        return verification

    def sent(self, event_id: str) -> None:
        """The request's event id, which names a verification in a room."""
        if self.room_id and not self.transaction_id:
            self.transaction_id = event_id

    def accept(self, now: float) -> list[Outgoing]:
        """Our person agrees to a verification they asked for. They start it, or :meth:`begin` does."""
        if self.state is not State.REQUESTED or self._we_asked:
            return []
        if now > self._deadline:
            return self.tick(now)
        self.state = State.READY
        return [self._event("ready", {"from_device": self._me.device_id, "methods": [sas_keys.METHOD]})]

    def begin(self) -> list[Outgoing]:
        """Start the exchange; whoever asked does so by itself once the other one is ready."""
        if self.state is not State.READY:
            return []
        event = self._event("start", {"from_device": self._me.device_id, **sas_keys.OFFER})
        self.state, self._expects = State.STARTED, "accept"
        self._we_started, self._start = True, event.content
        return [event]

    def receive(self, event: Mapping[str, Any], now: float) -> list[Outgoing]:
        """A plain event of this verification. Events of others, and of other verifications, are ignored."""
        kind, content = str(event.get("type")).removeprefix(PREFIX), event.get("content")
        if self._is_over() or not self._is_ours(event) or is_request(event):
            return []
        if now > self._deadline:
            return self.tick(now)
        if not isinstance(content, dict):
            return self.cancel("m.invalid_message", "malformed event")
        take = {
            "ready": self._take_ready,
            "start": self._take_start,
            "accept": self._take_accept,
            "key": self._take_key,
            "mac": self._take_mac,
            "done": self._take_done,
            "cancel": self._take_cancel,
        }.get(kind)
        if take is None:
            return self._unexpected()
        try:
            return take(content)
        except Malformed as problem:
            return self.cancel("m.invalid_message", str(problem))

    def emoji(self) -> tuple[Emoji, ...]:
        """Seven emoji to compare, from SHOWN on, if ``strings`` has "emoji"."""
        return self._agreement.emoji()

    def decimals(self) -> tuple[int, int, int]:
        """Three numbers to compare where emoji cannot be shown."""
        return self._agreement.decimals()

    def confirm(self, now: float) -> list[Outgoing]:
        """Our person says that they match."""
        if self.state is not State.SHOWN:
            return []
        if now > self._deadline:
            return self.tick(now)
        self.state = State.CONFIRMED
        keys = vouched_keys(self._me.device_id, self._me.ed25519, self._me.master_key)
        mac = self._event("mac", self._agreement.macs(keys, self._us(), self._them(), self.transaction_id))
        return [mac, *self._finish()]

    def mismatch(self, now: float) -> list[Outgoing]:
        """Our person says that they differ."""
        return self.tick(now) or self.cancel("m.mismatched_sas", "the emoji did not match")

    def cancel(self, code: str = "m.user", reason: str = "cancelled by the user") -> list[Outgoing]:
        """End it; nothing to send if it is over."""
        if self._is_over():
            return []
        self.state, self.code, self.reason = State.CANCELLED, code, reason
        return [self._event("cancel", {"code": code, "reason": reason})] if self.transaction_id else []

    def tick(self, now: float) -> list[Outgoing]:
        """Give up after ten minutes."""
        return self.cancel("m.timeout", "it took more than ten minutes") if now > self._deadline else []

    # What came

    def _take_ready(self, content: Json) -> list[Outgoing]:
        if self.state is not State.REQUESTED or not self._we_asked:
            return []  # another device of theirs: it will see that the first one was faster
        device_id, methods = fields.text(content, "from_device", "ready event"), content.get("methods")
        if not isinstance(methods, list) or sas_keys.METHOD not in methods:
            return self.cancel("m.unknown_method", "only m.sas.v1 is known here")
        if self._theirs.device(device_id) is None:
            return self.cancel("m.key_mismatch", "the device is not known")
        told = self._tell_others(device_id, "m.accepted", "accepted on another device")
        self.state, self._device_id = State.READY, device_id
        return [*told, *self.begin()]

    def _take_start(self, content: Json) -> list[Outgoing]:
        if self._we_started and self._us() < self._them() and content.get("method") == sas_keys.METHOD:
            return []  # both started: the smaller user id's start counts, and that is ours
        ours_first = self.state is State.STARTED and self._we_started and self._expects == "accept"
        if self.state is not State.READY and not ours_first:
            return self._unexpected()
        if fields.text(content, "from_device", "start event") != self._device_id:
            return self.cancel("m.user_mismatch", "another device started it")
        if ours_first and content.get("method") != sas_keys.METHOD:
            return self._unexpected()
        if not sas_keys.fits(content):
            return self.cancel("m.unknown_method", "no common method")
        self.strings = sas_keys.shared_strings(content)
        promise = sas_keys.commitment(self._agreement.public_key, content)
        self.state, self._expects, self._we_started, self._start = State.STARTED, "key", False, content
        accepted = {
            "method": sas_keys.METHOD,
            "key_agreement_protocol": sas_keys.AGREEMENT,
            "hash": sas_keys.HASH,
            "message_authentication_code": sas_keys.MAC,
            "short_authentication_string": list(self.strings),
            "commitment": promise,
        }
        return [self._event("accept", accepted)]

    def _take_accept(self, content: Json) -> list[Outgoing]:
        if self.state is not State.STARTED or self._expects != "accept":
            return self._unexpected()
        names = ("key_agreement_protocol", "hash", "message_authentication_code")
        self.strings = sas_keys.shared_strings(content)
        chosen = tuple(content.get(name) for name in names)
        if chosen != (sas_keys.AGREEMENT, sas_keys.HASH, sas_keys.MAC) or not self.strings:
            return self.cancel("m.unknown_method", "no common method")
        self._commitment = fields.text(content, "commitment", "accept event")
        self._expects = "key"
        return [self._event("key", {"key": self._agreement.public_key})]

    def _take_key(self, content: Json) -> list[Outgoing]:
        if self.state is not State.STARTED or self._expects != "key" or self._start is None:
            return self._unexpected()
        key = fields.text(content, "key", "key event")
        if self._we_started and not sas_keys.same(sas_keys.commitment(key, self._start), self._commitment):
            return self.cancel("m.mismatched_commitment", "the key is not the promised one")
        self._agreement.take(key, self._us(), self._them(), self._we_started, self.transaction_id)
        self.state, self._expects = State.SHOWN, "mac"
        return [] if self._we_started else [self._event("key", {"key": self._agreement.public_key})]

    def _take_mac(self, content: Json) -> list[Outgoing]:
        if self.state not in (State.SHOWN, State.CONFIRMED) or self._vouched:
            return self._unexpected()
        device = self._theirs.device(self._device_id)
        keys = vouched_keys(self._device_id, device.ed25519 if device else "", self._theirs.master_key)
        # Both must be vouched for, under different names: a homeserver may name a device like a master key.
        named = len(keys) == 2 and all(keys.values())
        if not named or not self._agreement.check(content, keys, self._them(), self._us(), self.transaction_id):
            return self.cancel("m.key_mismatch", "their device and master key were not both vouched for")
        self._vouched = True
        return self._finish()

    def _take_done(self, content: Json) -> list[Outgoing]:  # noqa: ARG002 - it says nothing
        return self._unexpected()  # done comes after their MACs, and those after our confirmation make us DONE

    def _take_cancel(self, content: Json) -> list[Outgoing]:
        code, reason = content.get("code"), content.get("reason")
        refused = self._tell_others("", "m.user", "refused") if self.state is State.REQUESTED and self._we_asked else []
        self.state, self.by_them = State.CANCELLED, True
        self.code = printable(code, "m.user")
        self.reason = printable(reason, "no reason given")
        return refused

    # Helpers

    def _is_over(self) -> bool:
        return self.state in (State.DONE, State.CANCELLED)

    def _is_ours(self, event: Mapping[str, Any]) -> bool:
        """Whether the event comes from the other side, on the same way, about this verification."""
        device_id = event.get("sender_device", "")  # known if it came over Olm
        return (
            event.get("sender") == self.user_id
            and ("event_id" in event) == bool(self.room_id)
            and event.get("room_id", self.room_id) == self.room_id
            and (not self._device_id or not device_id or device_id == self._device_id)
            and self.transaction_id != ""
            and transaction(event) == self.transaction_id
        )

    def _us(self) -> End:
        return End(self._me.user_id, self._me.device_id)

    def _them(self) -> End:
        return End(self.user_id, self._device_id)

    def _finish(self) -> list[Outgoing]:
        """Once both sides confirmed."""
        if self.state is not State.CONFIRMED or not self._vouched:
            return []
        done = self._event("done", {})
        self.state, self.master_key = State.DONE, self._theirs.master_key
        return [done]

    def _unexpected(self) -> list[Outgoing]:
        return self.cancel("m.unexpected_message", "this event was not expected now")

    def _event(self, kind: str, content: Json) -> Outgoing:
        devices = (self._device_id,) if self._device_id else (*self._theirs.signed, *self._theirs.unsigned)
        return self._outgoing(kind, content, devices)

    def _outgoing(self, kind: str, content: Json, devices: tuple[str, ...]) -> Outgoing:
        if self.room_id:
            named: Json = {"m.relates_to": {"rel_type": "m.reference", "event_id": self.transaction_id}}
            return Outgoing(PREFIX + kind, content | named, self.user_id, (), self.room_id)
        return Outgoing(PREFIX + kind, content | {"transaction_id": self.transaction_id}, self.user_id, devices, "")

    def _tell_others(self, but: str, code: str, reason: str) -> list[Outgoing]:
        """End a to-device request on their other devices (in a room they see it by themselves)."""
        others = tuple(each for each in (*self._theirs.signed, *self._theirs.unsigned) if each != but)
        if self.room_id or not others:
            return []
        return [self._outgoing("cancel", {"code": code, "reason": reason}, others)]
