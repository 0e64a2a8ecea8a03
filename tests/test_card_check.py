"""``unlatch card check``: exit 0 only if the card will work now, without asking, and never a long wait."""

import time

import pytest
from card.card import Card
from card.gnupg import provision
from card.house import CardHouse
from card.pins import Result
from card.unlatch import card, unlock
from house import UNLATCH
from terminal import Terminal


@pytest.fixture
def keyed(card_house: CardHouse) -> CardHouse:
    """A house with a card that can log in."""
    card_house.card.generate("auth", "ed25519")
    return card_house


def test_unlocked_is_0_and_silent(keyed: CardHouse) -> None:
    """With and without the serial number, in each of its forms, and with a real signature."""
    unlock(keyed)
    aid = keyed.card.application_id
    for words in ([], ["00000001"], ["FF5100000001"], ["ff51:00000001"], [aid], [aid.lower()], ["--sign"]):
        assert card(keyed, "check", *words) == (0, "", "")


def test_locked_is_7(keyed: CardHouse) -> None:
    """A card that nobody unlocked, and what to type."""
    keyed.run("gpg-connect-agent", "SCD SERIALNO", "/bye")
    done = card(keyed, "check")
    assert (done.code, done.error) == (7, "the card 00000001 is locked")
    assert done.hints == ['run "unlatch card unlock 00000001"']


def test_without_an_agent_it_is_locked_and_none_is_started(keyed: CardHouse) -> None:
    """A job must not start an agent that would end with it."""
    done = card(keyed, "check", "00000001")
    assert (done.code, done.error) == (7, "no gpg-agent runs, so no card is unlocked")
    assert done.hints == ['run "unlatch card unlock 00000001"']
    assert keyed.processes_called(b"gpg-agent") == []


def test_just_after_killscd_it_is_locked_at_once(keyed: CardHouse) -> None:
    """Nobody waits for the new scdaemon: whatever it will say, the card is locked."""
    unlock(keyed)
    keyed.run("gpg-connect-agent", "SCD KILLSCD", "/bye")
    done = card(keyed, "check")
    assert done.code == 7
    assert "scdaemon was just restarted" in done.error


def test_blocked_is_8(keyed: CardHouse) -> None:
    """With the ways out."""
    keyed.run("gpg-connect-agent", "SCD SERIALNO", "/bye")
    keyed.card.set_pin(tries=0)
    done = card(keyed, "check")
    assert (done.code, done.error) == (8, "the PIN of the card 00000001 is blocked")
    assert "with the admin PIN (3 tries left)" in done.hints[0]


def test_pulled_out_a_moment_ago_is_9(keyed: CardHouse) -> None:
    """scdaemon believes for half a second that a card is still there and unlocked."""
    unlock(keyed)
    keyed.reader.pull()
    assert card(keyed, "check").code == 9


def test_replugged_is_locked(keyed: CardHouse) -> None:
    """The verified state went with the power."""
    unlock(keyed)
    keyed.reader.replug()
    assert card(keyed, "check").code == 7


def test_scdaemon_that_is_wrong_is_not_believed(keyed: CardHouse) -> None:
    """Another program reset the card, and scdaemon says that it is unlocked."""
    unlock(keyed)
    keyed.apdu("0020FF82")
    done = card(keyed, "check")
    assert done.code == 7
    assert "reset by another program" in done.error


def test_another_card_is_9(keyed: CardHouse) -> None:
    """The wrong card, although it is unlocked."""
    unlock(keyed)
    done = card(keyed, "check", "00000002")
    assert (done.code, done.error) == (9, "the card 00000002 is wanted, and 00000001 is in the reader")


def test_two_cards_need_a_name(keyed: CardHouse) -> None:
    """Which of them scdaemon uses may change with the next boot."""
    unlock(keyed)
    keyed.second.insert(Card(2))
    done = card(keyed, "check")
    assert (done.code, done.error) == (2, "2 cards are there, and nobody said which one is meant")
    assert "name the card that you mean: 00000001" in done.hints
    assert card(keyed, "check", "00000001").code == 0


def test_it_never_spends_a_try_and_never_asks(keyed: CardHouse) -> None:
    """In any state of the card, with and without --sign; forced signature PIN or not."""
    keyed.run("gpg-connect-agent", "SCD SERIALNO", "/bye")
    for tries in (3, 2, 1, 0):
        keyed.card.set_pin(tries=tries)
        for words in ((), ("--sign",), ("00000001",)):
            assert card(keyed, "check", *words).code in (7, 8)
        assert keyed.card.tries().pin == tries
    assert {attempt.result for attempt in keyed.card.record()} == {Result.ASKED}
    assert keyed.phone.messages() == []
    assert keyed.processes_called(b"pinentry") == []


@pytest.mark.parametrize("algorithm", ["rsa2048", "ed25519"])
def test_a_signature_proves_it(card_house: CardHouse, algorithm: str) -> None:
    """--sign uses the authentication key, so no signature is counted."""
    provision(card_house, algorithm)
    unlock(card_house)
    before = card_house.card.signatures()
    assert card(card_house, "check", "--sign").code == 0
    assert card_house.card.signatures() == before
    assert any(command[1] == 0x88 for command in card_house.reader.commands)


def test_a_forced_signature_pin_is_named(card_house: CardHouse) -> None:
    """A card without an authentication key can only sign, and asks each time."""
    card_house.card.generate("sign", "ed25519")
    card_house.card.generate("decrypt", "cv25519")
    unlock(card_house)
    assert card(card_house, "check").code == 0
    done = card(card_house, "check", "--sign")
    assert (done.code, done.error) == (7, "the card would ask for its PIN to sign")
    assert "forcesig" in done.hints[0]


def test_it_does_not_hang_with_a_card_that_does_not_answer(keyed: CardHouse) -> None:
    """A bad contact: it gives up, and says which process to end."""
    unlock(keyed)
    keyed.reader.hold()
    began = time.monotonic()
    done = card(keyed, "check")
    keyed.reader.release()
    assert done.code == 1
    assert "has not answered for 4 s" in done.error
    assert time.monotonic() - began < 10


def test_both_ways_to_start_say_the_same(keyed: CardHouse) -> None:
    """What needs no parser is started without one; --help, mistakes, and a shell that completes are not."""
    assert "Usage: unlatch card check" in card(keyed, "check", "--help").out
    mistake = card(keyed, "check", "--sing")
    assert (mistake.code, mistake.hints) == (2, ['run "unlatch card check --help"'])
    assert card(keyed, "check", "1", "2").code == 2
    with keyed.pcsc.place.births(), Terminal([UNLATCH, "card", "check"], keyed.environ()) as terminal:
        terminal.expect("no gpg-agent runs")
        assert terminal.end() == 7
