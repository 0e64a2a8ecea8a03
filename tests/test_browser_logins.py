"""Logins on the page with everything real: the asker, its broker, Caddy with https, Chromium, a QR reader, and gpg."""

import os
import re
from pathlib import Path

import pytest
import qr_reader
from browser import Tab
from house import UNLATCH, House
from pam_phone_login import login
from playwright.sync_api import Browser, BrowserContext
from proxy import NAME, Caddy
from real import absent
from real_gnupg import GPG, LOOPBACK, OWNER
from waiting import until

ACCOUNT = "mail"  # of every Debian; nobody logs in to it here
PERSON = f'[people.mia]\nusers = ["{ACCOUNT}"]\nnotify = ["phone"]'
RESPONSE = "aB3dE6gH9j"


@pytest.fixture
def served(house: House, caddy: Caddy) -> tuple[House, str]:
    """A house whose broker runs and rings the account's person, and its public address."""
    if os.getuid() != 0:
        absent("only root asks about logins")
    caddy.serve("web03", house, tables=PERSON)
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    return house, f"https://{NAME}:{caddy.port}/web03/"


def test_approve_a_login(served: tuple[House, str], person: BrowserContext) -> None:
    """The page says who logs in and from where; with the session's digits it is a yes, and says what to do next."""
    house, _ = served
    with login(house.runtime, ACCOUNT, digits="07") as session:
        session.taken()
        tab = Tab(person, house.phone.ring()["link"])
        tab.shows_question()
        for text in ("root (uid 0)", "Service: sshd", "From: 203.0.113.5", "Say yes only to a login"):
            tab.says(text)
        tab.page.get_by_role("button", name="Allow").click()
        tab.says("Type the two digits first.")
        tab.page.get_by_label("two digits").fill("07")
        tab.page.get_by_role("button", name="Allow").click()
        assert session.result() == "yes"
        tab.shows("Allowed")
        tab.says("Now press Enter where you log in.")
        assert tab.complaints == []
        session.stop()


def test_wrong_digits_end_a_login(served: tuple[House, str], person: BrowserContext) -> None:
    """Whoever guesses has one guess, and the page says that it was wrong."""
    house, _ = served
    with login(house.runtime, ACCOUNT, digits="07") as session:
        session.taken()
        tab = Tab(person, house.phone.ring()["link"])
        tab.page.get_by_label("two digits").fill("08")
        tab.page.get_by_role("button", name="Allow").click()
        assert session.result().startswith("no: ")
        tab.shows("Denied")
        tab.says("The digits were wrong.")
        session.stop()


def test_decrypt_what_the_page_shows(served: tuple[House, str], chromium: Browser, tmp_path: Path) -> None:
    """The code on the screenshot is a message that gpg decrypts; its response, typed on the page, is the login's."""
    house, url = served
    house.run(*GPG, *LOOPBACK, "--quick-gen-key", OWNER, "future-default", "default", "never")
    text = f"{ACCOUNT}@web03 sshd\nfrom 203.0.113.5\nat 2026-01-01 03:14:15 UTC\n{RESPONSE}\n".encode()
    armour = house.run(
        *GPG, "--trust-model", "always", "--armor", "--encrypt", "--recipient", OWNER, feed=text
    ).decode()
    with login(house.runtime, ACCOUNT, armour=armour, response=RESPONSE, url=url) as session:
        context = chromium.new_context(viewport={"width": 390, "height": 844}, device_scale_factor=2)
        tab = Tab(context, session.taken()["link"])
        tab.shows_question()
        tab.page.screenshot(path=tmp_path / "page.png", full_page=True)
        scanned = qr_reader.read(tmp_path / "page.png")
        assert scanned == armour.strip()
        (house.root / "challenge.asc").write_text(scanned)
        plain = house.run(*GPG, *LOOPBACK, "--decrypt", house.root / "challenge.asc")
        found = re.search(rb"[a-zA-Z0-9]{10}\n\Z", plain)
        assert found
        tab.page.get_by_label("Response").fill(found[0].decode().strip())
        tab.page.get_by_role("button", name="Send").click()
        assert session.result() == RESPONSE
        tab.shows("Accepted")
        assert tab.complaints == []
        context.close()
        session.stop()
    assert house.phone.messages() == []
