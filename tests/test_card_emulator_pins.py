"""The emulated card's passwords: tries, blocking, and who can give a blocked PIN a new value (4.3, 7.2.2 to 7.2.4)."""

from collections import Counter

import pytest
from card import apdu, pins
from card.account import Account
from card.card import ADMIN_PIN, PIN, Card
from card.pins import Result
from hypothesis import given
from hypothesis import strategies as st
from test_card_emulator import DIGEST_INFO, Line

WRONG = b"654321"
CODE = b"87654321"


@pytest.fixture
def line() -> Line:
    return Line(Card())


def test_asking_costs_nothing(line: Line) -> None:
    """An empty VERIFY tells the state, as often as you like: tries left, verified or blocked."""
    for _ in range(5):
        line.verify(pins.USE, word=0x63C3)
    line.verify(pins.USE, WRONG, word=apdu.NOT_SATISFIED)
    line.verify(pins.USE, word=0x63C2)
    line.verify(pins.USE, PIN)
    line.verify(pins.USE)
    line.verify(pins.SIGN, word=0x63C3)  # the same PIN, but its own state
    line.card.set_pin(tries=0)
    line.card.power_on()
    line = Line(line.card)
    line.verify(pins.USE, word=apdu.BLOCKED)
    assert [attempt.result for attempt in line.card.record("pin")].count(Result.ASKED) == 9


def test_three_wrong_pins_block_it(line: Line) -> None:
    """The counter goes 3, 2, 1, 0; then even the right PIN is refused, and the admin PIN is not concerned."""
    for left in (2, 1, 0):
        line.verify(pins.USE, WRONG, word=apdu.NOT_SATISFIED)
        assert line.card.tries() == (left, 0, 3)
    line.verify(pins.USE, PIN, word=apdu.BLOCKED)
    line.verify(pins.SIGN, PIN, word=apdu.BLOCKED)
    line.verify(pins.ADMIN, ADMIN_PIN)
    assert line.card.wrong_pin_count() == 3


def test_a_right_pin_gives_all_tries_back(line: Line) -> None:
    """Only a right value resets the counter."""
    line.verify(pins.USE, WRONG, word=apdu.NOT_SATISFIED)
    line.verify(pins.USE, WRONG, word=apdu.NOT_SATISFIED)
    line.verify(pins.SIGN, PIN)
    assert line.card.tries().pin == 3


def test_a_wrong_pin_takes_back_what_was_verified(line: Line) -> None:
    """After a right PIN a wrong one leaves the card locked; P1 = FF locks it without a try."""
    line.verify(pins.USE, PIN)
    line.verify(pins.USE, WRONG, word=apdu.NOT_SATISFIED)
    assert not line.card.verified()
    line.verify(pins.USE, PIN)
    line(0x20, 0xFF82)
    assert not line.card.verified()
    assert line.card.tries().pin == 3


@pytest.mark.parametrize("value", [b"1", b"12345", PIN + b"\n", PIN + b"\0", b"x" * 127])
def test_anything_but_the_exact_bytes_costs_a_try(line: Line, value: bytes) -> None:
    """Too short, too long, with a newline: the card does not guess what was meant."""
    line.verify(pins.USE, value, word=apdu.NOT_SATISFIED)
    assert line.card.tries().pin == 2


def test_a_card_can_tell_the_tries_at_once() -> None:
    """Some cards answer 63Cx to a wrong PIN, and 63C0 where others say blocked."""
    line = Line(Card(tells_tries=True))
    for word in (0x63C2, 0x63C1, 0x63C0):
        line.verify(pins.USE, WRONG, word=word)
    line.verify(pins.USE, word=0x63C0)
    line.verify(pins.USE, PIN, word=apdu.BLOCKED)


def test_changing_takes_the_old_value(line: Line) -> None:
    """CHANGE REFERENCE DATA: old and new behind each other; a wrong old one costs a try, one that is too short none."""
    line(0x24, 0x81, PIN + b"new-pin-7")
    line.verify(pins.USE, b"new-pin-7")
    line(0x24, 0x81, PIN + b"another1", word=apdu.NOT_SATISFIED)
    assert line.card.tries().pin == 2
    line(0x24, 0x81, b"new-pin-7" + b"short", word=apdu.WRONG_DATA)
    line.verify(pins.USE, b"new-pin-7")
    line(0x24, 0x83, ADMIN_PIN + b"a new admin")
    line.verify(pins.ADMIN, b"a new admin")
    line(0x24, 0x82, b"new-pin-7" + PIN, word=apdu.WRONG_PARAMETERS)


def test_a_blocked_pin_comes_back_by_admin_or_code(line: Line) -> None:
    """RESET RETRY COUNTER: by the verified admin, or with the resetting code; nobody else."""
    card = line.card
    card.set_pin(tries=0)
    line(0x2C, 0x0281, b"new-pin-1", word=apdu.NOT_SATISFIED)
    line(0x2C, 0x0081, CODE + b"new-pin-1", word=apdu.BLOCKED)  # there is no code
    line.verify(pins.ADMIN, ADMIN_PIN)
    line(0x2C, 0x0281, b"new-pin-1")
    line.verify(pins.USE, b"new-pin-1")

    line(0xDA, 0x00D3, CODE)
    assert card.tries() == (3, 3, 3)
    card.set_pin(tries=0)
    line(0x2C, 0x0081, b"wrong678" + b"new-pin-2", word=apdu.NOT_SATISFIED)
    assert card.tries() == (0, 2, 3)
    line(0x2C, 0x0081, CODE + b"new-pin-2")
    line.verify(pins.USE, b"new-pin-2")
    assert card.tries() == (3, 3, 3)
    line(0xDA, 0x00D3)
    assert card.tries().reset == 0


