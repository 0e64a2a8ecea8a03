"""The main job with everything real: gpg, gpg-agent, our pinentry and broker, Caddy with https, and Chromium."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from browser import Tab
from house import House
from installation import Installation
from playwright.sync_api import Browser, BrowserContext
from proxy import Caddy
from real_gnupg import OWNER, PASSPHRASE, PLAINTEXT, Keyring, finish
from session import Session
from waiting import until

# -- answers -----------------------------------------------------------------------------------------------------------


def test_unlock_on_each_of_two_hosts_behind_one_name(web03: Keyring, caddy: Caddy, person: BrowserContext) -> None:
    """Two hosts ask at once under one name; each answer reaches its host, and a link is dead under the other path."""
    web04 = House()
    try:
        caddy.serve("web04", web04)
        secrets = {web03: PASSPHRASE, Keyring(web04, b"of the other host"): b"of the other host"}
        asking = [(keyring.decrypt(), keyring.house.phone.ring()["link"]) for keyring in secrets]
        Tab(person, asking[0][1].replace("/web03/", "/web04/")).shows("There is nothing to answer here")
        for (gpg, link), secret in zip(asking, secrets.values(), strict=True):
            tab = Tab(person, link)
            tab.shows_question()
            tab.unlock(secret)
            tab.shows("Unlocked")
            assert finish(gpg)[1] == PLAINTEXT
            assert tab.complaints == []
    finally:
        web04.clear()


def test_deny(web03: Keyring, person: BrowserContext) -> None:
    """Deny ends it: the page says so, gpg fails, nobody is asked again."""
    gpg = web03.decrypt()
    tab = Tab(person, web03.house.phone.ring()["link"])
    tab.shows_question()
    tab.deny()
    tab.shows("Denied")
    assert finish(gpg)[1] == b""
    assert web03.house.phone.end()["outcome"] == "denied"
    assert len(web03.house.phone.messages("ring")) == 1
    assert tab.complaints == []


def test_wrong_then_right_on_the_same_page(web03: Keyring, person: BrowserContext, stranger: BrowserContext) -> None:
    """After a wrong passphrase the page goes on under a new link by itself; the old one is dead, nobody is rung."""
    gpg = web03.decrypt()
    link = web03.house.phone.ring()["link"]
    tab = Tab(person, link)
    tab.shows_question()
    tab.unlock(b"not the passphrase")
    tab.says("Wrong passphrase. Try 2 of 3.")
    assert tab.page.url != link
    Tab(stranger, link).shows("There is a newer link")
    tab.unlock(PASSPHRASE)
    tab.shows("Unlocked")
    assert finish(gpg)[1] == PLAINTEXT
    assert len(web03.house.phone.messages("ring")) == 1
    assert tab.complaints == []


def test_yes_needs_the_digits_of_the_terminal(web03: Keyring, person: BrowserContext) -> None:
    """CONFIRM from a session with a terminal: a yes with the two digits that stand there, and only there, is a yes."""
    with Session(web03.house) as session:
        session.ask("Really delete the key?", "CONFIRM")
        tab = Tab(person, web03.house.phone.ring()["link"])
        tab.says("Really delete the key?")
        tab.page.get_by_role("button", name="Allow").click()
        tab.says("Type the two digits first.")
        tab.page.get_by_label("two digits").fill(session.digits())
        tab.page.get_by_role("button", name="Allow").click()
        tab.shows("Allowed")
        assert session.reply() == b"OK"
        assert tab.complaints == []


def test_wrong_digits_are_a_no(web03: Keyring, person: BrowserContext) -> None:
    """Who has the link, but not the session, has one try, and it ends in a deny."""
    with Session(web03.house) as session:
        session.ask("Really delete the key?", "CONFIRM")
        tab = Tab(person, web03.house.phone.ring()["link"])
        tab.page.get_by_label("two digits").fill(f"{(int(session.digits()) + 1) % 100:02}")
        tab.page.get_by_role("button", name="Allow").click()
        tab.shows("Denied")
        assert session.reply().startswith(b"ERR ")


def test_a_notice_is_shown_and_read(web03: Keyring, person: BrowserContext) -> None:
    """MESSAGE waits until somebody has read it on the page."""
    with Session(web03.house) as session:
        session.ask("The card was removed.", "MESSAGE")
        tab = Tab(person, web03.house.phone.ring()["link"])
        tab.says("The card was removed.")
        tab.page.get_by_role("button", name="OK").click()
        tab.shows("Read")
        assert session.reply() == b"OK"
        assert tab.complaints == []


# -- who may look ------------------------------------------------------------------------------------------------------


def test_a_third_page_is_refused_and_a_fresh_link_rung(
    web03: Keyring, chromium: Browser, person: BrowserContext, stranger: BrowserContext
) -> None:
    """Two pages may open a link. A third is told that it is open elsewhere, and a fresh link is sent beside it."""
    gpg = web03.decrypt()
    link = web03.house.phone.ring()["link"]
    first = Tab(person, link)
    first.shows_question()
    Tab(stranger, link).shows_question()
    with contextlib.closing(chromium.new_context()) as third:
        Tab(third, link).shows("Already open elsewhere")
        fresh = web03.house.phone.ring(2)["link"]
        assert fresh != link
        Tab(third, fresh).shows_question()
    first.unlock(PASSPHRASE)
    first.shows("Unlocked")
    assert finish(gpg)[1] == PLAINTEXT


def test_a_reload_is_no_view(web03: Keyring, person: BrowserContext, stranger: BrowserContext) -> None:
    """The same tab may load the page as often as it likes: it stays one view."""
    gpg = web03.decrypt()
    link = web03.house.phone.ring()["link"]
    tab = Tab(person, link)
    for _ in range(4):
        tab.shows_question()
        tab.page.reload()
    Tab(stranger, link).shows_question()
    tab.shows_question()
    tab.unlock(PASSPHRASE)
    tab.shows("Unlocked")
    assert finish(gpg)[1] == PLAINTEXT
    assert len(web03.house.phone.messages("ring")) == 1


def test_previews_are_harmless(web03: Keyring, caddy: Caddy, person: BrowserContext) -> None:
    """A chat server that fetches the link many times sees the same static page, spends nothing and reads nothing."""
    gpg = web03.decrypt()
    link = web03.house.phone.ring()["link"]
    fetched = {caddy.fetch(urlsplit(link).path) for _ in range(10)}
    (status, page), *others = fetched
    assert (status, others) == (200, [])
    assert not any(word.encode() in page for word in (OWNER, " ".join(web03.house.phone.ring()["words"])))
    tab = Tab(person, link)
    tab.shows_question()
    tab.unlock(PASSPHRASE)
    tab.shows("Unlocked")
    assert finish(gpg)[1] == PLAINTEXT


# -- interruptions -----------------------------------------------------------------------------------------------------


def test_expiry(web03: Keyring, caddy: Caddy, person: BrowserContext) -> None:
    """When the link's time is over, the open page says so by itself and gpg goes on without an answer."""
    caddy.serve("web03", web03.house, tables="[link]\nseconds = 4\n")
    gpg = web03.decrypt()
    tab = Tab(person, web03.house.phone.ring()["link"])
    tab.shows("This link has expired")
    assert finish(gpg)[1] == b""
    assert web03.house.phone.end()["outcome"] == "expired"


