"""A small HTTP/1.1 client over asyncio: JSON bodies, connections kept open, every size and time bounded.

h11 reads and writes the protocol, asyncio and ssl the bytes. A whole client library would cost a cold broker more than
the message: importing httpx or aiohttp takes as long as sending takes Synapse (docs/notifiers/matrix.md has the
figures), and none of redirects, cookies, compression, proxies and HTTP/2 is wanted here.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

import h11

from unlatch.matrix.errors import MatrixError

MAX_BODY = 8 << 20  # bytes; a first sync or the keys of a large room take some hundred kilobytes
MAX_HEAD = 32 << 10  # bytes; proxies add cookies and policies
IDLE_SECONDS = 25.0  # a kept connection that is older may be closed at the other end: do not try our luck
KEPT = 3  # connections: a sync that waits, and two that send
_READ = 1 << 16


class NoContact(MatrixError):
    """The homeserver did not answer, or not in HTTP. ``why`` is printable and quotes nothing that was sent."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Address(NamedTuple):
    """The base of a homeserver's URLs; ``path`` has no slash at its end."""

    tls: bool
    host: str
    port: int
    path: str = ""

    @property
    def url(self) -> str:
        """As people write it."""
        port = "" if self.port == (443 if self.tls else 80) else f":{self.port}"
        return f"http{'s' * self.tls}://{self.authority}{port}{self.path}"

    @property
    def authority(self) -> str:
        """The host as a URL has it."""
        return f"[{self.host}]" if ":" in self.host else self.host


_BASE = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::([0-9]{1,5}))?(/[\w.~/-]*)?\Z", re.ASCII | re.I)


def parse_address(url: str) -> Address | None:
    """Read a base URL; None: it is none. Whether http may be spoken there is the caller's decision."""
    match = _BASE.match(url)
    if match is None:
        return None
    scheme, host, port, path = match.groups()
    tls = scheme.lower() == "https"
    number = int(port) if port else 443 if tls else 80
    return Address(tls, host.lower().strip("[]"), number, (path or "").rstrip("/")) if 0 < number < 65536 else None


class Response(NamedTuple):
    """What came back. ``headers`` have lower-case names."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Http:
    """Requests to one address."""

    def __init__(self, address: Address, tls: Callable[[], ssl.SSLContext] = ssl.create_default_context) -> None:
        self.address = address
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._kept: list[_Connection] = []

    async def request(
        self, method: str, target: str, body: bytes | None, headers: list[tuple[str, str]], seconds: float
    ) -> Response:
        """Send one request and read its whole answer.

        A kept connection that turns out to be closed is no failure: the request is sent once more on a fresh one, as
        RFC 9112 section 9.3.1 allows for what may be repeated. All of ours may.

        Raises:
            NoContact
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._request(method, target, body, headers)
        except TimeoutError:
            raise NoContact(f"did not answer within {max(seconds, 0.0):.{0 if seconds >= 1 else 1}f} s") from None

    async def close(self) -> None:
        """Close what is kept."""
        kept, self._kept = self._kept, []
        for connection in kept:
            await connection.close()

    async def _request(self, method: str, target: str, body: bytes | None, headers: list[tuple[str, str]]) -> Response:
        head = h11.Request(method=method, target=self.address.path + target, headers=self._headers(headers, body))
        while True:
            async with self._connection() as connection:
                try:
                    return await connection.exchange(head, body)
                except _Stale:
                    continue  # at most as often as there are kept connections

    def _headers(self, headers: list[tuple[str, str]], body: bytes | None) -> list[tuple[str, str]]:
        ours = [("Host", f"{self.address.authority}:{self.address.port}"), ("User-Agent", "unlatch"), *headers]
        if body is not None:
            ours += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        return ours

    @contextlib.asynccontextmanager
    async def _connection(self) -> "AsyncIterator[_Connection]":
        connection = self._kept_one() or await self._fresh_one()
        try:
            yield connection
        finally:
            if connection.reusable and len(self._kept) < KEPT:
                connection.kept_at = asyncio.get_running_loop().time()
                self._kept.append(connection)
            else:
                connection.abort()

    def _kept_one(self) -> "_Connection | None":
        now = asyncio.get_running_loop().time()
        while self._kept:
            connection = self._kept.pop()  # the newest
            if now - connection.kept_at < IDLE_SECONDS and not connection.closed_by_them:
                connection.fresh = False
                return connection
            connection.abort()
        return None

    async def _fresh_one(self) -> "_Connection":
        address = self.address
        if address.tls and self._tls is None:
            self._tls = self._make_tls()
        try:
            return _Connection(*await asyncio.open_connection(address.host, address.port, ssl=self._tls, limit=_READ))
        except OSError as error:
            raise NoContact(_why(error)) from None


class _Stale(Exception):
    """A kept connection was closed before it brought a byte."""


class _Connection:
    """One connection and the state of HTTP on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.fresh = True
        self.reusable = False
        self.kept_at = 0.0
        self._ended = False
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)

    @property
    def closed_by_them(self) -> bool:
        return self._reader.at_eof() or self._writer.transport.is_closing()

    async def exchange(self, head: h11.Request, body: bytes | None) -> Response:
        """One request and its answer.

        Raises:
            NoContact
            _Stale
        """
        self.reusable = False
        try:
            self._writer.write(self._bytes(head) + self._bytes(h11.Data(body or b"")) + self._bytes(h11.EndOfMessage()))
            await self._writer.drain()
            answer = await self._answer()
        except OSError as error:
            if not self.fresh and self._http.their_state is h11.SEND_RESPONSE:
                raise _Stale from None
            raise NoContact(_why(error)) from None
        except h11.RemoteProtocolError:
            ended = "it closed the connection in the middle of its answer"
            raise NoContact(ended if self._ended else "answered with something that is not HTTP") from None
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self.reusable = True
        return answer

    async def _answer(self) -> Response:
        response: h11.Response | None = None
        received = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                data = await self._reader.read(_READ)
                if not data and response is None:
                    raise ConnectionResetError
                self._ended = not data
                self._http.receive_data(data)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                received += event.data
                if len(received) > MAX_BODY:
                    raise NoContact(f"answered with more than {MAX_BODY >> 20} MiB")
            elif isinstance(event, h11.EndOfMessage):
                assert response is not None
                return Response(response.status_code, dict(response.headers), bytes(received))

    def _bytes(self, event: h11.Event) -> bytes:
        return self._http.send(event) or b""

    async def close(self) -> None:
        """End it in good manners: TLS says goodbye."""
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()

    def abort(self) -> None:
        """End it at once, whatever is on the way."""
        self._writer.transport.abort()


def _why(error: OSError) -> str:
    import socket

    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not valid: {error.verify_message.lower().rstrip('.')}"
        case ssl.SSLError():
            return "it does not speak TLS as we do"
        case socket.gaierror():
            return "its name cannot be resolved"
        case ConnectionRefusedError():
            return "it refuses the connection"
        case ConnectionResetError() | BrokenPipeError():
            return "it closed the connection without an answer"
    return (error.strerror or "cannot be reached").lower()
