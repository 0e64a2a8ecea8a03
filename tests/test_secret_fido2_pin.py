"""The PIN of a security key: what the person is shown, and that no try is ever spent by ourselves."""

from pathlib import Path

import pytest
from ctap.desk import PIN, SUBJECT, WRONG, Cabinet, Desk
from ctap.key import Key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keyslot_contract import accepting

from unlatch import base64url
from unlatch.errors import Denied
from unlatch.frontends.asking import NothingGiven, Wanted
from unlatch.keyslots import editing
from unlatch.keyslots.editing import NewSlot
from unlatch.keyslots.errors import SlotFailed
from unlatch.keyslots.key_pin import MAX_QUESTIONS
from unlatch.prompt import Key as PromptKey
from unlatch.prompt import Verdict
from unlatch.secret import Secret

REPLUG = "pull the security key out, plug it in, run the command again"


def with_pin(path: Path, **options: bool) -> tuple[Key, Cabinet]:
    """A secret whose slot asks for the PIN; nothing is typed yet."""
    key = Key(pin=PIN.decode(), **options)
    desk = Desk(key, answers=(PIN,))
    cabinet = Cabinet(path, desk)
    cabinet.add({"pin": "yes"})
    desk.types()
    key.pins.given.clear()
    return key, cabinet


def test_what_the_page_says(tmp_path: Path) -> None:
    """A PIN that the key keeps, with the tries that are left, the keyslot, and that somebody must touch the key."""
    key, cabinet = with_pin(tmp_path)
    cabinet.desk.types(PIN)
    cabinet.open()
    assert cabinet.desk.person.asked == [
        Wanted(
            kind="pin",
            title="PIN of the security key, to open borg",
            text="8 tries left. After three wrong ones in a row it must be plugged in anew. "
            "It is for the keyslot fido2 of the stored secret borg. "
            "Then somebody must touch the key, at the server, within 30 seconds.",
            key=PromptKey(name="Software Key 0"),
            keeper="card",
            ok="Unlock",
        )
    ]
    assert cabinet.desk.person.coalesced[-1] == "secret:borg"
    assert cabinet.desk.person.verdicts == [Verdict("accepted")]
    assert key.pins.given == [True]


def test_a_wrong_pin_is_told_with_the_tries_left(tmp_path: Path) -> None:
    """The person may try again, and is told each time how many tries are left."""
    key, cabinet = with_pin(tmp_path)
    cabinet.desk.types(WRONG, PIN)
    cabinet.open()
    assert key.pins.given == [False, True]
    first, second = cabinet.desk.person.asked
    assert (first.error, second.error) == ("", "Wrong PIN, 7 tries left.")
    assert second.text.startswith("7 tries left.")
    assert key.pins.tries == 8


def test_three_wrong_ones_want_a_replug(tmp_path: Path) -> None:
    """After the third nobody is asked again, now or by the next command, until the key is replugged."""
    key, cabinet = with_pin(tmp_path)
    cabinet.desk.types(WRONG, b"111111", b"222222", PIN)
    with pytest.raises(SlotFailed) as failed:
        cabinet.open()
    assert failed.value.why == "wrong PIN, 5 tries left; it takes none until it is pulled out and plugged in again"
    assert failed.value.hint == REPLUG
    assert cabinet.desk.person.verdicts == [Verdict("failed", f"W{failed.value.why[1:]}.")]
    assert len(cabinet.desk.person.asked) == 3
    cabinet.desk.types(PIN)
    with pytest.raises(SlotFailed, match="takes none for now; 5 tries left") as failed:
        cabinet.open()
    assert failed.value.hint == REPLUG
    assert cabinet.desk.person.asked == []
    cabinet.desk.hub.replug(key)
    cabinet.open()
    assert key.pins.given == [False, False, False, True]


def test_an_old_key_tells_only_afterwards_that_it_takes_none(tmp_path: Path) -> None:
    """A key of CTAP 2.0 shows no sign after three wrong PINs: the next one is not called wrong, and not given again."""
    key, cabinet = with_pin(tmp_path, tokens=False)
    cabinet.desk.types(WRONG, b"111111", b"222222", PIN)
    with pytest.raises(SlotFailed, match="wrong PIN, 5 tries left; it takes none until"):
        cabinet.open()
    cabinet.desk.types(PIN, PIN)
    with pytest.raises(SlotFailed, match="takes none for now; 5 tries left"):
        cabinet.open()
    assert len(cabinet.desk.person.asked) == 1
    assert key.pins.given == [False] * 3
    cabinet.desk.hub.replug(key)
    cabinet.desk.types(PIN)
    cabinet.open()


