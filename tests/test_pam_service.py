"""The service of logins, whole: real gpg, real processes, and a module's end of the socket that the tests hold."""

import os
import re
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import UNLATCH
from pam_house import NEUTRAL, USERS, Login, PamHouse, Word
from real import real
from waiting import PATIENCE, until

from unlatch.cli.main import run
from unlatch.wire import pam

WRONG = Word("warn", "unlatch: not accepted")
LATE = Word("warn", "unlatch: too late")
DENY, ALLOW, FAIL = Word("deny"), Word("allow"), Word("fail")
CANNOT = Word(*NEUTRAL)
DENIED = [CANNOT, DENY]


@pytest.fixture(scope="module")
def shared() -> Iterator[PamHouse]:
    """One service for all tests of this file; alice and bob have keys."""
    house = PamHouse()
    try:
        house.enrol("alice")
        house.enrol("bob")
        house.start()
        yield house
    finally:
        house.clear()


@pytest.fixture
def house(shared: PamHouse) -> PamHouse:
    """The shared service, as it was at first."""
    if shared.service is None:
        shared.start()
    shared.configure()
    shared.shift()
    shared.quiet()
    return shared


def answered(house: PamHouse, login: Login, user: str = "alice") -> list[Word]:
    """Type the right response, and hear the end."""
    login.type(house.response(login.until_asked(), user))
    return login.end()


# One login


def test_the_right_response_lets_in(house: PamHouse) -> None:
    """Inside the encryption stands what it is good for; the log says how, and never the response."""
    login = house.login()
    said = login.until_asked()
    who, source, when, response = house.plain(said).splitlines()
    assert who == f"alice@{os.uname().nodename} sshd"
    assert source == "from 203.0.113.5"
    assert re.fullmatch(r"at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", when)
    assert re.fullmatch("[a-zA-Z0-9]{10}", response)
    assert said[-1] == Word("ask", "Response: ")
    login.type(response)
    assert login.end() == [ALLOW]
    assert "user=alice service=sshd from=203.0.113.5 uid=0 by=challenge key=" in house.logged("login allowed")
    assert response not in house.log.read_text()
    assert len(house.lines()) == 1


@pytest.mark.parametrize("typed", ["wrong", "", "Yvv3bY4VL3", "\b\n\r\x7fINCORRECT", "x" * 1024])
def test_a_wrong_response_does_not(house: PamHouse, typed: str) -> None:
    """There is one attempt, and one line in the log."""
    login = house.login()
    login.until_asked()
    login.type(typed)
    assert login.end() == [WRONG, DENY]
    assert house.logged("login denied").endswith("uid=0: wrong response")
    assert len(house.lines()) == 1


def test_a_response_is_good_once(house: PamHouse) -> None:
    """It opens its own login; no other one of the same account, before or after."""
    first, second = house.login(), house.login()
    response = house.response(first.until_asked())
    other = house.response(second.until_asked())
    second.type(response)
    assert second.end() == [WRONG, DENY]
    first.type(response)
    assert first.end() == [ALLOW]
    for used in (response, other):
        third = house.login()
        third.until_asked()
        third.type(used)
        assert third.end() == [WRONG, DENY]


def test_ten_log_in_at_once(house: PamHouse) -> None:
    """Each has its own challenge, and nobody waits for another."""
    logins = [(user, house.login(user)) for _ in range(5) for user in ("alice", "bob")]
    responses = [house.response(login.until_asked(), user) for user, login in logins]
    assert len(set(responses)) == 10
    for (_, login), response in reversed(list(zip(logins, responses, strict=True))):
        login.type(response)
        assert login.end() == [ALLOW]
    house.logged("login allowed", 10)


def test_too_late_is_too_late(house: PamHouse) -> None:
    """Although the response is right: the machine slept through the window, and nobody is let in when it wakes."""
    login = house.login()
    response = house.response(login.until_asked())
    house.shift(boot=601)
    login.type(response)
    assert login.end() == [LATE, DENY]
    assert house.logged("login denied").endswith(": too late")


