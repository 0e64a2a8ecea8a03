"""The part of the Matrix client-server API that we speak: one method for each request, errors with names.

``until`` is the event loop's time at which the caller must have its answer: a server that says "too many requests, try
again in 2 s" is obeyed within it, and reported beyond it.
"""

import asyncio
import json
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from unlatch.matrix.errors import MatrixError
from unlatch.matrix.http import Address, Http, NoContact, Response

Json = dict[str, Any]

_V3 = "/_matrix/client/v3"
_CODE = re.compile(r"[A-Z][A-Z0-9_.]{2,60}\Z")
_SHORTEST_WAIT = 0.1  # seconds, whatever a server says


class ServerSaid(MatrixError):
    """The homeserver refused a request. ``errcode`` is Matrix's, or empty; ``body`` is for those who know the request.

    The text names status and code only: a server may quote what it was sent.
    """

    def __init__(self, status: int, errcode: str, body: Json) -> None:
        super().__init__(f"the homeserver refused: {errcode or f'HTTP status {status}'}")
        self.status = status
        self.errcode = errcode
        self.body = body


class NoHomeserver(MatrixError):
    """Something answered, but not as a homeserver does: a proxy's error page, another web site."""

    def __init__(self, status: int) -> None:
        super().__init__(f"answered HTTP status {status} and not as a homeserver does")
        self.status = status


class LoggedOut(MatrixError):
    """The access token is not valid (any more)."""


