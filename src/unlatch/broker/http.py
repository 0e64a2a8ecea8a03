"""HTTP/1.1 for a handful of small requests from strangers: h11 for the grammar, and the bounds that it leaves to us.

The rules of this file:
- Everything is bounded: header, body, the time for a whole request, for an answer and for its reader, connections.
- Silent connections and held requests (long polls) each have their own room. When one is full, whoever holds most of it
  (an address; the user whose prompt it is) loses the oldest. So a thousand idle connections block nobody, no user's
  pages keep another's out, and no newcomer is the one who goes, as long as he speaks: see ``MAX_SILENT``.
- What is malformed, too large or not ours gets the site's one ``nothing``; it tells a stranger nothing.
- One write for a response (two cost a delayed acknowledgement: 126 against 40 ms on a phone), and no further request
  is looked at while the peer does not read.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from typing import NamedTuple, Protocol

import h11

from unlatch.broker.remote import LOCAL, Network, client_of, is_allowed

MAX_HEADER = 8192  # bytes; browsers send some hundreds, a proxy adds some
MAX_BODY = 32768  # bytes; the largest answer is a sealed secret of 8192 bytes: 15 KiB of base64url
MAX_READ = 16384  # bytes taken from a socket at once
MAX_AHEAD = 8192  # bytes taken while an answer is on its way; then we stop reading
# Connections without a request on its way. A proxy and a local attacker have the same address, so nobody can be told
# apart by it; but a newcomer goes only when this many others came after him: 2 s at 256 a second.
MAX_SILENT = 512
MAX_HELD = 256  # requests that wait for news
MAX_HELD_EACH = 64  # for the prompts of one user
REQUEST_SECONDS = 10.0  # for a whole request, however slowly it trickles; and for the silence between two
ANSWER_SECONDS = 40.0  # a long poll takes 25
LEAVE_SECONDS = 2.0  # for the peer to read the last response and hang up


class Request(NamedTuple):
    """One whole request. ``remote`` is who asks: a proxy's word is in it already.

    ``authorization`` is the field of that name as it came, or empty when there is none or more than one.
    """

    method: str
    target: str
    body: bytes
    remote: str
    gzip: bool
    authorization: str


class Response(NamedTuple):
    """What goes back; Content-Length and Connection are added when it is sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


Reply = Callable[[Response], None]


class Held(NamedTuple):
    """A request that is answered later, for the prompt of ``owner``. ``gone`` is called if its client leaves first."""

    owner: Hashable
    gone: Callable[[], None]


class Site(Protocol):
    """What a server serves."""

    def nothing(self) -> Response:
        """The one answer to everything that is not ours to explain."""

    def turn_away(self, request: Request) -> Response:
        """The answer to a peer that may not ask: ``nothing``."""

    def respond(self, request: Request, reply: Reply) -> Held | None:
        """Answer by calling ``reply`` once: at once, or within ``ANSWER_SECONDS``. It may come too late: harmless."""