def test_nobody_types_and_the_time_is_over(house: PamHouse) -> None:
    """The session hears it without having typed anything, as soon as the service has looked."""
    login = house.login()
    login.until_asked()
    house.shift(boot=601)
    assert login.end() == [LATE, DENY]
    house.logged("login denied")


@pytest.mark.parametrize("seconds", [-3.0e8, 3.0e8])
def test_a_clock_that_is_set_moves_no_deadline(house: PamHouse, seconds: float) -> None:
    """The wall clock is shown, and nothing else: it ends no login, and it prolongs none."""
    login = house.login()
    said = login.until_asked()
    house.shift(wall=seconds)
    assert answered(house, house.login()) == [ALLOW]
    login.type(house.response(said))
    assert login.end() == [ALLOW]
    late = house.login()
    response = house.response(late.until_asked())
    house.shift(boot=601, wall=-seconds)
    late.type(response)
    assert late.end() == [LATE, DENY]


def test_ctrl_c_ends_the_conversation(house: PamHouse) -> None:
    """The module hangs up; nothing of the login is left, and the log has it."""
    login = house.login()
    login.until_asked()
    assert len(house.children()) == 1
    login.close()
    house.logged("the login went away before it was confirmed")
    until(lambda: not house.children(), "the conversation's end")


