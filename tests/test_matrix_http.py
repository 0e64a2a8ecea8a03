"""The HTTP client and the API on top of it, against servers that say exactly what a test wants, byte for byte."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from unlatch.matrix import http
from unlatch.matrix.api import Homeserver, LoggedOut, NoHomeserver, ServerSaid, TooFast
from unlatch.matrix.bootstrap import next_stage
from unlatch.matrix.discovery import NoAddress, find_homeserver, usable
from unlatch.matrix.errors import Refused
from unlatch.matrix.http import Address, Http, NoContact, parse_address

_T = TypeVar("_T")


def run(story: Awaitable[_T]) -> _T:
    async def told() -> _T:
        async with asyncio.timeout(20):
            return await story

    return asyncio.run(told())


def answer(status: int = 200, body: Any = None, *more: str) -> bytes:
    """A whole HTTP response; ``body`` as JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", *more, "", ""]
    return "\r\n".join(head).encode() + data


class Server:
    """Gives each request of a connection the next of its answers; None closes the connection, "hang" says nothing."""

    def __init__(self, *answers: bytes | str | None, tls: ssl.SSLContext | None = None) -> None:
        self.answers = list(answers)
        self.requests: list[str] = []
        self.connections = 0
        self._tls = tls

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.address = Address(self._tls is not None, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    (int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0
                )
                self.requests.append(head + (await reader.readexactly(length)).decode())
                said = self.answers.pop(0)
                if said == "hang":
                    await reader.read()
                if not isinstance(said, bytes):
                    break
                writer.write(said)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


async def with_client(server: Server, story: Callable[[Http], Awaitable[_T]]) -> _T:
    async with server:
        client = Http(server.address)
        try:
            return await story(client)
        finally:
            await client.close()


async def get(client: Http, seconds: float = 5.0) -> http.Response:
    return await client.request("GET", "/x", None, [], seconds)


def failure(*answers: bytes | str | None, seconds: float = 5.0) -> str:
    async def story(client: Http) -> str:
        with pytest.raises(NoContact) as raised:
            await get(client, seconds)
        return raised.value.why

    return run(with_client(Server(*answers), story))


# HTTP


def test_connections_are_kept() -> None:
    """Three requests, one connection."""
    server = Server(answer(), answer(body={"a": 1}), answer())

    async def story(client: Http) -> list[bytes]:
        return [(await get(client)).body for _ in range(3)]

    assert run(with_client(server, story)) == [b"{}", b'{"a": 1}', b"{}"]
    assert server.connections == 1


def test_requests_at_once_have_connections_of_their_own() -> None:
    """A sync that waits holds up nothing."""
    server = Server("hang", answer())

    async def story(client: Http) -> bytes:
        waiting = asyncio.ensure_future(get(client))
        while not server.requests:
            await asyncio.sleep(0.01)
        body = (await get(client)).body
        waiting.cancel()
        await asyncio.wait([waiting])
        return body

    assert run(with_client(server, story)) == b"{}"


def test_a_kept_connection_that_was_closed_is_no_failure() -> None:
    """The request goes out once more, on a fresh one; a fresh one that is closed is a failure."""
    server = Server(answer(), None, answer(body={"again": True}))

    async def story(client: Http) -> bytes:
        await get(client)
        return (await get(client)).body

    assert run(with_client(server, story)) == b'{"again": true}'
    assert server.connections == 2
    assert failure(None) == "it closed the connection without an answer"


def test_chunks_and_early_hints_are_understood() -> None:
    """As proxies send them."""
    chunked = b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    assert run(with_client(Server(chunked), get)).body == b"{}"


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), "answered with something that is not HTTP"),
        ((b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{",), "it closed the connection in the middle of its answer"),
        ((b"HTTP/1.1 200 X\r\nA: " + b"a" * 100_000,), "answered with something that is not HTTP"),
        ((b"HTTP/1.1 200 X\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9_000_000,), "answered with more than 8 MiB"),
    ],
)
def test_bad_answers(answers: tuple[bytes, ...], why: str) -> None:
    """Each has its words; none is read without end."""
    assert failure(*answers) == why


def test_a_server_that_says_nothing() -> None:
    """Is left in time, whether it hangs before or within its answer."""
    begun = b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{"
    for said in ("hang", begun):
        assert failure(said, "hang", seconds=0.1) == "did not answer within 0.1 s"
    assert failure(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{", "hang", seconds=0.1).startswith(
        ("did not", "answered")
    )


def test_nobody_there() -> None:
    """A closed port, and a name that nobody has (RFC 6761: "invalid" never resolves)."""

    async def story(address: Address) -> str:
        with pytest.raises(NoContact) as raised:
            await get(Http(address), 10)
        return raised.value.why

    assert run(story(Address(False, "127.0.0.1", 9))) == "it refuses the connection"
    assert run(story(Address(False, "unlatch.invalid", 80))) == "its name cannot be resolved"


def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    """Is refused, and the reason is the certificate's."""
    from certificates import self_signed

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))

    async def story(client: Http) -> str:
        with pytest.raises(NoContact) as raised:
            await get(client)
        return raised.value.why

    assert run(with_client(Server(answer(), tls=context), story)).startswith("its certificate is not valid: ")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://matrix.example.org", Address(True, "matrix.example.org", 443)),
        ("HTTPS://Example.org:8448/base/", Address(True, "example.org", 8448, "/base")),
        ("http://127.0.0.1:8008", Address(False, "127.0.0.1", 8008)),
        ("https://[::1]:8448", Address(True, "::1", 8448)),
        ("https://user:pass@example.org", None),
        ("https://example.org?x", None),
        ("https://example.org:99999", None),
        ("ftp://example.org", None),
        ("https://example.org/\r\nX: y", None),
        ("", None),
    ],
)
def test_addresses(url: str, address: Address | None) -> None:
    """Read and written the same."""
    assert parse_address(url) == address
    if address is not None:
        assert parse_address(address.url) == address


# The API


async def with_api(server: Server, story: Callable[[Homeserver, float], Awaitable[_T]], seconds: float = 5.0) -> _T:
    async with server:
        api = Homeserver(server.address, "secret-token")
        try:
            return await story(api, asyncio.get_running_loop().time() + seconds)
        finally:
            await api.close()


LIMITED = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests"}


@pytest.mark.parametrize(
    "limit",
    [
        answer(429, LIMITED | {"retry_after_ms": 50}),
        answer(429, LIMITED, "Retry-After: 0"),
        answer(429, b"<html>", "Retry-After: 0"),
    ],
)
def test_a_limit_is_waited_for(limit: bytes) -> None:
    """As long as the server says, then the same request goes out again."""
    server = Server(limit, limit, answer(body={"event_id": "$1"}))
    sent = run(with_api(server, lambda api, until: api.send("!r", "m.room.message", "t/1", {"body": "x"}, until)))
    assert sent == "$1"
    assert len(set(server.requests)) == 1
    assert server.requests[0].startswith("PUT /_matrix/client/v3/rooms/%21r/send/m.room.message/t%2F1 HTTP/1.1\r\n")


def test_a_limit_beyond_our_time_is_said_at_once() -> None:
    """Nobody hangs until his time is over."""
    server = Server(answer(429, LIMITED | {"retry_after_ms": 60_000}))
    with pytest.raises(TooFast) as raised:
        run(with_api(server, lambda api, until: api.members("!r", until)))
    assert raised.value.seconds == 60


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (answer(502, b"<html><h1>502 Bad Gateway"), NoHomeserver, "HTTP status 502"),
        (answer(200, b"<html>Welcome"), NoHomeserver, "HTTP status 200"),
        (answer(200, b"[" * 100_000), NoHomeserver, "HTTP status 200"),
        (answer(200, b"[]"), NoHomeserver, "HTTP status 200"),
        (answer(404, {"error": "no such page"}), NoHomeserver, "HTTP status 404"),
        (answer(301, b"", "Location: https://elsewhere"), NoHomeserver, "HTTP status 301"),
        (answer(401, {"errcode": "M_UNKNOWN_TOKEN", "soft_logout": True}), LoggedOut, "not valid any more"),
        (answer(403, {"errcode": "M_FORBIDDEN", "error": "secret"}), ServerSaid, "M_FORBIDDEN"),
        (answer(500, {"errcode": "M_UNKNOWN"}), ServerSaid, "M_UNKNOWN"),
        (answer(400, {"errcode": "M\nEVIL"}), NoHomeserver, "HTTP status 400"),
    ],
)
def test_each_refusal_has_a_name(said: bytes, error: type[Exception], text: str) -> None:
    """And none repeats what the server said in its own words, nor our token."""
    with pytest.raises(error) as raised:
        run(with_api(Server(said), lambda api, until: api.members("!r", until)))
    assert text in str(raised.value)
    assert "secret" not in str(raised.value)


