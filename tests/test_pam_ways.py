"""A login that may be approved on the phone, or answered on the broker's page: the service with a real broker."""

import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import Iterator

import pytest
from answerer import Page
from house import UNLATCH, House
from pam_house import NEUTRAL, USERS, Login, PamHouse, Word
from waiting import until

URL = "https://unlock.test/"
KEY = "publickey ssh-ed25519 AAAA\n"  # SSH_AUTH_INFO_0 after a public key
DENY, ALLOW, FAIL = Word("deny"), Word("allow"), Word("fail")
NO = Word("warn", "unlatch: denied on the phone")
DENIED = [Word(*NEUTRAL), DENY]
BROKER = """
public_url = "{url}"
probe = false
listen = "unix:{page}"
[people.al]
users = ["alice"]
notify = ["phone"]
[notify.phone]
command = {command}
end_to_end = false
"""


class Ways:
    """The service of logins, and the host's broker, which rings alice's person."""

    def __init__(self) -> None:
        self.pam = PamHouse()
        self.host = House()
        self.phone = self.host.phone
        self.broker = BROKER.format(url=URL, page=self.host.page, command=json.dumps(self.phone.command))
        self.host.settings.write_text(self.broker)
        self.pam.enrol("alice")
        # Where the accounts exist, so that it knows them by their names.
        self.host.start(*self.pam.enter, UNLATCH, "serve")
        until(self.host.is_served, "the broker")
        self.pam.start(UNLATCH_RUNTIME_DIR=str(self.host.runtime))

    def configure(self, mode: str, **pam: object) -> None:
        """The [pam] table; nobody has been rung yet."""
        table = {"mode": mode, "auth_gpg": ["sshd", "sudo"]} | pam
        lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
        self.pam.configure("\n".join(lines), self.broker)

    def login(self, user: str = "alice", **fields: object) -> Login:
        """After a public key."""
        return self.pam.login(user, **{"authinfo": KEY} | fields)  # type: ignore[arg-type]

    def page(self, ring: int = 1) -> Page:
        """The page on the phone."""
        return self.host.open(self.phone.ring(ring)["link"])

    def prompts(self) -> int:
        """How many the broker has open."""
        return len(self.host.ask_admin({"op": "list"})["prompts"])

    @contextlib.contextmanager
    def instead_of_the_broker(self, listener: socket.socket) -> Iterator[None]:
        """Another listener where askers find the broker."""
        place = self.host.runtime / "askers" / "broker.sock"
        kept = place.rename(place.with_suffix(".kept"))
        try:
            listener.bind(str(place))
            listener.listen()
            yield
        finally:
            kept.rename(place)

    def all_ended(self) -> bool:
        """Has every ring on the phone its end?"""
        rung, ended = ({message["id"] for message in self.phone.messages(event)} for event in ("ring", "end"))
        return rung == ended and not any(path.name.startswith(".") for path in self.phone.directory.iterdir())

    def clear(self) -> None:
        self.pam.clear()
        self.host.clear()


def digits(said: list[Word]) -> str:
    """Those that only the session shows."""
    found = [match[1] for word in said if (match := re.search(r"type (\d\d) there", word.text))]
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def shared() -> Iterator[Ways]:
    made = Ways()
    try:
        yield made
    finally:
        made.clear()


@pytest.fixture
def ways(shared: Ways) -> Ways:
    """As they were at first: no login, no ring."""
    if shared.pam.service is None:
        shared.pam.start(UNLATCH_RUNTIME_DIR=str(shared.host.runtime))
    shared.pam.shift()
    shared.pam.quiet()
    until(lambda: not shared.prompts(), "the end of all prompts")
    until(shared.all_ended, "the last messages about them")
    for message in shared.phone.directory.iterdir():
        message.unlink()
    for counted in (shared.pam.root / "approvals").glob("*"):
        counted.unlink()
    return shared


def test_a_yes_and_enter_let_in(ways: Ways) -> None:
    """The digits stand right above the prompt, the phone says whose login it is, the log who approved."""
    ways.configure("approve")
    login = ways.login()
    said = login.until_asked()
    assert [word.word for word in said if word.word != "wait"] == ["say", "ask"]
    assert said[-1].text == "Press Enter when you have approved: "
    ring = ways.phone.ring()
    assert " ".join(ring["words"]) in said[-2].text
    assert ring["title"] == "Login of alice by sshd, from 203.0.113.5"
    page = ways.page()
    page.allow(digits(said))
    assert page.verdict().outcome == "accepted"
    login.type("")
    assert login.end() == [ALLOW]
    assert ways.pam.logged("login allowed").endswith("uid=0 by=approval person=al")


def test_enter_may_come_first(ways: Ways) -> None:
    """The login waits then, and opens with the yes."""
    ways.configure("approve")
    login = ways.login()
    said = login.until_asked()
    login.type("")
    ways.page().allow(digits(said))
    assert login.end() == [ALLOW]


