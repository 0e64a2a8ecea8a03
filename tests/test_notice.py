"""What a message and the stamp say about an asker: claims, each cut to one short and harmless line."""

import pytest

from unlatch.broker.notice import key_id, unit_of, who_asks
from unlatch.prompt import AskerInfo, Key, Prompt

QUESTION = Prompt("passphrase", "Unlock", ("amber", "otter"), 0)
NASTY = [
    "\n",
    "\t",
    "\r",
    "\x1b",
    "\u2028",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u3164",
    "\u2800",
    "\ufeff",
    "\u00a0",
    "\ue000",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_a_claim_is_one_line_of_visible_text(nasty: str) -> None:
    """Line breaks, control, bidi and invisible characters become blanks, and no two stand together."""
    text = f"a{nasty}{nasty} b"
    assert who_asks(AskerInfo(command=text, system_unit=text)) == "a b, a b"
    assert unit_of(AskerInfo(system_unit=text)) == "a b"
    assert key_id(QUESTION._replace(key=Key(name=text))) == "a b"
    assert key_id(QUESTION._replace(key=Key(id=text))) == "a b"


def test_claims_are_short() -> None:
    """They stand in one line of a list, and in an account's name."""
    assert len(who_asks(AskerInfo(command="x" * 4096, system_unit="y" * 4096))) == 120
    assert "y" in who_asks(AskerInfo(command="x" * 4096, system_unit="y" * 4096))  # a long name does not hide the unit
    assert len(key_id(QUESTION._replace(key=Key(name="x" * 4096)))) == 64


def test_an_asker_that_says_nothing_visible_is_unknown() -> None:
    """Blanks are no name."""
    assert who_asks(AskerInfo(command="\u3164\u202e")) == "unknown program"


def test_a_users_own_unit_is_named() -> None:
    """All that a user runs is in the system's user@UID.service, which says nothing."""
    assert unit_of(AskerInfo(system_unit="user@1000.service", user_unit="backup.service")) == "backup.service"
    assert unit_of(AskerInfo(system_unit="backup.service")) == "backup.service"
    assert unit_of(AskerInfo()) == ""