def test_the_last_try_is_not_ours(tmp_path: Path) -> None:
    """With one try left nobody is asked: the next wrong one would lock the key, and its slot, for good."""
    key, cabinet = with_pin(tmp_path)
    key.pins.tries = 1
    cabinet.desk.types(PIN)
    with pytest.raises(SlotFailed, match="1 try left before its PIN locks for good") as failed:
        cabinet.open()
    assert "fido2-token -L -r /dev/hidraw0" in failed.value.hint
    assert (key.pins.given, cabinet.desk.person.asked) == ([], [])
    key.pins.tries = 0
    with pytest.raises(SlotFailed, match="locked for good"):
        cabinet.open()
    assert (key.pins.given, cabinet.desk.person.asked) == ([], [])


def test_a_wrong_pin_that_leaves_one_try_is_what_went_wrong(tmp_path: Path) -> None:
    """It is told as a wrong PIN, and the last try stays."""
    key, cabinet = with_pin(tmp_path)
    key.pins.tries = 2
    cabinet.desk.types(WRONG, PIN)
    with pytest.raises(SlotFailed, match="wrong PIN, 1 try left"):
        cabinet.open()
    assert key.pins.given == [False]


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        (b"123", "A PIN of this key has at least 4 characters; this one cost nothing."),
        ("ÄÖÜ".encode(), "A PIN of this key has at least 4 characters; this one cost nothing."),
        (b"1" * 64, "A PIN has at most 63 bytes; this one cost nothing."),
        (b"\xff\xfe\xfd\xfc", "A PIN is text; this one was not tried and cost nothing."),
    ],
)
def test_what_cannot_be_a_pin_costs_nothing(tmp_path: Path, typed: bytes, why: str) -> None:
    """It never reaches the key, and the person hears why."""
    key, cabinet = with_pin(tmp_path)
    cabinet.desk.types(typed, PIN)
    cabinet.open()
    assert cabinet.desk.person.asked[1].error == why
    assert key.pins.given == [True]


def test_a_refused_pin_is_not_given_again(tmp_path: Path) -> None:
    """Typed twice, it costs one try."""
    key, cabinet = with_pin(tmp_path)
    cabinet.desk.types(WRONG, WRONG, WRONG, PIN)
    cabinet.open()
    assert key.pins.given == [False, True]
    assert "cost nothing" in cabinet.desk.person.asked[2].error


def test_a_pin_counts_in_composed_form(tmp_path: Path) -> None:
    """A phone may send letter and accent apart; keys count NFC."""
    key = Key(pin="\u00e9\u00e9\u00e9\u00e9")
    desk = Desk(key, answers=("e\u0301e\u0301e\u0301e\u0301".encode(),))
    desk.kind.create(SUBJECT, {"pin": "yes"}, desk.helpers())
    assert False not in key.pins.given


def test_from_standard_input_there_is_one_try(tmp_path: Path) -> None:
    """A program's second line is no second try: the wrong PIN is the error."""
    key, cabinet = with_pin(tmp_path)
    desk = cabinet.desk

    def nothing_more() -> None:
        if not desk.person.answers:
            raise NothingGiven("wrong")

    desk.person.meanwhile = nothing_more
    desk.types(WRONG)
    with pytest.raises(SlotFailed, match="wrong PIN, 7 tries left"):
        cabinet.open()
    desk.types()
    with pytest.raises(NothingGiven):
        cabinet.open()
    assert key.pins.given == [False]


def test_whoever_denies_has_denied_the_secret(tmp_path: Path) -> None:
    """No other slot is tried, and the key heard nothing."""
    key, cabinet = with_pin(tmp_path)

    def deny() -> None:
        raise Denied

    cabinet.desk.person.meanwhile = deny
    with pytest.raises(Denied):
        cabinet.open()
    assert key.pins.given == []
    assert cabinet.desk.hub.open == 0