def test_all_three_can_be_blocked(line: Line) -> None:
    """Code and admin PIN have counters of their own; with all at zero only the factory reset is left."""
    line.verify(pins.ADMIN, ADMIN_PIN)
    line(0xDA, 0x00D3, CODE)
    for left in (2, 1, 0):
        line.verify(pins.USE, WRONG, word=apdu.NOT_SATISFIED)
        line(0x2C, 0x0081, b"wrong678" + PIN, word=apdu.NOT_SATISFIED)
        line.verify(pins.ADMIN, b"wrong678", word=apdu.NOT_SATISFIED)
        assert line.card.tries() == (left, left, left)
    for reference, value in ((pins.USE, PIN), (pins.ADMIN, ADMIN_PIN)):
        line.verify(reference, value, word=apdu.BLOCKED)
    line(0x2C, 0x0081, CODE + PIN, word=apdu.BLOCKED)
    assert line.card.wrong_pin_count() == 9


def test_forcesig_wants_the_pin_for_each_signature(line: Line) -> None:
    """A new card verifies for one signature; C4 = 1 lets it go on; the PIN for other uses is not concerned."""
    line.card.generate("sign", "rsa2048")
    line.verify(pins.USE, PIN)
    line.verify(pins.SIGN, PIN)
    line(0x2A, 0x9E9A, DIGEST_INFO)
    line(0x2A, 0x9E9A, DIGEST_INFO, word=apdu.NOT_SATISFIED)
    assert line.card.verified(pins.USE)
    line.verify(pins.ADMIN, ADMIN_PIN)
    line(0xDA, 0x00C4, b"\1")
    line.verify(pins.SIGN, PIN)
    for _ in range(3):
        line(0x2A, 0x9E9A, DIGEST_INFO)
    line(0xDA, 0x00C4, b"\2", word=apdu.WRONG_DATA)


def test_a_copy_shares_no_try(line: Line) -> None:
    """Card.copy() is another card: same content, own tries, own record, nothing verified."""
    line.card.set_pin(b"own-pin-1", tries=2)
    line.verify(pins.USE, b"own-pin-1")
    twin = line.card.copy(serial=9)
    assert not twin.verified()
    assert twin.record() == []
    Line(twin).verify(pins.USE, WRONG, word=apdu.NOT_SATISFIED)
    assert (twin.tries().pin, line.card.tries().pin) == (2, 3)
    assert twin.application_id != line.card.application_id


@given(st.lists(st.sampled_from([PIN, WRONG, b"", b"12345"]), max_size=12))
def test_the_counter_is_never_wrong(values: list[bytes]) -> None:
    """Whatever is submitted in whatever order: the tries are those of the wrong ones since the last right one."""
    card = Card()
    line = Line(card)
    left = 3
    for value in values:
        raw = bytes([0, 0x20, 0, pins.USE]) + (bytes([len(value)]) + value if value else b"")
        card.exchange(raw)
        if value == PIN and left:
            left = 3
        elif value and value != PIN and left:
            left -= 1
        assert card.tries().pin == left
        assert line(0xCA, 0x00C4)[4] == left
    spent = Counter(attempt.result for attempt in card.record())
    assert spent[Result.WRONG] == card.wrong_pin_count()


# Who may spend a try.


UNLOCK = ["/x/.venv/bin/python", "/x/.venv/bin/unlatch", "card", "unlock", "--stdin"]
CHECK = ["/x/.venv/bin/python", "/x/.venv/bin/unlatch", "card", "check"]


def test_an_announced_try_is_in_order() -> None:
    """The program that was announced runs when the try is spent, and spends as many as announced."""
    account = Account()
    account.expect(2, "unlatch card unlock")
    account.spend([CHECK, UNLOCK])
    with pytest.raises(AssertionError, match="did not spend 1"):
        account.settle()
    account.spend([UNLOCK])
    account.settle()


@pytest.mark.parametrize("running", [[], [CHECK], [["gpg-agent", "--daemon"]], [["gpg", "unlatch card unlock"]]])
def test_a_try_of_anybody_else_is_a_fault(running: list[list[str]]) -> None:
    """Another program, or nobody to be seen, although one try was announced."""
    account = Account()
    account.expect(1, "unlatch card unlock")
    account.spend(running)
    with pytest.raises(AssertionError, match="not announced"):
        account.settle()


def test_a_try_that_nobody_announced_is_a_fault() -> None:
    """Even one of the right program."""
    account = Account()
    account.spend([UNLOCK])
    with pytest.raises(AssertionError, match="not announced"):
        account.settle()


def test_not_everybody_can_be_announced() -> None:
    """A test cannot allow a program to spend tries that must never spend one."""
    with pytest.raises(AssertionError, match="may not spend"):
        Account().expect(1, "unlatch card check")
