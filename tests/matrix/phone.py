"""Phones that are not ours (phone.mjs: matrix-js-sdk with Rust crypto, strict about senders), held from Python."""

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from matrix.synapse import Synapse, User
from real import absent, real
from waiting import PATIENCE

SCRIPT = Path(__file__).with_name("phone.mjs")
MODULES = Path(__file__).parents[2] / ".make/phone"  # where tools/setup test ran npm ci
_T = TypeVar("_T")
Json = dict[str, Any]


class Event(NamedTuple):
    """One event as the phone shows it now. ``content`` is after the last edit, ``original`` before any.

    ``shield`` is NONE (what we want), GREY, RED, PLAIN for an event that was not encrypted, or CLOSED for one that
    could not be decrypted; ``reason`` says why.
    ``failure`` says why it could not be decrypted; ``edited`` is the id of the edit, ``sent`` in Unix milliseconds.
    """

    id: str
    sender: str
    sent: int
    type: str
    wire: str
    relation: Json | None
    content: Json
    original: Json
    edited: str
    redacted: bool
    failure: str
    shield: str
    reason: str

    @property
    def text(self) -> str:
        """What it says."""
        return str(self.content.get("body", ""))

    @property
    def clean(self) -> bool:
        """Whether it came encrypted, was decrypted, and stands there without a shield."""
        return (self.wire, self.failure, self.shield) == ("m.room.encrypted", "", "NONE")


class Shown(NamedTuple):
    """An emoji verification on the screen. ``phase``: Requested, Ready, Started, Done, Cancelled."""

    id: str
    user: str
    room: str
    mine: bool
    phase: str
    emoji: list[list[str]]
    decimal: list[int]
    cancelled: str
    problem: str


class Phones:
    """The process that holds phones."""

    def __init__(self) -> None:
        node = real("node")
        if not (MODULES / "node_modules/matrix-js-sdk").exists():
            absent(f"no matrix-js-sdk in {MODULES}; tools/setup test installs it")
        # Its complaints go to a file: a pipe that nobody reads would stop it.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self._process = subprocess.Popen(
            [node, SCRIPT, MODULES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"}, cwd="/", start_new_session=True,
        )  # fmt: skip
        self._buffer = b""
        self._sent = 0
        self._made = 0

    def new(self) -> "MatrixPhone":
        """One more phone, fresh from the shop."""
        self._made += 1
        return MatrixPhone(self, str(self._made))

    def ask(self, phone: str, command: str, arguments: Json) -> Any:
        """One request; its result."""
        self._sent += 1
        assert self._process.stdin is not None
        line = json.dumps({"id": self._sent, "phone": phone, "do": command, **arguments})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        reply = json.loads(self._line(command))
        assert reply["id"] == self._sent, reply
        assert "error" not in reply, f"{command}: {reply.get('error')}"
        return reply["ok"]

    def close(self) -> None:
        """Throw them all away."""
        self._process.kill()
        self._process.communicate()
        self._complaints.close()

    def _line(self, command: str) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        end = time.monotonic() + 2 * PATIENCE
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"the phone does not answer: {command}"
            data = os.read(descriptor, 1 << 16)
            assert data, f"the phone died: {self._last_words()}"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _last_words(self) -> str:
        self._complaints.seek(0)
        return self._complaints.read()[-2000:].decode(errors="replace")


