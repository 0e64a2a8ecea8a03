"""One login at a homeserver, kept in one state directory: send to the room, and listen to it.

Rules:
1. What is to be sent is encrypted and saved under the store's lock, and only then sent. No network under the lock: what
   several processes do with one directory is serialised in steps of milliseconds.
2. A one-time key is claimed for each device and each burst. Room keys go out first; only when the server has them the
   event follows. If it is not known whether they arrived, the next message has new ones.
3. Who is in the room, and which devices its people have, is asked anew for everything that carries a link.
4. A room that was encrypted once is encrypted for ever, whatever the server says of it later.
"""

import asyncio
import contextlib
import fcntl
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, NamedTuple

from unlatch.errors import Malformed
from unlatch.matrix.api import Homeserver, ServerSaid
from unlatch.matrix.crypto import Decrypted, Encrypted, Machine
from unlatch.matrix.errors import (
    MatrixError,
    NobodyToTell,
    StoreBroken,
    StoreBusy,
    StoreMissing,
    Undecryptable,
    UnknownSession,
    Untrusted,
)
from unlatch.matrix.http import parse_address
from unlatch.matrix.identity import Recipients, Skipped
from unlatch.matrix.sas import Outgoing
from unlatch.matrix.store import Store

Json = dict[str, Any]

MEGOLM = "m.megolm.v1.aes-sha2"
LISTENING = "listening"  # the lock of whoever waits in a sync: events come to one listener only
LOCK_POLL = 0.01  # seconds between tries for a lock of another process
MAX_UNREAD = 50  # room events whose key may still come
_TIMELINE = 50  # events of one sync


class NotSetUp(MatrixError):
    """There is a state, but setup did not come to its end. ``what`` is missing."""

    def __init__(self, what: str) -> None:
        super().__init__(f"setup is not complete: {what}")
        self.what = what


class NotInRoom(MatrixError):
    """The homeserver says that we are not in the room (any more)."""


class NotEncrypted(MatrixError):
    """The room is not encrypted, or in a way that we do not speak."""


class Sent(NamedTuple):
    """What was sent, and whom it was not encrypted to."""

    event_id: str
    skipped: list[Skipped]


class Heard(NamedTuple):
    """A plain event. Of a room: with ``event_id``. ``trusted``: encrypted by a verified device of a pinned admin."""

    plain: Json
    trusted: bool


Note = Callable[[Json], None]  # changes the saved state just before an event goes out


