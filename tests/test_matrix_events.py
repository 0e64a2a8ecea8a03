"""What our Matrix events say, and which replies deny."""

import json
from typing import Any

import pytest
from notifier_contract import LINK, MORE, NOTICE, OTHER_LINK

from unlatch.matrix import events
from unlatch.matrix.messages import KEPT_SECONDS, MOST, Messages

ADMIN = "@alex:example.org"


def test_a_ring_fits_a_lock_screen() -> None:
    """Host and question first, then words and time, then who asks; short."""
    content = events.ring(NOTICE, "08:31 UTC", [ADMIN], link=False)
    assert content["body"].split("\n") == [
        "web03: Unlock the key of sql-root",
        "amber canoe · until 08:31 UTC",
        "for backup, pass, backup.service",
        "Open this room for the link.",
    ]
    assert content["msgtype"] == "m.text"
    assert content["m.mentions"] == {"user_ids": [ADMIN]}


def test_only_the_edit_has_the_link() -> None:
    """The event that sounds has none; the edit has it, in text and HTML, and mentions nobody."""
    first = events.ring(NOTICE, "08:31 UTC", [ADMIN], link=False)
    edit = events.replacement("$first", events.ring(NOTICE, "08:31 UTC", link=True))
    assert "http" not in json.dumps(first)
    assert LINK in edit["m.new_content"]["body"]
    assert f'<a href="{LINK}">' in edit["m.new_content"]["formatted_body"]
    assert edit["body"] == f"* {edit['m.new_content']['body']}"
    assert edit["m.relates_to"] == {"rel_type": "m.replace", "event_id": "$first"}
    assert edit["m.mentions"] == edit["m.new_content"]["m.mentions"] == {}


def test_a_list_has_a_line_for_each() -> None:
    """Open ones with words and link, ended ones with how; without links where none may stand."""
    burst = NOTICE._replace(more=MORE)
    body = events.ring(burst, "08:31 UTC", link=True)["body"]
    assert body.startswith("web03: 2 requests, first: Unlock the key of sql-root\n")
    assert "• Unlock the key of mail, for mail, postfix, postfix.service: birch delta\n" + OTHER_LINK in body
    assert "• Unlock the key of git, for git, git: denied" in body
    for content in (events.ring(burst, "08:31", link=False), events.ended(burst, "accepted", "08:01")):
        assert "http" not in json.dumps(content)


@pytest.mark.parametrize(
    ("outcome", "by", "text"),
    [
        ("accepted", "", "answered at 08:01 UTC"),
        ("denied", ADMIN, f"denied at 08:01 UTC by {ADMIN}"),
        ("expired", "", "expired at 08:01 UTC"),
        ("withdrawn", "", "withdrawn at 08:01 UTC"),
    ],
)
def test_the_end_says_how_and_when(outcome: str, by: str, text: str) -> None:
    """First, so that it is read without opening the room."""
    assert events.ended(NOTICE, outcome, "08:01 UTC", by)["body"].startswith(f"{text} · amber canoe\n")


def test_what_an_asker_wrote_is_text() -> None:
    """No markup, no line of its own, no reversed writing; and not without end."""
    evil = NOTICE._replace(title="<b>x</b>\nweb04: y", command="\u202egnp", text="a\x1b[2J\n\n<i>", unit="u" * 5000)
    content = events.ring(evil, "08:31", link=True)
    assert "<b>x" not in content["formatted_body"]
    assert "&lt;b&gt;x&lt;/b&gt;?web04: y" in content["formatted_body"]
    assert "\u202e" not in content["body"]
    assert "\x1b" not in content["body"]
    assert len(events.ring(NOTICE._replace(title="t" * 9000, text="x" * 9000), "08:31", link=True)["body"]) < 1000


def reply(body: Any = "deny", msgtype: Any = "m.text", relation: Any = None, **more: Any) -> dict[str, Any]:
    answered = {"m.in_reply_to": {"event_id": "$ring"}}
    content = {"msgtype": msgtype, "body": body, "m.relates_to": answered if relation is None else relation, **more}
    return {"type": "m.room.message", "content": content}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (reply(), ""),
        (reply(" Deny.\n"), ""),
        (reply("DENY amber canoe"), "amber canoe"),
        (reply("> <@bot:x> web03: Unlock\n> amber canoe\n\ndeny"), ""),
        (reply(relation={"rel_type": "m.thread", "event_id": "$ring"}), ""),
        (
            reply(
                relation={
                    "rel_type": "m.thread",
                    "event_id": "$ring",
                    "is_falling_back": True,
                    "m.in_reply_to": {"event_id": "$somebody-elses"},
                }
            ),
            "",
        ),
    ],
)
def test_a_reply_denies(event: dict[str, Any], said: str) -> None:
    """As people and their clients write it; what follows the word goes with it."""
    assert events.denial(event) == events.Denial("$ring", said)


@pytest.mark.parametrize(
    "event",
    [
        reply("yes"),
        reply("approve"),
        reply("do not deny"),
        reply("denying"),
        reply(""),
        reply(None),
        reply("deny " + "x" * 500),
        reply(msgtype="m.notice"),
        reply(msgtype="m.emote"),
        reply(relation={}),
        reply(relation="$ring"),
        reply(relation={"m.in_reply_to": {"event_id": 5}}),
        reply(relation={"m.in_reply_to": "$ring"}),
        reply(relation={"rel_type": "m.annotation", "event_id": "$ring", "key": "deny"}),
        reply(relation={"rel_type": "m.replace", "event_id": "$ring"}),
        reply(**{"m.new_content": {"msgtype": "m.text", "body": "deny"}}),
        {"type": "m.reaction", "content": reply()["content"]},
        {"type": "m.room.message", "content": "deny"},
        {"type": "m.room.message"},
        {},
    ],
)
def test_nothing_else_does(event: dict[str, Any]) -> None:
    """Other words, reactions, edits, what answers nothing, and what is malformed."""
    assert events.denial(event) is None


def test_a_message_is_sent_again_under_the_same_name() -> None:
    """Tried again it has the same transaction; said again after something else it has another."""
    message = Messages({}).open("p", 0)
    first = message.transaction({"body": "a"})
    message.will_hold(first)
    assert message.transaction({"body": "a"}) == first
    assert message.holding == {first: ""}
    message.holds(first, "$1")
    assert message.transaction({"body": "a"}) != first
    assert message.holding == {first: "$1"}


def test_the_table_of_messages_is_bounded() -> None:
    """Older than a day, or too many: the oldest go. The one that is used stays."""
    table: dict[str, Any] = {}
    messages = Messages(table)
    for number in range(MOST + 50):
        messages.open(str(number), number)
    assert len(table) == MOST
    assert "0" not in table
    messages.open("late", KEPT_SECONDS + 10_000)
    assert list(table) == ["late"]


def test_no_link_is_remembered() -> None:
    """Only transaction and event ids are."""
    table: dict[str, Any] = {}
    message = Messages(table).open("p", 0)
    content = events.replacement("$first", events.ring(NOTICE, "08:31", link=True))
    message.will_hold(message.transaction(content))
    assert "http" not in json.dumps(table)