class MatrixPhone:
    """One device of a person: what is done with it, and what it shows."""

    def __init__(self, phones: Phones, number: str) -> None:
        self._phones = phones
        self._number = number
        self.user = User("", "")
        self.user_id = ""
        self.device_id = ""
        self.token = ""

    def login(self, synapse: Synapse, user: User, *, signed: bool = True, strict: bool = True, url: str = "") -> str:
        """Log in, and unless told otherwise sign this device with a fresh cross-signing identity; its master key.

        A further device of the same person is ``signed=False``: nobody has vouched for it. ``strict=False`` shows what
        comes from unsigned devices too.
        """
        self.user = user
        made = self._do("login", url=url or synapse.url, user=user.user_id, password=user.password, strict=strict)
        self.user_id, self.device_id, self.token = made["user_id"], made["device_id"], made["token"]
        return self.bootstrap() if signed else ""

    def bootstrap(self, *, anew: bool = False) -> str:
        """Publish a cross-signing identity, or a new one in the place of the old; its master key."""
        return str(self._do("bootstrap", anew=anew)["master"])

    def create(self, *invite: str, encrypted: bool = True) -> str:
        """A private room; its id."""
        return str(self._do("create", invite=invite, encrypted=encrypted))

    def join(self, room: str) -> None:
        """Enter a room, as soon as we are invited."""
        self._do("join", room=room)
        self._wait_for_membership(room, "join")

    def leave(self, room: str) -> None:
        """Go."""
        self._do("leave", room=room)

    def invite(self, room: str, user_id: str) -> None:
        """Ask somebody in."""
        self._do("invite", room=room, user=user_id)

    def rooms(self) -> dict[str, str]:
        """Room ids, and whether we are in ("join") or invited ("invite")."""
        return dict(self._do("rooms"))

    def say(self, room: str, text: str, *, reply_to: str = "") -> str:
        """Send a message, encrypted if the room is; its event id."""
        content: Json = {"msgtype": "m.text", "body": text}
        if reply_to:
            content["m.relates_to"] = {"m.in_reply_to": {"event_id": reply_to}}
        return self.send(room, "m.room.message", content)

    def react(self, room: str, event_id: str, key: str) -> str:
        """React to a message (reactions are never encrypted)."""
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        return self.send(room, "m.reaction", {"m.relates_to": relation})

    def send(self, room: str, event_type: str, content: Json) -> str:
        """Send any event; its id."""
        return str(self._do("send", room=room, type=event_type, content=content))

    def redact(self, room: str, event_id: str) -> None:
        """Take a message away."""
        self._do("redact", room=room, event=event_id)

    def trust(self, user_id: str) -> Json:
        """What it thinks of somebody: ``verified``, ``changed``, and ``devices``: id -> signed by their owner."""
        return dict(self._do("trust", user=user_id))

    def stop(self) -> None:
        """Switch it off."""
        self._do("stop")

    # -- the screen ----------------------------------------------------------------------------------------------------

    def events(self, room: str) -> list[Event]:
        """All that stands in a room now."""
        return self._look(room, -1)[0]

    def wait(self, room: str, look: Callable[[list[Event]], _T], what: str, seconds: float = PATIENCE) -> _T:
        """Look whenever something changed until there is something to see, and give it back."""
        return self._until(room, lambda events, _: look(events), what, seconds)

    def message(
        self,
        room: str,
        match: Callable[[Event], bool] = lambda _: True,
        what: str = "a message",
        number: int = 1,
        seconds: float = PATIENCE,
    ) -> Event:
        """The message with this number, counted from 1, among those that match; edits are no messages of their own."""

        def look(events: list[Event]) -> list[Event]:
            found = [event for event in events if _is_message(event) and match(event)]
            return found[number - 1 : number]

        return self.wait(room, look, what, seconds)[0]

    def messages_from(self, room: str, sender: str) -> list[Event]:
        """What somebody said so far, also what could not be decrypted; without edits, and what was taken away."""
        return [event for event in self.events(room) if event.sender == sender and _is_message(event)]

    # -- emoji ---------------------------------------------------------------------------------------------------------

    def verify(self, user_id: str, *, room: str = "", device: str = "") -> str:
        """Ask to compare emoji, in a room or with one device; the verification's id."""
        return str(self._do("verify", user=user_id, room=room, device=device))

    def verification(self, room: str, match: Callable[[Shown], bool], what: str, seconds: float = PATIENCE) -> Shown:
        """The verification that matches; waits for it."""
        return self._until(room, lambda _, shown: [one for one in shown if match(one)], what, seconds)[0]

    def accept(self, verification: str) -> None:
        """Agree to compare."""
        self._do("accept", verification=verification)

    def start(self, verification: str) -> None:
        """Begin with the emoji, once both agreed."""
        self._do("start", verification=verification)

    def confirm(self, verification: str) -> None:
        """They match."""
        self._do("confirm", verification=verification)

    def mismatch(self, verification: str) -> None:
        """They differ."""
        self._do("mismatch", verification=verification)

    def cancel(self, verification: str) -> None:
        """Not now."""
        self._do("cancel", verification=verification)

    def emoji(self, verification: str, room: str = "") -> list[str]:
        """The names of the seven emoji; waits for them."""
        shown = self.verification(room, lambda one: one.id == verification and bool(one.emoji), "seven emoji")
        return [name for _, name in shown.emoji]

    def finished(self, verification: str, room: str = "") -> Shown:
        """How a verification ended; waits for it."""
        over = ("Done", "Cancelled")
        return self.verification(room, lambda one: one.id == verification and one.phase in over, "its end")

    def _do(self, command: str, **arguments: Any) -> Any:
        return self._phones.ask(self._number, command, arguments)

    def _look(self, room: str, seen: int) -> tuple[list[Event], list[Shown], int]:
        said = self._do("look", room=room, seen=seen)
        events = [Event(**event) for event in said["events"]]
        return events, [Shown(**shown) for shown in said["verifications"]], said["changes"]

    def _until(self, room: str, look: Callable[[list[Event], list[Shown]], _T], what: str, seconds: float) -> _T:
        end, seen = time.monotonic() + seconds, -1
        while True:
            events, shown, seen = self._look(room, seen)
            found = look(events, shown)
            if found:
                return found
            assert time.monotonic() < end, f"not within {seconds:g} s: {what}; it shows {events} {shown}"

    def _wait_for_membership(self, room: str, membership: str) -> None:
        self.wait(room, lambda _: self.rooms().get(room) == membership, f"{membership} of the room")


def _is_message(event: Event) -> bool:
    relation = event.relation or {}
    said = event.wire in ("m.room.message", "m.room.encrypted") and relation.get("rel_type") != "m.replace"
    return said and not event.redacted  # redacting an edit takes away that it is one