class Room:
    """Connections of one kind, each with its holder; pure."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._holders: dict[Connection, Hashable] = {}  # in the order in which they came
        self._counts: Counter[Hashable] = Counter()

    def enter(self, connection: "Connection", holder: Hashable) -> "Connection | None":
        """Take one in; returns who must go for it."""
        self.leave(connection)
        self._holders[connection] = holder
        self._counts[holder] += 1
        if self._counts[holder] > self._most_each:
            return self._oldest_of(holder)
        if len(self._holders) > self._most:
            return self._oldest_of(self._counts.most_common(1)[0][0])
        return None

    def leave(self, connection: "Connection") -> None:
        """It is here no more, if it was."""
        if connection in self._holders:
            holder = self._holders.pop(connection)
            self._counts[holder] -= 1
            if not self._counts[holder]:
                del self._counts[holder]

    def _oldest_of(self, holder: Hashable) -> "Connection":
        return next(connection for connection, its in self._holders.items() if its == holder)


class Server:
    """All connections to one site, and the room that they have."""

    def __init__(self, site: Site, networks: tuple[Network, ...]) -> None:
        self.site = site
        self.networks = networks
        self.buffer = memoryview(bytearray(MAX_READ))  # one for all: it is read and emptied in one go
        self.loop = asyncio.get_running_loop()
        self._silent = Room(MAX_SILENT, MAX_SILENT)
        self._held = Room(MAX_HELD, MAX_HELD_EACH)
        self._all: set[Connection] = set()

    def connection(self) -> "Connection":
        """A protocol for a new connection."""
        return Connection(self)

    def enter(self, newcomer: "Connection", address: str) -> None:
        """Count a new connection."""
        self._all.add(newcomer)
        self.falls_silent(newcomer, address)

    def falls_silent(self, connection: "Connection", address: str) -> None:
        """Note that this connection has no request on its way (again)."""
        self._held.leave(connection)
        too_many = self._silent.enter(connection, address)
        if too_many is not None:
            too_many.abort()

    def speaks(self, connection: "Connection") -> None:
        """A whole request has come."""
        self._silent.leave(connection)

    def waits(self, connection: "Connection", owner: Hashable) -> None:
        """Its request is held."""
        too_many = self._held.enter(connection, owner)
        if too_many is not None:
            too_many.abort()

    def leave(self, connection: "Connection") -> None:
        """It is gone."""
        self._silent.leave(connection)
        self._held.leave(connection)
        self._all.discard(connection)

    def hang_up(self) -> None:
        """End every connection, also the kept-alive ones: nothing is served any more."""
        for connection in list(self._all):
            connection.leave()


class _TooLarge(Exception):
    """A header or body beyond its bound."""


class Connection(asyncio.BufferedProtocol):
    """One connection: silent -> a whole request -> being answered -> silent, until somebody has enough."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER)
        self._request: h11.Request | None = None
        self._body = b""
        self._ahead = 0
        self._expecting = True  # nothing of the next request has come
        self._answering = 0  # the number of the request that is being answered; 0 for none
        self._held: Held | None = None
        self._requests = 0
        self._choked = False
        self._leaving = False
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle | None = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if isinstance(name, tuple) else LOCAL
        self._must_end_within(REQUEST_SECONDS)
        self._server.enter(self, self._peer)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (the event loop's signature)
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._leaving:
            return  # it is read only so that the kernel does not reset the connection under the last response
        self._http.receive_data(bytes(self._server.buffer[:nbytes]))
        if self._answering:
            self._ahead += nbytes
            if self._ahead > MAX_AHEAD:
                self._transport.pause_reading()
            return
        if self._expecting:
            self._expecting = False
            self._must_end_within(REQUEST_SECONDS)
        self._advance()

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        self._server.loop.call_soon(self._advance)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._leaving = True
        if self._deadline is not None:
            self._deadline.cancel()
        self._server.leave(self)
        if self._answering and self._held is not None:
            self._held.gone()
        self._answering, self._held = 0, None

    # What the server calls

    def abort(self) -> None:
        """End at once, whatever is unsent."""
        self._leaving = True
        self._server.leave(self)
        self._transport.abort()

    def leave(self) -> None:
        """End after what was written has gone out; the peer has a moment to read it."""
        if self._leaving:
            return
        self._leaving = True
        self._server.falls_silent(self, self._peer)
        self._must_end_within(LEAVE_SECONDS)
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:  # TLS, whose own end comes after what was written
            self._transport.close()

    # Requests

    def _advance(self) -> None:
        """Take what has come as far as one whole request."""
        try:
            while not (self._answering or self._choked or self._leaving):
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    return self._encourage()
                if isinstance(event, h11.Request):
                    self._head(event)
                elif isinstance(event, h11.Data):
                    self._add_to_body(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self._respond()
                else:  # the peer has hung up, or wants to speak something else
                    return self.leave()
        except (h11.RemoteProtocolError, _TooLarge):
            self._send(self._server.site.nothing(), last=True)

    def _encourage(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))

    def _head(self, request: h11.Request) -> None:
        self._request, self._body = request, b""
        # h11 bounds a header that comes in pieces, not one that comes at once.
        if len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers) > MAX_HEADER:
            raise _TooLarge
        if any(int(length) > MAX_BODY for length in _values(request, b"content-length")):
            raise _TooLarge

    def _add_to_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_BODY:
            raise _TooLarge

    def _respond(self) -> None:
        self._server.speaks(self)
        self._must_end_within(ANSWER_SECONDS)
        self._requests += 1
        self._answering = number = self._requests
        if is_allowed(self._peer, self._server.networks):
            held = self._server.site.respond(self._whole(), lambda response: self._reply(number, response))
            if held is not None and self._answering == number:
                self._held = held
                self._server.waits(self, held.owner)
        else:
            self._send(self._server.site.turn_away(self._whole()))

    def _whole(self) -> Request:
        assert self._request is not None
        forwarded = [value.decode("latin-1") for value in _values(self._request, b"x-forwarded-for")]
        credentials = _values(self._request, b"authorization")
        return Request(
            method=self._request.method.decode("ascii"),
            target=self._request.target.decode("latin-1"),
            body=self._body,
            remote=client_of(self._peer, forwarded, self._server.networks),
            gzip=any(b"gzip" in value for value in _values(self._request, b"accept-encoding")),
            authorization=credentials[0].decode("latin-1") if len(credentials) == 1 else "",
        )

    def _reply(self, number: int, response: Response) -> None:
        if self._answering == number:  # else it was answered, or the client is gone
            self._send(response)

    # Responses

    def _send(self, response: Response, *, last: bool = False) -> None:
        head = self._request is not None and self._request.method == b"HEAD"
        headers = [*response.headers, ("Content-Length", str(len(response.body)))]
        if last:
            headers.append(("Connection", "close"))
        message = h11.Response(status_code=response.status, headers=headers)
        data = self._http.send(message) or b""
        if not head:
            data += self._http.send(h11.Data(data=response.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        self._answering, self._held = 0, None
        self._request, self._body = None, b""
        self._write(data)
        self._go_on(last=last)

    def _go_on(self, *, last: bool) -> None:
        if last or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return self.leave()
        self._http.start_next_cycle()
        self._ahead = 0
        self._expecting = True
        self._must_end_within(REQUEST_SECONDS)
        self._server.falls_silent(self, self._peer)
        if not self._leaving:
            self._transport.resume_reading()
            self._server.loop.call_soon(self._advance)  # not at once: others have requests too
        return None

    def _write(self, data: bytes | None) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _must_end_within(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._server.loop.call_later(seconds, self.abort)


def _values(request: h11.Request, name: bytes) -> list[bytes]:
    return [value for field, value in request.headers if field == name]
