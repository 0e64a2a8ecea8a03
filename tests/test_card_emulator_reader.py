"""The emulated card behind real pcscd and scdaemon: what a hand at the reader does, and who is seen to spend a try."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from card.card import PIN, Card
from card.house import CardHouse
from card.pcsc import READERS
from card.reader import VERIFY
from real_gnupg import finish
from waiting import until

WRONG_PIN = b"999999"


def test_gpg_sees_a_new_card(card_house: CardHouse) -> None:
    """A new card shows its serial number and its tries; looking at it costs none."""
    shown = card_house.run("gpg", "--card-status").decode()
    assert card_house.card.application_id in shown
    assert "PIN retry counter : 3 0 3" in shown
    assert card_house.card.record() == []


@pytest.mark.parametrize("extended", [True, False])
def test_long_answers_come_whole(card_house: CardHouse, extended: bool) -> None:
    """With extended lengths at once, without them in pieces: scdaemon reads the same key."""
    card = Card(extended=extended)
    card.generate("auth", "rsa4096")
    card_house.replace(card)
    assert "Key attributes ...: rsa2048 rsa2048 rsa4096" in card_house.run("gpg", "--card-status").decode()
    seen = {command[1] for command in card_house.reader.commands}
    assert (0xC0 in seen) != extended


def test_a_card_that_was_pulled_comes_back_locked(card_house: CardHouse) -> None:
    """Verified, pulled, put back: scdaemon sees the card again, and the PIN has to be given again."""
    unlock(card_house)
    card = card_house.card
    card_house.reader.remove()
    until(lambda: "No such device" in card_house.serial(), "the end of the card")
    card_house.reader.insert(card)
    until(lambda: card.application_id in card_house.serial(), "the card")
    assert not card.verified()
    assert card.tries().pin == 3


@pytest.mark.parametrize("after", [False, True])
def test_a_card_can_be_pulled_in_mid_operation(card_house: CardHouse, after: bool) -> None:
    """The command that is under way fails; whether the card had done it already nobody can know."""
    card = card_house.card
    card_house.reader.pull_at(VERIFY, after=after)
    assert card_house.apdu(verify(PIN)) == ""
    assert card.verified() == after
    card_house.reader.remove()
    card_house.reader.insert(card)
    assert not card.verified()


def test_another_card_has_its_own_state(card_house: CardHouse) -> None:
    """The reader's next card is another one: its serial number, its tries, locked."""
    unlock(card_house)
    card_house.reader.remove()
    other = Card(serial=0xBEEF)
    other.set_pin(tries=1)
    card_house.reader.insert(other)
    until(lambda: other.application_id in card_house.serial(), "the other card")
    assert card_house.apdu("00 20 00 82") == "63C1"


def test_two_readers_have_a_card_each(card_house: CardHouse) -> None:
    """The second reader is there with a card of its own; scdaemon serves the one that it was told."""
    second = Card(serial=2)
    card_house.second.insert(second)
    assert card_house.card.application_id in card_house.serial()
    assert card_house.reader_names() == list(READERS)
    card_house.run("gpgconf", "--kill", "all")
    card_house.use_reader(1)
    assert second.application_id in card_house.serial()


def test_a_command_takes_no_time(card_house: CardHouse) -> None:
    """Thirty commands in a third of the time that the kernel would hold each back for (44 ms); a slow card is slow."""
    commands = ["SCD APDU 00200082"] * 30
    assert min(seconds(card_house, commands) for _ in range(5)) < 30 * 0.044 / 3
    card_house.reader.delay = 0.3
    assert seconds(card_house, commands[:2]) > 2 * 0.3


def test_a_stuck_card_holds_its_caller_up(card_house: CardHouse) -> None:
    """A card that does not answer keeps its caller waiting until it does, and nothing is lost."""
    unlock(card_house)
    card_house.reader.hold()
    caller = card_house.start("gpg-connect-agent", "SCD APDU 00200082", "/bye")
    until(lambda: card_house.reader.commands[-1][1] == VERIFY, "the command at the card")
    assert caller.poll() is None
    card_house.reader.release()
    code, out, _ = finish(caller)
    assert code == 0
    assert b"OK" in out


