"""Logins through a real sshd that are approved on the phone, or answered on a page, by the host's real broker."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import self_signed
from login_house import ARMOUR, FROM_NOBODY, IN, KEY, MODULE, ONCE, PASSWORD, LoginHouse, challenged, is_let_in
from terminal import Terminal
from waiting import until

APPROVE = f"{MODULE} mode=approve"
EITHER = f"{MODULE} mode=either"
ENTER = "Press Enter when you have approved: "
EITHER_PROMPT = "Response, or Enter after you approved: "
DENIED = "unlatch: denied on the phone"
# A visitor's browser, as little of it as will do: the page's address, name and password are its arguments.
FETCH = """
import base64, ssl, sys, urllib.request
url, name, password = sys.argv[1:]
request = urllib.request.Request(url)
if name:
    request.add_header("Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode())
trust = ssl.create_default_context(cafile="/etc/ssl/test-ca.pem") if url.startswith("https") else None
print(urllib.request.urlopen(request, timeout=10, context=trust).read().decode())
"""


@pytest.fixture
def rung(logins: LoginHouse) -> Iterator[LoginHouse]:
    """The house with its broker, where sshd's logins are approved; carol's first factor is her SSH key."""
    logins.start_broker()
    logins.stack("sshd", APPROVE)
    yield logins
    logins.start_broker()


def digits_of(terminal: Terminal, prompt: str = ENTER) -> str:
    """The digits that only the session shows, once the phone has been rung."""
    terminal.expect(prompt)
    return re.findall(r"To approve, type (\d\d) there", terminal.screen)[-1]


def test_a_yes_with_the_digits_opens(rung: LoginHouse) -> None:
    """carol's own phone rings and says who logs in where, by what, from where; nobody else's does."""
    with rung.ssh("carol", *KEY) as terminal:
        digits = digits_of(terminal)
        page = rung.open(rung.phones["carol"].ring()["link"])
        assert page.prompt is not None
        for said in ("User: carol", "Host: web03", "Service: sshd", "From: 127.0.0.1"):
            assert said in page.prompt.text
        told = re.sub(r"^(From|Time): .*$", "", page.prompt.text, flags=re.MULTILINE)  # which are full of digits
        assert digits not in told + page.prompt.title.replace("127.0.0.1", "")
        assert page.allow(digits).status == 200
        assert page.verdict().outcome == "accepted"
        terminal.type("\n")
        assert is_let_in(terminal, "carol")
        assert not ARMOUR.search(terminal.screen)
    assert rung.rings() == {"carol": 1}
    assert rung.verdict() == (
        "login allowed: user=carol service=sshd from=127.0.0.1 uid=0 by=approval person=carol"
    )  # fmt: skip


def test_enter_waits_for_the_phone(rung: LoginHouse) -> None:
    """Pressed before the yes, it waits for it; nothing else is to be typed."""
    with rung.ssh("carol", *KEY) as terminal:
        digits = digits_of(terminal)
        terminal.type("\n")
        page = rung.open(rung.phones["carol"].ring()["link"])
        page.allow(digits)
        assert is_let_in(terminal, "carol")


@pytest.mark.parametrize("how", ["wrong digits", "no"])
def test_a_no_denies(rung: LoginHouse, how: str) -> None:
    """And so do the wrong digits, once: whoever has the link has not seen the session."""
    with rung.ssh("carol", *KEY, *ONCE) as terminal:
        digits = digits_of(terminal)
        terminal.type("\n")
        page = rung.open(rung.phones["carol"].ring()["link"])
        _ = page.deny() if how == "no" else page.allow(f"{(int(digits) + 1) % 100:02}")
        assert page.verdict().outcome == "denied"
        assert not is_let_in(terminal, "carol")
        assert DENIED in terminal.screen
    assert "denied" in rung.verdict()
    assert rung.rings() == {"carol": 1}


def test_nobody_is_rung_for_a_stranger(rung: LoginHouse) -> None:
    """Without a first factor there is no ring: approval is denied, and either is the challenge alone."""
    with rung.ssh("alice", *ONCE) as terminal:
        assert not is_let_in(terminal, "alice")
        assert FROM_NOBODY in terminal.screen
    rung.stack("sshd", EITHER)
    with rung.ssh("alice") as terminal:
        terminal.type(f"{challenged(terminal, rung.alice).response}\n")
        assert is_let_in(terminal, "alice")
    assert rung.rings() == {}
    denied, goes_on = rung.verdicts(2)
    assert "no first factor" in denied
    assert "login allowed: user=alice" in goes_on


def test_a_password_is_a_first_factor(rung: LoginHouse) -> None:
    """pam_unix above it, requisite, and after_first_factor: who does not know the password wakes nobody."""
    rung.stack("sshd", "auth requisite pam_unix.so", f"{APPROVE} after_first_factor")
    with rung.ssh("alice", *ONCE) as terminal:
        terminal.expect("Password: ")
        terminal.type("guessed\n")
        assert not is_let_in(terminal, "alice")
    assert rung.rings() == {}
    with rung.ssh("alice") as terminal:
        terminal.expect("Password: ")
        terminal.type(f"{PASSWORD}\n")
        digits = digits_of(terminal)
        rung.open(rung.phones["alice"].ring()["link"]).allow(digits)
        terminal.type("\n")
        assert is_let_in(terminal, "alice")
    assert rung.rings() == {"alice": 1}


def test_only_the_accounts_own_person_is_rung(rung: LoginHouse) -> None:
    """Who is rung for everybody's prompts is not rung for a login: visitor, whom nobody is named for, stays outside."""
    rung.stack("sshd", f"{APPROVE} after_first_factor")
    with rung.ssh("visitor", *ONCE) as terminal:
        assert not is_let_in(terminal, "visitor")
        assert FROM_NOBODY in terminal.screen
    assert rung.rings() == {}
    assert "login denied: user=visitor" in rung.verdict()


def test_either_the_response_or_the_phone(rung: LoginHouse) -> None:
    """The response opens, and the phone is told that it is over; or the phone opens."""
    rung.stack("sshd", EITHER)
    with rung.ssh("carol", *KEY) as terminal:
        digits_of(terminal, EITHER_PROMPT)
        terminal.type(f"{rung.carol.read(terminal.screen).response}\n")
        assert is_let_in(terminal, "carol")
    phone = rung.phones["carol"]
    phone.end()
    with rung.ssh("carol", *KEY) as terminal:
        digits = digits_of(terminal, EITHER_PROMPT)
        rung.open(phone.ring(2)["link"]).allow(digits)
        terminal.type("\n")
        assert is_let_in(terminal, "carol")
    first, second = rung.verdicts(2)
    assert "by=challenge" in first
    assert "by=approval person=carol" in second


@pytest.mark.parametrize("how", ["killed client", "stopped service"])
def test_what_ends_while_the_phone_is_waited_for(rung: LoginHouse, how: str) -> None:
    """PAM says nothing of a client that has gone: it is seen all the same, and the question goes from the phone."""
    with rung.ssh("carol", *KEY, *ONCE) as terminal:
        digits_of(terminal)
        terminal.type("\n")
        page = rung.open(rung.phones["carol"].ring()["link"])
        if how == "killed client":
            pid = rung.machine.run("pgrep", "--newest", "--exact", "ssh").out.strip()
            rung.machine.run("kill", "-KILL", pid)
        else:
            rung.machine.run("systemctl", "stop", "unlatch-pam.service")
            assert not is_let_in(terminal, "carol")
        assert ("went away" if how == "killed client" else "stopping") in rung.verdict()
    rung.phones["carol"].end()
    until(lambda: page.view().status != 200, "the end of the link")


def test_nobody_is_worn_down(rung: LoginHouse) -> None:
    """So many rings an hour, over a restart of the service too; the challenge is there for as long as it takes."""
    rung.configure("approvals = 1")
    with rung.ssh("carol", *KEY, *ONCE) as terminal:
        digits_of(terminal)
        rung.open(rung.phones["carol"].ring()["link"]).deny()
        terminal.type("\n")
        assert not is_let_in(terminal, "carol")
    rung.machine.run("systemctl", "restart", "unlatch-pam.service")
    with rung.ssh("carol", *KEY, *ONCE) as terminal:
        assert not is_let_in(terminal, "carol")
        assert FROM_NOBODY in terminal.screen
    rung.stack("sshd", EITHER)
    with rung.ssh("carol", *KEY) as terminal:
        terminal.type(f"{challenged(terminal, rung.carol).response}\n")
        assert is_let_in(terminal, "carol")
    assert rung.rings() == {"carol": 1}
    assert "without a yes in the last hour: 1" in rung.verdicts(3)[1]


def test_without_a_broker(rung: LoginHouse) -> None:
    """Approval is denied, and either is the challenge alone."""
    rung.machine.run("systemctl", "stop", "unlatch.socket", "unlatch-admin.socket", "unlatch-page.socket", "unlatch")
    rung.stack("sshd", f"{EITHER} after_first_factor")
    rung.stack("su", f"{APPROVE} after_first_factor")
    approval = rung.machine.terminal("su", "alice", "-c", f"echo {IN} alice", user="visitor")
    with rung.ssh("carol", *KEY) as terminal, approval:
        terminal.type(f"{challenged(terminal, rung.carol).response}\n")
        assert is_let_in(terminal, "carol")
        assert not is_let_in(approval, "alice")
        assert FROM_NOBODY in approval.screen
    denied, allowed = sorted(rung.verdicts(2), key=lambda line: "allowed" in line)
    assert "broker" in denied
    assert "by=challenge" in allowed


def test_a_page_through_the_broker(rung: LoginHouse) -> None:
    """webQrBroker: the session shows a link to the challenge; the response may be typed there, and nobody is rung."""
    rung.stack("sshd", MODULE)
    rung.enrol("alice", rung.alice, web="webQrBroker")
    with rung.ssh("alice") as terminal:
        terminal.expect("Response, or Enter after you answered on the page: ")
        (link,) = re.findall(r"https://unlock\.test/\S+", terminal.screen)
        page = rung.open(link)
        assert page.prompt is not None
        message = rung.alice.read(page.prompt.text)
        assert message.response == rung.alice.read(terminal.screen).response
        page.unlock(message.response.encode())
        assert page.verdict().outcome == "accepted"
        terminal.type("\n")
        assert is_let_in(terminal, "alice")
    assert rung.rings() == {}
    assert "by=challenge" in rung.verdict()


@pytest.mark.parametrize("web", ["webQrAuthTls", "webQrNoAuthTls", "webQrAuthNoTls", "webQrNoAuthNoTls"])
def test_a_page_of_its_own(rung: LoginHouse, tmp_path: Path, web: str) -> None:
    """The four old words of ~/.auth_gpg: a page for this login, gone with it."""
    rung.stack("sshd", MODULE)
    rung.configure('auth_gpg = ["sshd"]\nweb_address = "127.0.0.1"\nweb_host = "localhost"\nweb_ports = 8440')
    rung.machine.run("unlatch", "pam", "forget", "alice")
    words = _tls(rung, tmp_path) if web in ("webQrAuthTls", "webQrNoAuthTls") else ""
    rung.carry("alice", rung.alice, f"{rung.alice.fingerprint} notrust nosign {web}{words}")
    with rung.ssh("alice") as terminal:
        message = challenged(terminal, rung.alice)
        (url,) = re.findall(rf"{'https' if words else 'http'}://localhost:8440/\S+", terminal.screen)
        asks = re.search(r"\(name (\S+), password (\S+)\):", terminal.screen)
        assert bool(asks) == (web in ("webQrAuthTls", "webQrAuthNoTls"))
        name, password = asks.groups() if asks else ("", "")
        shown = rung.machine.run("python3", "-c", FETCH, url, name, password, user="visitor").out
        assert rung.alice.read(shown).response == message.response
        if asks:
            refused = rung.machine.run("python3", "-c", FETCH, url, name, "guessed", user="visitor", check=False)
            assert "401" in refused.err
        terminal.type(f"{message.response}\n")
        assert is_let_in(terminal, "alice")
    gone = rung.machine.run("python3", "-c", FETCH, url, name, password, user="visitor", check=False)
    assert "refused" in gone.err


def _tls(logins: LoginHouse, place: Path) -> str:
    """A key and a certificate in alice's home, which she alone may read; the words for her entry."""
    both = self_signed(place, names=("localhost",)).read_text()
    key, begin, certificate = both.partition("-----BEGIN CERTIFICATE-----")
    for name, content in (("tls.key", key), ("tls.pem", begin + certificate)):
        logins.machine.run("sh", "-c", f"umask 077; cat >~/{name}", user="alice", feed=content.encode())
    logins.machine.write("/etc/ssl/test-ca.pem", begin + certificate)
    return " /home/alice/tls.key /home/alice/tls.pem"
