"""The page's HTTP against slow, greedy, wrong and silent clients."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from unlatch.broker import http
from unlatch.broker.remote import client_of, is_allowed, parse_networks
from unlatch.broker.web import find_place

NOTHING = b"nothing here"
LOOPBACK = parse_networks(["127.0.0.0/8", "::1/128"])
A = b"a"
GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"


class EchoSite:
    """Tells what it understood; ``/later`` is answered when the test says so."""

    def __init__(self) -> None:
        self.later: list[http.Reply] = []
        self.gone = 0
        self.requests = 0
        self.asked = asyncio.Event()

    def nothing(self) -> http.Response:
        return http.Response(404, (("Content-Type", "text/html"),), NOTHING)

    def turn_away(self, request: http.Request) -> http.Response:
        return self.nothing()

    def respond(self, request: http.Request, reply: http.Reply) -> http.Held | None:
        self.requests += 1
        if request.target.startswith("/later"):
            self.later.append(reply)
            self.asked.set()
            return http.Held(request.target, self._client_gone)
        if request.target == "/large":
            reply(http.Response(200, (), bytes(30_000)))
        elif request.method not in ("GET", "POST"):
            reply(self.nothing())
        else:
            told = {"target": request.target, "body": len(request.body), "remote": request.remote, "gzip": request.gzip}
            reply(http.Response(200, (("Content-Type", "application/json"),), json.dumps(told).encode()))
        return None

    def _client_gone(self) -> None:
        self.gone += 1


class Client:
    """One TCP connection, spoken to in bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self) -> tuple[int, dict[str, str], bytes]:
        """One response."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        await self.say(data)
        return await self.hear()

    async def closed(self) -> bytes:
        """What is left until the server hangs up; a reset is a way of hanging up."""
        try:
            async with asyncio.timeout(10):
                return await self.reader.read()
        except ConnectionError:
            return b""


class Place:
    """A server on a port of its own, and its clients."""

    def __init__(self, site: EchoSite, server: http.Server, port: int) -> None:
        self.site = site
        self.server = server
        self._port = port
        self._clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self._port))
        self._clients.append(client)
        return client

    async def get(self) -> int:
        client = await self.client()
        async with asyncio.timeout(5):
            return (await client.ask(GET))[0]

    def hang_up(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()


@asynccontextmanager
async def serving(networks: str = "127.0.0.0/8") -> AsyncIterator[Place]:
    site = EchoSite()
    server = http.Server(site, parse_networks([networks]))
    listener = await asyncio.get_running_loop().create_server(server.connection, "127.0.0.1", 0, backlog=2048)
    place = Place(site, server, listener.sockets[0].getsockname()[1])
    yield place
    place.hang_up()
    listener.close()
    server.hang_up()
    while server._all:
        await asyncio.sleep(0)


def run(story: Callable[[Place], Awaitable[None]], networks: str = "127.0.0.0/8") -> None:
    async def told() -> None:
        async with serving(networks) as place:
            await story(place)

    asyncio.run(asyncio.wait_for(told(), 30))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits of a fraction of a second, so that tests see them pass."""
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.15)
    monkeypatch.setattr(http, "LEAVE_SECONDS", 0.15)


def test_requests_follow_each_other_on_one_connection() -> None:
    """A connection is kept: three requests, the later two in one packet, three answers in order."""

    async def story(place: Place) -> None:
        client = await place.client()
        assert (await client.ask(GET))[0] == 200
        post = b"POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
        await client.say(post + GET)
        assert json.loads((await client.hear())[2])["target"] == "/two"
        assert json.loads((await client.hear())[2])["target"] == "/hello"

    run(story)


