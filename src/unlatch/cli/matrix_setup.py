"""The steps of ``unlatch matrix setup``, in their order. Each looks first what there is to do, and says it; then it
does it, unless it is only rehearsed. So every step can be run again, and an interrupted setup goes on where it was.
"""

import asyncio
import os
import re
import socket
from typing import NamedTuple, Protocol

from unlatch.cli import voice
from unlatch.errors import Malformed
from unlatch.matrix import events
from unlatch.matrix.api import Homeserver, LoggedOut, ServerSaid
from unlatch.matrix.bootstrap import publish_identity, publish_signatures
from unlatch.matrix.crypto import Machine
from unlatch.matrix.discovery import NoAddress, find_homeserver
from unlatch.matrix.errors import MatrixError
from unlatch.matrix.excuses import SETUP, excuse, skipped_text
from unlatch.matrix.sas import Verification
from unlatch.matrix.session import MEGOLM, Session, new_state
from unlatch.matrix.store import Store
from unlatch.matrix.verifying import Comparison
from unlatch.secret import Secret

SECONDS = 60.0  # for each request; a homeserver that hashes passwords well is slow
INVITED_SECONDS = 600.0  # how long we wait for an admin to come into the room
PREVIEWS = "org.matrix.room.preview_urls"
_USER = re.compile(r"@[\x21-\x39\x3b-\x7e]{1,250}:[A-Za-z0-9.:\[\]-]{1,250}\Z")


class Wishes(NamedTuple):
    """What the command line says."""

    directory: str
    user: str = ""
    homeserver: str = ""
    by_token: bool = False
    device_name: str = ""
    room: str = ""
    admins: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    trust_first_use: bool = False
    reset_identity: bool = False
    dry_run: bool = False


class Questions(Protocol):
    """Whoever runs setup."""

    def ask(self, question: str, option: str) -> str: ...

    def ask_secret(self, question: str) -> Secret: ...

    def confirm(self, question: str) -> bool: ...


