"""login at a terminal and vlock, a screen locker, with the challenge: what a console is like."""

import re
from collections.abc import Iterator

import pytest
from login_house import ARMOUR, FROM_NOBODY, MODULE, NOT_ACCEPTED, PASSWORD, PROMPT, Locked, LoginHouse, challenged
from terminal import Terminal

BELOW = f"{MODULE} after_first_factor"  # docs/logins.md: below the password


def login(logins: LoginHouse, name: str) -> Terminal:
    """Somebody at a console."""
    terminal = logins.machine.terminal("login")
    terminal.expect("login: ")
    terminal.type(f"{name}\n")
    return terminal


def test_login_at_a_console(logins: LoginHouse) -> None:
    """The name is asked by login, the challenge is of who was named, and a shell is what it gives."""
    with login(logins, "alice") as terminal:
        message = challenged(terminal, logins.alice)
        assert message.who == "alice@web03 login"
        assert re.fullmatch(r"from pts/\d+", message.source)
        terminal.type(f"{message.response}\n")
        terminal.expect("$ ")
        terminal.type("exec id\n")
        terminal.expect("(alice)")
        assert terminal.end() == 0
    assert re.match(r"login allowed: user=alice service=login from=pts/\d+ uid=0 by=challenge ", logins.verdict())


def test_login_asks_anew_for_a_name(logins: LoginHouse) -> None:
    """After a wrong response the same process asks for a name: the next challenge is for who is named then."""
    with login(logins, "alice") as terminal:
        first = challenged(terminal, logins.alice)
        terminal.type("wrong\n")
        terminal.expect(NOT_ACCEPTED)
        terminal.expect("login: ")
        terminal.type("bob\n")
        second = challenged(terminal, logins.bob)
        assert second.who == "bob@web03 login"
        terminal.type(f"{first.response}\n")
        terminal.expect(NOT_ACCEPTED)
        terminal.expect("login: ")
        terminal.type("nobody-here\n")
        terminal.expect(FROM_NOBODY)
    users = re.findall(r"login denied: user=(\S+)", "\n".join(logins.verdicts(3)))
    assert users == ["alice", "bob", "nobody-here"]


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_giving_up_at_a_console(logins: LoginHouse, key: str) -> None:
    """Ctrl-C ends login; Ctrl-D is an answer that is none."""
    with login(logins, "alice") as terminal:
        terminal.expect(PROMPT)
        terminal.type(key)
        assert "went away" in logins.verdict()
        assert "$ " not in terminal.screen


def test_login_below_the_password(logins: LoginHouse) -> None:
    """docs/logins.md: Debian's own file with one line more, and a session as systemd opens it."""
    logins.debian("login", BELOW)
    with login(logins, "alice") as terminal:
        terminal.expect("Password: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.type(f"{challenged(terminal, logins.alice).response}\n")
        terminal.expect("$ ")
        terminal.type("loginctl --no-pager show-session $XDG_SESSION_ID -P Name; exit\n")
        terminal.expect("\nalice\n")
        assert terminal.end() == 0
    assert "login allowed: user=alice" in logins.verdict()


@pytest.fixture
def locked(logins: LoginHouse) -> Iterator[Locked]:
    """bob's locked screen, after bob has pressed Enter."""
    locked = Locked(logins)
    with locked.terminal:
        locked.press_enter()
        yield locked


def test_the_right_response_unlocks(logins: LoginHouse, locked: Locked) -> None:
    """The message names the locker and the terminal; Ctrl-C before it is no way out."""
    terminal = locked.terminal
    message = challenged(terminal, logins.bob)
    assert message.who == "bob@web03 vlock"
    assert re.fullmatch(r"from pts/\d+", message.source)
    locked.answer(f"{message.response}\n")
    assert terminal.end() == 0
    assert logins.verdict().startswith("login allowed: user=bob service=vlock ")


def test_after_a_wrong_response_root_is_asked(logins: LoginHouse, locked: Locked) -> None:
    """vlock lets root unlock too: without a record nobody is root here, with one root's key opens."""
    terminal = locked.terminal
    challenged(terminal, logins.bob)
    locked.answer("wrong\n")
    terminal.expect(NOT_ACCEPTED)
    terminal.expect(FROM_NOBODY)
    logins.enrol("root", logins.carol)
    locked.press_enter()
    challenged(terminal, logins.bob)
    locked.answer("wrong\n")
    terminal.expect(NOT_ACCEPTED)
    message = challenged(terminal, logins.carol)
    assert message.who == "root@web03 vlock"
    locked.answer(f"{message.response}\n")
    assert terminal.end() == 0
    assert [line.split(" service")[0] for line in logins.verdicts(4)] == [
        "login denied: user=bob",
        "login denied: user=root",
        "login denied: user=bob",
        "login allowed: user=root",
    ]


def test_a_locked_screen_without_the_service(logins: LoginHouse) -> None:
    """It stays locked, says why in one line, and opens once the service is back."""
    logins.machine.run("systemctl", "stop", "unlatch-pam.socket", "unlatch-pam.service")
    locked = Locked(logins)
    with locked.terminal as terminal:
        locked.press_enter()
        terminal.expect(FROM_NOBODY)
        logins.machine.run("systemctl", "start", "unlatch-pam.socket")
        locked.press_enter()
        assert not ARMOUR.search(terminal.screen)
        locked.answer(f"{challenged(terminal, logins.bob).response}\n")
        assert terminal.end() == 0
    assert "no service at" in logins.verdicts(3)[0], "bob, and root, and bob"
