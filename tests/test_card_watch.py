"""``unlatch card watch``: rings once when a card lost its verified state, whoever took it."""

import os
import signal
import socket
from collections.abc import Callable

import pytest
from answerer import Page
from card.card import PIN
from card.house import CardHouse
from card.unlatch import card, unlock
from house import UNLATCH
from waiting import until

COMMAND = (UNLATCH, "card", "watch")
LATER = "3600"  # nothing is looked at but for what happens


@pytest.fixture
def keyed(card_house: CardHouse) -> CardHouse:
    """A house with an unlocked card."""
    card_house.card.generate("auth", "ed25519")
    unlock(card_house)
    return card_house


class Watching:
    """A watch that runs."""

    def __init__(self, house: CardHouse, *words: str, every: str = LATER, **more: str) -> None:
        self.house = house
        self.process = house.start(*COMMAND, "--every", every, *words, **more)
        assert self.process.stderr is not None
        os.set_blocking(self.process.stderr.fileno(), False)
        self.said = ""

    def hears(self, text: str) -> None:
        """Wait until it says this."""
        try:
            until(lambda: text in self._read(), text)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in {self.said!r}") from None
        self.said = self.said.partition(text)[2]

    def _read(self) -> str:
        assert self.process.stderr is not None
        self.said += (self.process.stderr.read() or b"").decode()
        return self.said


def answer(house: CardHouse, number: int = 1) -> Page:
    """Take the ring with this number and give the PIN."""
    page = house.open(house.phone.ring(number)["link"])
    page.unlock(PIN)
    assert page.verdict().outcome == "accepted"
    return page


def replug(house: CardHouse) -> None:
    house.reader.replug()


def kill_scdaemon(house: CardHouse) -> None:
    [daemon] = house.processes_called(b"scdaemon")
    os.kill(daemon, signal.SIGKILL)


def restart_pcscd(house: CardHouse) -> None:
    held = house.card
    house.pcsc.stop()
    house.pcsc.start()
    house.reader.insert(held)


def restart_agent(house: CardHouse) -> None:
    house.run("gpgconf", "--kill", "gpg-agent")
    house.run("gpgconf", "--launch", "gpg-agent")


@pytest.mark.parametrize(
    ("accident", "reason"),
    [
        (replug, "no card is in the reader"),
        (kill_scdaemon, "scdaemon ended"),
        (restart_pcscd, "pcscd ended"),
        (restart_agent, "gpg-agent ended"),
    ],
)
def test_it_rings_once_and_works_again(keyed: CardHouse, accident: Callable[[CardHouse], None], reason: str) -> None:
    """One ring that says why; after the answer the card works."""
    watch = Watching(keyed)
    watch.hears("the card 00000001 is unlocked")
    accident(keyed)
    page = answer(keyed)
    watch.hears("the card 00000001 is unlocked")
    assert page.prompt is not None
    assert "It was unlocked before." in page.prompt.text
    assert reason in page.prompt.text
    assert card(keyed, "check").code == 0
    assert len(keyed.phone.messages("ring")) == 1


def test_it_rings_again_after_the_next_accident(keyed: CardHouse) -> None:
    """Once for each time that the state was lost."""
    watch = Watching(keyed)
    for number in (1, 2, 3):
        watch.hears("the card 00000001 is unlocked")
        keyed.reader.replug()
        answer(keyed, number)
    assert len(keyed.phone.messages("ring")) == 3


def test_a_reset_by_another_program_is_found_by_looking(keyed: CardHouse) -> None:
    """Nobody tells of it, so the card is looked at now and then."""
    watch = Watching(keyed, every="1")
    watch.hears("the card 00000001 is unlocked")
    keyed.apdu("0020FF82")
    page = answer(keyed)
    assert page.prompt is not None
    assert "Another program reset it." in page.prompt.text
    assert card(keyed, "check").code == 0


def test_a_no_is_an_answer(keyed: CardHouse) -> None:
    """Nobody is rung again for this time, however often it looks."""
    watch = Watching(keyed, every="1")
    watch.hears("the card 00000001 is unlocked")
    keyed.reader.replug()
    page = keyed.open(keyed.phone.ring()["link"])
    page.deny()
    watch.hears("the prompt was denied")
    looks = len(keyed.reader.commands)
    until(lambda: len(keyed.reader.commands) > looks + 4, "two more looks")
    assert len(keyed.phone.messages("ring")) == 1
    unlock(keyed)
    watch.hears("the card 00000001 is unlocked")
    keyed.reader.replug()
    keyed.phone.ring(2)