def test_a_key_that_was_exchanged_meanwhile_gets_no_pin(tmp_path: Path) -> None:
    """While the person types, hours maybe, another key took its place: it is not the one, so it gets nothing."""
    key, cabinet = with_pin(tmp_path)
    hub = cabinet.desk.hub
    other = Key(b"another", pin="99999999")

    def exchange() -> None:
        hub.pull(key)
        hub.plug(other)

    cabinet.desk.person.meanwhile = exchange
    cabinet.desk.types(PIN)
    with pytest.raises(SlotFailed, match="the one that is plugged in is not"):
        cabinet.open()
    assert (key.pins.given, other.pins.given) == ([], [])
    assert [verdict.outcome for verdict in cabinet.desk.person.verdicts] == ["failed"]


def test_nobody_is_kept_from_the_key_while_a_person_is_asked(tmp_path: Path) -> None:
    """It is closed while the question is open, and it may even be replugged."""
    key, cabinet = with_pin(tmp_path)
    hub = cabinet.desk.hub
    seen = []

    def look() -> None:
        seen.append(hub.open)
        hub.replug(key)

    cabinet.desk.person.meanwhile = look
    cabinet.desk.types(PIN)
    cabinet.open()
    assert seen == [0]


def test_tries_that_others_spent_meanwhile_count(tmp_path: Path) -> None:
    """The tries are read again before the PIN is given: what the page said may be hours old."""
    key, cabinet = with_pin(tmp_path)

    def spend() -> None:
        key.pins.tries = 1

    cabinet.desk.person.meanwhile = spend
    cabinet.desk.types(PIN)
    with pytest.raises(SlotFailed, match="1 try left"):
        cabinet.open()
    assert key.pins.given == []


@pytest.mark.parametrize("touch", [True, False])
def test_an_accepted_pin_and_then_no_touch(tmp_path: Path, touch: bool) -> None:
    """The page hears what became of it: opened, or that nobody touched the key."""
    key, cabinet = with_pin(tmp_path)
    key.finger.there = touch
    cabinet.desk.types(PIN)
    if touch:
        cabinet.open()
        assert cabinet.desk.person.verdicts == [Verdict("accepted")]
    else:
        with pytest.raises(SlotFailed):
            cabinet.open()
        said = Verdict("failed", "Nobody touched the security key within 30 seconds.")
        assert cabinet.desk.person.verdicts == [said]


def test_a_pin_without_touch_is_the_whole_ceremony(tmp_path: Path) -> None:
    """A key in a rack that allows it: the PIN from the phone, and no finger."""
    key = Key(pin=PIN.decode(), untouched=True)
    desk = Desk(key, answers=(PIN,) * 2)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add({"pin": "yes", "no-touch": "yes"})
    key.finger.there = False
    cabinet.open()
    assert "touch" not in desk.person.asked[-1].text


def test_with_the_pin_the_key_says_something_else(tmp_path: Path) -> None:
    """A slot says whether it was made with the PIN; changed in the file, the same key does not open it."""
    for pin in (True, False):
        key = Key(pin=PIN.decode())
        desk = Desk(key, answers=(PIN,) * 4)
        created = desk.kind.create(SUBJECT, {"pin": "yes"} if pin else {}, desk.helpers())
        kek = bytes(created.kek.reveal())
        assert created.params["pin"] is pin
        with pytest.raises(SlotFailed, match="was changed"):
            desk.kind.open(SUBJECT, created.params | {"pin": not pin}, accepting(kek), desk.helpers())
        desk.kind.open(SUBJECT, created.params, accepting(kek), desk.helpers())


def test_a_key_that_got_a_pin_later_still_opens(tmp_path: Path) -> None:
    """Outputs without the PIN stay as they were."""
    key = Key()
    desk = Desk(key)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add()
    key.pins = Key(pin=PIN.decode()).pins
    cabinet.open()
    assert desk.person.asked == []


def test_enrolling_asks_for_the_pin_where_the_key_wants_it(tmp_path: Path) -> None:
    """Most keys with a PIN want it for each new credential, although the slot will not; makeCredUvNotRqd does not."""
    for free, questions in ((False, 1), (True, 0)):
        desk = Desk(Key(pin=PIN.decode(), free_making=free), answers=(PIN,))
        created = desk.kind.create(SUBJECT, {}, desk.helpers())
        assert created.params["pin"] is False
        assert len(desk.person.asked) == questions
        assert all("to enrol it for borg" in wanted.title for wanted in desk.person.asked)
        assert set(desk.person.coalesced) <= {""}