class Session:
    """Made at once, opened with the first call that needs it."""

    def __init__(
        self,
        store: Store,
        *,
        allow_plaintext: bool = False,
        random: Callable[[int], bytes] = os.urandom,
        tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self.store = store
        self.skipped: list[Skipped] = []
        self._allow_plaintext = allow_plaintext
        self._random = random
        self._tls = tls
        self._state: Json = {}
        self._machine: Machine | None = None
        self._server: Homeserver | None = None
        self._members: list[str] = []
        self._looked = float("-inf")
        self._turn = asyncio.Lock()  # of this process for the state
        self._sending = asyncio.Lock()  # claimed keys belong to whoever claimed them
        self._keys_lost = False
        self._unread: list[Json] = []

    # The state

    @property
    def state(self) -> Json:
        """The saved state; to be changed within :meth:`changing` only."""
        return self._state

    @property
    def machine(self) -> Machine:
        """Keys and pins; to be changed within :meth:`changing` only."""
        assert self._machine is not None
        return self._machine

    @property
    def server(self) -> Homeserver:
        """The homeserver, once something was loaded."""
        assert self._server is not None
        return self._server

    @property
    def room_id(self) -> str:
        """The room."""
        return str(self._state["room_id"])

    @contextlib.asynccontextmanager
    async def changing(self, until: float, *, save: bool = True) -> AsyncIterator[Json]:
        """Hold the state: what another process saved is loaded first, what the block changed is saved after it.

        The block must not wait for anything. Saving takes a few fsync(2)s of this thread.

        Raises:
            StoreMissing, StoreBroken, StoreBusy, NotSetUp, OSError
        """
        async with self._turn, self._locked(until):
            if self._machine is None or self.store.changed():
                self._load()
            try:
                yield self._state
            except BaseException:
                self._machine = None  # half a change is none: load again
                raise
            if save:
                self._save()

    @contextlib.asynccontextmanager
    async def _locked(self, until: float) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(self.store.locked(0))
                    break
                except StoreBusy:
                    if loop.time() >= until:
                        raise
                await asyncio.sleep(LOCK_POLL)
            yield

    def _load(self) -> None:
        state = self.store.load()
        try:
            machine = Machine.load(state["machine"], self.store.pickle_key(), self._machine)
            address = parse_address(state["homeserver"])
            token = str(state["token"])
            state["messages"], state["since"], state["room_id"]  # that they are there
        except (KeyError, TypeError, Malformed):
            raise StoreBroken(self.store.path, "the state lacks something") from None
        if address is None:
            raise StoreBroken(self.store.path, "the state names no homeserver")
        self._state, self._machine = state, machine
        if self._server is None or self._server.address != address or self._server.token != token:
            self._server = Homeserver(address, token, self._tls)

    def _save(self) -> None:
        self._state["machine"] = self.machine.dump(self.store.pickle_key())
        try:
            self.store.save(self._state)
        except BaseException:
            self._machine = None
            raise

    async def open(self, until: float) -> None:
        """Load the state, if that is still to be done.

        Raises:
            as :meth:`changing`
        """
        if self._machine is None:
            async with self.changing(until, save=False):
                pass

    async def close(self) -> None:
        """Close the connections. It may be used again."""
        if self._server is not None:
            await self._server.close()

    # Who is there

    async def look(self, until: float, *, age: float = 0.0) -> None:
        """Ask who is in the room and which devices its people have, unless the last answer is younger than ``age``
        seconds.

        Raises:
            NotSetUp, NotInRoom, NotEncrypted, and what requests raise
        """
        await self.open(until)
        now = asyncio.get_running_loop().time()
        if now - self._looked < age and self.machine.identities:
            return
        if not self._state["room_id"]:
            raise NotSetUp("no room")
        asked = [self._ask_members(until), self.query(self.machine.pins, until), self._ask_encryption(until)]
        await _all(asked)
        self._looked = now

    async def _ask_members(self, until: float) -> None:
        try:
            self._members = await self.server.members(self.room_id, until)
        except ServerSaid as refusal:
            if refusal.status in (403, 404):
                raise NotInRoom("not in the room") from None
            raise
        if self.machine.user_id not in self._members:
            raise NotInRoom("not in the room")

    async def _ask_encryption(self, until: float) -> None:
        if self._state.get("encrypted"):
            return
        try:
            said = await self.server.state(self.room_id, "m.room.encryption", until)
        except ServerSaid as refusal:
            if refusal.status == 403:
                raise NotInRoom("not in the room") from None
            raise
        if said is None:
            if not self._allow_plaintext:
                raise NotEncrypted("the room is not encrypted")
        elif said.get("algorithm") != MEGOLM:
            raise NotEncrypted("the room is encrypted in a way that is not known here")
        else:
            async with self.changing(until):
                self._state["encrypted"] = True

    async def query(self, users: Iterable[str], until: float) -> None:
        """Ask for the keys of these users, and our own."""
        users = list(users)
        response = await self.server.keys("query", self.machine.keys_query(users), until)
        async with self.changing(until, save=False):
            self.machine.keys_query_done(response, users)

    def recipients(self) -> Recipients:
        """Who would get a message, as of the last :meth:`look`."""
        return self.machine.recipients(self._members)

    # Sending

    async def send(
        self,
        event_type: str,
        content: Json,
        txn: str,
        until: float,
        *,
        burst: bool = False,
        verifying: bool = False,
        note: Note = lambda _: None,
    ) -> Sent:
        """Send an event to the room. The same ``txn`` again (24 hours, more or less) sends nothing twice.

        ``burst``: with new keys. ``verifying``: also to who is being verified right now, so never a link.

        Raises:
            NobodyToTell, and what :meth:`look` and requests raise
        """
        if not self._state.get("encrypted"):
            if not self._allow_plaintext:
                raise NotEncrypted("the room is not encrypted")
            async with self.changing(until) as state:
                note(state)
            return Sent(await self._put(event_type, txn, content, until), [])
        async with self._sending:
            encrypted, skipped = await self._encrypt(event_type, content, until, note, burst=burst, verifying=verifying)
            if encrypted.to_device is not None:
                self._keys_lost = True  # until we know better
                to_device = encrypted.to_device
                await self.server.to_device(to_device.event_type, self.unique(), to_device.body, until)
                self._keys_lost = False
        event_id = await self._put("m.room.encrypted", txn, encrypted.content, until)
        return Sent(event_id, skipped)

    async def _encrypt(
        self, event_type: str, content: Json, until: float, note: Note, *, burst: bool, verifying: bool
    ) -> tuple[Encrypted, list[Skipped]]:
        now = asyncio.get_running_loop().time()
        async with self.changing(until, save=False):
            if burst or self._keys_lost:
                self.machine.begin_burst(self.room_id)
            whom = self.machine.recipients(self._members, verifying=verifying)
            wanted = self.machine.unshared(self.room_id, whom.devices, now)
            claim = self.machine.keys_claim(wanted) if wanted else None
        if not whom.devices:
            self.skipped = whom.skipped
            raise NobodyToTell(whom.skipped)
        claimed = await self.server.keys("claim", claim, until) if claim is not None else None
        async with self.changing(until) as state:
            if claimed is not None:
                self.machine.keys_claimed(claimed)
            try:
                encrypted = self.machine.encrypt(self.room_id, event_type, content, whom.devices, now)
            except NobodyToTell as nobody:
                nobody.skipped += whom.skipped
                raise
            note(state)
        self.skipped = [*whom.skipped, *encrypted.skipped]
        return encrypted, self.skipped

    async def _put(self, event_type: str, txn: str, content: Json, until: float) -> str:
        try:
            return await self.server.send(self.room_id, event_type, txn, content, until)
        except ServerSaid as refusal:
            if refusal.status == 403 and refusal.errcode == "M_FORBIDDEN":
                raise NotInRoom("not allowed to write in the room") from None
            raise

    def unique(self) -> str:
        """A transaction id that nobody used."""
        return self._random(16).hex()

    async def redact(self, event_id: str, txn: str, until: float) -> None:
        """Take an event's content away; one that is not there (any more) is fine."""
        try:
            await self.server.redact(self.room_id, event_id, txn, until)
        except ServerSaid as refusal:
            if refusal.status != 404:
                raise

    async def carry(self, outgoing: Outgoing, until: float) -> str:
        """Send an event of a verification as it wants to be sent; gives the event's id in a room.

        To devices it goes as it is: the emoji, not this channel, are what is trusted.
        """
        if outgoing.room_id:
            txn = self.unique()
            return (await self.send(outgoing.event_type, outgoing.content, txn, until, verifying=True)).event_id
        body = {"messages": {outgoing.user_id: dict.fromkeys(outgoing.device_ids, outgoing.content)}}
        await self.server.to_device(outgoing.event_type, self.unique(), body, until)
        return ""

    # Receiving

    async def poll(
        self, wait: float, seconds: float, hear: Callable[[Heard], None], *, patient: Callable[[], None] = lambda: None
    ) -> None:
        """Wait for up to ``wait`` seconds for something new, and give it to ``hear`` (under the lock, before the save
        that makes it read). All else may take ``seconds``. ``patient`` is called, again and again, while another
        process listens and we wait for our turn.

        Raises:
            what requests and :meth:`changing` raise
        """
        clock = asyncio.get_running_loop().time
        await self.open(clock() + seconds)
        async with self._listening(patient):
            until = clock() + wait + seconds
            async with self.changing(until, save=False) as state:
                since = str(state["since"])
            response = await self.server.sync(since, _only(self.room_id), wait, until)
            await self._take(response, until, hear)
        await self.upload_keys(until)

    async def _take(self, response: Json, until: float, hear: Callable[[Heard], None]) -> None:
        changed = _items(response, "device_lists", "changed")
        known = self.machine.pins.keys() | self.machine.verifying
        if known & {user for user in changed if isinstance(user, str)} or not known <= self.machine.identities.keys():
            await self.query(known, until)
        to_device = _items(response, "to_device", "events")
        timeline = _items(response, "rooms", "join", self.room_id, "timeline", "events")
        async with self.changing(until, save=bool(to_device or timeline or self._unread)) as state:
            unused = response.get("device_unused_fallback_key_types")
            counts = response.get("device_one_time_keys_count")
            if isinstance(counts, dict):
                self.machine.one_time_key_counts(counts, unused if isinstance(unused, list) else None)
            for event in to_device:
                self._take_to_device(event, hear)
            again, self._unread = self._unread, []
            for event in [*again, *timeline]:
                self._take_from_room(event, hear)
            if isinstance(response.get("next_batch"), str):
                state["since"] = response["next_batch"]
        if self.machine.stale:
            await self.query(known, until)
            self.machine.stale.clear()
            if self._unread:
                async with self.changing(until):
                    again, self._unread = self._unread, []
                    for event in again:
                        self._take_from_room(event, hear)

    def _take_to_device(self, event: object, hear: Callable[[Heard], None]) -> None:
        with contextlib.suppress(Malformed, Undecryptable, Untrusted):
            plain = self.machine.receive_to_device(event) if isinstance(event, dict) else None
            if plain is not None:
                hear(Heard(plain, trusted=False))

    def _take_from_room(self, event: object, hear: Callable[[Heard], None]) -> None:
        if not isinstance(event, dict) or event.get("sender") == self.machine.user_id:
            return
        if event.get("type") != "m.room.encrypted":
            hear(Heard({**event, "room_id": self.room_id}, trusted=False))
            return
        try:
            opened: Decrypted = self.machine.decrypt_room(event, self.room_id)
        except (UnknownSession, Untrusted):
            self._unread = [*self._unread, event][-MAX_UNREAD:]
        except (Malformed, Undecryptable):
            pass
        else:
            hear(Heard(opened.plain, trusted=opened.verified))

    async def upload_keys(self, until: float) -> None:
        """Give the server new one-time keys, if it has few."""
        async with self.changing(until, save=False):
            wanted = self.machine.keys_upload() is not None
        if not wanted:
            return
        async with self.changing(until):
            body = self.machine.keys_upload()
        if body is not None:
            response = await self.server.keys("upload", body, until)
            async with self.changing(until):
                self.machine.keys_uploaded(response)

    @contextlib.asynccontextmanager
    async def _listening(self, patient: Callable[[], None]) -> AsyncIterator[None]:
        """The lock of who listens, for one poll: events are handed out once, whoever takes them saves them for all."""
        with _lock_file(os.path.join(self.store.path, LISTENING)) as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    patient()
                await asyncio.sleep(0.2)
            yield


@contextlib.contextmanager
def _lock_file(path: str) -> Iterator[int]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)


async def _all(asked: list[Any]) -> None:
    """Wait for all; the first failure ends the others and is raised as itself."""
    tasks = [asyncio.ensure_future(each) for each in asked]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _only(room_id: str) -> Json:
    """A sync's filter: this room's messages, and what is for our device."""
    none: Json = {"types": []}
    room = {
        "rooms": [room_id],
        "timeline": {"limit": _TIMELINE, "types": ["m.room.encrypted", "m.room.message", "m.key.verification.*"]},
        "state": none,
        "ephemeral": none,
        "account_data": none,
    }
    return {"room": room, "presence": none, "account_data": none}


def _items(thing: object, *path: str) -> list[Any]:
    for name in path:
        thing = thing.get(name) if isinstance(thing, dict) else None
    return thing if isinstance(thing, list) else []


def new_state(homeserver: str, token: str, machine: Json) -> Json:
    """The state of a fresh login, before it has a room."""
    return {
        "homeserver": homeserver,
        "token": token,
        "room_id": "",
        "encrypted": False,
        "since": "",
        "made": int(time.time()),
        "machine": machine,
        "messages": {},
    }


__all__ = ["Heard", "NotEncrypted", "NotInRoom", "NotSetUp", "Sent", "Session", "StoreMissing", "new_state"]