class Setup:
    """One run."""

    def __init__(self, wishes: Wishes, questions: Questions) -> None:
        self._wishes = wishes
        self._questions = questions
        self._store = Store(wishes.directory)
        self._session = Session(self._store)
        self._password: Secret | None = None

    def run(self) -> int:
        """All steps; the exit code.

        Raises:
            Problem: with what to do about it.
        """
        try:
            asyncio.run(self._run())
        except (MatrixError, Malformed) as error:
            said = excuse(error)
            voice.fail(said.why, *([said.hint] if said.hint not in ("", SETUP) else []))
        except NoAddress as error:
            voice.fail(f"the homeserver cannot be used: {error}", code=voice.USAGE)
        return voice.OK

    async def _run(self) -> None:
        for user in (*self._wishes.admins, *self._wishes.forget, *filter(None, [self._wishes.user])):
            if not _USER.match(user):
                voice.fail(f"{voice.clean(user)} is no Matrix user", "accepted: @name:server", code=voice.USAGE)
        try:
            logged_in = await self._log_in()
            if not logged_in:
                self._rehearse_the_rest()
                return
            await self._publish_keys()
            in_room = await self._enter_room()
            if in_room:
                await self._switch_previews_off()
            await self._forget_admins()
            for admin in self._admins():
                await self._pin(admin, in_room=in_room)
            if in_room:
                await self._test()
        finally:
            if self._password is not None:
                self._password.wipe()
            await self._session.close()

    def _todo(self, text: str) -> bool:
        """Say what is to be done; whether to do it."""
        voice.tell(f"would {text}" if self._wishes.dry_run else text)
        return not self._wishes.dry_run

    # 1. The login

    async def _log_in(self) -> bool:
        earlier: Machine | None = None
        if self._store.exists():
            await self._session.open(self._until())
            earlier = self._session.machine
            try:
                whoami = await self._session.server.whoami(self._until())
            except LoggedOut:
                voice.tell("the homeserver has ended the login")
            else:
                if whoami.get("device_id", earlier.device_id) == earlier.device_id:
                    voice.tell(f"logged in as {earlier.user_id}, device {earlier.device_id}")
                    return True
        if not self._todo(f"log in, and keep login and keys in {self._wishes.directory}"):
            return False
        if earlier is not None and self._wishes.user not in ("", earlier.user_id):
            voice.fail(f"this directory is {earlier.user_id}'s", "name another with --directory", code=voice.USAGE)
        known = earlier.user_id if earlier is not None else ""
        user = self._wishes.user or known or self._ask_user()
        address = self._session.server.address if earlier is not None and not self._wishes.homeserver else None
        if address is None:
            address = await find_homeserver(self._wishes.homeserver or user.partition(":")[2], SECONDS)
        server = Homeserver(address)
        try:
            await server.versions(self._until())
            login = await (self._by_token(server, user) if self._wishes.by_token else self._by_password(server, user))
        finally:
            await server.close()
        await self._keep(address.url, login, earlier)
        await self._session.open(self._until())
        machine = self._session.machine
        voice.tell(f"logged in as {machine.user_id}, device {machine.device_id}")
        return True

    def _ask_user(self) -> str:
        user = self._questions.ask("The bot's own user (@name:server):", "--user")
        if not _USER.match(user):
            voice.fail("that is no Matrix user", "accepted: @name:server", code=voice.USAGE)
        return user

    async def _by_password(self, server: Homeserver, user: str) -> dict[str, str]:
        if "m.login.password" not in await server.login_flows(self._until()):
            voice.fail(
                "the homeserver takes no passwords here",
                "let its authentication service make an access token for the bot, and run this again with --token",
            )
        password = self._ask_password(user)
        try:
            said = await server.login(user, _text(password), self._device_name(), self._until())
        except ServerSaid as refusal:
            if refusal.status == 403:
                voice.fail("the homeserver refused user or password", "after three tries it may lock the account")
            raise
        return {key: str(said.get(key) or "") for key in ("user_id", "device_id", "access_token")}

    async def _by_token(self, server: Homeserver, user: str) -> dict[str, str]:
        server.token = _text(self._questions.ask_secret(f"Access token of {user}:"))
        said = await server.whoami(self._until())
        if said.get("user_id") != user:
            voice.fail("the access token is another user's")
        if not isinstance(said.get("device_id"), str):
            voice.fail("the access token belongs to no device", "make one with a device: encryption needs it")
        return {"user_id": user, "device_id": said["device_id"], "access_token": server.token}

    def _ask_password(self, user: str, *, again: bool = False) -> Secret:
        if self._password is None or again:
            question = f"{'That was wrong. ' if again else ''}Password of {user}:"
            self._password = self._questions.ask_secret(question)
        return self._password

    def _device_name(self) -> str:
        return self._wishes.device_name or f"Unlatch on {socket.gethostname()}"

    async def _keep(self, homeserver: str, login: dict[str, str], earlier: Machine | None) -> None:
        """Write the login down. An earlier login's identity, pins and room live on."""
        if not all(login.values()):
            voice.fail("the homeserver's answer to the login lacks something")
        self._store.create(os.urandom)
        machine = Machine.create(login["user_id"], login["device_id"], earlier)
        with self._store.locked():
            dumped = machine.dump(self._store.pickle_key())
            state = new_state(homeserver, login["access_token"], dumped)
            if earlier is not None:
                state |= {key: self._session.state[key] for key in ("room_id", "messages")}
                state["encrypted"] = bool(self._session.state.get("encrypted"))
            self._store.save(state)
        await self._session.close()
        self._session = Session(self._store)

    def _rehearse_the_rest(self) -> None:
        for text in (
            "publish the bot's keys and its cross-signing identity",
            f"join {self._wishes.room}" if self._wishes.room else "create a private, encrypted room",
            "switch URL previews off in it",
            *(f"invite {admin}, and {self._how_to_pin()}" for admin in self._wishes.admins or ("each admin",)),
            "send a test message",
        ):
            self._todo(text)

    def _how_to_pin(self) -> str:
        return "believe their identity this once" if self._wishes.trust_first_use else "compare emoji"

    # 2. The bot's keys and identity

    async def _publish_keys(self) -> None:
        session = self._session
        async with session.changing(self._until(), save=False):
            fresh = "device_keys" in (session.machine.keys_upload() or {})
        if fresh and self._todo("publish the device's keys"):
            await session.upload_keys(self._until())
        await session.query(session.machine.pins, self._until())
        if session.machine.cross_signed():
            voice.tell("the bot's identity is published, and this device signed by it")
            return
        if session.machine.own_identity() == "foreign" and not self._wishes.reset_identity:
            voice.fail(
                "the homeserver has another identity of the bot, which is not in this directory",
                "restore the directory, or give the bot a new identity with --reset-identity: then compare emoji anew",
            )
        if self._todo("publish the bot's cross-signing identity, and sign this device"):
            await publish_identity(session, self, self._until)

    def password(self, again: bool) -> str:
        """See :class:`unlatch.matrix.bootstrap.Person`."""
        return _text(self._ask_password(self._session.machine.user_id, again=again))

    def visit(self, url: str) -> None:
        """See :class:`unlatch.matrix.bootstrap.Person`."""
        voice.tell("the homeserver wants you to allow this in a browser, logged in as the bot:")
        voice.tell_plainly(f"  {voice.clean(url)}")
        self._questions.ask("Press Enter when that is done.", "somebody at a browser")

    # 3. The room

    async def _enter_room(self) -> bool:
        session, wanted = self._session, self._wishes.room
        if session.room_id and (not wanted or wanted == session.room_id) and await self._is_in(session.room_id):
            voice.tell(f"in the room {session.room_id}")
        elif not self._todo(f"join {wanted or session.room_id}" if wanted or session.room_id else _NEW_ROOM):
            return False
        else:
            await self._join_or_create(wanted or session.room_id)
        state = await session.server.state(session.room_id, "m.room.encryption", self._until())
        if state is None:
            voice.fail(
                f"the room {session.room_id} is not encrypted",
                "switch encryption on in its settings, then run this again; or name another with --room",
                "allow_plaintext_room = true in unlatch.toml would let everybody there and the homeserver read links",
            )
        if state.get("algorithm") != MEGOLM:
            voice.fail(f"the room {session.room_id} is encrypted in a way that is not known here")
        if not session.state.get("encrypted") and not self._wishes.dry_run:
            async with session.changing(self._until()) as saved:
                saved["encrypted"] = True
        return True

    async def _is_in(self, room_id: str) -> bool:
        try:
            return self._session.machine.user_id in await self._session.server.members(room_id, self._until())
        except ServerSaid as refusal:
            if refusal.status in (403, 404):
                return False
            raise

    async def _join_or_create(self, room: str) -> None:
        session = self._session
        try:
            if room:
                room_id = await session.server.join(room, self._until())
            else:
                room_id = await session.server.create_room(_room(self._wishes.admins), self._until())
        except ServerSaid as refusal:
            if refusal.status in (403, 404) and room:
                bot = session.machine.user_id
                voice.fail(f"cannot join {voice.clean(room)}", f"invite {bot} there first, then run this again")
            raise
        async with session.changing(self._until()) as saved:
            saved |= {"room_id": room_id, "encrypted": False}
        voice.tell(f"in the room {room_id}")

    async def _switch_previews_off(self) -> None:
        """For everybody in the room, and for the bot. A preview is made by the homeserver, which opens the link."""
        session, off, user = self._session, {"disable": True}, self._session.machine.user_id
        if not self._wishes.dry_run:
            await session.server.set_room_account_data(user, session.room_id, PREVIEWS, off, self._until())
        if await session.server.state(session.room_id, PREVIEWS, self._until()) == off:
            voice.tell("URL previews are off in the room")
            return
        if not self._todo("switch URL previews off in the room"):
            return
        try:
            await session.server.set_state(session.room_id, PREVIEWS, off, self._until())
        except ServerSaid as refusal:
            if refusal.status != 403:
                raise
            voice.tell("the bot may not do that for everybody: see that URL previews are off in the room's settings")

    # 4. The admins

    def _admins(self) -> list[str]:
        known = self._session.machine.pins
        admins = list(dict.fromkeys([*known, *self._wishes.admins]))
        if not admins and not self._wishes.dry_run:
            admins = [self._questions.ask("Who is rung (@name:server)?", "--admin")]
            if not _USER.match(admins[0]):
                voice.fail("that is no Matrix user", "accepted: @name:server", code=voice.USAGE)
        return admins

    async def _forget_admins(self) -> None:
        for user in self._wishes.forget:
            if user in self._session.machine.pins and self._todo(f"forget {user}"):
                async with self._session.changing(self._until()):
                    self._session.machine.unpin(user)

    async def _pin(self, admin: str, *, in_room: bool) -> None:
        session = self._session
        if in_room and admin not in await session.server.members(session.room_id, self._until()):
            await self._invite(admin)
        await session.query([*session.machine.pins, admin], self._until())
        machine = session.machine
        identity, pin = machine.identities.get(admin), machine.pins.get(admin)
        if identity is None or not identity.master_key:
            voice.fail(
                f"{admin} has no cross-signing identity",
                "set up secure backup (or: verify this device) in their Matrix client, then run this again",
            )
        if pin is not None and pin.master_key == identity.master_key:
            if pin.verified == "emoji" or self._wishes.trust_first_use:
                how = "by emoji" if pin.verified == "emoji" else "on first use only"
                voice.tell(f"{admin} is verified {how}")
                return
        elif pin is not None:
            voice.tell(f"the identity of {admin} is another than the one that was verified")
        if self._wishes.trust_first_use and pin is None:
            if self._todo(f"believe the homeserver about {admin} this once"):
                async with session.changing(self._until()):
                    machine = session.machine
                    machine.pin(admin, identity.master_key, "first-use")
            return
        if not self._todo(f"compare emoji with {admin}"):
            return
        await self._compare(admin)

    async def _invite(self, admin: str) -> None:
        if not self._todo(f"invite {admin}"):
            return
        try:
            await self._session.server.invite(self._session.room_id, admin, self._until())
        except ServerSaid as refusal:
            if refusal.status != 403:  # 403: is invited already, or we may not; the room will tell
                raise

    async def _compare(self, admin: str) -> None:
        session = self._session
        await self._wait_for(admin)
        voice.tell(f"{admin}: open the room and accept the verification there")
        proven = await Comparison(session, admin, self, random=os.urandom, until=self._until).run()
        async with session.changing(self._until()):
            session.machine.pin(admin, proven, "emoji")
        await session.query(session.machine.pins, self._until())
        await publish_signatures(session, self._until)
        voice.tell(f"{admin} is verified by emoji")

    async def _wait_for(self, admin: str) -> None:
        end = asyncio.get_running_loop().time() + INVITED_SECONDS
        told = False
        while admin not in await self._session.server.members(self._session.room_id, self._until()):
            if not told:
                voice.tell(f"{admin}: accept the invitation to the room")
            told = True
            if asyncio.get_running_loop().time() > end:
                voice.fail(
                    f"{admin} did not come into the room", "run this again when they have accepted the invitation"
                )
            await asyncio.sleep(1)

    def compare(self, verification: Verification) -> bool:
        """See :class:`unlatch.matrix.verifying.Screen`."""
        if "emoji" in verification.strings:
            voice.tell("the other side must show the same seven, in the same order:")
            for emoji in verification.emoji():
                voice.tell_plainly(f"  {emoji.symbol}  {emoji.name}")
        else:
            voice.tell("the other side must show the same three numbers:")
            voice.tell_plainly(f"  {' '.join(map(str, verification.decimals()))}")
        return self._questions.confirm("Do they match?")

    def tell(self, text: str) -> None:
        """See :class:`unlatch.matrix.verifying.Screen`."""
        voice.tell(voice.clean(text))

    # 5. The test

    async def _test(self) -> None:
        session = self._session
        members = await session.server.members(session.room_id, self._until())
        if not self._wishes.dry_run and not session.machine.pins.keys() & set(members):
            voice.tell("no admin is in the room yet: accept the invitation, then run this again for a test")
            return
        if not self._todo("send a test message"):
            return
        await session.look(self._until())
        text = f"{socket.gethostname()} can ring you here. This was a test: nothing waits for you."
        admins = list(session.machine.pins)
        sent = await session.send(
            "m.room.message", events.said(text, admins), session.unique(), self._until(), burst=True
        )
        voice.say(f"a test message went to {session.room_id}")
        if sent.skipped:
            voice.tell(voice.clean(f"not sent to {skipped_text(sent.skipped, 20)}"))
        if not session.state["since"]:  # what was said before is nothing to us
            await session.poll(0, SECONDS, lambda heard: None)  # noqa: ARG005
        voice.tell('the whole way, with a link to open: "unlatch ring"')

    def _until(self) -> float:
        return asyncio.get_running_loop().time() + SECONDS


_NEW_ROOM = "create a private, encrypted room"


def _room(admins: tuple[str, ...]) -> dict[str, object]:
    """A room for createRoom: encrypted from its first moment, by invitation, its past closed to who comes later."""
    return {
        "preset": "trusted_private_chat",  # those invited now may change the room's settings as we may
        "visibility": "private",
        "name": f"Unlatch: {socket.gethostname()}",
        "topic": "Prompts of this host. A reply that says deny denies; nothing said here approves.",
        "invite": list(admins),
        "initial_state": [
            {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": MEGOLM}},
            {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}},
            {"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "forbidden"}},
            {"type": PREVIEWS, "state_key": "", "content": {"disable": True}},
        ],
    }


def _text(secret: Secret) -> str:
    try:
        return bytes(secret.reveal()).decode()
    except UnicodeDecodeError:
        voice.fail("that is not UTF-8", code=voice.USAGE)
