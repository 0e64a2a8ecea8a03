"""``unlatch doctor --rehearse`` with a card: really locked, rung, unlocked, used; and no try spent but by a person."""

import json
import subprocess

import pytest
from card.card import PIN
from card.house import CardHouse
from card.unlatch import unlock
from house import UNLATCH
from real_gnupg import finish

from unlatch.cli import voice
from unlatch.doctor.check import Finding
from unlatch.doctor.rehearsal import steps


@pytest.fixture
def unlocked(card_house: CardHouse) -> CardHouse:
    """A card with a key to log in, whose PIN was given this morning."""
    card_house.card.generate("auth", "ed25519")
    unlock(card_house)
    return card_house


def rehearsing(house: CardHouse, what: str) -> "subprocess.Popen[bytes]":
    """The command, agreed to beforehand."""
    return house.start(UNLATCH, "doctor", "--json", "--yes", "--rehearse", what)


def findings(process: "subprocess.Popen[bytes]") -> tuple[int, dict[str, Finding], str]:
    """Its exit code, findings, and what it told."""
    code, out, err = finish(process, 60)
    return code, {each["check"]: Finding(**each) for each in json.loads(out)} if out else {}, err


def test_a_card_is_locked_rung_unlocked_and_used(unlocked: CardHouse) -> None:
    """By its number: the PIN is wanted again, the phone rings, and the card signs without asking."""
    process = rehearsing(unlocked, "00000001")
    ring = unlocked.phone.ring()
    assert not unlocked.card.verified()
    page = unlocked.open(ring["link"])
    page.unlock(PIN)
    code, found, told = findings(process)
    assert (code, list(found)) == (voice.OK, [steps.LOCK, steps.ANSWER, steps.PROOF]), told
    assert {each.state for each in found.values()} == {"ok"}
    assert "3 tries are left" in found[steps.LOCK].text
    assert found[steps.PROOF].text.startswith("the card signed without asking anybody")
    assert page.verdict().outcome == "accepted"
    assert unlocked.card.verified()
    assert unlocked.card.submitted() == 2  # this morning's, and this one


def test_the_only_card_needs_no_number_and_a_denial_spends_no_try(unlocked: CardHouse) -> None:
    """The word "card" means it. It stays locked, which is said with what unlocks it."""
    process = rehearsing(unlocked, "card")
    unlocked.open(unlocked.phone.ring()["link"]).deny()
    code, found, _ = findings(process)
    assert (code, list(found)) == (voice.FAILED, [steps.LOCK, steps.ANSWER])
    assert "somebody said no" in found[steps.ANSWER].text
    assert found[steps.ANSWER].hint.endswith("unlatch card unlock 00000001")
    assert unlocked.card.submitted() == 1
    assert not unlocked.card.verified()


def test_nothing_is_rehearsed_with_one_try_left(unlocked: CardHouse) -> None:
    """A slip of the thumb would block the card."""
    unlocked.card.expect_wrong(2, by="gpg-connect-agent")
    for _ in range(2):
        unlocked.apdu("0020008206393939393939")
    code, found, told = findings(rehearsing(unlocked, "card"))
    assert (code, list(found)) == (voice.FAILED, [steps.LOCK])
    assert "has 1 tries left" in found[steps.LOCK].text
    assert "nothing was locked" in told
    assert unlocked.phone.messages() == []


def test_a_card_that_is_not_there(card_house: CardHouse) -> None:
    """One sentence, and nothing is locked."""
    card_house.run("gpgconf", "--launch", "gpg-agent")
    card_house.reader.remove()
    code, found, _ = findings(rehearsing(card_house, "card"))
    assert (code, found[steps.LOCK].state) == (voice.FAILED, "problem")
    assert "there is no card in the reader" in found[steps.LOCK].text
    assert found[steps.LOCK].hint.endswith("unlatch card status")
