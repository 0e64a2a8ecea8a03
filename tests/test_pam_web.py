"""The page of one login in its four modes: in a real browser, and against who tries something else."""

import base64
import contextlib
import http.client
import os
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn
from urllib.parse import urlsplit

import pytest
from browser import Tab, headless
from certificates import issued
from cryptography.hazmat.primitives import serialization
from pam_message import CURVE, TEXT, Keys
from pam_page import holds, served, server
from playwright.sync_api import Browser, Playwright
from qr_reader import read
from real import absent
from waiting import PATIENCE, until

from unlatch.pam import web_page, worker
from unlatch.pam.accounts import Account
from unlatch.pam.entry import WEB
from unlatch.pam.errors import Unfit
from unlatch.pam.web import READABLE, open_page
from unlatch.pam.worker import Places
from unlatch.settings import Settings

PLAIN, ASKING, TLS = "webQrNoAuthNoTls", "webQrAuthNoTls", "webQrNoAuthTls"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    keys = Keys(CURVE)
    yield keys
    keys.clear()


@pytest.fixture(scope="module")
def armour(keys: Keys) -> str:
    return keys.armour()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An authority's certificate, the page's key, and its chain."""
    return issued(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture(scope="module")
def browser(playwright: Playwright, authority: tuple[Path, Path, Path]) -> Iterator[Browser]:
    """A browser that trusts the authority as an administrator made it."""
    with headless(playwright, authority[0]) as browser:
        yield browser


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two neighbours that are free now."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port, port + 1


class Client:
    """Asks a page for something, in whole requests."""

    def __init__(self, page: SimpleNamespace, context: ssl.SSLContext | None = None) -> None:
        self.address = urlsplit(page.url)
        self._context = context

    def ask(self, method: str = "GET", path: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with their names in small letters, and body."""
        host, port = str(self.address.hostname), int(self.address.port or 0)
        asking = (
            http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=self._context)
            if self.address.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=PATIENCE)
        )
        with contextlib.closing(asking):
            asking.request(method, path or self.address.path, headers=headers)
            response = asking.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection((str(self.address.hostname), int(self.address.port or 0)), PATIENCE)


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def child_of(pid: int) -> int:
    """The process that serves the page."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


class Ended(BaseException):
    """The process has ended here."""


def test_a_page_that_goes_wrong_does_not_go_on_as_the_login(
    ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that was to serve a page ends, whatever happens to it: there is one conversation for each login."""

    def broken(*_: object) -> NoReturn:
        raise OSError

    def ended(_: int) -> NoReturn:
        raise Ended

    monkeypatch.setattr(os, "fork", lambda: 0)
    monkeypatch.setattr(os, "_exit", ended)
    monkeypatch.setattr(web_page, "document", broken)
    settings = Settings(pam_web_address="127.0.0.1", pam_web_ports=ports)
    with pytest.raises(Ended):
        open_page("", PLAIN, None, settings, server=Account("", 0, 0, ""), random=bytes, seconds=5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("web", WEB)
def test_the_code_on_the_page_is_the_message(
    web: str, scheme: str, browser: Browser, keys: Keys, armour: str, ports: tuple[int, int], tmp_path: Path,
    authority: tuple[Path, Path, Path],
) -> None:  # fmt: skip
    """In each of the four modes a browser shows a code from whose picture a scanner reads what gpg decrypts."""
    asks, encrypts = WEB[web]
    with served(armour, web, tls=authority[1:] if encrypts else None, ports=ports) as page:
        assert urlsplit(page.url).scheme == ("https" if encrypts else "http")
        assert bool(page.name) == bool(page.password) == asks
        who = {"username": page.name, "password": page.password} if asks else None
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            viewport=PHONE if scheme == "dark" else DESK,  # type: ignore[arg-type]
            http_credentials=who,  # type: ignore[arg-type]
        )
        tab = Tab(context, page.url)
        tab.shows("A login waits for your response")
        tab.page.screenshot(path=tmp_path / "page.png", full_page=True)
        with tab.page.expect_download() as opened:
            tab.page.get_by_role("link", name="Open the message").click()
        message = Path(opened.value.path()).read_text()
        copied = tab.page.locator("pre").inner_text()
        context.close()
    code = read(tmp_path / "page.png")
    assert code == armour.strip() == copied.strip() == message.strip()
    assert keys.decrypted(code) == TEXT
    # A browser asks for what it may have first, and says so.
    assert [said for said in tab.complaints if "401" not in said] == []
    assert len(tab.complaints) <= asks


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(
    width: int, browser: Browser, armour: str, ports: tuple[int, int], tmp_path: Path
) -> None:
    """The page is read without moving it sideways, and opening comes before scanning where the key is at hand."""
    with served(armour, PLAIN, ports=ports) as page:
        context = browser.new_context(viewport={"width": width, "height": 700})
        tab = Tab(context, page.url)
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
        link, code = (tab.page.locator(name).bounding_box() for name in ("a", ".code"))
        assert link
        assert code
        assert link["height"] >= 44
        assert (link["y"] < code["y"]) if width < 960 else (link["x"] > code["x"] + code["width"])
        assert min(code["x"], code["y"]) >= 0
        assert code["x"] + code["width"] <= width
        context.close()


