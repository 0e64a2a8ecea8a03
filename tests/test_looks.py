"""A look at the page without a prompt: what the broker serves for it, and what it tells of what arrived."""

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from answerer import UnixHTTP
from house import House
from test_server import Line, admin_of, serve, somebody_else
from waiting import until

from unlatch import base64url
from unlatch.broker import page
from unlatch.broker.looks import MOST_LOOKS, Arrival, Looks


@pytest.fixture(scope="module")
def served() -> Iterator[House]:
    """One house with a broker, whose page is a Unix socket."""
    house = House()
    serve(house)
    yield house
    house.clear()


def a_ticket() -> str:
    return base64url.encode(os.urandom(16))


def begin(line: Line) -> str:
    ticket = a_ticket()
    line.send({"op": "look", "ticket": ticket})
    assert line.read() == {"event": "looking", "listening": True}
    return ticket


def ask(place: Path | tuple[str, int], method: str, path: str, **headers: str) -> tuple[int, bytes]:
    connection = UnixHTTP(place) if isinstance(place, Path) else http.client.HTTPConnection(*place, timeout=20)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_the_page_is_served_for_as_long_as_somebody_looks(served: House) -> None:
    """The very page that a prompt has, and the dead-link page when the look is over."""
    with Line(admin_of(served)) as line:
        ticket = begin(line)
        assert ask(served.page, "GET", f"/{ticket}") == (200, page.document())
    until(lambda: ask(served.page, "GET", f"/{ticket}")[0] == 404, "the end of the look")


def test_what_arrives_is_told_as_it_arrived(served: House) -> None:
    """The path, and the client that the proxy names; whatever the path became, as long as the ticket is in it."""
    with Line(admin_of(served)) as line:
        ticket = begin(line)
        forwarded = {"X-Forwarded-For": "192.0.2.7"}
        assert ask(served.page, "GET", f"/{ticket}", **forwarded)[0] == 200
        assert ask(served.page, "GET", f"/wrong/{ticket}", **forwarded)[0] == 404
        assert ask(served.page, "GET", f"/{ticket}")[0] == 200
        assert [line.read() for _ in range(3)] == [
            {"event": "arrived", "target": f"/{ticket}", "client": "192.0.2.7", "refused": False},
            {"event": "arrived", "target": f"/wrong/{ticket}", "client": "192.0.2.7", "refused": False},
            {"event": "arrived", "target": f"/{ticket}", "client": "local", "refused": False},
        ]


def test_a_look_is_no_prompt(served: House) -> None:
    """The ticket has nothing to view, nobody is rung, and it does not count as open."""
    with Line(admin_of(served)) as line:
        ticket = begin(line)
        assert ask(served.page, "POST", f"/{ticket}/hello")[0] == 404
        status = served.ask_admin({"op": "status"})
        assert (status["prompts"], status["broker"]["open"]) == ([], 0)
        assert not list(served.phone.directory.glob("ring*"))


def test_only_root_and_the_brokers_own_user_may_look(served: House) -> None:
    """Others could learn who opens the page, and keep its port open."""
    with somebody_else():
        other = Line(admin_of(served))
    with other:
        other.send({"op": "look", "ticket": a_ticket()})
        assert other.read()["why"] == "uid"


def test_looks_are_few() -> None:
    """A ticket is looked for once, and no more than some at the same time."""
    looks, heard = Looks(), list[Arrival]()
    assert looks.begin("one", heard.append)
    assert not looks.begin("one", heard.append)
    assert [looks.begin(f"more{number}", heard.append) for number in range(MOST_LOOKS)][-2:] == [True, False]
    looks.arrived(Arrival("/x/one", "192.0.2.7", refused=False))
    assert len(heard) == 1
    looks.end("one")
    assert not looks.knows("one")
    looks.arrived(Arrival("/x/one", "192.0.2.7", refused=False))
    assert len(heard) == 1


def test_one_look_for_each_connection(served: House) -> None:
    """A second one is refused, and the first ends with it."""
    with Line(admin_of(served)) as line:
        begin(line)
        line.send({"op": "look", "ticket": a_ticket()})
        assert line.read()["why"] == "quota"
        assert line.read() == {}


def test_a_port_listens_during_a_look(house: House) -> None:
    """As during a prompt, and no longer. A proxy that allow_from does not name is refused, and that is told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    house.settings.write_text(f'listen = "127.0.0.1:{port}"\nallow_from = ["192.0.2.0/24"]\n')
    serve(house)
    place = ("127.0.0.1", port)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(place) == 0

    assert not listens()
    with Line(admin_of(house)) as line:
        ticket = begin(line)
        assert ask(place, "GET", f"/{ticket}", **{"X-Forwarded-For": "192.0.2.7"}) == (404, page.dead_document())
        assert line.read() == {"event": "arrived", "target": f"/{ticket}", "client": "127.0.0.1", "refused": True}
    until(lambda: not listens(), "the end of listening")
    assert house.ask_admin({"op": "status"})["broker"]["listening"] is False
