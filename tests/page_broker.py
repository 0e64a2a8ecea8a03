"""A broker for the page's tests: docs/protocol.md section 3 over http.server; the test plays the asker.

It is no mock of ours but a second, small implementation: it opens what the page seals with ``unlatch.seal`` and the
page opens what it seals. Tests tell it what goes wrong: ``fail`` (nobody there), ``forget`` and ``come_back`` (a broker
that was restarted), ``die`` (a dead link and its reason). The page's test modules name it as a pytest plugin and import
from it too, which pytest only allows with PYTEST_DONT_REWRITE.
"""

import contextlib
import hashlib
import hmac
import json
import os
import queue
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from unlatch import base64url, seal
from unlatch.broker import page as page_files
from unlatch.prompt import Answer, AskerInfo, Key, Process, Prompt, Verdict, details_to_json

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP unlatch.test 127.0.0.1",  # an address that is no secure context without TLS
)

ASKER = AskerInfo(
    command="pass show sql-root",
    chain=(
        Process(4711, "pass", "bash /usr/bin/pass show sql-root"),
        Process(4702, "nightly-dump", "/usr/local/bin/nightly-dump --all"),
        Process(1, "systemd", "/sbin/init"),
    ),
    system_unit="nightly-dump.service",
)
PASSPHRASE = Prompt(
    kind="passphrase",
    title="Passphrase of an OpenPGP key",
    text='Please enter the passphrase to unlock the OpenPGP secret key:\n"Nightly dumps <dumps@web03.example>"',
    words=("amber", "otter"),
    asked=1750000000,
    asker=ASKER,
    label="Passphrase:",
    key=Key("Nightly dumps <dumps@web03.example>", "0x9F2C41D07A55E310", "3D9A0C51" * 5, ""),
    keeper="agent",
)
STAMP: dict[str, Any] = {
    "host": "web03",
    "uid": 34,
    "user": "backup",
    "login": "",
    "account": "backup@web03 0x9F2C41D07A55E310",
    "age": 780,
    "person": "anna",
    "followers": [],
    "orphaned": False,
}


