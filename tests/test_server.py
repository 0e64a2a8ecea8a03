"""The broker as a process: what peers of its sockets may say, and what it does about everything else."""

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from answerer import Page
from house import UNLATCH, House
from real import absent
from waiting import PATIENCE, listens, until

from unlatch import base64url, runtime, seal, start
from unlatch.broker import askers
from unlatch.broker.connections import Connection
from unlatch.prompt import Prompt, details_to_json

SOMEBODY_ELSE = 54321


class Line:
    """A bare connection to one of the broker's sockets."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes | dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it may refuse before it has heard all
            self.socket.sendall(data if isinstance(data, bytes) else json.dumps({"v": 1, **data}).encode() + b"\n")

    def read(self) -> dict[str, Any]:
        """The next event; {} at the end."""
        try:
            line = self._file.readline()
        except ConnectionResetError:  # it closed while we still sent
            return {}
        return dict(json.loads(line)) if line else {}

    def until_end(self) -> list[dict[str, Any]]:
        return list(iter(self.read, {}))


def askers_of(house: House) -> Path:
    return house.runtime / "askers" / "broker.sock"


def admin_of(house: House) -> Path:
    return house.runtime / "admin" / "admin.sock"


def registration(**changes: Any) -> tuple[seal.OwnedLink, dict[str, Any]]:
    owned = seal.new_link(os.urandom)
    prompt = Prompt("passphrase", "Unlock sql-root", ("amber", "onion"), 0)
    details = seal.seal_details(owned.link, seal.pad(details_to_json(prompt)), os.urandom)
    return owned, {
        "op": "register", "owner": base64url.encode(owned.owner), "fragment": owned.link.fragment,
        "details": base64url.encode(details), "coalesce": "", "seconds": 0, "beside": "", "after": "", "rung": False,
        "views": [], "told": [],
    } | changes  # fmt: skip


@contextlib.contextmanager
def somebody_else() -> Iterator[None]:
    """Connect as another user: SO_PEERCRED is of the moment of connect(2)."""
    if os.geteuid() != 0:
        absent("only root can be somebody else")
    os.seteuid(SOMEBODY_ELSE)
    try:
        yield
    finally:
        os.seteuid(0)


def serve(house: House, *arguments: str, **environ: str) -> "subprocess.Popen[bytes]":
    """A broker in the foreground, reachable for every user."""
    broker = house.start(UNLATCH, "serve", *arguments, **environ)
    until(lambda: listens(admin_of(house)), "the admin's socket")
    for folder in (house.root, house.runtime, askers_of(house).parent, admin_of(house).parent):
        folder.chmod(0o755)
    for path in (askers_of(house), admin_of(house)):
        path.chmod(0o666)
    return broker


@pytest.fixture(scope="module")
def served() -> Iterator[House]:
    """One house with a broker for all tests that do it no harm."""
    house = House()
    house.configure(tables="[quota]\nrings = 10000")
    broker = serve(house)
    yield house
    broker.terminate()
    assert broker.communicate(timeout=PATIENCE)[1].count(b"Traceback") == 0
    house.clear()


def put(house: House, **changes: Any) -> tuple[Line, seal.OwnedLink]:
    """An open prompt."""
    owned, message = registration(**changes)
    asker = Line(askers_of(house))
    asker.send(message)
    assert asker.read()["event"] == "registered"
    return asker, owned


# -- lines -------------------------------------------------------------------------------------------------------------

TICKET = "A" * 22


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"\n", "line"),
        (b"{}\n", "version"),
        (b"[]\n", "line"),
        (b"null\n", "line"),
        (b"\x00\x00\x00\n", "line"),
        (b'{"v":1,"op":"taken","ticket":"\xff"}\n', "line"),
        (b'{"v":1,"op":"taken"}\n', "line"),
        (b'{"v":1,"op":"taken","ticket":null}\n', "line"),
        (b'{"v":1,"op":"taken","ticket":"short"}\n', "line"),
        (b'{"v":1,"op":"taken","ticket":"%s","more":1}\n' % TICKET.encode(), "line"),
        (b'{"v":1,"op":"unheard-of"}\n', "line"),
        (b'{"op":"taken","ticket":"%s"}\n' % TICKET.encode(), "version"),
        (b'{"v":2,"op":"something new","and":["more"]}\n', "version"),
        (b'{"v":0,"op":"taken","ticket":"%s"}\n' % TICKET.encode(), "version"),
        (b'{"v":1,"op":"register","seconds":1e999}\n', "line"),
        (b'{"v":1,"op":' + b"[" * 60_000 + b"]" * 5_000 + b"}\n", "line"),
        (b'{"v":1,"op":' + b'{"a":' * 10_000 + b"\n", "line"),
        (b"a" * 70_000, "line"),
        (b'{"v":1,"op":"taken","ticket":"' + b"A" * 65_600 + b'"}\n', "line"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "line"),
    ],
    ids=lambda value: repr(value)[:40],
)
@pytest.mark.parametrize("side", [askers_of, admin_of], ids=["askers", "admin"])
def test_a_bad_line_is_refused_with_its_reason(
    served: House, side: Callable[[House], Path], line: bytes, why: str
) -> None:
    """One "refused" that quotes nothing of the line, then the end; what others have open goes on."""
    bystander, _ = put(served)
    with bystander, Line(side(served)) as peer:
        peer.send(line)
        events = peer.until_end()
        if len(line) < 65_000:  # else the kernel may reset the connection under the reason
            assert [(event["event"], event["ticket"], event["why"]) for event in events] == [("refused", "", why)]
            assert "AAAA" not in str(events)
        ticket = served.ask_admin({"op": "list"})["prompts"][0]["ticket"]
        bystander.send({"op": "withdraw", "ticket": ticket, "why": "done"})
        while (told := bystander.read())["event"] == "delivered":
            pass
        assert told["outcome"] == "withdrawn"


def test_lines_may_come_in_any_pieces(served: House) -> None:
    """Byte by byte, and two in one packet."""
    _, message = registration()
    first = json.dumps({"v": 1, **message}).encode() + b"\n"
    _, another = registration()
    with Line(askers_of(served)) as asker:
        for byte in first[:300]:
            asker.send(bytes([byte]))
        asker.send(first[300:] + json.dumps(another).encode() + b"\n")
        assert [asker.read()["event"] for _ in range(2)] == ["registered", "registered"]


def test_a_peer_that_does_not_read_is_dropped() -> None:
    """What it was told is bounded; then the connection is gone, whatever it still wants to say."""

    class Chatty:
        max_unread = 100_000
        lost = 0

        def came(self, connection: Connection) -> None:
            self.connection = connection

        def patience(self, connection: Connection) -> float:
            return 0.0

        def said(self, connection: Connection, line: bytes, *, first: bool) -> None:
            connection.send({"event": "x" * 50_000})

        def refuse(self, connection: Connection, why: str, text: str) -> None:
            raise AssertionError(text)

        def left(self, connection: Connection) -> None:
            self.lost += 1

    async def story() -> None:
        side = Chatty()
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(side), ours)
        theirs.setblocking(False)
        with contextlib.suppress(OSError):
            for _ in range(1000):
                await asyncio.get_running_loop().sock_sendall(theirs, b"more\n")
        while not side.lost:
            await asyncio.sleep(0)
        theirs.close()

    asyncio.run(asyncio.wait_for(story(), 20))


# -- who may do what ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"op": "list"},
        {"op": "status"},
        {"op": "page", "ticket": TICKET, "verb": "hello", "body": {}},
    ],
    ids=lambda message: message["op"],
)
def test_the_askers_socket_never_lists_or_answers(served: House, message: dict[str, Any]) -> None:
    """Its directory may be mounted into a container whose root is uid 0: that means nothing here."""
    asker, owned = put(served)
    with asker, Line(askers_of(served)) as root:
        root.send(message | ({"ticket": owned.link.ticket_text} if "ticket" in message else {}))
        (event,) = root.until_end()
        assert (event["event"], event["why"]) == ("refused", "line")


@pytest.mark.parametrize("op", ["withdraw", "taken", "spoiled", "verdict"])
def test_nobody_moves_the_ticket_of_another_connection(served: House, op: str) -> None:
    """Not even the same user: a ticket obeys the connection that registered it."""
    asker, owned = put(served)
    more = {"withdraw": {"why": "x"}, "verdict": {"outcome": "accepted", "sealed": ""}}.get(op, {})
    with asker, Line(askers_of(served)) as other:
        other.send({"op": op, "ticket": owned.link.ticket_text, **more})
        _, message = registration()
        del message["op"]
        other.send({"op": "register", **message})  # when this is answered, the first line was seen
        while other.read()["event"] != "registered":
            pass
        page = served.open(f"https://unlock.test/{owned.link.ticket_text}#{owned.link.fragment}")
        assert page.prompt is not None


def test_an_admin_sees_only_what_is_his(served: House) -> None:
    """Another user's list and status are empty; a ticket he learned of elsewhere gets the 404."""
    asker, owned = put(served)
    with asker:
        assert served.ask_admin({"op": "list"})["prompts"]
        assert served.ask_admin({"op": "status"})["broker"]["open"] > 0
        with somebody_else():
            other = Line(admin_of(served))
        with other:
            other.send({"op": "list"})
            assert other.read() == {"event": "list", "prompts": []}
            other.send({"op": "status"})
            status = other.read()
            assert status["prompts"] == []
            assert status["broker"].keys() == {"version", "pid", "uptime", "address", "page"}
            assert status["notifiers"] == []
            proof = {"page": base64url.encode(bytes(16)), "proof": base64url.encode(bytes(32))}
            other.send({"op": "page", "ticket": owned.link.ticket_text, "verb": "view", "body": proof})
            assert other.read() == {"event": "page", "status": 404, "body": {}}