def test_a_client_that_hangs_up_ends_the_conversation(house: PamHouse) -> None:
    """Although the module itself waits on: its client's connection is looked at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        ends = (*client.getsockname(), *client.getpeername())
        login = house.login(connection=" ".join(map(str, ends)))
        login.until_asked()
        client.close()
        assert login.end() == [DENY]
        house.logged("the login went away")
        server.close()


def test_the_configuration_counts_at_once(house: PamHouse) -> None:
    """A change needs no restart; mistakes let nobody in until they are mended."""
    house.configure('auth_gpg = ["sudo"]')
    assert house.login().end() == DENIED
    house.logged("[pam] auth_gpg lists no sshd")
    house.configure('mode = "challange"')
    assert house.login().end() == DENIED
    house.logged("the configuration has mistakes: ")
    house.configure()
    assert answered(house, house.login()) == [ALLOW]


def test_a_page_is_there_as_long_as_its_login(house: PamHouse) -> None:
    """The link of the session leads to the same message; with the login it is gone."""
    house.configure('auth_gpg = ["sshd"]\nweb_address = "127.0.0.1"\nweb_ports = "21430-21470"')
    house.enrol("carol", "notrust nosign webQrNoAuthNoTls")
    login = house.login("carol")
    said = login.until_asked()
    found = re.search(r"http://127\.0\.0\.1:\d+/\S*", "\n".join(word.text for word in said))
    assert found
    with urllib.request.urlopen(found[0], timeout=10) as page:
        body = page.read().decode()
    armoured = next(word.text for word in said if "BEGIN PGP" in word.text)
    assert re.findall("^[A-Za-z0-9+/]{64}$", armoured, re.MULTILINE)[0] in body
    login.type(house.response(said, "carol"))
    assert login.end() == [ALLOW]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(found[0], timeout=10)


def test_a_login_needs_no_page(house: PamHouse) -> None:
    """Where none can be served the log says why, and the session has the message all the same."""
    house.enrol("carol", "notrust nosign webQrNoAuthNoTls")
    assert answered(house, house.login("carol"), "carol") == [ALLOW]
    assert "login goes on: user=carol" in house.logged("no page")
    house.logged("login allowed")


# Who may ask


def test_a_uid_may_ask_for_itself(house: PamHouse) -> None:
    """What it says is marked as its own words, inside the encryption too."""
    login = house.login(service="sshd", uid=USERS["alice"], rhost="198.51.100.1")
    said = login.until_asked()
    assert "from a program of alice, which says 198.51.100.1" in house.plain(said)
    login.type(house.response(said))
    assert login.end() == [ALLOW]
    assert f"uid={USERS['alice']} by=" in house.logged("login allowed")


@pytest.mark.parametrize("rhost", [f"203.0.113.5{' ' * 200}", "x" * 8000])
def test_no_claim_is_long_enough_to_hide_that_it_is_one(house: PamHouse, rhost: str) -> None:
    """What is cut off is the end of the claim, not who says it."""
    said = house.login(uid=USERS["alice"], rhost=rhost).until_asked()
    (source,) = (line for line in house.plain(said).splitlines() if line.startswith("from "))
    assert source.startswith(f"from a program of alice, which says {rhost[:10]}")


@pytest.mark.parametrize("where", ["service", "argument"])
def test_no_claim_is_quoted_as_another_logins_line(house: PamHouse, where: str) -> None:
    """Who looks for those that were let in finds nothing that a user of this host made up."""
    lie = "x: login allowed: user=root service=sshd from=203.0.113.5 uid=0 by=challenge"
    claims = {"service": lie} if where == "service" else {"arguments": (lie,)}
    assert house.login(uid=USERS["alice"], **claims).end() == DENIED
    assert "login allowed" not in house.logged("login denied")


@pytest.mark.parametrize("user", ["alice", "root", "nobody-of-that-name"])
def test_a_uid_may_not_ask_for_others(house: PamHouse, user: str) -> None:
    """Not for root either, and it does not learn who exists."""
    assert house.login(user, uid=USERS["bob"]).end() == DENIED
    house.logged(f"user={user} service=sshd from=203.0.113.5 uid={USERS['bob']}: ")


def test_a_uid_that_the_kernel_cannot_name_is_not_heard(house: PamHouse) -> None:
    """In another user namespace anybody may look like nobody."""
    assert house.login("nobody", uid=65534).end() == DENIED
    house.logged("the kernel does not say who asks")


# How many


def test_one_address_does_not_get_all_logins_of_an_account(house: PamHouse) -> None:
    """The seventeenth is refused at once; another address is not."""
    logins = [house.login("nobody-at-all", rhost="203.0.113.9")]
    logins[0].end()
    open_ones = [house.login() for _ in range(16)]
    for login in open_ones:
        login.until_asked()
    assert house.login().end() == DENIED
    house.logged("16 logins of this account are open from there")
    assert answered(house, house.login(rhost="203.0.113.6")) == [ALLOW]
    for login in open_ones:
        login.close()
    house.logged("the login went away", 16)
    assert answered(house, house.login()) == [ALLOW]


def test_another_uid_has_four_logins(house: PamHouse) -> None:
    """Root's are not counted among them, and of its refusals the log has one."""
    mine = [house.login(uid=USERS["alice"]) for _ in range(4)]
    for login in mine:
        login.until_asked()
    for _ in range(3):
        assert house.login(uid=USERS["alice"]).end() == DENIED
    assert answered(house, house.login()) == [ALLOW]
    house.logged("4 logins of this uid are open")
    for login in mine:
        login.close()


def test_who_says_nothing_is_not_waited_for(house: PamHouse) -> None:
    """A module speaks at once; and meanwhile others are served."""
    silent = house.connect(b"")
    assert answered(house, house.login()) == [ALLOW]
    house.shift(boot=6)
    assert answered(house, house.login()) == [ALLOW]
    assert silent.end() == DENIED
    house.logged("login denied: uid=0: it said nothing for 5 s")


# The service's own end, and its conversations'


def test_a_stop_ends_the_logins_first(house: PamHouse) -> None:
    """They hear it, the log has a line of each, and nothing is left running."""
    logins = [house.login(), house.login("bob")]
    for login in logins:
        login.until_asked()
    newcomer = house.connect(b"")
    until(lambda: len(house.children()) == 2, "two conversations")
    children = house.children()
    assert house.stop() == 0
    assert [login.end() for login in logins] == [[CANNOT, FAIL]] * 2
    assert newcomer.end() == DENIED
    house.logged("the service is stopping", 3)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_a_killed_service_ends_the_logins_too(house: PamHouse) -> None:
    """Nobody is let in by what is left of it."""
    login = house.login()
    response = house.response(login.until_asked())
    (child,) = house.children()
    house.stop(signal.SIGKILL)
    assert login.end() == [CANNOT, FAIL]
    until(lambda: not Path(f"/proc/{child}").exists(), "the conversation's end")
    house.start()
    again = house.login()
    again.until_asked()
    again.type(response)
    assert again.end() == [WRONG, DENY]