def test_a_key_that_always_wants_its_pin_gets_a_slot_that_asks(tmp_path: Path) -> None:
    """alwaysUv: without --pin the slot would never open, so it asks all the same, and that is told."""
    desk = Desk(Key(pin=PIN.decode(), always_pin=True), answers=(PIN,) * 2)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add()
    assert cabinet.slot().params["pin"] is True
    assert "so the keyslot will ask for it" in desk.person.told[0]
    cabinet.open()


def test_a_key_that_wants_its_pin_since_then_says_so(tmp_path: Path) -> None:
    """alwaysUv was turned on later: words, and the next slot."""
    key = Key(pin=PIN.decode())
    desk = Desk(key, answers=(PIN,))
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add()
    key._always_pin = True
    with pytest.raises(SlotFailed, match="wants its PIN since this keyslot was made"):
        cabinet.open()


def test_a_slot_with_pin_needs_a_key_with_one() -> None:
    """No PIN is set: the command that sets one."""
    desk = Desk(Key())
    with pytest.raises(SlotFailed, match="has no PIN") as failed:
        desk.kind.create(SUBJECT, {"pin": "yes"}, desk.helpers())
    assert failed.value.hint == "fido2-token -S /dev/hidraw0 sets one"
    assert desk.person.asked == []


def test_after_a_failed_pin_the_next_slot_is_tried(tmp_path: Path) -> None:
    """Three wrong PINs, then the words that lie in the safe."""
    _, cabinet = with_pin(tmp_path)
    helpers = cabinet.desk.helpers()
    cabinet.desk.types(PIN)
    with cabinet.desk.here():
        editing.add_slot(cabinet.store, cabinet.open(), NewSlot("passphrase", "words", {}), helpers)
    words = cabinet.desk.person.told[-1].rpartition(": ")[2].encode()
    cabinet.desk.types(WRONG, b"111111", b"222222", words)
    assert cabinet.open().slot.label == "words"
    assert [wanted.kind for wanted in cabinet.desk.person.asked] == ["pin", "pin", "pin", "passphrase"]


TYPED = st.sampled_from([PIN, WRONG, b"111111", b"222222", b"333333", b"12", b"", b"\xff" * 8, b"1" * 99])


@given(st.lists(st.lists(TYPED, max_size=MAX_QUESTIONS), max_size=4), st.integers(0, 8), st.booleans())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_try_is_spent_that_nobody_typed(commands: list[list[bytes]], tries: int, replug: bool) -> None:
    """Whatever is typed: each PIN reaches the key once for each command, the last try never, and no command asks on."""
    key = Key(pin=PIN.decode())
    desk = Desk(key, answers=(PIN,))
    created = desk.kind.create(SUBJECT, {"pin": "yes"}, desk.helpers())
    kek = bytes(created.kek.reveal())
    key.pins.tries = tries
    for typed in commands:
        before, key.pins.given = key.pins.tries, []
        desk.types(*typed)
        try:
            desk.kind.open(SUBJECT, created.params, accepting(kek), desk.helpers())
            opened = True
        except (SlotFailed, IndexError):
            opened = False
        used = desk.person.asked[: len(typed)]
        plausible = list(dict.fromkeys(word for word in typed[: len(used)] if word.isdigit() and 4 <= len(word) < 64))
        assert len(key.pins.given) <= len(plausible)
        assert opened == (True in key.pins.given)
        assert key.pins.given.count(False) <= min(3, max(0, before - 1))
        assert len(used) <= MAX_QUESTIONS
        assert key.pins.tries > 0 or before == 0
        if replug:
            desk.hub.replug(key)


def test_a_pin_is_wiped_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every PIN that was typed is wiped when the dialogue is over, right or wrong."""
    key, cabinet = with_pin(tmp_path)
    typed: list[Secret] = []
    ask = cabinet.desk.person.ask

    def remember(wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
        typed.append(ask(wanted, coalesce=coalesce, seconds=seconds))
        return typed[-1]

    monkeypatch.setattr(cabinet.desk.person, "ask", remember)
    cabinet.desk.types(WRONG, b"12", PIN)
    cabinet.open()
    assert [bytes(secret.reveal()).strip(b"\0") for secret in typed] == [b"", b"", b""]
    shown = repr((cabinet.desk.person.asked, cabinet.desk.person.told, cabinet.desk.person.verdicts))
    assert WRONG.decode() not in shown
    assert base64url.encode(WRONG) not in shown
    assert key.pins.given == [False, True]