def test_a_wait_on_the_admin_socket_ends_when_its_client_leaves(served: House) -> None:
    """It is forgotten, and the same page may wait again on another connection."""
    asker, owned = put(served)
    with asker:
        page = served.open(f"https://unlock.test/{owned.link.ticket_text}#{owned.link.fragment}")
        body = {"page": base64url.encode(page.page), "proof": page._proof, "seen": 0}
        wait = {"op": "page", "ticket": owned.link.ticket_text, "verb": "wait", "body": body}
        with Line(admin_of(served)) as impatient:
            impatient.send(wait)
        with Line(admin_of(served)) as patient:
            patient.send(wait)
            patient.send({"op": "status"})
            assert patient.read()["event"] == "status"  # so the wait was seen before
            asker.send({"op": "withdraw", "ticket": owned.link.ticket_text, "why": "done"})
            assert patient.read() == {"event": "page", "status": 410, "body": {"state": "withdrawn"}}


def test_connections_of_one_user_are_bounded(served: House) -> None:
    """One more than that is refused with "quota"; another user still gets in."""
    with contextlib.ExitStack() as stack:
        for _ in range(max(askers.AT_LEAST, askers.PER_PROMPT * 20)):
            with somebody_else():
                stack.enter_context(Line(askers_of(served)))
        with somebody_else():
            one_more = stack.enter_context(Line(askers_of(served)))
        assert one_more.read()["why"] == "quota"
        asker, _ = put(served)
        stack.enter_context(asker)


