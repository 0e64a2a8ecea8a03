"""Who may read a ring: devices that an admin's pinned identity vouches for, and nobody else in the room."""

from pathlib import Path

import pytest
from matrix.bot import LINK, Bot, notice, paired
from matrix.phone import Event, MatrixPhone, Phones
from matrix.synapse import Synapse
from waiting import PATIENCE

from unlatch.notify import NotDelivered


@pytest.fixture
def bot(synapse: Synapse, phone: MatrixPhone, tmp_path: Path) -> Bot:
    """A bot in a room with the owner of the phone."""
    return paired(synapse, phone, tmp_path / "matrix")


@pytest.fixture
def other(phones: Phones) -> MatrixPhone:
    """A further device."""
    return phones.new()


def ring(bot: Bot) -> str:
    """Ring once; what the status says then."""
    with bot.running() as broker:
        broker.ring(notice())
        return broker.notifier.note


def read(phone: MatrixPhone, bot: Bot) -> Event:
    """The ring as the admin's phone shows it."""
    return phone.message(bot.room, lambda event: LINK in event.text)


def locked_out(phone: MatrixPhone, bot: Bot, rung: Event) -> None:
    """This device sees that something was said, and cannot read it: no key was made for it."""
    shown = phone.message(bot.room, lambda event: event.id == rung.id and bool(event.failure))
    assert (shown.failure, LINK in shown.text) == ("MEGOLM_UNKNOWN_INBOUND_SESSION_ID", False)
    phone.stop()


def test_an_unsigned_extra_device_gets_nothing(
    synapse: Synapse, bot: Bot, phone: MatrixPhone, other: MatrixPhone
) -> None:
    """A login of the admin's that no signature vouches for (a stolen password) gets no keys; status says so."""
    other.login(synapse, phone.user, signed=False, strict=False)
    note = ring(bot)
    rung = read(phone, bot)
    assert rung.clean
    locked_out(other, bot, rung)
    assert f"not sent to {phone.user_id} {other.device_id}: " in note


def test_a_stranger_in_the_room_gets_nothing(
    synapse: Synapse, bot: Bot, phone: MatrixPhone, other: MatrixPhone
) -> None:
    """Somebody in the room whom setup did not pin, however well signed, gets no keys; status says so."""
    other.login(synapse, synapse.register())
    phone.invite(bot.room, other.user_id)
    other.join(bot.room)
    note = ring(bot)
    rung = read(phone, bot)
    locked_out(other, bot, rung)
    assert f"not sent to {other.user_id}" in note


def test_a_reset_identity_gets_nothing(bot: Bot, phone: MatrixPhone) -> None:
    """New cross-signing keys under an admin's name are not the admin: nothing is sent, and the reason is said."""
    ring(bot)
    read(phone, bot)
    phone.bootstrap(anew=True)
    before = len(phone.messages_from(bot.room, bot.user.user_id))
    with bot.running() as broker, pytest.raises(NotDelivered, match="identity") as refusal:
        broker.ring(notice())
    assert phone.user_id in refusal.value.why
    assert len(phone.messages_from(bot.room, bot.user.user_id)) == before


def test_a_reset_in_mid_prompt(bot: Bot, phone: MatrixPhone) -> None:
    """A broker that rang this identity before does not tell a new one how it went on, let alone a link."""
    with bot.running() as broker:
        asked = notice()
        broker.ring(asked)
        read(phone, bot)
        phone.bootstrap(anew=True)
        newer = f"{LINK}-newer"

        def refused() -> bool:  # the sync that tells of the new keys may still be on its way
            with pytest.raises(NotDelivered):
                broker.ring(asked._replace(link=newer, quiet=True))
            return True

        assert refused()
        assert not [event for event in phone.events(bot.room) if newer in event.text]


def test_one_of_two_admins_is_enough(synapse: Synapse, phones: Phones, phone: MatrixPhone, tmp_path: Path) -> None:
    """When one admin's identity was reset, the other is still rung."""
    other = phones.new()
    bot = paired(synapse, phone, tmp_path / "matrix", other)
    other.bootstrap(anew=True)
    note = ring(bot)
    rung = read(phone, bot)
    assert f"not sent to {other.user_id}" in note
    locked_out(other, bot, rung)


def test_a_further_signed_device_reads_the_next_ring(
    synapse: Synapse, bot: Bot, phone: MatrixPhone, other: MatrixPhone
) -> None:
    """A new phone that the old one verified by emoji is the admin's: it needs no new setup."""
    other.login(synapse, phone.user, signed=False)
    phone.wait(bot.room, lambda _: other.device_id in phone.trust(phone.user_id)["devices"], "the other device")
    asked = phone.verify(phone.user_id, device=other.device_id)
    theirs = other.verification(bot.room, lambda one: one.phase == "Requested" and not one.mine, "the request").id
    other.accept(theirs)
    phone.verification(bot.room, lambda one: one.id == asked and one.phase == "Ready", "consent")
    phone.start(asked)
    assert phone.emoji(asked) == other.emoji(theirs)
    phone.confirm(asked)
    other.confirm(theirs)
    assert phone.finished(asked).phase == "Done"
    phone.wait(bot.room, lambda _: phone.trust(phone.user_id)["devices"][other.device_id], "its signature", PATIENCE)
    ring(bot)
    assert read(other, bot).clean
    other.stop()


def test_a_room_that_is_not_encrypted_is_refused(synapse: Synapse, phone: MatrixPhone, tmp_path: Path) -> None:
    """Nothing is sent in plaintext, unless the settings say so; then it is no end-to-end notifier any more."""
    bot = paired(synapse, phone, tmp_path / "matrix", encrypted=False)
    with bot.running() as broker, pytest.raises(NotDelivered, match="not encrypted"):
        broker.ring(notice())
    assert phone.messages_from(bot.room, bot.user.user_id) == []
    with bot.running(allow_plaintext_room=True) as broker:
        assert broker.notifier.end_to_end is False
        broker.ring(notice())
    assert read(phone, bot).shield == "PLAIN"


def test_a_strict_phone_believes_a_bot_that_it_never_met(bot: Bot, phone: MatrixPhone) -> None:
    """The bot's device is signed by the bot's own identity, so nobody needs to verify it for its messages to show."""
    ring(bot)
    assert read(phone, bot).clean
    trust = phone.trust(bot.user.user_id)
    assert (trust["verified"], list(trust["devices"].values())) == (False, [True])