def test_a_card_that_was_locked_from_the_beginning_rings_nobody(card_house: CardHouse) -> None:
    """Boot has its own unlocking."""
    card_house.card.generate("auth", "ed25519")
    watch = Watching(card_house, every="1")
    watch.hears("the card 00000001 is locked")
    looks = len(card_house.reader.commands)
    until(lambda: len(card_house.reader.commands) > looks + 4, "two more looks")
    assert card_house.phone.messages() == []


def test_unlocked_at_the_terminal_while_the_phone_rings(keyed: CardHouse) -> None:
    """The prompt is withdrawn, and the watch goes on."""
    watch = Watching(keyed, every="1")
    watch.hears("the card 00000001 is unlocked")
    keyed.reader.replug()
    keyed.phone.ring()
    unlock(keyed)
    assert keyed.phone.end()["outcome"] == "withdrawn"
    watch.hears("the card 00000001 is unlocked")
    keyed.reader.replug()
    answer(keyed, 2)


def test_quiet_hours(keyed: CardHouse) -> None:
    """A rule that refuses now keeps the phone silent; when it does not any more, the ring comes."""
    keyed.configure(tables='[[rule]]\nhours = "00:00-24:00"\naction = "refuse"')
    watch = Watching(keyed, every="1")
    watch.hears("the card 00000001 is unlocked")
    keyed.reader.replug()
    watch.hears("the card 00000001 is locked; nobody is rung: a rule refuses this prompt")
    assert keyed.phone.messages() == []
    keyed.configure()
    answer(keyed)


def test_no_poll_while_nothing_happens(keyed: CardHouse) -> None:
    """The PIN is looked at when something happened, once, and else not; nobody waits for anything meanwhile."""
    watch = Watching(keyed)
    watch.hears("the card 00000001 is unlocked")
    keyed.reader.commands.clear()
    keyed.second.insert(keyed.card.copy(2))  # which also makes two cards of one; the watch stays with the one it knows
    until(lambda: keyed.reader.commands, "a look")
    for _ in range(10):
        assert card(keyed, "check", "00000001").code == 0
    # One for each check, and one for each word of pcscd's about the new card.
    assert 11 <= keyed.reader.commands.count(b"\x00\x20\x00\x82") <= 14
    assert watch.process.poll() is None


def test_an_open_pinentry_is_left_alone(card_house: CardHouse) -> None:
    """Somebody else is being asked by gpg-agent: the watch gives up, says so, and looks again later."""
    card_house.card.generate("auth", "ed25519")
    other = card_house.start("gpg-connect-agent", f"SCD CHECKPIN {card_house.card.application_id}", "/bye")
    page = card_house.open(card_house.phone.ring()["link"])
    watch = Watching(card_house, every="1")
    watch.hears("somebody is being asked for a card's PIN")
    page.unlock(PIN)
    other.communicate(timeout=20)
    watch.hears("the card 00000001 is unlocked")


def test_it_tells_systemd_when_it_watches(keyed: CardHouse) -> None:
    """READY=1 comes after the first look (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = keyed.root / "notify"
        manager.bind(str(path))
        manager.settimeout(20)
        watch = Watching(keyed, NOTIFY_SOCKET=str(path))
        assert manager.recv(100) == b"READY=1"
    assert watch.process.poll() is None


def test_it_ends_with_its_prompt(keyed: CardHouse) -> None:
    """systemd stops it while somebody is asked: the prompt is withdrawn, and no process is left."""
    watch = Watching(keyed)
    watch.hears("the card 00000001 is unlocked")
    keyed.reader.replug()
    keyed.phone.ring()
    assert len(keyed.processes_called(b"watch")) == 2
    watch.process.terminate()
    watch.process.wait(20)
    assert keyed.phone.end()["outcome"] == "withdrawn"
    until(lambda: not keyed.processes_called(b"watch"), "the end of all of them")


def test_two_cards_need_a_name(keyed: CardHouse) -> None:
    """That is said at once."""
    keyed.second.insert(keyed.card.copy(2))
    assert card(keyed, "watch").code == 2
