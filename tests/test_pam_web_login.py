"""A whole login by its page: what the session shows leads a browser there, and what is read there opens."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Tab, headless
from certificates import issued
from pam_house import USERS, WEB_UID, PamHouse, Word
from pam_page import holds
from playwright.sync_api import Playwright
from qr_reader import picture, pixels, read

SETTINGS = 'auth_gpg = ["sshd"]\nweb_address = "127.0.0.1"\nweb_ports = "21480-21499"'


@pytest.fixture(scope="module")
def house() -> Iterator[PamHouse]:
    house = PamHouse()
    house.configure(SETTINGS)
    try:
        house.start()
        yield house
    finally:
        house.clear()


def serving(house: PamHouse) -> int:
    """The process that serves the page of the only login."""
    (conversation,) = house.children()
    (server,) = Path(f"/proc/{conversation}/task/{conversation}/children").read_text().split()
    return int(server)


def test_a_login_by_its_page(house: PamHouse, playwright: Playwright, tmp_path: Path) -> None:
    """At 80x24: the session's code is the page's link; name and password from beside it; the page's code decrypted and
    typed is a login. What served the page never had the response.
    """
    authority, key, chain = issued(tmp_path, "127.0.0.1")
    for name, file in (("key.pem", key), ("chain.pem", chain)):
        (house.homes["alice"] / name).write_bytes(file.read_bytes())
        (house.homes["alice"] / name).chmod(0o600)
        os.chown(house.homes["alice"] / name, USERS["alice"], USERS["alice"])
    folder = house.homes["alice"]
    house.enrol(words=f"notrust nosign webQrAuthTls {folder}/key.pem {folder}/chain.pem")
    login = house.login()
    said = [word for word in login.until_asked() if word.word != "wait"]
    assert [word.word for word in said] == ["say", "say", "say", "ask"], said
    page, code = said[1:3]
    found = re.fullmatch(r"It is also here \(name (\w+), password (\w+)\):\n  (https://\S+)", page.text)
    assert found
    name, password, link = found.groups()
    assert read(picture(pixels(code.text, dark=True), tmp_path / "session.png")) == link
    with headless(playwright, authority) as browser:
        context = browser.new_context(http_credentials={"username": name, "password": password})
        tab = Tab(context, link)
        tab.shows("A login waits for your response")
        tab.page.screenshot(path=tmp_path / "page.png", full_page=True)
        context.close()
    scanned = read(tmp_path / "page.png")
    assert scanned
    response = house.response([Word("say", scanned)])
    assert response == house.response(said)
    server = serving(house)
    assert holds(server, scanned.encode())
    assert not holds(server, response.encode())
    uids = re.search(r"^Uid:\t(.*)$", Path(f"/proc/{server}/status").read_text(), re.MULTILINE)
    assert uids
    assert uids[1].split() == [str(WEB_UID)] * 4, "who makes the messages is another"
    login.type(response)
    assert login.end() == [Word("allow")]
    assert not Path(f"/proc/{server}/stat").exists()


def test_the_background_is_a_setting(house: PamHouse, tmp_path: Path) -> None:
    """What the administrator says of size and colours of the terminals behind ssh is what the code is drawn for."""
    house.configure(f'{SETTINGS}\nterminal = "120x70"\nbackground = "light"')
    house.entry("bob", f"{house.key('bob')} notrust nosign none")
    login = house.login("bob")
    said = [word for word in login.until_asked() if word.word == "say"]
    login.close()
    assert (
        read(picture(pixels(said[-1].text, dark=False), tmp_path / "light.png"))
        == said[0].text.partition("\n\n")[2].strip()
    )
    assert read(picture(pixels(said[-1].text, dark=True), tmp_path / "dark.png")) is None