def test_open_prompts_of_one_user_are_bounded(house: House) -> None:
    """The quota of the settings, as a refusal of that one ticket; the others stay."""
    house.configure(tables="[quota]\nopen = 2")
    broker = serve(house)
    with Line(askers_of(house)) as asker:
        for event in ("registered", "registered", "refused"):
            _, message = registration()
            asker.send(message)
            while (told := asker.read())["event"] == "delivered":
                pass
            assert told["event"] == event
        assert told["why"] == "quota"
        assert len(house.ask_admin({"op": "list"})["prompts"]) == 2
    broker.terminate()
    broker.communicate()


# -- starting and listening --------------------------------------------------------------------------------------------


def on_demand(house: House) -> Line:
    """Connect as an asker would, starting the broker."""
    place = runtime.own(os.getuid(), house.environ(), str(house.root))
    start.connect(place, os.getuid(), house.environ()).close()
    return Line(askers_of(house))


@pytest.mark.parametrize("listen", ["127.0.0.1:8420", "unix:{public}/page.sock", "unix:{public}/ours/page.sock"])
def test_a_broker_that_comes_and_goes_needs_an_address_that_nobody_can_take(house: House, listen: str) -> None:
    """While nobody asks the port is free, and so is a socket where others may write: so it does not serve there."""
    public = house.root / "public"
    public.mkdir()
    public.chmod(0o777)
    (public / "ours").mkdir(mode=0o700)
    house.configure()
    text = re.sub(r"(?m)^listen = .*$", f'listen = "{listen.format(public=public)}"', house.settings.read_text())
    house.settings.write_text(text)
    with on_demand(house) as asker:
        (event,) = asker.until_end()
    assert (event["event"], event["why"]) == ("refused", "config")
    assert "could take the page's" in event["text"]
    until(lambda: not house.brokers(), "the end of a broker that is no use")


