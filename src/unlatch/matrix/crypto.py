"""Our end of the encryption: what to upload, whom to encrypt to, what a received event says. No input or output.

Every ``..._upload``, ``..._query`` and ``..._claim`` returns the body of the request of that name in the Matrix
client-server specification (None: there is nothing to send) and the method after it takes the response's body. After
each method that changes something, and before what it returned is sent, the caller saves :meth:`Machine.dump`.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from unlatch.matrix.identity import Device, Identity, Pin, Recipients, Skipped

Json = dict[str, Any]


class ToDevice(NamedTuple):
    """A body for ``PUT /sendToDevice/{event_type}/{txnId}``."""

    event_type: str
    body: Json


class Encrypted(NamedTuple):
    """A room event to send as ``m.room.encrypted``, after ``to_device`` (if any) went out."""

    to_device: ToDevice | None
    content: Json
    skipped: list[Skipped]  # devices that should have got the key and could not: no one-time key


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
    """The bot's device and its three cross-signing keys.

    Attributes:
        pins: the master keys we hold the admins to, by user id. Change it with :meth:`pin` and :meth:`unpin`.
        identities: the last ``/keys/query`` answer for each user asked for, checked.
        verifying: users whom somebody verifies right now (kept in memory only). Their room keys are accepted and
            :meth:`recipients` includes their self-signed devices if called with ``verifying=True``, so that an in-room
            verification can be encrypted before there is a pin. Never send a link then.
    """

    user_id: str
    device_id: str
    pins: dict[str, Pin]
    identities: dict[str, Identity]
    verifying: set[str]

    @classmethod
    def create(cls, user_id: str, device_id: str) -> "Machine":
        """A new device with new keys (vodozemac takes its randomness from the kernel itself)."""
        raise NotImplementedError

    @classmethod
    def load(cls, dumped: Mapping[str, Any], pickle_key: bytes, earlier: "Machine | None" = None) -> "Machine":
        """The machine that was dumped. ``earlier``: this process's machine before another process saved; its Megolm
        sessions for sending and its claimed keys are taken over.

        Raises:
            StoreBroken: it is not what dump made, or another pickle key made it.
        """
        raise NotImplementedError

    def dump(self, pickle_key: bytes) -> Json:
        """Everything that must survive, as JSON; private keys are encrypted with ``pickle_key`` (32 bytes)."""
        raise NotImplementedError

    # Keys of our own

    @property
    def ed25519(self) -> str:
        """The device's signing key, base64: what ``unlatch matrix setup`` may show."""
        raise NotImplementedError

    @property
    def master_key(self) -> str:
        """Our own cross-signing master key, base64."""
        raise NotImplementedError

    def one_time_key_counts(self, counts: Mapping[str, Any], unused_fallback: Collection[str] | None = None) -> None:
        """Take note of ``device_one_time_keys_count`` and ``device_unused_fallback_key_types`` of a sync."""
        raise NotImplementedError

    def keys_upload(self) -> Json | None:
        """For ``/keys/upload``: device keys (once), one-time keys (when the server has few), a fallback key."""
        raise NotImplementedError

    def keys_uploaded(self, response: Mapping[str, Any]) -> None:
        """Take note that they arrived.

        Raises:
            Malformed
        """
        raise NotImplementedError

    def cross_signing_upload(self) -> Json:
        """For ``/keys/device_signing/upload``, without ``auth``. May be repeated with the same keys."""
        raise NotImplementedError

    def own_identity(self) -> str:
        """What the last query said of us: "none", "ours" or "foreign" (somebody else's keys: setup must ask)."""
        raise NotImplementedError

    def signatures_upload(self) -> Json | None:
        """For ``/keys/signatures/upload``: our device by our self-signing key, and the master keys of admins verified
        by emoji by our user-signing key; only what the last :meth:`keys_query` answer lacks.
        """
        raise NotImplementedError

    def signatures_uploaded(self, response: Mapping[str, Any]) -> None:
        """Check the answer; query again to see the effect.

        Raises:
            Refused: with the server's reasons.
        """
        raise NotImplementedError

    def cross_signed(self) -> bool:
        """Whether the server showed our own keys, and our device signed by them, in the last query."""
        raise NotImplementedError

    # Whom to trust

    def keys_query(self, users: Iterable[str]) -> Json:
        """For ``/keys/query``; our own user is always included."""
        raise NotImplementedError

    def keys_query_done(self, response: Mapping[str, Any], users: Iterable[str] = ()) -> None:
        """Check the answer and keep it in ``identities``; pass the users asked for, or those left out stay as they were.

        Raises:
            Malformed: no answer to a query at all.
        """
        raise NotImplementedError

    def pin(self, user_id: str, master_key: str, verified: str) -> None:
        """Hold a user to a master key from now on; ``verified`` is "emoji" or "first-use"."""
        raise NotImplementedError

    def unpin(self, user_id: str) -> None:
        """Trust a user no more."""
        raise NotImplementedError

    def recipients(self, room_members: Iterable[str], verifying: bool = False) -> Recipients:
        """The devices that may read, and those that may not, by the last query. Also names admins not in the room."""
        raise NotImplementedError

    # Sending

    def begin_burst(self, room_id: str) -> None:
        """Use a new Megolm session for what follows. Call it once for each ring (edits and reminders need it not)."""
        raise NotImplementedError

    def unshared(self, room_id: str, devices: Iterable[Device], now: float) -> list[Device]:
        """The devices for which :meth:`encrypt` will need a claimed one-time key: all when a new session is due (first
        message, new burst, other devices, 100 messages, one week), else none. ``now``: seconds, any clock.
        """
        raise NotImplementedError

    def keys_claim(self, devices: Iterable[Device]) -> Json:
        """For ``/keys/claim``: one fresh one-time key for each device."""
        raise NotImplementedError

    def keys_claimed(self, response: Mapping[str, Any]) -> None:
        """Keep the keys that are signed by their devices, for the next :meth:`encrypt`; drop the others.

        Raises:
            Malformed: no answer to a claim at all.
        """
        raise NotImplementedError

    def encrypt(self, room_id: str, event_type: str, content: Json, devices: Iterable[Device], now: float) -> Encrypted:
        """Encrypt for exactly these devices.

        Raises:
            NobodyToTell: no device is left.
        """
        raise NotImplementedError

    def encrypt_to_device(self, event_type: str, content: Json, device: Device) -> ToDevice:
        """One encrypted to-device event (a verification's); needs a claimed key for the device.

        Raises:
            NobodyToTell: no key was claimed.
        """
        raise NotImplementedError

    # Receiving

    def receive_to_device(self, event: Mapping[str, Any]) -> Json | None:
        """A to-device event of a sync: the plain event (``m.key.verification.*``, encrypted or not) or None (kept, or
        none of our business). An event that was encrypted has ``sender_device``, proven.

        Raises:
            Malformed, Undecryptable, Untrusted: drop it; the text may be logged.
        """
        raise NotImplementedError

    def decrypt_room(self, event: Mapping[str, Any], room_id: str) -> Decrypted:
        """An ``m.room.encrypted`` event of a room's timeline.

        Raises:
            UnknownSession: try again after the next sync.
            Replayed, Malformed, Undecryptable, Untrusted: drop it.
        """
        raise NotImplementedError