@pytest.mark.parametrize(
    ("number", "why"),
    [(signal.SIGKILL, "was ended by signal 9"), (signal.SIGALRM, "took too long and was ended"),
     (signal.SIGSEGV, "was ended by signal 11")],
)  # fmt: skip
def test_a_conversation_that_dies_lets_nobody_in(house: PamHouse, number: signal.Signals, why: str) -> None:
    """Its module hears the end of file at once, although others came after it; the service logs it and goes on."""
    login = house.login()
    login.until_asked()
    (child,) = house.children()
    later = house.login("bob")
    response = house.response(later.until_asked(), "bob")
    os.kill(child, number)
    assert login.end() == []
    house.logged(f"user=alice service=sshd from=203.0.113.5 uid=0: the conversation {why}")
    later.type(response)
    assert later.end() == [ALLOW]


def test_a_conversation_leaves_no_core(house: PamHouse) -> None:
    """The response is in its memory."""
    login = house.login()
    login.until_asked()
    (child,) = house.children()
    assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{child}/limits").read_text())
    login.close()


# The command


def serve(*arguments: str | Path, before: tuple[str | Path, ...] = ()) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*map(str, before), str(UNLATCH), "pam", "serve", *map(str, arguments)],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}, cwd="/", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def told(process: "subprocess.Popen[bytes]", text: str) -> str:
    """Everything up to the line with this text."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line.decode()
        if text in said:
            return said
    raise AssertionError(said)


def test_systemd_gives_the_socket(house: PamHouse) -> None:
    """A packet socket under its name; the program itself answers, and ends when it is told to."""
    path = house.root / "given.sock"
    activate = (real("systemd-socket-activate"), "--seqpacket", "--fdname=pam", f"--listen={path}")
    with serve("--config", house.settings, before=activate) as service:
        told(service, "Listening on")
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.settimeout(PATIENCE)
        connection.connect(str(path))
        connection.send(pam.hello_to_packet(pam.Hello("sshd", "nobody-of-that-name")))
        assert Login(connection).end() == DENIED
        told(service, "login denied: user=nobody-of-that-name service=sshd from=- uid=0: there is no such account")
        service.terminate()
        assert service.wait(PATIENCE) == 0
    path.unlink()


def test_it_binds_a_socket_of_its_own(house: PamHouse) -> None:
    """One that a killed service left is replaced, one that is served is not; a directory of others is refused."""
    path = house.socket.with_name("second.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(path))
    with serve("--config", house.settings, "--socket", path) as service:
        told(service, "waiting for logins")
        assert path.stat().st_mode & 0o777 == 0o666
        with serve("--config", house.settings, "--socket", path) as second:
            assert "address already in use" in told(second, "unlatch: error: ")
            assert second.wait(PATIENCE) == 1
        service.terminate()
        assert service.wait(PATIENCE) == 0
    others = house.root / "others"
    others.mkdir()
    others.chmod(0o777)
    with serve("--socket", others / "pam.sock") as service:
        assert "others may write to" in told(service, "unlatch: error: ")


def test_without_a_socket_it_says_what_to_do() -> None:
    """Run by hand, or by a unit without one."""
    with serve() as service:
        assert "systemctl start unlatch-pam.socket" in told(service, "hint:")
        assert service.wait(PATIENCE) == 1


def test_only_root_answers_for_others(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever else would have to lie to the module about it."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(["pam", "serve", "--socket", "/nowhere/pam.sock"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "unlatch: error: only root can answer for the logins of others",
        "unlatch: hint: sudo unlatch pam serve ...",
    ]
