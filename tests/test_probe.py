"""The broker's look at its own page through the public address: what it finds, what it calls it, whom it holds up."""

import asyncio
import errno
import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import self_signed
from house import UNLATCH, House
from notifier_contract import LINK, NOTICE, run
from waiting import until as wait_until

from unlatch.broker import page, probe, ringing
from unlatch.broker.notice import Notice
from unlatch.broker.probe import PageWatch, clock_is_set, explain, look, look_now
from unlatch.broker.ringing import Ringer


class _Proxy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
        status, body, headers = self.server.answer  # type: ignore[attr-defined]
        if status == 0:
            self.server.released.wait(20)  # type: ignore[attr-defined]
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Proxy(http.server.ThreadingHTTPServer):
    """Stands where the page should be, on loopback; with or without TLS."""

    daemon_threads = True

    def __init__(self, certificate: Path | None = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Proxy)
        self.answer: tuple[int, bytes, dict[str, str]] = (200, page.document(), {})
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server_port}/web03/TICKET"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that refuses the certificate hangs up."""

    def close(self) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


def test_the_page_is_there(proxy: Proxy) -> None:
    """The very bytes of our document, asked for once, without a fragment and without compression."""
    assert run(look(proxy.url)) == ""
    ((path, headers),) = proxy.asked
    assert path == "/web03/TICKET"
    assert headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (502, b"bad gateway", "proxy: answers 502, so it does not reach the broker"),
        (503, b"", "proxy: answers 503, so it does not reach the broker"),
        (200, b"welcome", "proxy: another page than ours is served there"),
        (200, b"x" * 200_000, "proxy: another page than ours is served there"),
        (404, b"", "proxy: answers 404, so it leads elsewhere, or its address is not in allow_from"),
        (403, b"", "proxy: answers 403"),
    ],
)
def test_what_a_proxy_answers_instead(proxy: Proxy, status: int, body: bytes, why: str) -> None:
    """Each has its words, and nothing of what was answered is among them."""
    proxy.answer = (status, body, {})
    assert run(look(proxy.url)) == why


def test_a_redirect_is_not_followed(proxy: Proxy) -> None:
    """People are not sent elsewhere either."""
    proxy.answer = (302, b"", {"Location": proxy.url + "/elsewhere"})
    assert run(look(proxy.url)) == "proxy: redirects elsewhere (302)"
    assert len(proxy.asked) == 1


def test_nobody_listens() -> None:
    """The address is there, the proxy is not."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        why = run(look(f"http://127.0.0.1:{taken.getsockname()[1]}/x"))
    assert why == "connection: connection refused"


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at boot, before the resolver is up."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert run(look("https://unlock.test/x")) == "name: it cannot be resolved"


def test_what_does_not_speak_http() -> None:
    """An ssh server, say."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-test\r\n")
                connection.recv(1000)

        threading.Thread(target=speak, daemon=True).start()
        assert run(look(f"http://127.0.0.1:{server.getsockname()[1]}/x")).startswith("connection: ")


def test_a_hanging_server_is_cut(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """At our limit, and the broker can end although the look goes on in its thread."""
    monkeypatch.setattr(probe, "PROBE_SECONDS", 0.2)
    proxy.answer = (0, b"", {})
    assert run(look(proxy.url)) in ("connection: no answer within 0.2 s", "connection: no answer in time")


@pytest.mark.parametrize(
    ("days", "trusted", "clock", "why"),
    [
        (30, False, True, "certificate: self-signed certificate"),
        (-1, True, True, "certificate: certificate has expired"),
        (-1, True, False, "certificate: certificate has expired; this host's clock is not synchronised"),
        (-1, True, None, "certificate: certificate has expired"),
        (30, True, False, ""),
    ],
)
def test_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, trusted: bool, clock: bool | None, why: str
) -> None:
    """Real TLS. A clock that is not set is named where it may be the reason."""
    monkeypatch.setattr(probe, "clock_is_set", lambda: clock)
    file = self_signed(tmp_path, days=days)
    proxy = Proxy(file)
    try:
        context = ssl.create_default_context(cafile=str(file) if trusted else None)
        assert look_now(proxy.url, context=context) == why
    finally:
        proxy.close()


def test_no_certificate_yet() -> None:
    """What a proxy does that has none for the name."""
    error = ssl.SSLError(1, "[SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1 alert internal error")
    assert explain(error, True) == "certificate: no TLS connection can be made"
    assert explain(OSError(errno.ENETUNREACH, "Network is unreachable"), False) == "connection: network is unreachable"


def test_the_clock_is_asked_without_setting_it(tmp_path: Path) -> None:
    """timesyncd's mark is enough; without it the kernel knows, or a sandbox forbids to ask."""
    (tmp_path / "synchronized").touch()
    before = time.time()
    assert clock_is_set(str(tmp_path / "synchronized")) is True
    assert clock_is_set(str(tmp_path / "none")) in (True, False, None)
    assert abs(time.time() - before) < 60


# The watch


class Looker:
    """A page whose state is told; counts the looks."""

    def __init__(self, trouble: str = "") -> None:
        self.trouble = trouble
        self.link = LINK
        self.asked: list[str] = []
        self.changes = 0
        self.hang = asyncio.Event()
        self.hang.set()
        self.watch = PageWatch(self._look, lambda: self.link, self._changed)

    async def _look(self, url: str) -> str:
        self.asked.append(url)
        await self.hang.wait()
        return self.trouble

    def _changed(self) -> None:
        self.changes += 1


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "BACKOFF", (0.001,))
    monkeypatch.setattr(ringing, "BACKOFF", (0.001,))


