"""``unlatch lock`` with a card: its PIN is wanted again, whatever it takes to get there."""

import os
import signal
import subprocess

import pytest
from card.card import ADMIN_PIN
from card.house import CardHouse
from card.unlatch import card, unlock
from house import UNLATCH
from waiting import until


@pytest.fixture
def unlocked(card_house: CardHouse) -> CardHouse:
    """A card with a key to log in, whose PIN was given."""
    card_house.card.generate("auth", "ed25519")
    unlock(card_house)
    return card_house


def lock(house: CardHouse) -> "subprocess.CompletedProcess[bytes]":
    """Run ``unlatch lock`` in the reader's namespace."""
    process = house.start(UNLATCH, "lock")
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def test_a_card_wants_its_pin_again(unlocked: CardHouse) -> None:
    """scdaemon 2.2 cannot take it back, so it is ended and the card reset; then the card itself is asked."""
    assert unlocked.card.verified()
    done = lock(unlocked)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"locked card 00000001\n", b"")
    assert not unlocked.card.verified()
    assert card(unlocked, "check").code != 0
    assert unlocked.card.submitted() == 1  # by unlock


def test_a_card_that_was_not_unlocked_is_left_alone(card_house: CardHouse) -> None:
    """Nobody has to wait for a new scdaemon for nothing."""
    card_house.serial()
    (before,) = card_house.processes_called(b"scdaemon")
    assert lock(card_house).stdout == b"nothing was unlocked\n"
    assert card_house.processes_called(b"scdaemon") == [before]


def test_the_admin_pin_counts_too(card_house: CardHouse) -> None:
    """A card that would obey the admin is not locked, though it wants the user's PIN."""
    assert card_house.apdu(f"00200083{len(ADMIN_PIN):02x}{ADMIN_PIN.hex()}") == "9000"
    assert lock(card_house).stdout == b"locked card 00000001\n"
    assert card_house.apdu("00200083") != "9000"


def test_a_card_that_was_pulled_out_is_no_trouble(unlocked: CardHouse) -> None:
    """It has locked itself."""
    unlocked.reader.remove()
    done = lock(unlocked)
    assert (done.returncode, done.stdout) == (0, b"nothing was unlocked\n")


def test_a_daemon_that_hangs_is_ended(unlocked: CardHouse) -> None:
    """It cannot be asked to lock the card; without it pcscd resets the card."""
    (pid,) = unlocked.processes_called(b"scdaemon")
    os.kill(pid, signal.SIGSTOP)
    done = lock(unlocked)
    assert done.returncode == 0, done.stderr
    assert b"locked the card whose scdaemon did not answer" in done.stdout
    until(lambda: not unlocked.card.verified(), "the reset of the card")
