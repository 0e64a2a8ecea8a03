"""What may be said in the room: an admin's encrypted reply "deny", and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from matrix.bot import LINK, Bot, Running, notice, paired
from matrix.phone import Event, Json, MatrixPhone, Phones
from matrix.synapse import Synapse
from waiting import until


@pytest.fixture
def bot(synapse: Synapse, phone: MatrixPhone, tmp_path: Path) -> Bot:
    """A bot in a room with the owner of the phone."""
    return paired(synapse, phone, tmp_path / "matrix")


@pytest.fixture
def broker(bot: Bot) -> Iterator[Running]:
    """A broker that listens while prompts are open."""
    with bot.running() as running:
        yield running


class Rung:
    """A prompt that has rung, and the proof that something was heard and did nothing."""

    def __init__(self, bot: Bot, broker: Running, phone: MatrixPhone, word: str) -> None:
        self.notice = notice(words=(word, "canal"))
        self._bot, self._broker, self._phone = bot, broker, phone
        broker.ring(self.notice)
        self.event: Event = phone.message(bot.room, lambda event: word in event.text and LINK in event.text)

    def deny(self) -> str:
        """Deny it as one should; the event's id."""
        return self._phone.say(self._bot.room, "deny", reply_to=self.event.id)

    def is_denied(self) -> None:
        """Wait until the broker knows."""
        until(lambda: self.notice.id in [denied for denied, _, _ in self._broker.denials], "the denial")

    def only_this_is_denied(self) -> None:
        """Deny it, and see that everything before that was heard without effect: the room has one order."""
        self.deny()
        self.is_denied()
        assert self._broker.denials == [(self.notice.id, self._phone.user_id, "")]


@pytest.fixture
def rung(bot: Bot, broker: Running, phone: MatrixPhone) -> Rung:
    """One open prompt."""
    return Rung(bot, broker, phone, "amber")


def put(synapse: Synapse, token: str, room: str, event_type: str, content: Json) -> None:
    """Send an event as it stands: what a homeserver, or a thief of a token, can do."""
    path = f"/_matrix/client/v3/rooms/{quote(room)}/send/{quote(event_type)}/forged-{id(content)}"
    synapse.call("PUT", path, content, token)


def test_deny_by_reply(rung: Rung, broker: Running, phone: MatrixPhone) -> None:
    """It ends this prompt and names who did it."""
    rung.deny()
    rung.is_denied()
    assert broker.denials == [(rung.notice.id, phone.user_id, "")]


def test_deny_ends_the_prompt_that_it_answers(bot: Bot, broker: Running, phone: MatrixPhone, rung: Rung) -> None:
    """Of two open prompts the one that was replied to is denied."""
    other = Rung(bot, broker, phone, "cobalt")
    rung.only_this_is_denied()
    other.deny()
    other.is_denied()


def test_a_reply_to_the_reminder_and_in_the_thread(bot: Bot, broker: Running, phone: MatrixPhone, rung: Rung) -> None:
    """A reminder may be answered too."""
    broker.remind(rung.notice)
    reminder = phone.message(bot.room, lambda event: "still waiting" in event.text)
    relation = {"rel_type": "m.thread", "event_id": rung.event.id, "m.in_reply_to": {"event_id": reminder.id}}
    phone.send(bot.room, "m.room.message", {"msgtype": "m.text", "body": "Deny", "m.relates_to": relation})
    rung.is_denied()


def test_other_words_do_nothing(bot: Bot, phone: MatrixPhone, rung: Rung) -> None:
    """Nothing in a chat approves, and nothing but the one word denies."""
    for word in ("allow", "yes", "approve", "ok", "do not deny", "denying", "👍"):
        phone.say(bot.room, word, reply_to=rung.event.id)
    rung.only_this_is_denied()


def test_reactions_do_nothing(synapse: Synapse, bot: Bot, phone: MatrixPhone, rung: Rung) -> None:
    """Reactions are not encrypted: a homeserver can make them up, so they say nothing, whoever they are from."""
    phone.react(bot.room, rung.event.id, "deny")
    phone.react(bot.room, rung.event.id, "👍")
    for token in (phone.token, synapse.login(bot.user)["access_token"]):
        relation = {"rel_type": "m.annotation", "event_id": rung.event.id, "key": f"✅{token[-3:]}"}
        put(synapse, token, bot.room, "m.reaction", {"m.relates_to": relation})
    rung.only_this_is_denied()


def test_deny_in_plaintext_does_nothing(synapse: Synapse, bot: Bot, phone: MatrixPhone, rung: Rung) -> None:
    """An unencrypted reply in the admin's name is anybody's."""
    relation = {"m.in_reply_to": {"event_id": rung.event.id}}
    plain = {"msgtype": "m.text", "body": "deny", "m.relates_to": relation}
    put(synapse, phone.token, bot.room, "m.room.message", plain)
    rung.only_this_is_denied()


def test_a_replay_does_nothing(synapse: Synapse, bot: Bot, broker: Running, phone: MatrixPhone, rung: Rung) -> None:
    """The ciphertext of an old "deny", sent again with another prompt named outside of it, is refused."""
    said = rung.deny()
    rung.is_denied()
    other = Rung(bot, broker, phone, "cobalt")
    old = synapse.event(bot.room, said, phone.token)["content"]
    again = {**old, "m.relates_to": {"m.in_reply_to": {"event_id": other.event.id}}}
    put(synapse, phone.token, bot.room, "m.room.encrypted", again)
    third = Rung(bot, broker, phone, "indigo")
    third.deny()
    third.is_denied()
    assert [denied for denied, _, _ in broker.denials] == [rung.notice.id, third.notice.id]


def test_a_stranger_and_an_unsigned_device_deny_nothing(
    synapse: Synapse, phones: Phones, bot: Bot, phone: MatrixPhone, rung: Rung
) -> None:
    """Somebody else in the room, and a device of the admin's that nobody signed, are not heard."""
    other, thief = phones.new(), phones.new()
    other.login(synapse, synapse.register())
    phone.invite(bot.room, other.user_id)
    other.join(bot.room)
    thief.login(synapse, phone.user, signed=False, strict=False)
    for device in (other, thief):
        device.say(bot.room, "deny", reply_to=rung.event.id)
        device.stop()
    rung.only_this_is_denied()


def test_after_an_identity_reset_nobody_denies(
    synapse: Synapse, phones: Phones, phone: MatrixPhone, tmp_path: Path
) -> None:
    """Whoever resets an admin's identity (as with a stolen password) is not the admin; the other admin is."""
    other = phones.new()
    bot = paired(synapse, other, tmp_path / "matrix", phone)
    with bot.running() as broker:
        rung = Rung(bot, broker, phone, "amber")
        other.bootstrap(anew=True)
        other.say(bot.room, "deny", reply_to=rung.event.id)
        rung.only_this_is_denied()
    other.stop()