@pytest.mark.parametrize("screen", [False, True])
def test_links_are_printed_at_a_terminal_only(house: House, screen: bool) -> None:
    """A supervisor's pipe or file is a log; what is no terminal is no end-to-end notifier either."""
    house.settings.write_text('listen = "127.0.0.1:0"\n')
    ours, theirs = os.openpty() if screen else os.pipe()
    broker = subprocess.Popen([UNLATCH, "serve"], env=house.environ(), stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    until(house.is_served, "the broker")
    assert bool(house.ask_admin({"op": "status"})["notifiers"]) is screen
    asker, owned = put(house)
    with asker:
        if screen:
            assert asker.read()["event"] == "delivered"
            os.set_blocking(ours, False)
            assert owned.link.fragment in os.read(ours, 65536).decode()
    broker.terminate()
    broker.wait(PATIENCE)
    if not screen:
        assert os.read(ours, 65536) == b""
    os.close(ours)


@pytest.mark.parametrize("what", ["settings", "port"])
def test_a_broker_that_cannot_serve_refuses_with_the_reason(house: House, what: str) -> None:
    """On demand nobody reads its output: each prompt is refused with what must be mended, and the broker ends."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        house.settings.write_text("no = 1\nsuch = 2\n" if what == "settings" else f'listen = "127.0.0.1:{port}"\n')
        with on_demand(house) as asker:
            (event,) = asker.until_end()
    assert (event["event"], event["ticket"], event["why"]) == ("refused", "", "config")
    if what == "settings":
        assert f"{house.settings}:1" in event["text"]
        assert f"{house.settings}:2" in event["text"]
    else:
        assert event["text"] == f"cannot listen on 127.0.0.1:{port}: Address already in use"
    until(lambda: not house.brokers(), "the end of a broker that is no use")
    assert not askers_of(house).exists()
    assert '"why":"config"' in (house.runtime / "audit.jsonl").read_text()


def test_the_port_listens_while_a_prompt_is_open(house: House) -> None:
    """Not before, not after; also for the next prompt, and with the connection of the last page still open."""
    house.settings.write_text('listen = "127.0.0.1:0"\n')
    broker = serve(house)
    address = house.ask_admin({"op": "status"})["broker"]["address"]
    port = int(address.rsplit(":")[-1].strip("/"))
    for _ in range(3):
        assert not serves(port)
        asker, owned = put(house)
        page = Page(f"{address}{owned.link.ticket_text}#{owned.link.fragment}", ("127.0.0.1", port))
        assert page.view().status == 200
        kept = socket.create_connection(("127.0.0.1", port))
        asker.__exit__()
        until(lambda: not serves(port), "the end of listening")
        assert kept.recv(1) == b""
        kept.close()
    broker.terminate()
    broker.communicate()


def serves(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_systemd_gives_the_sockets_and_hears_when_all_is_ready(house: House) -> None:
    """LISTEN_FDS by name, READY=1, logs where systemd made room; no link on standard output."""
    inherited = []
    for name in ("askers", "admin", "page"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(house.root / name))
        listener.listen()
        inherited.append(listener)
    house.settings.write_text("")  # loopback: at a terminal the link would be printed
    (house.root / "logs").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(house.root / "notify"))
        manager.settimeout(PATIENCE)
        code = """
            import os, sys
            for number in range(3):
                os.dup2(int(sys.argv[1 + number]), 3 + number)
            os.environ["LISTEN_PID"] = str(os.getpid())
            from unlatch.broker.main import main
            main(["--system"])
        """
        numbers = [os.dup(listener.fileno()) for listener in inherited]
        high = [os.dup2(number, 200 + number) for number in numbers]
        broker = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, high)], pass_fds=high, stdout=subprocess.PIPE,
            env=house.environ(LISTEN_FDS="3", LISTEN_FDNAMES="askers:admin:page", LOGS_DIRECTORY=f"{house.root}/logs",
                              NOTIFY_SOCKET=f"{house.root}/notify"),
        )  # fmt: skip
        for number in (*numbers, *high):
            os.close(number)
        assert manager.recv(100) == b"READY=1"
        owned, message = registration()
        with Line(house.root / "askers") as asker:
            asker.send(message)
            assert asker.read()["event"] == "registered"
            page = Page(f"http://localhost/{owned.link.ticket_text}#{owned.link.fragment}", house.root / "page")
            assert page.view().status == 200
        broker.terminate()
        assert manager.recv(100) == b"STOPPING=1"
        assert broker.communicate(timeout=PATIENCE)[0] == b""
    for listener in inherited:
        listener.close()
    assert '"event":"view"' in (house.root / "logs" / "audit.jsonl").read_text()


def test_a_second_broker_of_the_same_place_is_told(served: House) -> None:
    """It says so and changes nothing."""
    second = subprocess.run(
        [UNLATCH, "serve"], env=served.environ(), capture_output=True, timeout=PATIENCE, check=False
    )
    assert second.returncode != 0
    assert b"another program answers there" in second.stderr
    assert served.ask_admin({"op": "status"})["event"] == "status"


def test_nothing_is_imported_once_somebody_was_rung(house: House) -> None:
    """So the package may be replaced while a prompt is open: from the ring to the end no module is looked for."""
    code = """
        import sys
        class Witness:
            def find_spec(self, name, path=None, target=None):
                with open(sys.argv[1], "a") as file:
                    file.write(name + "\\n")
        from unlatch.broker.main import main
        sys.meta_path.insert(0, Witness())
        main([])
    """
    seen = house.root / "imports"
    broker = house.start(sys.executable, "-c", textwrap.dedent(code), seen)
    until(house.is_served, "the broker")
    owned, message = registration()
    with Line(askers_of(house)) as asker:
        asker.send(message)
        link = house.phone.ring()["link"]
        imported = seen.read_text()
        assert "unlatch.broker.pending\n" in imported
        page = house.open(link)
        assert page.get()[0] == 200
        assert page.request("GET", "/nothing")[0] == 404
        with Line(askers_of(house)) as bad:
            bad.send(b"bad\n")
            bad.until_end()
        for op in ("status", "list"):
            house.ask_admin({"op": op})
        asker.send({"op": "withdraw", "ticket": owned.link.ticket_text, "why": "done"})
        house.phone.end()
    broker.terminate()
    assert broker.communicate(timeout=PATIENCE)[1] == b""
    assert seen.read_text() == imported
