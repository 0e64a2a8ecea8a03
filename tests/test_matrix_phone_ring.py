"""A ring over Matrix, as a phone that is not ours shows it: readable, without a shield, edited, and gone at the end."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from matrix.bot import LINK, Bot, notice, paired
from matrix.phone import Event, MatrixPhone
from matrix.synapse import Synapse


@pytest.fixture
def bot(synapse: Synapse, phone: MatrixPhone, tmp_path: Path) -> Bot:
    """A bot in a room with the owner of the phone."""
    return paired(synapse, phone, tmp_path / "matrix")


def with_link(event: Event) -> bool:
    """Whether the link stands in it now."""
    return LINK in event.text


def test_a_ring_arrives_encrypted_and_without_a_shield(bot: Bot, phone: MatrixPhone) -> None:
    """A strict client shows host, question, words and link as plain text and HTML, and finds nothing to warn about."""
    bot.ring(notice())
    shown = phone.message(bot.room, with_link)
    assert (shown.sender, shown.clean, shown.content["msgtype"]) == (bot.user.user_id, True, "m.text")
    for part in ("web03", "Unlock the key Ada", "amber canal", "ada", "pass sql-root", "for sql-root", LINK):
        assert part in shown.text
        assert part in shown.content["formatted_body"]
    assert shown.content["format"] == "org.matrix.custom.html"
    assert LINK not in json.dumps(shown.original)  # a lock screen's history never had it
    assert [event.failure for event in phone.messages_from(bot.room, bot.user.user_id)] == [""]


def test_the_end_says_how_and_takes_the_link_away(bot: Bot, phone: MatrixPhone) -> None:
    """The message is edited by a process that never rang; whatever held the link is redacted on the server too."""
    asked = notice()
    bot.ring(asked)
    shown = phone.message(bot.room, with_link)
    bot.end(asked, "accepted")
    over = phone.message(bot.room, lambda event: event.id == shown.id and "answered at" in event.text, "the end")
    assert (over.redacted, over.clean) == (False, True)
    assert LINK not in over.text
    gone = phone.wait(
        bot.room, lambda events: [event for event in events if event.id == shown.edited and event.redacted], "redaction"
    )[0]
    assert gone.content == {}
    room, held = quote(bot.room), quote(gone.id)
    stored = bot.synapse.call("GET", f"/_matrix/client/v3/rooms/{room}/event/{held}", None, phone.token)
    assert "ciphertext" not in stored["content"]


@pytest.mark.parametrize("outcome", ["denied", "expired", "withdrawn"])
def test_each_end(bot: Bot, phone: MatrixPhone, outcome: str) -> None:
    """The text names the outcome."""
    asked = notice()
    bot.ring(asked)
    bot.end(asked, outcome)
    phone.message(bot.room, lambda event: event.text.startswith(f"{outcome} at "), outcome)
    phone.wait(bot.room, lambda events: not any(LINK in json.dumps(event.content) for event in events), "no link")


def test_a_reminder_is_a_reply_in_the_thread_of_the_ring(bot: Bot, phone: MatrixPhone) -> None:
    """It carries the link, sounds, and stands in the same thread; at the end it is redacted too."""
    asked = notice()
    bot.ring(asked)
    shown = phone.message(bot.room, with_link)
    with bot.running() as broker:
        broker.remind(asked)
    reminder = phone.message(bot.room, lambda event: "still waiting" in event.text)
    assert reminder.relation is not None
    assert (reminder.relation["rel_type"], reminder.relation["event_id"]) == ("m.thread", shown.id)
    assert (reminder.clean, LINK in reminder.text) == (True, True)
    bot.end(asked, "expired")
    phone.wait(bot.room, lambda events: [event for event in events if event.id == reminder.id and event.redacted], "it")


def test_a_quiet_ring_edits(bot: Bot, phone: MatrixPhone) -> None:
    """The link of a follower takes the place of the old one in the same message."""
    asked = notice()
    bot.ring(asked)
    first = phone.message(bot.room, with_link)
    newer = f"{LINK}-newer"
    bot.ring(asked._replace(link=newer, quiet=True))
    again = phone.message(bot.room, lambda event: newer in event.text)
    assert again.id == first.id
    assert len(phone.messages_from(bot.room, bot.user.user_id)) == 1


def test_only_ciphertext_reaches_the_homeserver(bot: Bot, phone: MatrixPhone) -> None:
    """Nothing of the question or the link stands in the homeserver's database, nor in our own state."""
    bot.ring(notice())
    phone.message(bot.room, with_link)
    stored = b"".join(path.read_bytes() for path in bot.synapse.root.glob("homeserver.db*"))
    stored += b"".join(path.read_bytes() for path in bot.state.iterdir() if path.is_file())
    for word in (b"fragment-that-nobody", b"amber", b"sql-root"):
        assert word not in stored
