"""The emulated card behind real pcscd and scdaemon."""

from card.house import CardHouse


def test_gpg_sees_a_new_card(card_house: CardHouse) -> None:
    """A new card shows its serial number and its tries; looking at it costs none."""
    shown = card_house.run("gpg", "--card-status").decode()
    assert card_house.card.application_id in shown
    assert "PIN retry counter : 3 0 3" in shown


def test_a_right_pin_is_verified(card_house: CardHouse) -> None:
    """VERIFY with the right PIN opens the card."""
    assert card_house.apdu("00 20 00 82 06 31 32 33 34 35 36") == "9000"
    assert card_house.card.verified()