@pytest.mark.parametrize("mode", ["approve", "either"])
@pytest.mark.parametrize("answer", ["deny", "wrong digits"])
def test_a_no_ends_it_at_once(ways: Ways, mode: str, answer: str) -> None:
    """Nobody has to press Enter, and the response would be too late."""
    ways.configure(mode)
    login = ways.login()
    wrong = f"{(int(digits(login.until_asked())) + 1) % 100:02}"
    page = ways.page()
    page.deny() if answer == "deny" else page.allow(wrong)
    assert login.end() == [NO, DENY]
    ways.pam.logged("uid=0: wrong digits on the phone" if answer == "wrong digits" else "uid=0: denied on the phone")


def test_either_takes_the_response(ways: Ways) -> None:
    """And what rings on the phone is withdrawn."""
    ways.configure("either")
    login = ways.login()
    said = login.until_asked()
    assert said[-1].text == "Response, or Enter after you approved: "
    ways.phone.ring()
    login.type(ways.pam.response(said))
    assert login.end() == [ALLOW]
    assert " by=challenge " in ways.pam.logged("login allowed")
    ways.phone.end()
    until(lambda: not ways.prompts(), "the prompt's end")


def test_either_takes_the_yes(ways: Ways) -> None:
    """With Enter; a wrong response before that is the end, whatever the phone says."""
    ways.configure("either")
    login = ways.login()
    said = login.until_asked()
    ways.page().allow(digits(said))
    login.type("")
    assert login.end() == [ALLOW]
    again = ways.login()
    said = again.until_asked()
    ways.page(2).allow(digits(said))
    again.type("wrong")
    assert again.end() == [Word("warn", "unlatch: not accepted"), DENY]


def test_nobody_is_rung_before_a_first_factor(ways: Ways) -> None:
    """There is the challenge then, or nothing; the PAM line may say that there was one."""
    ways.configure("either")
    login = ways.login(authinfo="")
    assert login.until_asked()[-1].text == "Response: "
    ways.pam.logged("login goes on: user=alice service=sshd from=203.0.113.5 uid=0: nobody is rung: no first factor")
    ways.configure("approve")
    assert ways.login(authinfo="").end() == DENIED
    assert not ways.phone.messages()
    assert not ways.prompts()
    told = ways.login(authinfo="", arguments=("after_first_factor",))
    digits(told.until_asked())
    ways.phone.ring()


def test_a_person_is_not_worn_down(ways: Ways) -> None:
    """So many rings an hour for one account, also over a restart; the challenge is never limited."""
    ways.configure("approve", approvals=2)
    for number in (1, 2):
        login = ways.login()
        login.until_asked()
        ways.phone.ring(number)
        login.close()
    ways.pam.stop()
    ways.pam.start(UNLATCH_RUNTIME_DIR=str(ways.host.runtime))
    assert ways.login().end() == DENIED
    ways.pam.logged("rings without a yes in the last hour: 2")
    ways.configure("either", approvals=2)
    login = ways.login()
    said = login.until_asked()
    assert said[-1].text == "Response: "
    login.type(ways.pam.response(said))
    assert login.end() == [ALLOW]
    # What runs as alice has used up its own, and not a real login's.
    mine = ways.login(uid=USERS["alice"], rhost=f"203.0.113.5{'x' * 300}")
    digits(mine.until_asked())
    assert "from a program of alice, which says 203.0.113.5" in ways.phone.ring(3)["title"]
    ways.pam.shift(boot=3601)
    digits(ways.login().until_asked())
    ways.phone.ring(4)


def test_a_yes_is_not_counted_and_after_a_no_there_is_peace(ways: Ways) -> None:
    """A day's own logins wear nobody down. ssh asks again by itself, and finds nobody to ring."""
    ways.configure("approve", approvals=2)
    for number in (1, 2, 3):
        login = ways.login()
        said = login.until_asked()
        ways.phone.ring(number)
        ways.page(number).allow(digits(said))
        login.type("")
        assert login.end() == [ALLOW]
    for number, finger in ((4, "wrong"), (5, "no")):
        login = ways.login()
        given = digits(login.until_asked())
        ways.phone.ring(number)
        if finger == "no":
            ways.page(number).deny()
        else:
            ways.page(number).allow(f"{(int(given) + 1) % 100:02}")
        login.type("")
        assert login.end()[-1] == DENY
    ways.configure("approve", approvals=3)
    assert ways.login().end() == DENIED
    ways.pam.logged("s ago, and is not rung for 120 s")
    ways.pam.shift(boot=121)
    ways.login().until_asked()
    ways.phone.ring(6)


def test_a_ring_that_nobody_hears_of_is_counted(ways: Ways) -> None:
    """A broker that was asked and says nothing in time may ring yet: who can make a host that slow rings no more often
    by it. What it refuses is not counted.
    """
    ways.configure("approve", approvals=1)
    with socket.socket(socket.AF_UNIX) as silent, ways.instead_of_the_broker(silent):
        assert ways.login().end() == DENIED
        connection, _ = silent.accept()
        with connection:
            assert b'"account":"alice"' in connection.recv(65536)
    assert ways.login().end() == DENIED
    ways.pam.logged("rings without a yes in the last hour: 1")
    for number in (1, 2):
        assert ways.login("bob").end() == DENIED
        ways.pam.logged("no person is named for this user", number)
    assert not ways.phone.messages()