def test_without_a_reader_there_is_no_device(card_house: CardHouse) -> None:
    """pcscd without readers, and no pcscd at all: scdaemon says so at once; the next test has all of it back."""
    card_house.pcsc.stop()
    card_house.pcsc.start(readers=False)
    assert "No such device" in card_house.serial()
    card_house.pcsc.stop()
    assert card_house.reader.card is None
    assert "OK" not in card_house.serial().splitlines()


def test_a_reset_by_another_program_locks(card_house: CardHouse) -> None:
    """Power that went away and came back is not told to anybody: only the card knows that nothing is verified."""
    unlock(card_house)
    card_house.card.power_on()
    assert card_house.apdu("00 A4 04 00 06 D27600012401") == "9000"
    assert card_house.apdu("00 20 00 82") == "63C3"


def test_every_try_is_seen_and_by_whom(card_house: CardHouse) -> None:
    """A try that was announced is in the card's account under the name of the program that spent it."""
    card = card_house.card
    card.expect_wrong(1, by="gpg-connect-agent")
    assert card_house.apdu(verify(WRONG_PIN)) == "6982"
    assert card.tries().pin == 2
    assert card.wrong_pin_count() == 1
    assert card.account.spent == {"gpg-connect-agent": 1}


# What a test looks like that spends a try without a word, on whichever card.
CARELESS = """
from card.card import Card

def test_first_reader(card_house):
    assert card_house.apdu("00 20 00 82 06 393939393939") == "6982"

def test_a_card_that_is_gone(card_house):
    assert card_house.apdu("00 20 00 82 06 393939393939") == "6982"
    card_house.reader.remove()

def test_second_reader(card_house):
    card_house.second.insert(Card(2))
    card_house.use_reader(1)
    assert card_house.apdu("00 20 00 83 08 3939393939393939") == "6982"

def test_announced_for_another(card_house):
    card_house.card.expect_wrong(1, by="unlatch card unlock")
    assert card_house.apdu("00 20 00 82 06 393939393939") == "6982"

def test_announced_and_not_spent(card_house):
    card_house.card.expect_wrong(1, by="gpg-connect-agent")

def test_careful(card_house):
    card_house.card.expect_wrong(1, by="gpg-connect-agent")
    assert card_house.apdu("00 20 00 82 06 393939393939") == "6982"
"""


def test_the_suite_fails_for_a_try_that_was_not_announced(tmp_path: Path) -> None:
    """A run of pytest with such tests: each of them fails, the careful one passes, and the sum tells both."""
    tests = Path(__file__).parent
    (tmp_path / "test_careless.py").write_text(CARELESS)
    settings = ["-c", str(tests.parent / "pyproject.toml"), f"--rootdir={tmp_path}", f"--basetemp={tmp_path}/base"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-n", "2", *settings, tmp_path],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tests), "CI": "true"}, cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert re.search(r"6 passed, 5 errors", done.stdout), done.stdout
    assert "4  not announced" in done.stdout
    assert "1  gpg-connect-agent" in done.stdout


def test_a_house_has_the_machine_to_itself(card_house: CardHouse) -> None:
    """Inside there is a /run of its own and no network but loopback; outside nobody hears vpcd."""
    assert card_house.run("ls", "/run").decode().split() == ["pcscd"]
    interfaces = card_house.run("cat", "/proc/net/dev").decode()
    assert [line.split(":")[0].strip() for line in interfaces.splitlines()[2:]] == ["lo"]
    listening = card_house.run("cat", "/proc/net/tcp", "/proc/net/tcp6").decode()
    assert ":8C7B " in listening
    assert ":8C7B " not in Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()


def test_a_process_has_one_number(card_house: CardHouse) -> None:
    """What start() gives is the program itself: its pid outside, and signals reach it."""
    process = card_house.start("sleep", "60")
    arguments = Path(f"/proc/{process.pid}/cmdline")
    until(lambda: arguments.read_bytes().startswith(b"sleep\0"), "sleep itself")
    process.terminate()
    assert process.wait(10) == -15


def unlock(house: CardHouse) -> None:
    assert house.apdu(verify(PIN)) == "9000"
    assert house.card.verified()


def seconds(house: CardHouse, commands: list[str]) -> float:
    """How long gpg-agent takes for these."""
    begun = time.monotonic()
    house.run("gpg-connect-agent", *commands, "/bye")
    return time.monotonic() - begun


def verify(value: bytes) -> str:
    return f"00 20 00 82 {len(value):02X} {value.hex()}"
