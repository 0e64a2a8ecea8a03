"""Holes that other web pinentries have had, each shown not to be one here."""

import contextlib
import errno
import http.client
import json
import os
import re
import resource
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from answerer import Page
from house import House
from real import absent
from session import Session
from waiting import PATIENCE, until

from unlatch import base64url, runtime, seal, start
from unlatch.prompt import AskerInfo, Key, Process, Prompt, details_to_json

CANARY = "canary-5d0c-passphrase"
TIMED_OUT = b"ERR 83886142 "  # GPG_ERR_TIMEOUT of pinentry
STRANGER = 4242  # a uid that is nobody's


@pytest.fixture
def port(house: House) -> int:
    """Have the house serve its page on a TCP port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    text = house.settings.read_text()
    text = re.sub(r"(?m)^listen = .*$", f'listen = "127.0.0.1:{port}"', text)
    house.settings.write_text(re.sub(r"(?m)^public_url = .*$", f'public_url = "http://localhost:{port}/"', text))
    return port


@pytest.fixture
def service(house: House) -> Iterator[Session]:
    """A pinentry of a service without a terminal."""
    with Session(house, terminal=False) as session:
        yield session


def test_a_preview_spends_nothing_and_answers_nothing(house: House, service: Session) -> None:
    """Elsewhere a fetched link ended in an empty passphrase. Here GETs change nothing, and the typed one arrives."""
    service.ask("Unlock it", "GETPIN")
    link = house.phone.ring()["link"]
    page = Page(link, house.page)
    assert {page.get()[0] for _ in range(5)} == {200}
    assert page.unlock(b"").status == 404  # nor does an answer from whoever has not proven a view
    assert page.view().status == 200
    assert page.unlock(b"").status == 200  # a robot that presses the button
    until(lambda: page.wait().body["state"] == "spoiled", "the refusal of an empty answer")
    assert page.unlock(CANARY.encode()).status == 200
    assert service.reply() == f"D {CANARY}".encode()
    assert service.reply() == b"OK"


def test_a_second_prompt_shares_the_port(house: House, port: int) -> None:
    """Elsewhere a second prompt died because the port was taken. Here two are open at once, and both are answered."""
    with Session(house, terminal=False) as first, Session(house, terminal=False) as second:
        first.ask("The first", "GETPIN")
        second.ask("The second", "GETPIN")
        for link in house.phone.links(2):
            page = Page(link, ("127.0.0.1", port))
            assert page.view().status == 200
            assert page.prompt is not None
            page.unlock(page.prompt.text.encode())
        assert first.reply() == b"D The first"
        assert second.reply() == b"D The second"


def test_confirm_is_never_ok_unasked(house: House, service: Session) -> None:
    """Elsewhere CONFIRM was answered OK by itself. Here silence, and a channel that others can read, mean no."""
    service.ask("Delete the key?", "CONFIRM")  # there are no digits without a terminal, and the phone is not end-to-end
    assert service.reply().startswith(b"ERR ")
    assert house.phone.messages() == []
    house.configure(end_to_end=True)
    with Session(house) as somebody:
        somebody.tell("SETTIMEOUT 1")
        somebody.ask("Delete the key?", "CONFIRM")
        house.phone.ring()
        assert somebody.reply().startswith(TIMED_OUT)


def test_idle_connections_block_nobody(house: House, port: int, service: Session) -> None:
    """Elsewhere one browser that connected and said nothing blocked the form. Here twenty of them change nothing."""
    service.ask("Unlock it", "GETPIN")
    link = house.phone.ring()["link"]
    with contextlib.ExitStack() as idle:
        for _ in range(20):
            idle.enter_context(socket.create_connection(("127.0.0.1", port)))
        page = Page(link, ("127.0.0.1", port))
        assert page.view().status == 200
        page.unlock(CANARY.encode())
        assert service.reply() == f"D {CANARY}".encode()


def test_settimeout_is_kept_and_said(house: House, service: Session) -> None:
    """Elsewhere SETTIMEOUT was ignored, or ended in the wrong code. Here it ends with the code for a timeout."""
    service.tell("SETTIMEOUT 1")
    service.ask("Unlock it", "GETPIN")
    page = house.open(house.phone.ring()["link"])
    assert service.reply().startswith(TIMED_OUT)
    assert until(lambda: page.wait().status == 410, "the end of the link")
    assert house.phone.end()["outcome"] == "expired"


def test_no_file_holds_the_passphrase(house: House, service: Session) -> None:
    """Elsewhere the passphrase was left in a file. Here no file that appeared since holds it in any spelling."""
    before = set(temporary_files())
    service.ask("Unlock it", "GETPIN")
    house.open(house.phone.ring()["link"]).unlock(CANARY.encode())
    assert service.reply() == f"D {CANARY}".encode()
    spellings = (CANARY.encode(), base64url.encode(CANARY.encode()).encode(), CANARY.encode().hex().encode())
    files = [path for path in house.root.rglob("*") if path.is_file()]
    assert house.settings in files
    for path in [*files, *(set(temporary_files()) - before)]:
        with contextlib.suppress(FileNotFoundError, PermissionError):  # of tests beside this one
            data = path.read_bytes()
            assert not any(spelling in data for spelling in spellings), path


def test_a_path_cannot_be_guessed(house: House, service: Session) -> None:
    """Elsewhere the form stood at a known path. Here it is 128 random bits; all else is one and the same."""
    service.ask("Unlock it", "GETPIN")
    link = house.phone.ring()["link"]
    page = Page(link, house.page)
    ticket = page.link.ticket_text
    assert len(page.link.ticket) == 16
    near = ticket[:-2] + ("AA" if ticket[-2:] != "AA" else "BA")
    guesses = [
        "/",
        "/index.html",
        "/pin",
        f"/{near}",
        f"/{ticket[:-1]}",
        f"/{ticket}/",
        f"/{ticket}x",
        f"/../{ticket}?x",
    ]
    replies = {page.request("GET", path) for path in guesses}
    assert {status for status, _ in replies} == {404}
    assert len(replies) == 1
    assert len({seal.new_link(os.urandom).link.ticket for _ in range(100)}) == 100


def test_a_body_is_bounded(house: House, port: int, service: Session) -> None:
    """Elsewhere Content-Length was believed. Here an announced terabyte is refused before a byte of it is read."""
    service.ask("Unlock it", "GETPIN")
    page = Page(house.phone.ring()["link"], ("127.0.0.1", port))
    nothing = page.request("GET", "/no/such/path")
    (broker,) = house.brokers()
    for framing in ("Content-Length: 1000000000000", "Content-Length: 32769", "Content-Length: -1"):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(f"POST /{page.link.ticket_text}/hello HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
            assert answer_of(connection) == nothing
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:  # and without any announcement
        head = f"POST /{page.link.ticket_text}/hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode() + b"".join(b"1000\r\n" + b" " * 4096 + b"\r\n" for _ in range(9)))
        assert answer_of(connection) == nothing
    assert resident(broker) < 64 << 20
    assert page.view().status == 200
    page.unlock(CANARY.encode())
    assert service.reply() == f"D {CANARY}".encode()


def test_the_port_is_never_free_while_idle(house: House, port: int, service: Session) -> None:
    """Elsewhere another user could take the port between prompts. Here it stays bound, and nobody is served on it."""
    service.ask("Unlock it", "GETPIN")
    page = Page(house.phone.ring()["link"], ("127.0.0.1", port))
    page.view()
    page.deny()
    assert service.reply().startswith(b"ERR ")
    assert page.verdict().outcome == "denied"
    until(lambda: refused(port), "an end to listening")
    assert house.brokers()
    for reuse in (False, True):
        with another_user(), socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse)
            with pytest.raises(OSError, match="Address already in use"):
                thief.bind(("127.0.0.1", port))
    service.ask("And again", "GETPIN")  # it comes back on the same port
    page = Page(house.phone.ring(2)["link"], ("127.0.0.1", port))
    assert page.view().status == 200


def test_nobody_else_registers_a_ticket(house: House) -> None:
    """Elsewhere another user could register a link that was out. Here not even with its owner token, stolen."""
    with ask(house) as mine:
        owned = seal.new_link(os.urandom)
        mine.send(registration(owned))
        assert mine.read()["event"] == "registered"
        with another_user():
            theirs = ask(house)
        with theirs:
            theirs.send(registration(owned))
            refusal = theirs.read()
            assert (refusal["event"], refusal["why"]) == ("refused", "ticket")
        page = house.open(house.phone.ring()["link"])
        page.deny()
        assert next(event for event in iter(mine.read, None) if event["event"] == "answer")


def test_nobody_rings_in_anothers_name(house: House) -> None:
    """Elsewhere the asker said who it was. Here page and message say what the kernel knows, whatever is claimed."""
    ask(house).close()
    with another_user():
        theirs = ask(house)
    with theirs:
        theirs.send(registration(seal.new_link(os.urandom)))
        assert theirs.read()["event"] == "registered"
        message = house.phone.ring()
        page = house.open(message["link"])
        assert (message["uid"], page.stamp["uid"]) == (STRANGER, STRANGER)
        for user in (message["user"], page.stamp["user"]):
            assert user != "root"
        assert not page.stamp["account"].startswith("root@")


# -- helpers -----------------------------------------------------------------------------------------------------------


class Wire:
    """A bare connection to the broker's askers' socket: JSON lines both ways (docs/protocol.md section 4)."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, message: dict[str, object]) -> None:
        self._connection.sendall(json.dumps({"v": 1, **message}).encode() + b"\n")

    def read(self) -> dict[str, str]:
        event: dict[str, str] = json.loads(self._lines.readline())
        return event

    def close(self) -> None:
        self._lines.close()
        self._connection.close()