class TooFast(MatrixError):
    """The homeserver wants us to wait for ``seconds``, which is longer than the caller can."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the homeserver limits our rate and wants {seconds:.0f} s of patience")
        self.seconds = seconds


class Homeserver:
    """One homeserver, and who we are there."""

    def __init__(
        self, address: Address, token: str = "", tls: Callable[[], ssl.SSLContext] = ssl.create_default_context
    ) -> None:
        self.address = address
        self.token = token
        self._http = Http(address, tls)

    async def close(self) -> None:
        """Close the connections; the next request opens another."""
        await self._http.close()

    # Who we are

    async def versions(self, until: float) -> Json:
        """Whether this is a homeserver at all."""
        return await self._call("GET", "/_matrix/client/versions", until)

    async def login_flows(self, until: float) -> list[str]:
        """The types of login that it offers."""
        flows = (await self._call("GET", f"{_V3}/login", until)).get("flows")
        named = [flow.get("type") for flow in flows if isinstance(flow, dict)] if isinstance(flows, list) else []
        return [flow for flow in named if isinstance(flow, str)]

    async def login(self, user: str, password: str, device_name: str, until: float) -> Json:
        """Log in with a password; gives user_id, device_id and access_token."""
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user},
            "password": password,
            "initial_device_display_name": device_name,
        }
        return await self._call("POST", f"{_V3}/login", until, body)

    async def whoami(self, until: float) -> Json:
        """Whose the token is: user_id and device_id."""
        return await self._call("GET", f"{_V3}/account/whoami", until)

    async def logout(self, until: float) -> None:
        """Forget the token and its device."""
        await self._call("POST", f"{_V3}/logout", until, {})

    def fallback_page(self, stage: str, session: str) -> str:
        """The web page on which a person does what we cannot: one stage of user-interactive authentication."""
        return f"{self.address.url}{_V3}/auth/{_part(stage)}/fallback/web?{urlencode({'session': session})}"

    # Rooms

    async def join(self, room: str, until: float) -> str:
        """Join a room by id or alias; gives its id."""
        return _text(await self._call("POST", f"{_V3}/join/{_part(room)}", until, {}), "room_id")

    async def create_room(self, body: Json, until: float) -> str:
        """Make a room; gives its id."""
        return _text(await self._call("POST", f"{_V3}/createRoom", until, body), "room_id")

    async def invite(self, room_id: str, user_id: str, until: float) -> None:
        """Ask somebody in."""
        await self._call("POST", f"{_room(room_id)}/invite", until, {"user_id": user_id})

    async def members(self, room_id: str, until: float) -> list[str]:
        """Who is in the room."""
        joined = (await self._call("GET", f"{_room(room_id)}/joined_members", until)).get("joined")
        return list(joined) if isinstance(joined, dict) else []

    async def state(self, room_id: str, event_type: str, until: float, key: str = "") -> Json | None:
        """One piece of a room's state, or None."""
        try:
            return await self._call("GET", f"{_room(room_id)}/state/{_part(event_type)}/{_part(key)}", until)
        except ServerSaid as refusal:
            if refusal.status == 404 and refusal.errcode == "M_NOT_FOUND":
                return None
            raise

    async def set_state(self, room_id: str, event_type: str, content: Json, until: float) -> None:
        """Change one piece of a room's state."""
        await self._call("PUT", f"{_room(room_id)}/state/{_part(event_type)}/", until, content)

    async def set_room_account_data(
        self, user_id: str, room_id: str, event_type: str, content: Json, until: float
    ) -> None:
        """Change one of our own settings for a room."""
        path = f"{_V3}/user/{_part(user_id)}/rooms/{_part(room_id)}/account_data/{_part(event_type)}"
        await self._call("PUT", path, until, content)

    async def send(self, room_id: str, event_type: str, txn: str, content: Json, until: float) -> str:
        """Send an event; gives its id. The same ``txn`` again sends nothing and gives the id of the first."""
        path = f"{_room(room_id)}/send/{_part(event_type)}/{_part(txn)}"
        return _text(await self._call("PUT", path, until, content), "event_id")

    async def redact(self, room_id: str, event_id: str, txn: str, until: float) -> None:
        """Take an event's content away."""
        await self._call("PUT", f"{_room(room_id)}/redact/{_part(event_id)}/{_part(txn)}", until, {})

    # Keys

    async def keys(self, what: str, body: Json, until: float) -> Json:
        """One of the requests below /keys/: "upload", "query", "claim", "signatures/upload" and so on."""
        return await self._call("POST", f"{_V3}/keys/{what}", until, body)

    async def to_device(self, event_type: str, txn: str, body: Json, until: float) -> None:
        """Send an event to devices."""
        await self._call("PUT", f"{_V3}/sendToDevice/{_part(event_type)}/{_part(txn)}", until, body)

    async def sync(self, since: str, only: Mapping[str, Any], wait: float, until: float) -> Json:
        """What is new; the server keeps us waiting for up to ``wait`` seconds."""
        query = {"timeout": str(int(wait * 1000)), "filter": json.dumps(only)} | ({"since": since} if since else {})
        return await self._call("GET", f"{_V3}/sync?{urlencode(query)}", until)

    # The request itself

    async def _call(self, method: str, target: str, until: float, body: Json | None = None) -> Json:
        """Make one request, again as often as the server asks us to.

        Raises:
            NoContact, NoHomeserver, LoggedOut, TooFast, ServerSaid
        """
        loop = asyncio.get_running_loop()
        headers = [("Authorization", f"Bearer {self.token}")] if self.token else []
        data = None if body is None else json.dumps(body).encode()
        while True:
            response = await self._http.request(method, target, data, headers, until - loop.time())
            said = _read(response)
            if response.status != 429:
                break
            wait = _patience(said, response)
            if loop.time() + wait >= until:
                raise TooFast(wait)
            await asyncio.sleep(wait)
        if response.status == 200:
            return said
        errcode = said.get("errcode")
        errcode = errcode if isinstance(errcode, str) and _CODE.match(errcode) else ""
        if response.status == 401 and errcode in ("M_UNKNOWN_TOKEN", "M_MISSING_TOKEN"):
            raise LoggedOut("the access token is not valid any more")
        if not errcode and "flows" not in said:
            raise NoHomeserver(response.status)
        raise ServerSaid(response.status, errcode, said)


def _read(response: Response) -> Json:
    try:
        said = json.loads(response.body)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict):
        return said
    if response.status == 429:  # a proxy's own limit
        return {}
    raise NoHomeserver(response.status)


def _patience(said: Json, response: Response) -> float:
    """How long to wait: the newer header (seconds) or the older field (milliseconds)."""
    wait = said.get("retry_after_ms")
    if isinstance(wait, int | float) and not isinstance(wait, bool) and wait >= 0:
        return max(_SHORTEST_WAIT, wait / 1000)
    header = response.headers.get(b"retry-after", b"")
    return max(_SHORTEST_WAIT, float(header)) if header.isdigit() else 1.0


def _text(said: Json, name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not value:
        raise NoHomeserver(200)
    return value


def _part(text: str) -> str:
    return quote(text, safe="")


def _room(room_id: str) -> str:
    return f"{_V3}/rooms/{_part(room_id)}"


__all__ = ["Homeserver", "LoggedOut", "NoContact", "NoHomeserver", "ServerSaid", "TooFast"]