# Finding a homeserver, and proving who we are


@pytest.mark.parametrize("url", ["http://matrix.example.org", "matrix.example.org/x y", "ftp://x", "https://"])
def test_addresses_over_which_no_login_travels(url: str) -> None:
    """Neither plain HTTP to elsewhere, nor what is no address."""
    with pytest.raises(NoAddress):
        usable(url)


def trusting(tmp_path: Path) -> tuple[ssl.SSLContext, Callable[[], ssl.SSLContext]]:
    from certificates import self_signed

    certificate = self_signed(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    return server, lambda: ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (answer(200, {"m.homeserver": {"base_url": "https://matrix.example.org/"}}), "https://matrix.example.org"),
        (answer(404, b"no"), ""),
        (answer(200, b"<html>"), ""),
        (answer(200, {"m.homeserver": {"base_url": "http://matrix.example.org"}}), ""),
        (answer(200, {"m.homeserver": "x"}), ""),
        (answer(302, b"", "Location: http://example.org/"), ""),
        ("hang", ""),
    ],
)
def test_discovery(said: bytes | str, found: str, tmp_path: Path) -> None:
    """A server's name leads to the address that it publishes, else to itself."""
    server_side, client_side = trusting(tmp_path)

    async def story() -> tuple[str, str]:
        async with Server(said, tls=server_side) as server:
            name = f"127.0.0.1:{server.port}"
            return (await find_homeserver(name, 0.5, client_side)).url, f"https://{name}"

    address, own = run(story())
    assert address == (found or own)