def test_selecting_the_message_takes_one_touch(browser: Browser, armour: str, ports: tuple[int, int]) -> None:
    """All of the armour is marked by one click, and nothing besides."""
    with served(armour, PLAIN, ports=ports) as page:
        context = browser.new_context()
        tab = Tab(context, page.url)
        tab.page.locator("pre").click()
        assert tab.page.evaluate("getSelection().toString()").strip() == armour.strip()
        context.close()


def test_a_message_too_large_for_a_code_is_shown_without(browser: Browser, ports: tuple[int, int]) -> None:
    """What no QR code holds is opened or copied."""
    long = "-----BEGIN PGP MESSAGE-----\n\n" + f"{'a' * 64}\n" * 60 + "-----END PGP MESSAGE-----\n"
    with served(long, PLAIN, ports=ports) as page:
        context = browser.new_context()
        tab = Tab(context, page.url)
        tab.says("Open the message, or copy it")
        assert tab.page.locator(".code").count() == 0
        assert tab.page.locator("pre").inner_text().strip() == long.strip()
        assert tab.complaints == []
        context.close()


def test_the_page_loads_and_sends_nothing(armour: str, ports: tuple[int, int]) -> None:
    """Its policy allows its own style and nothing else; it is not kept, not framed, and has no script."""
    with served(armour, PLAIN, ports=ports) as page:
        status, headers, body = Client(page).ask()
    assert status == 200
    assert b"<script" not in body
    policy = headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert not any(part.startswith(("script-src", "connect-src", "img-src")) for part in policy)
    assert {"form-action 'none'", "frame-ancestors 'none'", "base-uri 'none'", "sandbox allow-downloads"} <= {*policy}
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert not any(name in headers for name in ("server", "date"))


def test_only_its_own_path_is_a_page(armour: str, ports: tuple[int, int]) -> None:
    """Who tries the ports of a host learns neither a key nor that a login waits."""
    with served(armour, PLAIN, ports=ports) as page:
        client = Client(page)
        path = client.address.path
        for other in ("/", "/index.html", f"{path}/", f"{path}?", path[:-1], path.upper(), "/..", "//", "*"):
            status, _, body = client.ask(path=other)
            assert (status, b"PGP" in body, b"There is nothing here" in body) == (404, False, True), other
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            assert client.ask(method)[0] == 404
        assert client.ask("HEAD")[::2] == (200, b"")
        status, headers, body = client.ask(path=f"{path}.asc")
        assert (status, body.decode()) == (200, armour)
        assert headers["content-disposition"] == 'attachment; filename="login.asc"'


def test_who_has_not_both_sees_nothing(armour: str, ports: tuple[int, int]) -> None:
    """Without the name and the password that the session shows, every path and method says the same."""
    with served(armour, ASKING, ports=ports) as page:
        client = Client(page)
        right = basic(page.name, page.password)
        wrong = [
            "", "Basic", "Basic ", "Basic =", "Basic \xff\xfe", "Bearer " + right.split()[1], right[:-1], right + "A",
            basic(page.name, ""), basic("", page.password), basic(page.name, page.password[:-1] + "0"),
            basic(page.name.upper(), page.password), basic(page.password, page.name), f"{right}, {right}",
        ]  # fmt: skip
        refused = client.ask()
        assert refused[0] == 401
        assert refused[1]["www-authenticate"].startswith('Basic realm="')
        assert b"PGP" not in refused[2]
        for authorization in wrong:
            for path in ("", "/", f"{client.address.path}.asc"):
                assert client.ask(path=path, Authorization=authorization) == refused, authorization
        assert client.ask("POST", Authorization=wrong[-1]) == refused
        assert client.ask(Authorization=right)[0] == 200
        assert client.ask(Authorization=right.replace("Basic", "basic"))[0] == 200
        assert client.ask(path="/", Authorization=right)[0] == 404


