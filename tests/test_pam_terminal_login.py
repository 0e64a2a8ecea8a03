"""The code of a real login by sshd, sudo and su: read from a picture of the terminal, and its message typed in."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import headless
from login_house import LoginHouse, challenged, is_let_in
from playwright.sync_api import Browser, Playwright
from qr_reader import read
from rendered_terminal import replay
from terminal import Terminal

WEB = 'web_address = "127.0.0.1"'
FETCH = "import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())"


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    with headless(playwright) as browser:
        yield browser


def scanned(
    terminal: Terminal, size: tuple[int, int], browser: Browser, folder: Path, scheme: str = "dark"
) -> str | None:
    """What a phone reads from a terminal of this size that has what this one has."""
    with replay(*size, terminal.screen, folder) as shown:
        shown.shows("Response:")
        return read(shown.photograph(browser, scheme, folder / "terminal.png"))


@pytest.mark.parametrize(("size", "name"), [((80, 50), "alice"), ((120, 70), "bob")])
def test_ssh_shows_a_code_where_the_administrator_says_so(
    size: tuple[int, int], name: str, logins: LoginHouse, browser: Browser, tmp_path: Path
) -> None:
    """What ssh(1) prints of it is still a code, and what gpg reads from it lets in; for both kinds of keys."""
    logins.configure(f'terminal = "{size[0]}x{size[1]}"')
    holder = {"alice": logins.alice, "bob": logins.bob}[name]
    with logins.ssh(name) as terminal:
        message = challenged(terminal, holder)
        code = scanned(terminal, size, browser, tmp_path)
        assert code
        assert holder.read(code) == message
        terminal.type(f"{holder.read(code).response}\n")
        assert is_let_in(terminal, name)


def test_ssh_shows_the_code_of_the_page_otherwise(logins: LoginHouse, browser: Browser, tmp_path: Path) -> None:
    """80x24, as it is without a setting: the code leads to the page, and the message there lets in."""
    logins.configure(WEB)
    logins.enrol("alice", logins.alice, web="webQrNoAuthNoTls")
    with logins.ssh("alice") as terminal:
        challenged(terminal, logins.alice)
        link = scanned(terminal, (80, 24), browser, tmp_path)
        assert link
        assert re.fullmatch(r"http://127\.0\.0\.1:84\d\d/\w{8}", link)
        page = logins.machine.run("python3", "-c", FETCH, f"{link}.asc").out
        terminal.type(f"{logins.alice.read(page).response}\n")
        assert is_let_in(terminal, "alice")
    assert logins.machine.run("python3", "-c", FETCH, link, check=False).code != 0


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_sudo_is_drawn_for_the_terminal_that_it_is_called_at(
    scheme: str, logins: LoginHouse, browser: Browser, tmp_path: Path
) -> None:
    """Nobody says how large it is, and the code has colours of its own: the service looks at the terminal itself."""
    with logins.machine.terminal("sudo", "id", "-un", user="bob", columns=120, rows=70) as terminal:
        message = challenged(terminal, logins.bob)
        code = scanned(terminal, (120, 70), browser, tmp_path, scheme)
        assert code
        assert logins.bob.read(code) == message
        terminal.type(f"{message.response}\n")
        terminal.expect("root\n")
        assert terminal.end() == 0


def test_a_small_terminal_has_no_code_that_would_not_fit(logins: LoginHouse) -> None:
    """su at 80x24 without a page: the message only, and no half of a code."""
    with logins.machine.terminal("su", "alice", "-c", "id -un", user="bob") as terminal:
        message = challenged(terminal, logins.alice)
        assert "▀" not in terminal.screen
        terminal.type(f"{message.response}\n")
        terminal.expect("alice\n")
        assert terminal.end() == 0