def test_the_broker_dies_while_the_page_is_open(web03: Keyring, person: BrowserContext) -> None:
    """A killed broker costs nothing: the page waits, the asker brings a new one up, the same page is answered."""
    gpg = web03.decrypt()
    tab = Tab(person, web03.house.phone.ring()["link"])
    tab.shows_question()
    with held(asker(web03.house)):  # so that the page has the time to notice
        kill_broker(web03.house)
        tab.says("No connection. Trying again")
    tab.unlock(PASSPHRASE)
    tab.shows("Unlocked")
    assert finish(gpg)[1] == PLAINTEXT
    assert len(web03.house.phone.messages("ring")) == 1


def test_the_broker_dies_under_a_sent_answer(web03: Keyring, person: BrowserContext) -> None:
    """An answer given while no broker is there waits on the page, and arrives once."""
    gpg = web03.decrypt()
    tab = Tab(person, web03.house.phone.ring()["link"])
    tab.shows_question()
    with held(asker(web03.house)):
        kill_broker(web03.house)
        tab.unlock(PASSPHRASE)
        tab.says("No connection. Trying again")
    tab.shows("Unlocked")
    assert finish(gpg)[1] == PLAINTEXT


def test_an_upgrade_in_mid_prompt(house: House, caddy: Caddy, person: BrowserContext) -> None:
    """The package is exchanged and the broker restarted from the new one; the asker that waits goes on with the old."""
    installation = Installation(house.root / "opt")
    caddy.serve("web03", house)
    gpg = Keyring(house, pinentry=installation.pinentry).decrypt()
    tab = Tab(person, house.phone.ring()["link"])
    tab.shows_question()
    installation.exchange("999")
    kill_broker(house)
    tab.unlock(b"not the passphrase")
    tab.says("Wrong passphrase. Try 2 of 3.")
    tab.unlock(PASSPHRASE)
    tab.shows("Unlocked")
    assert finish(gpg)[1] == PLAINTEXT
    assert house.ask_admin({"op": "status"})["broker"]["version"] == "999"
    assert len(house.phone.messages("ring")) == 1


# -- helpers -----------------------------------------------------------------------------------------------------------


def asker(house: House) -> int:
    """The pid of the only pinentry of this house."""
    (pid,) = (pid for pid in house.processes() if b"pinentry-unlatch" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return pid


def kill_broker(house: House) -> None:
    """The only broker of this house dies without a word."""
    (broker,) = house.brokers()
    os.kill(broker, signal.SIGKILL)
    until(lambda: not house.brokers(), "the broker's end")


@contextlib.contextmanager
def held(pid: int) -> Iterator[None]:
    """Stop a process meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