@pytest.mark.parametrize(
    ("said", "stage"),
    [
        ({"flows": [{"stages": ["m.login.sso"]}, {"stages": ["m.login.password"]}]}, "m.login.password"),
        ({"flows": [{"stages": ["m.login.dummy"]}]}, "m.login.dummy"),
        (
            {"flows": [{"stages": ["m.login.dummy", "m.login.password"]}], "completed": ["m.login.dummy"]},
            "m.login.password",
        ),
        ({"flows": [{"stages": ["m.oauth"]}, {"stages": ["org.matrix.cross_signing_reset"]}]}, "m.oauth"),
        ({"flows": [{"stages": ["m.login.sso"]}]}, "m.login.sso"),
    ],
)
def test_the_easiest_proof_is_chosen(said: dict[str, Any], stage: str) -> None:
    """What we can do alone, then the password, then a page that the server names, then any page."""
    assert next_stage(said) == stage


@pytest.mark.parametrize(
    "said", [{}, {"flows": []}, {"flows": "x"}, {"flows": [{"stages": [1]}]}, {"flows": [{"stages": []}]}]
)
def test_no_way_to_prove_anything(said: dict[str, Any]) -> None:
    """Is said, and not tried for ever."""
    with pytest.raises(Refused):
        next_stage(said)