@pytest.mark.parametrize("pressed", [True, False])
def test_the_ring_ends_with_the_login(ways: Ways, pressed: bool) -> None:
    """Ctrl-C, or a session that is closed, while somebody types or while the phone is waited for."""
    ways.configure("approve")
    login = ways.login()
    login.until_asked()
    ways.phone.ring()
    if pressed:
        login.type("")
    login.close()
    ways.phone.end()
    ways.pam.logged("the login went away")


def test_the_ring_ends_with_the_client(ways: Ways) -> None:
    """sshd does not notice while PAM waits for the phone: the connection is looked at."""
    ways.configure("approve")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with server:
            login = ways.login(connection=" ".join(map(str, (*client.getsockname(), *client.getpeername()))))
            login.until_asked()
            ways.phone.ring()
            login.type("")
            client.close()
            assert login.end() == [DENY]
            ways.phone.end()
    ways.pam.logged("the login went away")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_ring_ends_with_the_service(ways: Ways, number: signal.Signals) -> None:
    """Stopped or killed: nobody shall say yes to nobody."""
    ways.configure("approve")
    login = ways.login()
    login.until_asked()
    ways.phone.ring()
    ways.pam.stop(number)
    assert login.end() == [Word(*NEUTRAL), FAIL]
    ways.phone.end()


def test_the_ring_ends_with_the_conversation(ways: Ways) -> None:
    """Killed as it may be, the process that asks ends with it."""
    ways.configure("approve")
    login = ways.login()
    login.until_asked()
    ways.phone.ring()
    (child,) = ways.pam.children()
    os.kill(child, signal.SIGKILL)
    assert login.end() == []
    ways.phone.end()


def test_a_yes_that_comes_too_late_is_none(ways: Ways) -> None:
    """The login's time counts, whatever the page still allows."""
    ways.configure("approve")
    login = ways.login()
    said = login.until_asked()
    page = ways.page()
    ways.pam.shift(boot=601)
    page.allow(digits(said))
    login.type("")
    assert login.end() == [Word("warn", "unlatch: too late"), DENY]
    ways.pam.logged(": too late")


def test_another_account_rings_nobody(ways: Ways) -> None:
    """bob has no person; alice's is not his."""
    ways.configure("approve")
    assert ways.login(user="bob").end() == DENIED
    ways.pam.logged("login denied: user=bob")
    assert not ways.phone.messages()


# The broker's page


@pytest.fixture
def on_page(ways: Ways) -> Iterator[Ways]:
    """alice's entry wants the broker's page."""
    entry = ways.pam.homes["alice"] / ".auth_gpg"
    before = entry.read_text()
    ways.configure("challenge")
    entry.write_text(before.replace(" none", " webQrBroker"))
    yield ways
    entry.write_text(before)


def link(said: list[Word]) -> str:
    """The page's link, as the session shows it."""
    found = re.search(rf"{URL}\S+", "\n".join(word.text for word in said))
    assert found
    return found[0]


@pytest.mark.parametrize("enter_first", [True, False])
def test_the_response_may_be_typed_on_the_page(on_page: Ways, enter_first: bool) -> None:
    """The link stands in the session and rings nobody; Enter there goes on."""
    login = on_page.login(authinfo="")
    said = login.until_asked()
    assert said[-1].text == "Response, or Enter after you answered on the page: "
    page = on_page.host.open(link(said))
    assert page.prompt is not None
    assert "BEGIN PGP MESSAGE" in page.prompt.text
    if enter_first:
        login.type("")
    page.unlock(on_page.pam.response(said).encode())
    assert page.verdict().outcome == "accepted"
    if not enter_first:
        login.type("")
    assert login.end() == [ALLOW]
    assert on_page.pam.logged("login allowed").endswith("typed=page")
    assert not on_page.phone.messages()


def test_a_wrong_response_on_the_page_is_the_end(on_page: Ways) -> None:
    """There is one attempt, wherever it is made."""
    login = on_page.login()
    said = login.until_asked()
    page = on_page.host.open(link(said))
    page.unlock(b"wrong")
    assert page.verdict().outcome == "failed"
    assert login.end() == [Word("warn", "unlatch: not accepted"), DENY]
    on_page.pam.logged("wrong response, typed on the page")


def test_the_page_is_not_needed(on_page: Ways) -> None:
    """The response opens in the session as well, and the page is dead then."""
    login = on_page.login()
    said = login.until_asked()
    page = on_page.host.open(link(said))
    login.type(on_page.pam.response(said))
    assert login.end() == [ALLOW]
    until(lambda: not on_page.prompts(), "the prompt's end")
    assert not on_page.host.answers_on(page)
