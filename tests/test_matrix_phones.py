"""The witnesses themselves: two phones that are not ours talk over a real homeserver, so their word can be trusted."""

import pytest
from matrix.phone import MatrixPhone, Phones
from matrix.synapse import Synapse


@pytest.fixture
def pair(synapse: Synapse, phones: Phones, phone: MatrixPhone) -> tuple[MatrixPhone, MatrixPhone, str]:
    """Two people and their encrypted room."""
    other = phones.new()
    phone.login(synapse, synapse.register())
    other.login(synapse, synapse.register())
    room = phone.create(other.user_id)
    other.join(room)
    return phone, other, room


def test_a_signed_sender_has_no_shield(pair: tuple[MatrixPhone, MatrixPhone, str]) -> None:
    """A message from a signed device arrives encrypted and without a shield; edits and redactions show."""
    ours, theirs, room = pair
    said = ours.say(room, "first")
    shown = theirs.message(room)
    assert (shown.id, shown.text, shown.clean, shown.sender) == (said, "first", True, ours.user_id)
    relation = {"rel_type": "m.replace", "event_id": said}
    content = {"msgtype": "m.text", "body": "second"}
    ours.send(
        room, "m.room.message", {**content, "body": "* second", "m.new_content": content, "m.relates_to": relation}
    )
    theirs.message(room, lambda event: (event.id, event.text) == (said, "second"), "the edit")
    ours.redact(room, said)
    theirs.wait(room, lambda events: [event for event in events if event.redacted], "the redaction")


def test_an_unsigned_device_reads_nothing_and_is_not_believed(
    pair: tuple[MatrixPhone, MatrixPhone, str], synapse: Synapse, phones: Phones
) -> None:
    """A strict phone gives no keys to a device without a signature, and does not decrypt what such a device sends."""
    ours, theirs, room = pair
    thief = phones.new()
    person = synapse.register()
    owner = phones.new()
    owner.login(synapse, person)
    ours.invite(room, owner.user_id)
    owner.join(room)
    thief.login(synapse, person, signed=False, strict=False)
    said = ours.say(room, "not for the thief")
    assert owner.message(room, lambda event: event.id == said).clean
    assert not thief.message(room, lambda event: event.id == said and bool(event.failure)).clean
    said = thief.say(room, "believe me")
    shown = theirs.message(room, lambda event: event.id == said and bool(event.failure))
    assert (shown.failure, shown.text.startswith("believe")) == ("UNSIGNED_SENDER_DEVICE", False)


def test_emoji(pair: tuple[MatrixPhone, MatrixPhone, str]) -> None:
    """Both show the same seven emoji; confirmed on both sides, each trusts the other."""
    ours, theirs, room = pair
    mine = ours.verify(theirs.user_id, room=room)
    asked = theirs.verification(room, lambda one: one.phase == "Requested" and not one.mine, "the request").id
    theirs.accept(asked)
    ours.verification(room, lambda one: one.phase == "Ready", "their consent")
    ours.start(mine)
    assert ours.emoji(mine) == theirs.emoji(asked)
    ours.confirm(mine)
    theirs.confirm(asked)
    assert {ours.finished(mine).phase, theirs.finished(asked).phase} == {"Done"}
    theirs.wait(room, lambda _: theirs.trust(ours.user_id)["verified"], "their trust")