async def until(look: Callable[[], object]) -> None:
    while not look():
        await asyncio.sleep(0.001)


def test_a_look_has_no_fragment() -> None:
    """It goes over the wire, and into a proxy's log."""

    async def story() -> None:
        looker = Looker()
        await looker.watch.look()
        assert looker.asked == [LINK.partition("#")[0]]

    run(story())


def test_it_looks_again_until_the_page_is_there() -> None:
    """Trouble and its end are told once each."""

    async def story() -> None:
        looker = Looker("name: it cannot be resolved")
        await looker.watch.look()
        assert looker.watch.trouble
        await until(lambda: len(looker.asked) > 3)
        assert looker.changes == 1
        looker.trouble = ""
        await until(lambda: not looker.watch.trouble)
        assert looker.changes == 2
        asked = len(looker.asked)
        await asyncio.sleep(0.01)
        assert len(looker.asked) == asked

    run(story())


def test_it_looks_no_more_when_nothing_is_open() -> None:
    """And then there is no trouble."""

    async def story() -> None:
        looker = Looker("connection: refused")
        await looker.watch.look()
        looker.link = ""
        await until(lambda: not looker.watch.trouble)

    run(story())


def test_each_ring_looks_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the next look is a minute away: the ring says what is so now."""
    monkeypatch.setattr(probe, "BACKOFF", (60.0,))

    async def story() -> None:
        looker = Looker("name: it cannot be resolved")
        await looker.watch.look()
        looker.trouble = ""
        await looker.watch.look()
        assert looker.watch.trouble == ""
        assert len(looker.asked) == 2

    run(story())


def test_a_ring_waits_half_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not at all when the page was there a moment ago."""
    monkeypatch.setattr(probe, "FIRST_LOOK_SECONDS", 0.02)

    async def story() -> None:
        looker = Looker()
        looker.hang.clear()
        await looker.watch.look()
        assert looker.watch.trouble == ""
        looker.hang.set()
        await until(lambda: looker.watch._task is None)
        looker.hang.clear()
        monkeypatch.setattr(probe, "FIRST_LOOK_SECONDS", 1000)
        await looker.watch.look()
        looker.watch.close()

    run(story())


def test_the_message_says_so_and_is_edited_quietly() -> None:
    """The ring goes out with the reason; when the page is there, an edit takes it away; the end says nothing of it."""
    said: list[tuple[bool, str]] = []

    class Phone:
        name = "phone"
        end_to_end = True

        async def ring(self, notice: Notice) -> None:
            said.append((notice.quiet, notice.page_trouble))

        remind = ring

        async def end(self, notice: Notice, outcome: str) -> None:
            said.append((notice.quiet, notice.page_trouble))

    async def story() -> None:
        looker = Looker("certificate: self-signed certificate")
        ringer = Ringer(lambda *_: None)
        ringer.page = PageWatch(looker._look, ringer.open_link, ringer.correct)
        ringer.add(Phone(), "recorder", 5)
        ringer.ring("p", NOTICE, ("phone",))
        await until(lambda: said)
        looker.trouble = ""
        await until(lambda: len(said) > 1)
        ringer.end("p", NOTICE._replace(link=""), ("phone",), "accepted")
        await until(lambda: len(said) > 2)
        assert said == [(False, "certificate: self-signed certificate"), (True, ""), (True, "")]
        await ringer.close(0.1)

    run(story())


# With a real broker. The address is this machine's, in a spelling that is not taken for loopback.

MAPPED = "[::ffff:127.0.0.1]"


def test_a_proxy_that_comes_after_the_prompt(house: House, tmp_path: Path) -> None:
    """Message and status say that the page cannot be reached, and why; once it can, the message is edited quietly."""
    file = self_signed(tmp_path, days=30)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    house.settings.write_text(
        house.settings.read_text()
        .replace("probe = false", "")
        .replace("https://unlock.test/", f"https://{MAPPED}:{port}/")
    )
    broker = house.start(UNLATCH, "serve", SSL_CERT_FILE=str(file))
    wait_until(house.is_served, "the broker")
    asker = house.start(UNLATCH, "ring", "--timeout", "60")
    ring = house.phone.ring()
    assert (ring["quiet"], ring["page_trouble"]) == (False, "connection: connection refused")
    trouble = house.ask_admin({"op": "status"})["broker"]["trouble"]
    assert trouble == "page not reachable yet: connection: connection refused"
    assert house.open(ring["link"]).view().status == 200  # it is there all the same, for those who get to it
    proxy = Proxy(file, port=port)
    try:
        edit = house.phone.ring(2)
    finally:
        proxy.close()
    assert (edit["quiet"], edit["page_trouble"], edit["link"]) == (True, "", ring["link"])
    assert house.ask_admin({"op": "status"})["broker"]["trouble"] == ""
    asker.terminate()
    house.phone.end()
    log = house.run(UNLATCH, "log").decode()
    assert "reachable=false" in log
    assert "reachable=true" in log
    assert ring["link"].partition("#")[2] not in log
    broker.terminate()
    _, said = broker.communicate(timeout=20)
    assert b"Traceback" not in said
