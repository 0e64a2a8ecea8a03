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
from enum import Enum
from typing import Any, NamedTuple

from unlatch.matrix.identity import Identity

Json = dict[str, Any]


class State(Enum):
    """Where a verification stands."""

    REQUESTED = "requested"  # one side asked
    READY = "ready"  # both want
    STARTED = "started"  # keys are being exchanged
    SHOWN = "shown"  # emoji() and decimals() can be compared
    CONFIRMED = "confirmed"  # our person said that they match; the other one has not
    DONE = "done"  # master_key is proven
    CANCELLED = "cancelled"  # see code and reason


class Party(NamedTuple):
    """Ourselves: what we vouch for."""

    user_id: str
    device_id: str
    ed25519: str
    master_key: str


class Outgoing(NamedTuple):
    """An event to send: into ``room_id`` if there is one (encrypted as usual), else to these devices."""

    event_type: str
    content: Json
    user_id: str
    device_ids: tuple[str, ...]
    room_id: str


class Emoji(NamedTuple):
    """One of the 64."""

    symbol: str
    name: str


def is_request(event: Mapping[str, Any]) -> bool:
    """Whether a plain event (to-device, or of a room) asks for a verification."""
    raise NotImplementedError


def transaction(event: Mapping[str, Any]) -> str:
    """Which verification a plain event belongs to (transaction id, or the request's event id), or ""."""
    raise NotImplementedError


class Verification:
    """One verification with one user."""

    state: State
    user_id: str  # the other side
    transaction_id: str  # in a room: the request's event id
    room_id: str  # "" = to-device
    master_key: str  # theirs, once DONE; else ""
    code: str  # why it was cancelled ("m.user", "m.timeout", ...), once CANCELLED; else ""
    reason: str  # the same for people
    by_them: bool  # they cancelled

    @classmethod
    def request(
        cls, me: Party, theirs: Identity, now: float, *, room_id: str = "", random: Callable[[int], bytes]
    ) -> "tuple[Verification, list[Outgoing]]":
        """We ask: in the room, or to all their devices. ``now``: Unix time in seconds, for every method."""
        raise NotImplementedError

    @classmethod
    def answer(
        cls, me: Party, theirs: Identity, event: Mapping[str, Any], now: float, *, room_id: str = ""
    ) -> "Verification":
        """They ask: ``event`` is the request.

        Raises:
            Malformed: no request, not for us, too old, or without a method of ours. Ignore it.
        """
        raise NotImplementedError

    def sent(self, event_id: str) -> None:
        """The request's event id, which names a verification in a room."""
        raise NotImplementedError

    def accept(self, now: float) -> list[Outgoing]:
        """Our person agrees to a verification they asked for."""
        raise NotImplementedError

    def receive(self, event: Mapping[str, Any], now: float) -> list[Outgoing]:
        """A plain event of this verification. Events of others are ignored."""
        raise NotImplementedError

    def emoji(self) -> tuple[Emoji, ...]:
        """Seven emoji to compare, from SHOWN on."""
        raise NotImplementedError

    def decimals(self) -> tuple[int, int, int]:
        """Three numbers to compare where emoji cannot be shown."""
        raise NotImplementedError

    def confirm(self, now: float) -> list[Outgoing]:
        """Our person says that they match."""
        raise NotImplementedError

    def mismatch(self, now: float) -> list[Outgoing]:
        """Our person says that they differ."""
        raise NotImplementedError

    def cancel(self, code: str = "m.user", reason: str = "cancelled by the user") -> list[Outgoing]:
        """End it; nothing to send if it is over."""
        raise NotImplementedError

    def tick(self, now: float) -> list[Outgoing]:
        """Give up after ten minutes."""
        raise NotImplementedError
