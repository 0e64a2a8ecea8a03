"""Our end of the encryption: what to upload, whom to encrypt to, what a received event says. No input or output.

Every ``..._upload``, ``..._query`` and ``..._claim`` returns the body of the request of that name in the Matrix
client-server specification (None: there is nothing to send) and the method after it takes the response's body. After
each method that changes something, and before what it returned is sent, the caller saves :meth:`Machine.dump`.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from vodozemac import Account

from unlatch.matrix import canonical, fields, pickles
from unlatch.matrix.account import ONE_TIME, CrossSigning, OwnDevice
from unlatch.matrix.errors import BadSignature, Refused, Untrusted
from unlatch.matrix.identity import Device, Identity, Pin, Reason, Recipients
from unlatch.matrix.megolm import Inbox
from unlatch.matrix.olm import OlmSessions, Payload, UnknownOneTimeKey
from unlatch.matrix.sas_events import Party
from unlatch.matrix.sending import ENCRYPTED, Encrypted, Sending, ToDevice
from unlatch.matrix.trust import Trust

__all__ = ["Decrypted", "Encrypted", "Machine", "ToDevice"]

VERIFICATION = "m.key.verification."

Json = dict[str, Any]


class Decrypted(NamedTuple):
    """A room event as its sender wrote it. ``plain``: type, content, room_id, sender, event_id, origin_server_ts.

    ``content`` has the outer ``m.relates_to`` where the encrypted part brought none. ``verified``: the sender's device
    is, now, a verified device of a pinned admin. Only then may a "deny" count.
    """

    plain: Json
    verified: bool
    sender: str
    device: Device | None


class Machine:
    """The bot's device and its three cross-signing keys."""

    def __init__(self, parts: pickles.Parts) -> None:
        self.user_id = parts.device.user_id
        self.device_id = parts.device.device_id
        self._device = parts.device
        self._cross = parts.cross
        self._olm = OlmSessions(parts.device, parts.olm)
        self._inbox = Inbox(parts.megolm)
        self._sending = Sending(parts.device, parts.cross, self._olm)
        self._trust = Trust(self.user_id, parts.pins)

    @classmethod
    def create(cls, user_id: str, device_id: str, earlier: "Machine | None" = None) -> "Machine":
        """A new device with new keys (vodozemac takes its randomness from the kernel itself).

        ``earlier``: the same user's machine, whose login is gone: its identity and its pins live on.
        """
        device = OwnDevice(user_id, device_id, Account(), published=False)
        if earlier is not None and earlier.user_id == user_id:
            return cls(pickles.Parts(device, earlier._cross, earlier._trust.pins, {}, {}))
        return cls(pickles.Parts(device, CrossSigning.create(user_id), {}, {}, {}))

    @classmethod
    def load(cls, dumped: Mapping[str, Any], pickle_key: bytes, earlier: "Machine | None" = None) -> "Machine":
        """The machine that was dumped. ``earlier``: this process's machine before another process saved; what lives in
        memory only is taken over from it, and it must not be used any more.

        Raises:
            StoreBroken: it is not what dump made, or another pickle key made it.
        """
        machine = cls(pickles.load(dumped, pickle_key))
        if earlier is not None:
            machine._trust.take_over(earlier._trust)
            machine._sending.take_over(earlier._sending)
        return machine

    def dump(self, pickle_key: bytes) -> Json:
        """Everything that must survive, as JSON; private keys are encrypted with ``pickle_key`` (32 bytes)."""
        parts = pickles.Parts(self._device, self._cross, self._trust.pins, self._olm.sessions, self._inbox.sessions)
        return pickles.dump(parts, pickle_key)

    def __repr__(self) -> str:
        return f"Machine({self.user_id!r}, {self.device_id!r})"

    # Keys of our own

    @property
    def ed25519(self) -> str:
        """The device's signing key, base64: what ``unlatch matrix setup`` may show."""
        return self._device.ed25519

    @property
    def master_key(self) -> str:
        """Our own cross-signing master key, base64."""
        return self._cross.public("master")

    @property
    def party(self) -> Party:
        """Ourselves, for a verification."""
        return Party(self.user_id, self.device_id, self.ed25519, self.master_key)

    def one_time_key_counts(self, counts: Mapping[str, Any], unused_fallback: Collection[str] | None = None) -> None:
        """Take note of ``device_one_time_keys_count`` and ``device_unused_fallback_key_types`` of a sync."""
        self._device.take_counts(counts, unused_fallback)

    def keys_upload(self) -> Json | None:
        """For ``/keys/upload``: device keys (once), one-time keys (when the server has few), a fallback key."""
        return self._device.upload()

    def keys_uploaded(self, response: Mapping[str, Any]) -> None:
        """Take note that they arrived.

        Raises:
            Malformed
        """
        self._device.uploaded(response)

    def cross_signing_upload(self) -> Json:
        """For ``/keys/device_signing/upload``, without ``auth``. May be repeated with the same keys."""
        return self._cross.upload(self._device)

    def own_identity(self) -> str:
        """What the last query said of us: "none" (or half), "ours", or "foreign" (other keys: setup must ask)."""
        known = self.identities.get(self.user_id)
        if known is None or not known.master_key:
            return "none"
        if known.master_key != self.master_key:
            return "foreign"
        return "ours" if known.self_signing_key == self._cross.public("self_signing") else "none"

    def signatures_upload(self) -> Json | None:
        """For ``/keys/signatures/upload``: our device by our self-signing key, and the master keys of admins verified
        by emoji by our user-signing key; only what the last :meth:`keys_query` answer lacks.
        """
        body: Json = {}
        if not self.cross_signed():
            body[self.user_id] = {self.device_id: self._signed_by("self_signing", self._device.keys())}
        for user, pin in self.pins.items():
            known = self.identities.get(user)
            if pin.verified == "emoji" and known and known.master_key == pin.master_key and not self._vouched(known):
                body[user] = {pin.master_key: self._signed_by("user_signing", known.master)}
        return body or None

    def signatures_uploaded(self, response: Mapping[str, Any]) -> None:
        """Check the answer; query again to see the effect.

        Raises:
            Refused: with the server's reasons.
        """
        failures = fields.optional_table(response, "failures")
        if failures:
            reasons = {
                str(fields.optional_table(failures, user, key).get("error", "no reason given"))[:200]
                for user in failures
                for key in fields.optional_table(failures, user) or [""]
            }
            raise Refused("the homeserver refused our signatures: " + "; ".join(sorted(reasons)))

    def cross_signed(self) -> bool:
        """Whether the server showed our own keys, and our device signed by them, in the last query."""
        known = self.identities.get(self.user_id)
        ours = known.signed.get(self.device_id) if known is not None else None
        keys = (self._device.ed25519, self._device.curve25519)
        return self.own_identity() == "ours" and ours is not None and (ours.ed25519, ours.curve25519) == keys

    # Whom to trust

    @property
    def pins(self) -> Mapping[str, Pin]:
        """The master keys we hold the admins to, by user id. Changed by :meth:`pin` and :meth:`unpin`."""
        return self._trust.pins

    @property
    def identities(self) -> Mapping[str, Identity]:
        """The last ``/keys/query`` answer for each user asked for, checked. Kept in memory only: before the first query
        of a process nobody is trusted.
        """
        return self._trust.identities

    @property
    def verifying(self) -> set[str]:
        """Users whom somebody verifies right now; add and discard at will (in memory only). Their room keys are
        accepted, and :meth:`recipients` includes their self-signed devices if called with ``verifying=True``, so that
        an in-room verification can be encrypted before there is a pin. Never send a link then.
        """
        return self._trust.verifying

    @property
    def stale(self) -> set[str]:
        """Users of whom a device was heard that the last query did not list: query again."""
        return self._trust.stale

    def keys_query(self, users: Iterable[str]) -> Json:
        """For ``/keys/query``; our own user is always included."""
        return {"device_keys": {user: [] for user in sorted({*users, self.user_id})}}

    def keys_query_done(self, response: Mapping[str, Any], users: Iterable[str] = ()) -> None:
        """Check the answer and keep it in ``identities``. ``users``: those asked for; one whom the answer leaves out
        has no devices then (an unreachable server's users get nothing rather than what was true once).

        Raises:
            Malformed: no answer to a query at all.
        """
        self._trust.take_query(response, users)

    def pin(self, user_id: str, master_key: str, verified: str) -> None:
        """Hold a user to a master key from now on; ``verified`` is "emoji" or "first-use".

        Raises:
            Untrusted: a first use cannot replace another key, nor be told for one that was compared.
        """
        self._trust.pin(user_id, master_key, verified)

    def unpin(self, user_id: str) -> None:
        """Trust a user no more."""
        self._trust.pins.pop(user_id, None)

    def recipients(self, room_members: Iterable[str], verifying: bool = False) -> Recipients:
        """The devices that may read, and those that may not, by the last query. Also names admins not in the room."""
        return self._trust.recipients(room_members, verifying)

    # Sending

    def begin_burst(self, room_id: str) -> None:
        """Use a new Megolm session for what follows. Call it once for each ring (edits and reminders need it not), and
        when it is not known whether the last ``to_device`` arrived.
        """
        self._sending.outbound.pop(room_id, None)

    def unshared(self, room_id: str, devices: Iterable[Device], now: float) -> list[Device]:
        """The devices for which :meth:`encrypt` will need a claimed one-time key: all when a new session is due (first
        message, new burst, other devices, 100 messages, one week), else none. ``now``: seconds, any clock.
        """
        return self._sending.unshared(room_id, devices, now)

    def keys_claim(self, devices: Iterable[Device]) -> Json:
        """For ``/keys/claim``: one fresh one-time key for each device."""
        wanted: dict[str, dict[str, str]] = {}
        for device in devices:
            wanted.setdefault(device.user_id, {})[device.device_id] = ONE_TIME
        return {"one_time_keys": wanted}

    def keys_claimed(self, response: Mapping[str, Any]) -> None:
        """Keep the keys that are signed by their devices, for the next :meth:`encrypt`; drop the others.

        Raises:
            Malformed: no answer to a claim at all.
        """
        self._sending.take_claimed(response, self.identities)

    def encrypt(self, room_id: str, event_type: str, content: Json, devices: Iterable[Device], now: float) -> Encrypted:
        """Encrypt for exactly these devices.

        Raises:
            NobodyToTell: no device is left.
        """
        return self._sending.to_room(room_id, event_type, content, devices, now)

    def encrypt_to_device(self, event_type: str, content: Json, device: Device) -> ToDevice:
        """One encrypted to-device event (a verification's); needs a claimed key for the device.

        Raises:
            NobodyToTell: no key was claimed.
        """
        return self._sending.to_devices(event_type, content, [device])[0]

    # Receiving

    def receive_to_device(self, event: Mapping[str, Any]) -> Json | None:
        """A to-device event of a sync: the plain event (``m.key.verification.*``, encrypted or not) or None (kept, or
        none of our business). An event that was encrypted has ``sender_device``, proven ("" if the server lists none).

        Raises:
            Malformed, Undecryptable, Untrusted: drop it; the text may be logged.
        """
        event_type = fields.text(event, "type", "to-device event")
        sender = fields.text(event, "sender", "to-device event")
        content = fields.table(event, "content", "to-device event")
        if event_type.startswith(VERIFICATION):
            return {"type": event_type, "sender": sender, "content": content}
        if event_type != ENCRYPTED or not self._trust.knows(sender):
            return None  # a stranger's message is not even opened: that would spend keys
        try:
            payload = self._olm.decrypt(sender, content)
        except UnknownOneTimeKey:
            self._device.distrust_server_keys()
            raise
        device = self._trust.sender(payload.sender, payload.curve25519, payload.ed25519)
        if payload.type == "m.room_key":
            self._take_room_key(payload, device)
        if not payload.type.startswith(VERIFICATION):
            return None
        name = device.device_id if device is not None else ""
        return {"type": payload.type, "sender": sender, "content": payload.content, "sender_device": name}

    def decrypt_room(self, event: Mapping[str, Any], room_id: str) -> Decrypted:
        """An ``m.room.encrypted`` event of a room's timeline.

        Raises:
            UnknownSession: try again after the next sync.
            Untrusted: the server lists no such device of the sender's; query keys (``stale``) and try once more.
            Replayed, Malformed, Undecryptable: drop it.
        """
        sender = fields.text(event, "sender", "encrypted event")
        event_id = fields.text(event, "event_id", "encrypted event")
        content = fields.table(event, "content", "encrypted event")
        opened = self._inbox.open(content, sender, room_id, event_id)
        device = self._trust.sender(sender, opened.inbound.curve25519, opened.inbound.ed25519)
        if device is None:
            raise Untrusted(sender, "", Reason.UNKNOWN)
        opened.inbound.mark(opened.place, event_id)
        plain_content = opened.content
        if "m.relates_to" in content and "m.relates_to" not in plain_content:
            # Some clients leave it outside only, where the server could have changed it. It says which prompt is
            # denied, never that one is approved; and a server can withhold a prompt anyway.
            plain_content = {**plain_content, "m.relates_to": content["m.relates_to"]}
        plain = {
            "type": opened.type,
            "content": plain_content,
            "room_id": room_id,
            "sender": sender,
            "event_id": event_id,
            "origin_server_ts": event.get("origin_server_ts"),
        }
        return Decrypted(plain, self._trust.distrust(device) == "", sender, device)

    # Inside

    def _take_room_key(self, payload: Payload, device: Device | None) -> None:
        """Keep a key if its device is trusted, or not yet listed: then :meth:`decrypt_room` looks again, as always."""
        if device is not None and (reason := self._trust.distrust(device, verifying=True)):
            raise Untrusted(payload.sender, device.device_id, reason)
        self._inbox.take_key(payload.content, payload.sender, payload.curve25519, payload.ed25519)

    def _signed_by(self, usage: str, thing: Json) -> Json:
        """The object with this one signature and no other."""
        return self._cross.sign(usage, canonical.signed_part(thing))

    def _vouched(self, known: Identity) -> bool:
        """Whether our user-signing key signed this master key."""
        key = self._cross.public("user_signing")
        try:
            canonical.verify(known.master, self.user_id, f"ed25519:{key}", key, "master key")
        except BadSignature:
            return False
        return True