class Ticket:
    """One link, and what has come of it. The test plays the asker."""

    def __init__(self, broker: "PageBroker", prompt: Prompt, stamp: dict[str, Any], remaining: float, views: int):
        self.broker = broker
        self.owned = seal.new_link(os.urandom)
        self.link = self.owned.link
        self.stamp = stamp
        self.remaining = remaining
        self.views = views
        self.details = seal.pad(details_to_json(prompt))
        self.sealed_details = seal.seal_details(self.link, self.details, os.urandom)
        self.view_key = seal.keys_of(self.link).view
        self.pages: set[bytes] = set()
        self.answers: queue.Queue[bytes] = queue.Queue()
        self.idle = threading.Event()  # a page knows all there is to know and waits for more
        self.reset()

    def reset(self) -> None:
        """What a broker forgets when it dies."""
        self.nonce = os.urandom(16)
        self.known = True
        self.state = "open"
        self.turn = 1
        self.sealed = ""
        self.dead = ""

    @property
    def url(self) -> str:
        return f"{self.broker.url}{self.link.ticket_text}#{self.link.fragment}"

    def sealed_answer(self) -> bytes:
        """The next answer that a page posts, as it came."""
        return self.answers.get(timeout=10)

    def open_answer(self, sealed: bytes) -> Answer:
        return seal.open_answer(self.owned, self.details, sealed)

    def take(self) -> Answer:
        """Wait for an answer, open it, and tell the page so."""
        answer = self.open_answer(self.sealed_answer())
        self.become("sent")
        return answer

    def conclude(self, answer: Answer, verdict: Verdict) -> None:
        sealed = seal.seal_verdict(answer.reply_key, self.link.ticket, verdict, os.urandom)
        self.become("verdict", sealed)

    def become(self, state: str, sealed: bytes = b"") -> None:
        with self.broker.changed:
            self.state, self.sealed, self.turn = state, base64url.encode(sealed), self.turn + 1
            self.broker.changed.notify_all()

    def die(self, reason: str) -> None:
        with self.broker.changed:
            self.dead = reason
            self.broker.changed.notify_all()

    def forget(self) -> None:
        with self.broker.changed:
            self.known = False
            self.broker.changed.notify_all()

    def come_back(self) -> None:
        """The asker registers the ticket with a restarted broker, which has another nonce."""
        with self.broker.changed:
            self.reset()

    def reply(self, verb: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Section 3, one request. Called with the lock held."""
        if not self.known:
            return 404, {}
        if verb == "hello":
            return (200, {"nonce": base64url.encode(self.nonce)}) if body == {} else (404, {})
        page = base64url.decode(body.get("page"), "page", 16)
        proof = base64url.decode(body.get("proof"), "proof", 32)
        if not hmac.compare_digest(proof, seal.view_proof(self.view_key, self.nonce, page)):
            return 404, {}
        if self.dead:
            return 410, {"state": self.dead}
        if verb == "view":
            if page not in self.pages and len(self.pages) >= self.views:
                return 409, {"state": "elsewhere"}
            self.pages.add(page)
            return 200, {"state": "open", "details": base64url.encode(self.sealed_details), **self._stamped()}
        if page not in self.pages:
            return 404, {}
        return self._answered(body) if verb == "answer" else self._waited(body)

    def _answered(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.state not in ("open", "spoiled"):
            return 409, {"state": "answered"}
        self.state = "opening"
        self.answers.put(base64url.decode(body["sealed"], "sealed"))
        return 200, {"state": "sent"}

    def _waited(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        broker, seen = self.broker, body["seen"]
        if seen == self.turn:
            self.idle.set()
        broker.changed.wait_for(lambda: self.turn != seen or self.dead or not self.known or broker.down, timeout=25)
        if not self.known or broker.down:
            return 0, {}
        if self.dead:
            return 410, {"state": self.dead}
        if self.state == "verdict":
            return 200, {"turn": self.turn, "state": "verdict", "sealed": self.sealed}
        state = self.state.replace("opening", "open")
        return 200, {"turn": self.turn, "state": state, **(self._stamped() if state == "open" else {})}

    def _stamped(self) -> dict[str, Any]:
        stamp = seal.seal_stamp(self.link, json.dumps(self.stamp).encode(), os.urandom)
        return {"stamp": base64url.encode(stamp), "remaining": self.remaining}


class PageBroker:
    """Serves the page and its tickets under ``/web03/`` on a free port of the loopback address."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.tickets: dict[str, Ticket] = {}
        self.log: list[tuple[str, str, int]] = []  # verb, ticket, status
        self.down = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server.server_port}/web03/"

    def put(self, prompt: Prompt = PASSPHRASE, *, remaining: float = 3540, views: int = 2, **stamp: Any) -> Ticket:
        ticket = Ticket(self, prompt, STAMP | stamp, remaining, views)
        with self.changed:
            self.tickets[ticket.link.ticket_text] = ticket
        return ticket

    def fail(self, down: bool = True) -> None:
        """Nobody there: connections are closed without a reply."""
        with self.changed:
            self.down = down
            self.changed.notify_all()

    def count(self, verb: str) -> int:
        with self.changed:
            return sum(entry[0] == verb for entry in self.log)

    def close(self) -> None:
        self.fail()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def _post(self, path: str, data: bytes) -> tuple[int, dict[str, Any]]:
        name, verb = path.split("/")[-2:]
        with self.changed:
            ticket = self.tickets.get(name)
            status, body = ticket.reply(verb, json.loads(data)) if ticket and not self.down else (404, {})
            status = 0 if self.down else status
            self.log.append((verb, name, status))
            return status, body

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        broker = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                known = self.path.rsplit("/", 1)[-1] in broker.tickets
                self._send(200 if known else 404, page_files.document() if known else page_files.dead_document(), True)

            def do_POST(self) -> None:
                status, body = broker._post(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                if not status:
                    self.close_connection = True
                elif status == 404:
                    self._send(404, page_files.dead_document(), True)
                else:
                    self._send(status, json.dumps(body).encode(), False)

            def _send(self, status: int, data: bytes, html: bool) -> None:
                headers = page_files.headers() if html else (("Content-Type", "application/json"),)
                with contextlib.suppress(OSError):  # the page went away
                    self.send_response(status)
                    for name, value in (*headers, ("Content-Length", str(len(data)))):
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        return Handler


def forged_verdict(ticket: Ticket, verdict: Verdict) -> bytes:
    """A verdict by somebody who has the whole link and nothing else, with the best key that the link gives."""
    guess = hashlib.sha256(ticket.link.public_key + ticket.link.secret).digest()
    return seal.seal_verdict(guess, ticket.link.ticket, verdict, os.urandom)


@pytest.fixture(scope="module")  # Playwright keeps an event loop in this thread while it lives
def engine() -> Iterator[Browser]:
    """Debian's Chromium, one for all tests of a module."""
    if not shutil.which(CHROMIUM):
        if os.environ.get("CI"):
            pytest.fail(f"{CHROMIUM} is not installed")
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def broker() -> Iterator[PageBroker]:
    broker = PageBroker()
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def handset(engine: Browser) -> Iterator[BrowserContext]:
    """A phone in London. Each page of it is a tab of its own, with its own session storage."""
    context = engine.new_context(
        viewport={"width": 390, "height": 844}, locale="en-GB", timezone_id="Europe/London", has_touch=True
    )
    yield context
    context.close()


@pytest.fixture
def screen(handset: BrowserContext) -> Iterator[Page]:
    """A fresh tab. The page must cause no error of script or policy in it."""
    page = handset.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
    yield page
    page.close()
    assert problems == []


@pytest.fixture
def timed(engine: Browser) -> Iterator[Page]:
    """A tab whose clock is in the test's hand."""
    context = engine.new_context(locale="en-GB", timezone_id="Europe/London")
    context.clock.install()
    yield context.new_page()
    context.close()
