"""The asker's own rules with real gpg-agent: ring, leave it to a local pinentry, or refuse at once."""

import os
import pty
import select
import time
from pathlib import Path

from house import House
from real import real
from real_gnupg import PASSPHRASE, PLAINTEXT, Keyring, finish

UNATTENDED_UNLESS_INTERACTIVE = """
[[rule]]
user_data = "interactive"
action = "tty"
pinentry = "{pinentry}"
[[rule]]
action = "ring"
"""


def test_interactive_uses_the_terminal(house: House) -> None:
    """PINENTRY_USER_DATA=interactive gives the person at the terminal the pinentry of their choice; nobody is rung."""
    house.configure(tables=UNATTENDED_UNLESS_INTERACTIVE.format(pinentry=real("pinentry-curses")))
    keyring = Keyring(house)
    keyboard, terminal = pty.openpty()
    try:
        service = keyring.decrypt(PINENTRY_USER_DATA="interactive", GPG_TTY=os.ttyname(terminal), TERM="xterm")
        read_until(keyboard, b"Passphrase")
        os.write(keyboard, PASSPHRASE + b"\r")
        assert finish(service)[:2] == (0, PLAINTEXT)
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert house.phone.messages() == []


def test_otherwise_the_phone_is_rung(house: House) -> None:
    """The same settings without PINENTRY_USER_DATA ring, whether or not there is a terminal."""
    house.configure(tables=UNATTENDED_UNLESS_INTERACTIVE.format(pinentry=real("pinentry-curses")))
    service = Keyring(house).decrypt()
    house.open(house.phone.ring()["link"]).unlock(PASSPHRASE)
    assert finish(service)[:2] == (0, PLAINTEXT)


def test_refused_at_once(house: House) -> None:
    """A rule that refuses makes GnuPG fail at once: no broker, no ring, no waiting."""
    house.configure(tables='[[rule]]\naction = "refuse"')
    code, _, errors = finish(Keyring(house).decrypt(), seconds=10)
    assert code != 0
    assert errors
    assert house.phone.messages() == []
    assert house.brokers() == []


def test_bad_rules_refuse(house: House) -> None:
    """Rules with a mistake refuse every prompt: a typing error must not send prompts where they should not go."""
    house.configure(tables='[[rule]]\naction = "rign"')
    code, _, _ = finish(Keyring(house).decrypt(), seconds=10)
    assert code != 0
    assert house.phone.messages() == []


def test_a_user_without_a_person_is_refused(house: House) -> None:
    """Where people are named and none is named for this user, GnuPG fails at once."""
    text = house.settings.read_text().replace('users = ["*"]', 'users = ["somebody-else"]')
    house.settings.write_text(text)
    code, _, _ = finish(Keyring(house).decrypt(), seconds=10)
    assert code != 0
    assert house.phone.messages() == []


def test_no_broker_can_be_started(house: House) -> None:
    """Without any way to a broker (here: its directory belongs to others) GnuPG fails at once instead of hanging."""
    keyring = Keyring(house)
    house.runtime.chmod(0o777)
    (house.runtime / "askers").mkdir()
    (house.runtime / "askers").chmod(0o777)
    code, _, _ = finish(keyring.decrypt(), seconds=10)
    assert code != 0
    assert not Path(house.runtime / "askers" / "broker.sock").exists()


def read_until(descriptor: int, wanted: bytes, seconds: float = 20) -> None:
    """Read a terminal until it shows something."""
    end, seen = time.monotonic() + seconds, b""
    while wanted not in seen:
        assert select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0], seen
        seen += os.read(descriptor, 4096)