def test_two_credentials_in_one_request_are_none(armour: str, ports: tuple[int, int]) -> None:
    """A request that says it twice is not searched for the right one."""
    with served(armour, ASKING, ports=ports) as page, Client(page).connect() as connection:
        right = f"Authorization: {basic(page.name, page.password)}\r\n"
        path = urlsplit(page.url).path
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{right}{right}\r\n".encode())
        assert connection.recv(64).startswith(b"HTTP/1.1 401 ")


def test_each_login_has_its_own(armour: str, ports: tuple[int, int]) -> None:
    """Path, name and password are drawn anew, from letters that are told apart."""
    seen = set[str]()
    for _ in range(3):
        with served(armour, ASKING, ports=ports) as page:
            words = [urlsplit(page.url).path[1:], page.name, page.password]
        assert [len(word) for word in words] == [8, 6, 12]
        assert set("".join(words)) <= set(READABLE)
        assert len(set(READABLE)) == 32
        assert not seen & set(words)
        seen |= set(words)


def test_a_port_that_is_taken_is_passed_over(armour: str, ports: tuple[int, int]) -> None:
    """Two logins have two pages; a third has none, and says why; an ended one makes room at once."""
    with served(armour, PLAIN, ports=ports) as first:
        with served(armour, PLAIN, ports=ports) as second, served(armour, PLAIN, ports=ports) as third:
            assert [urlsplit(page.url).port for page in (first, second)] == [*ports]
            why = f"no page: cannot listen on 127.0.0.1, ports {ports[0]} to {ports[1]}: address already in use"
            assert third.why == why
            assert Client(second).ask()[0] == 200
        with served(armour, PLAIN, ports=ports) as fourth:
            assert urlsplit(fourth.url).port == ports[1]
            assert Client(fourth).ask()[0] == 200


def test_an_address_of_another_host_has_no_page(armour: str, ports: tuple[int, int]) -> None:
    """The settings may outlive the address."""
    with served(armour, PLAIN, ports=ports, address="192.0.2.1") as page:
        assert page.why.endswith("cannot assign requested address")
    with served(armour, PLAIN, ports=ports, address="") as page:
        assert page.why == "no page: [pam] web_address is not set"
    with served(armour, PLAIN, ports=ports, address="::") as page:
        assert page.why.startswith("no page: [pam] web_host must say what links name")