def ask(house: House) -> Wire:
    """Connect to the house's broker as whoever we are now. The first to do so starts it, and opens it to all users."""
    askers = house.runtime / "askers" / "broker.sock"
    if not askers.exists():
        environ = house.environ()
        connection = start.connect(runtime.own(os.getuid(), environ, environ["HOME"]), os.getuid(), environ)
        for folder in (house.root, house.runtime, askers.parent):
            folder.chmod(0o711)
        askers.chmod(0o666)
    else:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(askers))
    connection.settimeout(PATIENCE)
    return Wire(connection)


def registration(owned: seal.OwnedLink) -> dict[str, object]:
    """A passphrase prompt by somebody who says that he is root."""
    asker = AskerInfo("sudo -u root", (Process(1, "root", "root"),), tty="root")
    prompt = Prompt("passphrase", "root asks", ("amber", "onion"), 0, asker, key=Key("root", "root"))
    details = seal.seal_details(owned.link, seal.pad(details_to_json(prompt)), os.urandom)
    return {
        "op": "register", "owner": base64url.encode(owned.owner), "fragment": owned.link.fragment,
        "details": base64url.encode(details), "coalesce": "", "seconds": 0, "beside": "", "after": "",
        "rung": False, "views": [], "told": [],
    }  # fmt: skip


@contextlib.contextmanager
def another_user() -> Iterator[None]:
    """Be somebody else for a moment: what the kernel reports as our uid to whoever we connect to (socket(7))."""
    if os.geteuid() != 0:
        absent("only root can be somebody else")
    os.setegid(STRANGER)
    os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of a response after which the other side hangs up."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    answer = response.status, response.read()
    assert connection.recv(1) == b""
    return answer


def temporary_files() -> Iterator[Path]:
    for folder in (tempfile.gettempdir(), "/dev/shm", "/var/tmp"):
        yield from (path for path in Path(folder).iterdir() if path.is_file())


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def resident(pid: int) -> int:
    """Resident bytes of a process (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
