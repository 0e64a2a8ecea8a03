"""What a tapped wire, a browser without scripts, an untrusted proxy and a password manager get to know."""

import base64
import contextlib
import sqlite3
from urllib.parse import urlsplit

import pytest
from browser import Chromium, Tab
from desktop import Desktop
from playwright.sync_api import Browser, BrowserContext, Playwright, expect
from playwright.sync_api import Error as BrowserError
from proxy import NAME, Caddy
from real_gnupg import OWNER, PASSPHRASE, PLAINTEXT, Keyring, finish
from waiting import until

from unlatch import base64url

WRONG = b"not the passphrase"


def test_who_taps_the_wire_learns_nothing(web03: Keyring, caddy: Caddy, person: BrowserContext) -> None:
    """Between proxy and broker, and in the proxy's log, stands neither question nor answer nor any of the fragment."""
    caddy.serve("tapped", web03.house)
    gpg = web03.decrypt()
    ring = web03.house.phone.ring()
    first = ring["link"].partition("#")[2]
    ticket = urlsplit(ring["link"]).path.rpartition("/")[2]
    tab = Tab(person, ring["link"])
    tab.shows_question()
    tab.unlock(WRONG)
    tab.says("Wrong passphrase. Try 2 of 3.")
    second = tab.page.url.partition("#")[2]
    tab.unlock(PASSPHRASE)
    tab.shows("Unlocked")
    assert finish(gpg)[1] == PLAINTEXT
    heard = bytes(caddy.tap.heard)
    for seen in (f"POST /tapped/{ticket}/view", f"POST /tapped/{ticket}/answer", '"details": "', '"sealed":"'):
        assert seen.encode() in heard  # it really hears everything, in clear
    until(lambda: f"/tapped/{ticket}/answer".encode() in caddy.logged(), "Caddy's log")
    question = [OWNER, "root@db01.example", "secret.gpg", ring["title"], " ".join(ring["words"])]
    fragments = [base64url.decode(fragment, "fragment") for fragment in (first, second)]
    halves = [half for fragment in fragments for half in (fragment[:32], fragment[32:])]
    for secret in [*map(str.encode, question), WRONG, PASSPHRASE, *fragments, *halves]:
        for spelled in (secret, secret.hex().encode(), base64.b64encode(secret), base64url.encode(secret).encode()):
            assert spelled not in heard
            assert spelled not in caddy.logged()


def test_javascript_off(web03: Keyring, chromium: Browser, person: BrowserContext) -> None:
    """Without scripts the page says what to do, spends no view, and its form cannot be posted in clear."""
    gpg = web03.decrypt()
    link = web03.house.phone.ring()["link"]
    for _ in range(3):
        with contextlib.closing(chromium.new_context(java_script_enabled=False)) as plain:
            tab = Tab(plain, link)
            tab.shows("JavaScript is switched off")
            expect(tab.page.get_by_label("Passphrase")).not_to_be_visible()
            with tab.page.expect_event("console", lambda message: "form-action" in message.text):
                tab.page.evaluate("document.getElementById('form').submit()")
            assert tab.posted == []
    tab = Tab(person, link)
    tab.shows_question()
    tab.unlock(PASSPHRASE)
    assert finish(gpg)[1] == PLAINTEXT


def test_the_browser_trusts_no_other_authority(caddy: Caddy, playwright: Playwright) -> None:
    """The tests' trust is real: a Chromium whose administrator did not add this authority refuses the proxy."""
    with (
        contextlib.closing(Chromium(playwright)) as chromium,
        chromium.headless() as browser,
        pytest.raises(BrowserError, match="ERR_CERT_AUTHORITY_INVALID"),
    ):
        browser.new_page().goto(f"https://{NAME}:{caddy.port}/web03/")


def test_the_browser_keeps_the_passphrase_for_the_next_link(
    web03: Keyring, caddy: Caddy, playwright: Playwright
) -> None:
    """Chromium's own password manager saves what was typed, and fills it in on the next prompt for the same key."""
    with (
        contextlib.closing(Desktop()) as desktop,
        contextlib.closing(Chromium(playwright, caddy.authority)) as chromium,
        chromium.on_screen(desktop.display) as window,
    ):
        gpg = web03.decrypt()
        tab = Tab(window, web03.house.phone.ring(1)["link"])
        tab.shows_question()
        account = tab.page.get_by_label("Account").input_value()
        tab.unlock(PASSPHRASE)
        tab.shows("Unlocked")
        assert finish(gpg)[1] == PLAINTEXT
        save(desktop, chromium, account)

        web03.forget()  # which would remember it, too
        gpg = web03.decrypt()
        link = web03.house.phone.ring(2)["link"]
        tab.page.goto(link)
        tab.shows_question()
        tab.page.get_by_role("heading", name="asks for").click()  # until then Chromium shows it to the person only
        expect(tab.page.get_by_label("Passphrase", exact=True)).to_have_value(PASSPHRASE.decode())
        tab.page.get_by_role("button", name="Unlock").click()
        tab.shows("Unlocked")
        assert finish(gpg)[1] == PLAINTEXT


def save(desktop: Desktop, chromium: Chromium, account: str) -> None:
    """Move the keyboard to what the browser asks and take what it offers first, Save, until it has been saved."""
    for _ in range(40):
        desktop.press("Alt_L", "Shift_L", "a")
        desktop.press("Return")
        with contextlib.suppress(AssertionError):  # it had not asked yet
            until(lambda: accounts(chromium) == [account], "a password saved by the browser", 0.5)
            return
    pytest.fail("the browser saved no password")


def accounts(chromium: Chromium) -> list[str]:
    """For whom the password manager keeps something; what it keeps is encrypted."""
    store = chromium.profile / "Default" / "Login Data"
    with contextlib.closing(sqlite3.connect(f"file:{store}?immutable=1", uri=True)) as database:
        return [str(account) for (account,) in database.execute("select username_value from logins")]