def test_a_chunked_body_is_a_body() -> None:
    """Transfer-Encoding chunked is understood and counted."""

    async def story(place: Place) -> None:
        client = await place.client()
        head = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        status, _, body = await client.ask(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert status == 200
        assert json.loads(body)["body"] == 5

    run(story)


@pytest.mark.parametrize(
    "data",
    [
        b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"DELETE /x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
    ],
    ids=["PUT", "DELETE", "OPTIONS", "CONNECT"],
)
def test_other_methods_get_the_one_404(data: bytes) -> None:
    """A method that the site does not have gets what every stranger gets."""

    async def story(place: Place) -> None:
        status, _, body = await (await place.client()).ask(data)
        assert (status, body) == (404, NOTHING)

    run(story)


def test_head_gets_no_body() -> None:
    """HEAD is answered without a body, and the connection goes on."""

    async def story(place: Place) -> None:
        client = await place.client()
        await client.say(b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404")
        assert f"Content-Length: {len(NOTHING)}".encode() in head
        assert (await client.ask(GET))[0] == 200

    run(story)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/x\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"not http at all\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 32769\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"2000\r\n" + A * 8192 + b"\r\n") * 5,
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + A * 8192 + b"\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: x\r\nCookie: " + A * 8000 + b"\r\nA: " + A * 300 + b"\r\n\r\n",
        b"GET /" + A * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["no-host", "two-hosts", "nul-host", "bad-name", "negative-length", "two-lengths", "version", "tls", "garbage",
         "bad-chunk", "gzip-coding", "long-body", "endless-body", "long-chunks", "long-header",
         "long-header-head", "long-target"],
)  # fmt: skip
def test_what_is_malformed_or_too_large_gets_the_404_and_is_cut(data: bytes) -> None:
    """It never reaches the site; the client reads the whole 404, even while it is still sending, and then the end."""

    async def story(place: Place) -> None:
        client = await place.client()
        await client.say(data)
        answer = await client.closed()
        assert answer.startswith(b"HTTP/1.1 404")
        if not data.startswith(b"HEAD"):
            assert answer.endswith(NOTHING)
        assert place.site.requests == 0

    run(story)


def test_a_client_that_asks_before_it_sends_is_encouraged() -> None:
    """Expect: 100-continue is answered, so that curl and proxies do not wait a second."""

    async def story(place: Place) -> None:
        client = await place.client()
        await client.say(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        assert (await client.ask(b"{}"))[0] == 200

    run(story)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("start", [b"", b"GET /", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"])
def test_silence_is_cut(start: bytes) -> None:
    """Whether nothing, half a header or half a body has come: after the time of a request the connection is gone."""

    async def story(place: Place) -> None:
        client = await place.client()
        await client.say(start)
        assert await client.closed() == b""

    run(story)


@pytest.mark.usefixtures("impatient")
def test_trickling_does_not_stretch_the_time() -> None:
    """A client that sends a byte now and then is cut as a silent one: the time is for the whole request."""

    async def story(place: Place) -> None:
        client = await place.client()
        closed = asyncio.ensure_future(client.closed())
        for byte in GET * 3:
            client.writer.write(bytes([byte]))
            if (await asyncio.wait([closed], timeout=0.02))[0]:
                break
        assert closed.done()
        assert place.site.requests == 0

    run(story)


@pytest.mark.usefixtures("impatient")
def test_a_kept_connection_is_cut_when_nothing_more_comes() -> None:
    """Keep-alive has its limit too."""

    async def story(place: Place) -> None:
        client = await place.client()
        assert (await client.ask(GET))[0] == 200
        assert await client.closed() == b""

    run(story)


@pytest.mark.usefixtures("impatient")
def test_a_reader_that_never_reads_costs_nothing() -> None:
    """While answers are not fetched no further request is looked at; and the connection has its time as well."""

    async def story(place: Place) -> None:
        client = await place.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 5000)
        while place.server._all:
            await asyncio.sleep(0.01)
        assert place.site.requests < 500  # the kernel takes some megabytes, we take none

    run(story)


def test_a_long_poll_outlives_the_request_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of a request do not count while the site thinks."""
    monkeypatch.setattr(http, "REQUEST_SECONDS", 0.1)

    async def story(place: Place) -> None:
        client = await place.client()
        await client.say(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
        await place.site.asked.wait()
        answer = asyncio.ensure_future(client.hear())
        assert not (await asyncio.wait([answer], timeout=0.3))[0]
        place.site.later[0](http.Response(200, (), b"at last"))
        assert (await answer)[2] == b"at last"

    run(story)


def test_the_site_hears_of_a_client_that_left_and_may_answer_all_the_same() -> None:
    """A long poll whose client hangs up is reported once; its reply, come too late, harms nobody."""

    async def story(place: Place) -> None:
        client = await place.client()
        await client.say(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
        await place.site.asked.wait()
        client.writer.close()
        while not place.site.gone:
            await asyncio.sleep(0)
        place.site.later[0](http.Response(200, (), b"too late"))
        assert place.site.gone == 1

    run(story)


def test_a_thousand_idle_connections_block_nobody() -> None:
    """From one address, each with half a request: the next client is served at once, and few of them are kept."""

    async def story(place: Place) -> None:
        for _ in range(1000):
            await (await place.client()).say(b"GET / HT")
        assert await place.get() == 200
        assert len(place.server._all) <= http.MAX_SILENT + 1

    run(story)


def test_the_silent_do_not_push_out_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond their limit the one that is silent longest goes; one that waits for its answer stays."""
    monkeypatch.setattr(http, "MAX_SILENT", 20)

    async def story(place: Place) -> None:
        poll = await place.client()
        await poll.say(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
        await place.site.asked.wait()
        for _ in range(100):
            await place.client()
        assert await place.get() == 200
        assert len(place.server._all) <= 22
        place.site.later[0](http.Response(200, (), b"still here"))
        assert (await poll.hear())[2] == b"still here"

    run(story)


def test_a_newcomer_has_time_to_speak() -> None:
    """The proxy and a local attacker have one address: hundreds of newer silent connections cut no older one short."""

    async def story(place: Place) -> None:
        slow = await place.client()
        for _ in range(400):
            await place.client()
        assert (await slow.ask(GET))[0] == 200

    run(story)


LATER = b"GET /later/%s HTTP/1.1\r\nHost: x\r\n\r\n"


async def wait_for_news(place: Place, owner: bytes) -> Client:
    """A client whose request is held."""
    client, before = await place.client(), place.site.requests
    await client.say(LATER % owner)
    while place.site.requests == before:
        await asyncio.sleep(0)
    return client


def test_the_pages_of_one_user_hold_only_so_many_requests() -> None:
    """One more ends the oldest of this user; others' go on, and newcomers are served."""

    async def story(place: Place) -> None:
        bob = await wait_for_news(place, b"bob")
        first = await wait_for_news(place, b"ada")
        for _ in range(http.MAX_HELD_EACH):
            await wait_for_news(place, b"ada")
        assert await first.closed() == b""
        assert place.site.gone == 1
        assert await place.get() == 200
        place.site.later[0](http.Response(200, (), b"for bob"))
        assert (await bob.hear())[2] == b"for bob"

    run(story)


def test_when_all_hold_too_many_who_holds_most_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of somebody who holds few gets its place all the same, and keeps it."""
    monkeypatch.setattr(http, "MAX_HELD", 20)

    async def story(place: Place) -> None:
        few = await wait_for_news(place, b"few")
        first = await wait_for_news(place, b"many")
        for _ in range(18):
            await wait_for_news(place, b"many")
        second = await wait_for_news(place, b"few")
        assert await first.closed() == b""
        for poll, number in ((few, 0), (second, -1)):
            place.site.later[number](http.Response(200, (), b"news"))
            assert (await poll.hear())[2] == b"news"

    run(story)


def test_a_foreign_address_gets_the_404() -> None:
    """``allow_from`` is about the TCP peer: whatever it asks for and whatever it claims, there is nothing here."""

    async def story(place: Place) -> None:
        client = await place.client()
        status, _, body = await client.ask(b"GET /hello HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")
        assert (status, body, place.site.requests) == (404, NOTHING, 0)

    run(story, networks="10.0.0.0/8")


def test_the_proxys_word_counts() -> None:
    """From an allowed peer X-Forwarded-For names the client."""

    async def story(place: Place) -> None:
        client = await place.client()
        answer = await client.ask(b"GET /hello HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.7\r\n\r\n")
        assert json.loads(answer[2])["remote"] == "192.0.2.7"

    run(story)


def test_hanging_up_lets_the_last_answer_out() -> None:
    """When the site is shut, kept connections end too, but what was written arrives."""

    async def story(place: Place) -> None:
        client = await place.client()
        await client.say(b"GET /later HTTP/1.1\r\nHost: x\r\n\r\n")
        await place.site.asked.wait()
        place.site.later[0](http.Response(200, (), b"verdict"))
        place.server.hang_up()
        assert (await client.closed()).endswith(b"verdict")

    run(story)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["6.6.6.6", "192.0.2.7, 127.0.0.2"], "192.0.2.7"),
        ("local", ["192.0.2.7"], "192.0.2.7"),
        ("local", ["nonsense, 127.0.0.5"], "127.0.0.5"),
        ("local", ["<script>"], "local"),
        ("::1", ["2001:db8::1"], "2001:db8::1"),
        ("127.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("::ffff:127.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("198.51.100.1", ["192.0.2.7"], "198.51.100.1"),
        ("127.0.0.1", ["127.0.0.9, 127.0.0.8"], "127.0.0.9"),
    ],
)
def test_the_client_is_the_rightmost_foreign_address(peer: str, forwarded: list[str], client: str) -> None:
    """What stands left of the first foreign address was written by a stranger and does not count."""
    assert client_of(peer, forwarded, LOOPBACK) == client


def test_who_is_allowed() -> None:
    """Networks of both families, mapped addresses, scopes; a peer that is no address is a Unix socket's or nobody."""
    assert all(is_allowed(peer, LOOPBACK) for peer in ("127.9.9.9", "::1", "::ffff:127.0.0.1", "local"))
    assert not any(is_allowed(peer, LOOPBACK) for peer in ("10.0.0.1", "fe80::1%eth0", "", "localhost"))


TICKET = "A" * 22


@pytest.mark.parametrize("prefix", ["", "/web03"])
def test_a_page_is_found_with_and_without_the_proxys_prefix(prefix: str) -> None:
    """A proxy may strip the path of the public address or not; both lead to the page and its verbs."""
    for before in {"", prefix}:
        assert find_place(f"{before}/{TICKET}", prefix) == (TICKET, "")
        assert find_place(f"{before}/{TICKET}/view", prefix) == (TICKET, "view")


@pytest.mark.parametrize(
    "target",
    ["", "/", "//", f"/{TICKET}/", f"/{TICKET}?x=1", f"/{TICKET}#x", f"/{TICKET}/spoil", f"/{TICKET}A", f"/x/{TICKET}",
     f"/web03x/{TICKET}", f"/{TICKET}/view/", f"/{TICKET}\n", f"http://evil/{TICKET}", f"/%41{TICKET[1:]}",
     "/" + "é" * 22],
)  # fmt: skip
def test_other_targets_are_no_place(target: str) -> None:
    """Nothing but the exact spelling of a ticket and a verb is looked up."""
    assert find_place(target, "/web03") is None