def test_links_name_the_host_that_the_settings_name(armour: str, ports: tuple[int, int]) -> None:
    """A name or an address of any kind; the page is where the listener is."""
    with served(armour, PLAIN, ports=ports, host="web-01.example.org") as page:
        assert page.url.startswith(f"http://web-01.example.org:{ports[0]}/")
    with served(armour, PLAIN, ports=ports, address="::1") as page:
        assert page.url.startswith(f"http://[::1]:{ports[0]}/")
        assert Client(page).ask()[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_page_ends_with_the_login(number: signal.Signals, armour: str, ports: tuple[int, int]) -> None:
    """Whatever becomes of the login's process: nothing listens any more, and nobody is left behind."""
    login = None
    with contextlib.suppress(AssertionError), served(armour, PLAIN, ports=ports) as page:
        login, server = page.pid, child_of(page.pid)
        os.kill(login, number)
        until(lambda: not _listening(ports[0]) and not Path(f"/proc/{server}/stat").exists(), "the page's end")
    assert login is not None


def test_the_page_ends_in_time(armour: str, ports: tuple[int, int]) -> None:
    """It outlives its seconds by nobody's mistake: it ends by itself."""
    with served(armour, PLAIN, ports=ports, seconds=1) as page:
        assert Client(page).ask()[0] == 200
        until(lambda: not _listening(ports[0]), "the page's end")
        Path(f"/proc/{page.pid}").stat()  # the login itself goes on


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("web", [PLAIN, TLS])
def test_who_says_nothing_keeps_nobody_out(
    web: str, armour: str, ports: tuple[int, int], authority: tuple[Path, Path, Path]
) -> None:
    """Hundreds of silent connections, and one that trickles: the page is there for who speaks."""
    context = ssl.create_default_context(cafile=str(authority[0]))
    with served(armour, web, tls=authority[1:], ports=ports) as page, contextlib.ExitStack() as silent:
        client = Client(page, context)
        for _ in range(700):
            silent.enter_context(client.connect())
        slow = silent.enter_context(client.connect())
        slow.sendall(b"G")
        assert client.ask()[0] == 200
        slow.sendall(b"E")
        assert client.ask()[0] == 200
        held = Path(f"/proc/{child_of(page.pid)}/fd")
        until(lambda: len(list(held.iterdir())) < 550, "the end of the oldest", seconds=5)  # a handshake may take 10


def test_tls_is_not_spoken_to_a_plain_page(
    armour: str, ports: tuple[int, int], authority: tuple[Path, Path, Path]
) -> None:
    """A handshake gets an end and no page, also many of them, and the page goes on."""
    context = ssl.create_default_context(cafile=str(authority[0]))
    with served(armour, PLAIN, ports=ports) as page:
        client = Client(page)
        for _ in range(20):
            with client.connect() as connection, pytest.raises(ssl.SSLError):
                context.wrap_socket(connection, server_hostname="127.0.0.1")
        assert client.ask()[0] == 200


def test_a_page_with_tls_says_nothing_in_clear(
    armour: str, ports: tuple[int, int], authority: tuple[Path, Path, Path]
) -> None:
    """A plain request to it, or rubbish, gets an end; who speaks TLS from 1.2 on gets the page."""
    with served(armour, TLS, tls=authority[1:], ports=ports) as page:
        client = Client(page, ssl.create_default_context(cafile=str(authority[0])))
        for said in (
            f"GET {client.address.path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
            b"\x16\x03\x01\xff\xff",
            b"\0" * 99,
        ):
            with client.connect() as connection:
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                assert b"HTTP" not in _rest(connection)
        status, _, body = client.ask()
        assert (status, armour.split("\n")[2].encode() in body) == (200, True)
        with client.connect() as connection:
            stranger = ssl.create_default_context()  # who does not know the authority
            with pytest.raises(ssl.SSLCertVerificationError):
                stranger.wrap_socket(connection, server_hostname="127.0.0.1")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with client.connect() as connection, pytest.raises(OSError):
            old.wrap_socket(connection, server_hostname="127.0.0.1")
        assert client.ask()[0] == 200


def _rest(connection: socket.socket) -> bytes:
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(4096):
            said += data
    return said


@pytest.mark.parametrize("what", ["rubbish", "another's certificate", "a passphrase", "nothing"])
def test_a_bad_key_is_no_page(
    what: str, armour: str, ports: tuple[int, int], authority: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """The login goes on without a page; the reason quotes nothing of what a user keeps in such a file."""
    _, key, chain = authority
    if what == "another's certificate":
        chain = issued(tmp_path, "127.0.0.1")[2]
    elif what == "a passphrase":
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        key = tmp_path / "locked.pem"
        locked = serialization.BestAvailableEncryption(b"secret")
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key.write_bytes(loaded.private_bytes(pem, form, locked))
    else:
        key = tmp_path / "rubbish"
        key.write_bytes(b"root:$6$canary$:1:0:::::\n" if what == "rubbish" else b"")
    with served(armour, TLS, tls=(key, chain), ports=ports) as page:
        assert page.why.startswith("no page: the TLS key and its certificate cannot be used")
        assert "canary" not in page.why
        assert not _listening(ports[0])


def test_the_server_has_nothing_of_the_login(
    armour: str, ports: tuple[int, int], authority: tuple[Path, Path, Path]
) -> None:
    """It runs as another user with no way to more, holds sockets only, leaves no core file, and knows no response."""
    if os.geteuid() != 0:
        absent("only root serves a page as another user")
    with served(armour, TLS, tls=authority[1:], ports=ports) as page:
        serving = child_of(page.pid)
        status = Path(f"/proc/{serving}/status").read_text()
        who = server()
        assert re.findall(r"^[UG]id:\t(.*)$", status, re.MULTILINE) == ["\t".join([str(each)] * 4) for each in who[1:3]]
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
        assert re.search(r"^CapPrm:\t0+$", status, re.MULTILINE)
        assert os.stat(f"/proc/{serving}/mem").st_uid == 0  # not dumpable: those of other pages stay out too
        held = [os.readlink(f"/proc/{serving}/fd/{each}") for each in os.listdir(f"/proc/{serving}/fd")]
        kinds = sorted(re.sub(r"\d+", "N", each) for each in held)
        # Standard streams, the event loop's own pair, the listener and the lifeline.
        assert kinds == ["/dev/null"] * 3 + ["anon_inode:[eventpoll]"] + ["socket:[N]"] * 4
        response = bytes.fromhex(page.response)
        assert holds(page.pid, response)
        assert not holds(serving, response)


def test_no_page_is_served_by_who_makes_messages() -> None:
    """A page talks with strangers: broken into, it shall not be able to look into other logins."""
    places = Places(worker="games")
    for name, why in (("no-such-user", "is missing"), ("root", "nor as root"), ("games", "as games")):
        with pytest.raises(Unfit, match=why):
            worker.server(places._replace(web=name))
    assert worker.server(places._replace(web="news")).name == "news"
