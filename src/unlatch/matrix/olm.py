"""Olm: one device to one device. No input or output.

A session serves once for sending: each send starts a new one from a freshly claimed one-time key. So a state restored
from an old copy never goes on with a ratchet that the real one has moved since: no message key is used twice, and the
other side can always decrypt. It is kept for receiving, because clients answer in the newest session they know.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vodozemac import Account, AnyOlmMessage, Curve25519PublicKey, PreKeyMessage, Session

from unlatch.errors import Malformed
from unlatch.matrix import canonical, fields
from unlatch.matrix.account import OLM, OwnDevice
from unlatch.matrix.errors import Undecryptable
from unlatch.matrix.identity import Device

SESSIONS_EACH = 8  # the specification asks for four or more for each device
SENDERS = 64  # devices; admins are few

Json = dict[str, Any]


class UnknownOneTimeKey(Undecryptable):
    """The sender used a one-time key that we do not have (any more)."""

    def __init__(self) -> None:
        super().__init__("a one-time key that this state does not have was used")


class Payload(NamedTuple):
    """A decrypted Olm event whose sender and recipient are proven to be named in it; its keys are the sender's claim
    until they are found in a signed device (identity.py).
    """

    type: str
    content: Json
    sender: str
    ed25519: str
    curve25519: str


class OlmSessions:
    """The sessions with every device, for receiving. ``sessions``: by identity key, the most recently used last."""

    def __init__(self, device: OwnDevice, sessions: dict[str, list[Session]]) -> None:
        self._device = device
        self.sessions = sessions

    def encrypt(self, to: Device, one_time_key: str, event_type: str, content: Json, device_keys: Json) -> Json:
        """The content of an ``m.room.encrypted`` to-device event, in a new session.

        ``device_keys``: ours, signed, so that a receiver knows us at once (MSC4147, "sender_device_keys").

        Raises:
            Undecryptable: a key of theirs is unusable.
        """
        payload = {
            "type": event_type,
            "content": content,
            "sender": self._device.user_id,
            "recipient": to.user_id,
            "recipient_keys": {"ed25519": to.ed25519},
            "keys": {"ed25519": self._device.ed25519},
            "sender_device_keys": device_keys,
        }
        try:
            session = self._device.account.create_outbound_session(
                Curve25519PublicKey.from_base64(to.curve25519), Curve25519PublicKey.from_base64(one_time_key)
            )
        except ValueError:
            raise Undecryptable("a key of the device is unusable") from None
        kind, ciphertext = session.encrypt(canonical.encode(payload)).to_parts()
        self._remember(to.curve25519, session)
        return {
            "algorithm": OLM,
            "sender_key": self._device.curve25519,
            "ciphertext": {to.curve25519: {"type": kind, "body": fields.to_base64(ciphertext)}},
        }

    def decrypt(self, sender: str, content: Mapping[str, Any]) -> Payload:
        """The payload of an Olm event from ``sender``, as the server names it.

        Raises:
            Malformed, Undecryptable
            UnknownOneTimeKey: this state is probably a restored copy.
        """
        if content.get("algorithm") != OLM:
            raise Malformed("encrypted to-device event")
        sender_key = fields.text(content, "sender_key", "encrypted to-device event")
        parts = fields.optional_table(content, "ciphertext").get(self._device.curve25519)
        if parts is None:
            raise Undecryptable("not encrypted for this device")
        body = fields.from_base64(fields.text(parts, "body", "Olm message"), "Olm message")
        payload = fields.parse(self._open(sender_key, parts.get("type"), body), "Olm payload")
        # The three checks that keep one user's message from being passed on as another's (specification, "Olm"); the
        # fourth, that both keys belong to one device of the sender, is the caller's: it knows the devices.
        if payload.get("sender") != sender:
            raise Undecryptable("its sender is another one than the homeserver says")
        recipient_key = fields.optional_table(payload, "recipient_keys").get("ed25519")
        if (payload.get("recipient"), recipient_key) != (self._device.user_id, self._device.ed25519):
            raise Undecryptable("it was written for somebody else")
        return Payload(
            fields.text(payload, "type", "Olm payload"),
            fields.table(payload, "content", "Olm payload"),
            sender,
            fields.text(fields.optional_table(payload, "keys"), "ed25519", "Olm payload"),
            sender_key,
        )

    def _open(self, sender_key: str, kind: object, body: bytes) -> bytes:
        if not isinstance(kind, int) or isinstance(kind, bool) or kind not in (0, 1):
            raise Malformed("Olm message")
        try:
            message = AnyOlmMessage.from_parts(kind, body)
        except ValueError:
            raise Malformed("Olm message") from None
        first = message.to_pre_key()
        for session in reversed(self.sessions.get(sender_key, [])):
            if first is not None and not session.session_matches(first):
                continue
            try:
                plaintext = session.decrypt(message)
            except ValueError:
                continue
            self._remember(sender_key, session)
            return plaintext
        if first is None:
            raise Undecryptable("no session for it")
        return self._begin(sender_key, first)

    def _begin(self, sender_key: str, first: PreKeyMessage) -> bytes:
        if any(session.session_matches(first) for session in self.sessions.get(sender_key, [])):
            raise Undecryptable("replayed or damaged")
        account: Account = self._device.account
        try:
            session, plaintext = account.create_inbound_session(Curve25519PublicKey.from_base64(sender_key), first)
        except ValueError as problem:
            if "unknown one-time key" in str(problem):  # vodozemac has one exception for all that may be wrong
                raise UnknownOneTimeKey from None
            raise Undecryptable("damaged, or not for us") from None
        self._remember(sender_key, session)
        return plaintext

    def _remember(self, their_key: str, session: Session) -> None:
        known = [other for other in self.sessions.pop(their_key, []) if other.session_id != session.session_id]
        self.sessions[their_key] = [*known, session][-SESSIONS_EACH:]
        while len(self.sessions) > SENDERS:
            del self.sessions[next(iter(self.sessions))]
