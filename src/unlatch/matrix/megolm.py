"""Megolm: one device to a room. No input or output.

Sending. The sessions for sending live in memory only and never reach the disk. A process starts its own, and each ring
burst starts a new one: so neither two processes, nor a state restored from a copy, nor a machine resumed from a
snapshot can encrypt two messages with the same place of one ratchet (same key, same counter), and no client is asked
to accept an index twice. The price is one Olm message for each device and burst; it is paid anyway, because a fresh
one-time key is claimed for each.

Receiving. A place in a session is good for one event. Each session remembers the places that were read.
"""

from typing import Any, NamedTuple

from vodozemac import GroupSession, InboundGroupSession, MegolmMessage, SessionKey

from unlatch.errors import Malformed
from unlatch.matrix import canonical, fields
from unlatch.matrix.account import MEGOLM
from unlatch.matrix.errors import Replayed, Undecryptable, UnknownSession
from unlatch.matrix.identity import Device

MESSAGES = 100  # the specification's defaults for a session's life
SECONDS = 7 * 24 * 3600
KEPT_SESSIONS = 100  # for receiving; a session of an admin's client lives a week or 100 messages
KEPT_PLACES = 256  # for each session

Json = dict[str, Any]


class Outbound:
    """One session for sending, shared with a fixed set of devices."""

    def __init__(self, devices: frozenset[Device], now: float) -> None:
        self.devices = devices
        self._session = GroupSession()
        self._born = now
        self._sent = 0

    @property
    def session_id(self) -> str:
        return self._session.session_id

    def fits(self, devices: frozenset[Device], now: float) -> bool:
        """Whether it may carry one more message to exactly these devices."""
        return devices == self.devices and self._sent < MESSAGES and 0 <= now - self._born < SECONDS

    def room_key(self, room_id: str) -> Json:
        """The content of the ``m.room_key`` event that lets a device read from here on."""
        return {
            "algorithm": MEGOLM,
            "room_id": room_id,
            "session_id": self.session_id,
            "session_key": self._session.session_key.to_base64(),
        }

    def encrypt(self, room_id: str, event_type: str, content: Json) -> str:
        """The ciphertext of one room event."""
        self._sent += 1
        payload = canonical.encode({"type": event_type, "content": content, "room_id": room_id})
        return self._session.encrypt(payload).to_base64()


class Place(NamedTuple):
    """Where a session is filed. By user, so that nobody can bring another user's session under his own name."""

    room_id: str
    sender: str
    session_id: str


class Inbound:
    """One session for receiving: whose, and which places were read. ``floor``: places below it are refused."""

    def __init__(
        self,
        session: InboundGroupSession,
        curve25519: str,
        ed25519: str,
        read: dict[int, str] | None = None,
        floor: int = 0,
    ) -> None:
        self.session = session
        self.curve25519 = curve25519
        self.ed25519 = ed25519
        self.read = read or {}
        self.floor = floor

    def mark(self, index: int, event_id: str) -> None:
        """Remember that this event used this place."""
        self.read[index] = event_id
        while len(self.read) > KEPT_PLACES:
            lowest = min(self.read)
            del self.read[lowest]
            self.floor = max(self.floor, lowest + 1)

    def check(self, index: int, event_id: str) -> None:
        """Raise Replayed if the place was used."""
        if index in self.read or index < self.floor:
            raise Replayed(same_event=self.read.get(index) == event_id)


class Opened(NamedTuple):
    """A decrypted room event that nobody took for true yet: see Inbound.mark."""

    type: str
    content: Json
    place: int
    inbound: Inbound


class Inbox:
    """All sessions for receiving; the oldest go first."""

    def __init__(self, sessions: dict[Place, Inbound]) -> None:
        self.sessions = sessions

    def take_key(self, content: Json, sender: str, curve25519: str, ed25519: str) -> None:
        """Keep the session of an ``m.room_key`` event that came over Olm from these keys.

        Raises:
            Malformed
        """
        if content.get("algorithm") != MEGOLM:
            raise Malformed("room key")
        room_id, session_id = (fields.text(content, name, "room key") for name in ("room_id", "session_id"))
        try:
            session = InboundGroupSession(SessionKey(fields.text(content, "session_key", "room key")))
        except ValueError:
            raise Malformed("room key") from None
        if session.session_id != session_id:
            raise Malformed("room key")
        place = Place(room_id, sender, session_id)
        known = self.sessions.pop(place, None)
        if known is None:
            known = Inbound(session, curve25519, ed25519)
        elif known.curve25519 == curve25519 and session.first_known_index < known.session.first_known_index:
            known.session = session  # the same sender shows more of it; what was read stays read
        self.sessions[place] = known
        while len(self.sessions) > KEPT_SESSIONS:
            del self.sessions[next(iter(self.sessions))]

    def open(self, content: Json, sender: str, room_id: str, event_id: str) -> Opened:
        """Decrypt a room event of ``sender``.

        Raises:
            Malformed, UnknownSession, Undecryptable, Replayed
        """
        if content.get("algorithm") != MEGOLM:
            raise Malformed("encrypted event")
        session_id = fields.text(content, "session_id", "encrypted event")
        ciphertext = fields.text(content, "ciphertext", "encrypted event")
        inbound = self.sessions.get(Place(room_id, sender, session_id))
        if inbound is None:
            raise UnknownSession
        try:
            message = inbound.session.decrypt(MegolmMessage.from_base64(ciphertext))
        except ValueError:
            raise Undecryptable("damaged, or older than the key we have") from None
        payload = fields.parse(message.plaintext, "room event")
        if payload.get("room_id") != room_id:
            raise Undecryptable("it was written in another room")
        inbound.check(message.message_index, event_id)
        event_type = fields.text(payload, "type", "room event")
        return Opened(event_type, fields.table(payload, "content", "room event"), message.message_index, inbound)
