"""``unlatch card status``: everything about a card that can be known without spending a try or asking anybody."""

import json
import re

import pytest
from card.card import Card
from card.house import CardHouse
from card.pcsc import READERS
from card.unlatch import card, unlock

RESET_CODE = b"87654321"


@pytest.fixture
def keyed(card_house: CardHouse) -> CardHouse:
    """A house with a card that can log in."""
    card_house.card.generate("auth", "ed25519")
    return card_house


def status(house: CardHouse) -> dict[str, object]:
    done = card(house, "status", "--json")
    assert done.code == 0, done.err
    shown: dict[str, object] = json.loads(done.out)
    return shown


def test_a_new_card(card_house: CardHouse) -> None:
    """Number, reader, tries and the forced signature PIN of a card that nobody has set up."""
    [shown] = status(card_house)["cards"]
    assert shown["serial"] == "00000001"
    assert shown["aid"] == card_house.card.application_id
    assert shown["reader"] == READERS[0]
    assert shown["pin"] == {"state": "locked", "tries": 3, "scdaemon_is_wrong": False}
    assert (shown["reset_code"], shown["admin_pin"]) == ({"tries": 0}, {"tries": 3})
    assert shown["signature_pin_forced"] is True
    assert shown["keys"] == []


def test_what_people_read(card_house: CardHouse) -> None:
    """The same in lines; scdaemon's text is shown without its escapes."""
    card_house.card.set_forcesig(False)
    card_house.card.set_resetting_code(RESET_CODE)
    card_house.card.generate("auth", "ed25519")
    rows = dict(re.split(" {2,}", line, maxsplit=1) for line in card(card_house, "status").out.splitlines())
    assert rows["card"] == f"00000001 ({card_house.card.application_id})"
    assert rows["PIN"] == "locked, 3 tries left"
    assert rows["reset code"] == "3 tries left"
    assert rows["signing"] == "asks for the PIN as other uses do"
    assert re.fullmatch("ed25519 [0-9A-F]{40}", rows["key to authenticate"])


def test_unlocked(keyed: CardHouse) -> None:
    """After the PIN was given, until the card is pulled out."""
    unlock(keyed)
    assert status(keyed)["cards"][0]["pin"]["state"] == "unlocked"
    keyed.reader.replug()
    assert status(keyed)["cards"][0]["pin"]["state"] == "locked"


def test_blocked(keyed: CardHouse) -> None:
    """No try left is called by its name."""
    keyed.card.set_pin(tries=0)
    assert status(keyed)["cards"][0]["pin"] == {"state": "blocked", "tries": 0, "scdaemon_is_wrong": False}


def test_scdaemon_that_is_wrong(keyed: CardHouse) -> None:
    """Another program reset the card: scdaemon still says unlocked, status does not."""
    unlock(keyed)
    keyed.apdu("0020FF82")
    pin = status(keyed)["cards"][0]["pin"]
    assert pin == {"state": "locked", "tries": 3, "scdaemon_is_wrong": True}
    assert "another program reset the card" in card(keyed, "status").out


@pytest.mark.parametrize("tries", [3, 2, 1, 0])
def test_no_try_is_spent_and_no_pinentry_opened(card_house: CardHouse, tries: int) -> None:
    """Nothing but empty looks at the PIN, however few tries are left; the phone stays silent."""
    card_house.card.set_pin(tries=tries)
    for _ in range(3):
        status(card_house)
    assert card_house.card.tries().pin == tries
    assert card_house.card.submitted() == 0
    assert card_house.phone.messages() == []


def test_two_readers(card_house: CardHouse) -> None:
    """scdaemon 2.2 uses one of pcscd's readers; the other one's card is told of, and how to use it."""
    card_house.second.insert(Card(2))
    shown = status(card_house)
    assert [each["serial"] for each in shown["cards"]] == ["00000001"]
    assert shown["readers"] == [
        {"name": READERS[0], "card": True, "used": True},
        {"name": READERS[1], "card": True, "used": False},
    ]
    assert f'reader-port {READERS[1]}" in {card_house.gnupg}/scdaemon.conf' in card(card_house, "status").err


def test_the_other_reader(card_house: CardHouse) -> None:
    """With reader-port, scdaemon uses the second one."""
    card_house.second.insert(Card(2))
    card_house.use_reader(1)
    assert status(card_house)["cards"][0]["serial"] == "00000002"


def test_no_card_in_json(card_house: CardHouse) -> None:
    """A script gets an object all the same, with the readers."""
    card_house.reader.remove()
    done = card(card_house, "status", "--json")
    assert done.code == 9
    assert json.loads(done.out) == {
        "cards": [],
        "readers": [{"name": name, "card": False, "used": False} for name in READERS],
    }
