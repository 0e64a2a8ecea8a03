"""The keyslot fido2 with software keys (tests/ctap) under the real python-fido2: touch, and which key is meant."""

import errno
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from ctap.desk import PIN, SUBJECT, Cabinet, Desk
from ctap.key import Key
from fido2.ctap import CtapError
from keyslot_contract import KeyslotContract, accepting

from unlatch import base64url
from unlatch.keyslots import editing, key_troubles
from unlatch.keyslots.editing import NewSlot
from unlatch.keyslots.errors import SlotFailed
from unlatch.keyslots.slots import Created, Helpers

SOURCE = Path(__file__).parents[1] / "src" / "unlatch"


class TestTouched(KeyslotContract):
    """A key of today that wants a touch each time."""

    wishes: ClassVar[dict[str, str]] = {}

    @pytest.fixture(autouse=True)
    def plugged(self) -> None:
        self.key, self.desk = self.made_of()
        self.kind = self.desk.kind

    @pytest.fixture
    def helpers(self) -> Helpers:
        return self.desk.helpers()

    def made_of(self) -> tuple[Key, Desk]:
        key = Key()
        return key, Desk(key)

    def right(self, created: Created, making: Helpers) -> Helpers:
        return self.desk.helpers()

    def wrong(self, created: Created) -> Helpers:
        self.desk.hub.pull(self.key)
        self.desk.hub.plug(Key(b"another", pin=PIN.decode()))
        return self.desk.helpers()


class TestUntouched(TestTouched):
    """An older key that gives its output to nobody's finger."""

    wishes: ClassVar[dict[str, str]] = {"no-touch": "yes"}

    def made_of(self) -> tuple[Key, Desk]:
        key = Key(untouched=True)
        return key, Desk(key)


class TestWithPin(TestTouched):
    """A key with a PIN that the slot asks for."""

    wishes: ClassVar[dict[str, str]] = {"pin": "yes"}

    def made_of(self) -> tuple[Key, Desk]:
        key = Key(pin=PIN.decode())
        return key, Desk(key, answers=(PIN,) * 8)


class TestOld(TestWithPin):
    """A key of CTAP 2.0: protocol one, one secret for a credential, tokens without permissions."""

    def made_of(self) -> tuple[Key, Desk]:
        key = Key(pin=PIN.decode(), protocols=(1,), tokens=False, two_secrets=False)
        return key, Desk(key, answers=(PIN,) * 8)


def test_the_python_library_is_loaded_late_and_in_few_files() -> None:
    """Whoever opens another kind of slot pays nothing for python-fido2, and only what talks to keys knows it."""
    imports = [path.name for path in SOURCE.rglob("*.py") if "from fido2" in path.read_text()]
    assert sorted(imports) == ["hidraw.py", "key_troubles.py", "security_key.py"]
    code = (
        "import sys, unlatch.keyslots.fido2; print(*{'fido2', 'logging', 'threading', 'subprocess'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True).stdout == b"\n"


def test_without_the_library_the_command_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is missing: words, and what to type."""
    desk = Desk(Key())
    created = desk.kind.create(SUBJECT, {}, desk.helpers())
    monkeypatch.setitem(sys.modules, "fido2.ctap2", None)
    for work in (
        lambda: desk.kind.create(SUBJECT, {}, desk.helpers()),
        lambda: desk.kind.renew(SUBJECT, created.params, desk.helpers()),
        lambda: desk.kind.open(SUBJECT, created.params, accepting(b""), desk.helpers()),
    ):
        with pytest.raises(SlotFailed, match="python-fido2, which is not installed") as failed:
            work()
        assert failed.value.hint == f"{sys.prefix}/bin/pip install 'unlatch[fido2]'"


def test_the_library_keeps_its_log_shut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """python-fido2 logs whole messages when somebody turns logging up; with us it says nothing."""
    caplog.set_level(1)
    cabinet = Cabinet(tmp_path, Desk(Key(pin=PIN.decode()), answers=(PIN,) * 3))
    cabinet.add({"pin": "yes"})
    cabinet.open()
    assert caplog.records == []


def test_one_touch_opens_and_rolls(tmp_path: Path) -> None:
    """Both salts go to the key in one touch; making the slot takes two."""
    key = Key()
    cabinet = Cabinet(tmp_path, Desk(key))
    cabinet.add()
    assert key.finger.touched == 2
    before = cabinet.slot()
    for number in range(1, 4):
        cabinet.open()
        assert key.finger.touched == 2 + number
        assert len(key.outputs) == 1 + 2 * number
    assert cabinet.slot().params["credential"] == before.params["credential"]
    assert cabinet.slot().params["salt"] != before.params["salt"]
    assert cabinet.desk.hub.open == 0


def test_a_touch_is_asked_for_when_the_key_waits(tmp_path: Path) -> None:
    """Who runs the command is told which key to touch, and for what; a key that is touched already says nothing."""
    key = Key()
    desk = Desk(key)
    cabinet = Cabinet(tmp_path, desk)
    key.finger = type(key.finger)(after=3)
    cabinet.add()
    assert desk.person.told == ["touch Software Key 0 within 30 seconds to enrol it"]
    desk.types()
    cabinet.open()
    assert desk.person.told == []
    key.finger = type(key.finger)(after=3)
    cabinet.open()
    assert desk.person.told == ["touch Software Key 0 within 30 seconds to open its keyslot"]


def test_nobody_touches_it(tmp_path: Path) -> None:
    """After 30 s the key is told to stop, and the next keyslot has its turn; nothing was rolled."""
    key = Key()
    desk = Desk(key)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add({}, NewSlot("passphrase", "words", {}))
    words = desk.person.told[-1].rpartition(": ")[2]
    before, start = cabinet.slot(), desk.hub.clock.now
    key.finger.there = False
    desk.types(words.encode())
    opened = cabinet.open()
    assert opened.slot.label == "words"
    assert 30 <= desk.hub.clock.now - start < 31
    assert desk.hub.side(key).cancelled >= 1
    assert cabinet.slot() == before
    assert desk.person.told[-1] == (
        "the keyslot fido2 did not open: nobody touched the security key within 30 seconds; trying the next"
    )
    with pytest.raises(SlotFailed, match="nobody touched"):
        cabinet.open("fido2")
    key.finger.there = True
    assert cabinet.open("fido2").slot.label == "fido2"


def test_nobody_touches_it_while_it_is_enrolled(tmp_path: Path) -> None:
    """No slot and no file comes of it."""
    key = Key()
    cabinet = Cabinet(tmp_path, Desk(key))
    key.finger.there = False
    with pytest.raises(SlotFailed, match="nobody touched"):
        cabinet.add()
    assert cabinet.store.names() == []


def test_it_is_pulled_out_while_it_waits(tmp_path: Path) -> None:
    """Words, no traceback, and the next try with the key works."""
    key = Key()
    desk = Desk(key)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add()
    key.finger.there = False
    desk.hub.before_read = lambda: desk.hub.pull(key) if key.finger.wanted == 3 and key in desk.hub._plugged else None
    with pytest.raises(SlotFailed, match="pulled out"):
        cabinet.open()
    desk.hub.before_read = lambda: None
    key.finger.there = True
    desk.hub.plug(key)
    cabinet.open()


def test_whoever_types_ctrl_c_leaves_the_key_at_rest(tmp_path: Path) -> None:
    """The key is told that nobody waits any more, and the device is closed."""
    key = Key()
    desk = Desk(key)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add()
    key.finger.there = False

    def interrupt() -> None:
        if key.finger.wanted == 3:
            raise KeyboardInterrupt

    desk.hub.before_read = interrupt
    with pytest.raises(KeyboardInterrupt):
        cabinet.open()
    assert desk.hub.side(key).cancelled == 1
    assert desk.hub.open == 0


def test_without_touch_nobody_need_be_there(tmp_path: Path) -> None:
    """A key that allows it opens by itself, again and again."""
    key = Key(untouched=True)
    cabinet = Cabinet(tmp_path, Desk(key))
    cabinet.add({"no-touch": "yes"})
    assert key.finger.touched == 1  # to enrol it
    key.finger.there = False
    for _ in range(3):
        cabinet.open()
    assert key.finger.wanted == 1


def test_most_keys_insist_on_a_touch() -> None:
    """CTAP 2.1 forbids hmac-secret without a touch: that is found out before such a slot exists."""
    desk = Desk(Key())
    with pytest.raises(SlotFailed, match="nothing without a touch") as failed:
        desk.kind.create(SUBJECT, {"no-touch": "yes"}, desk.helpers())
    assert failed.value.hint == "leave --no-touch out"


def test_a_firmware_that_begins_to_insist_loses_nothing(tmp_path: Path) -> None:
    """A slot without touch, on a key that wants one since its update, opens with one and says why."""
    key = Key(untouched=True)
    desk = Desk(key)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add({"no-touch": "yes"})
    key.untouched = False
    desk.types()
    cabinet.open()
    assert desk.person.told == ["Software Key 0 insists on a touch, although the keyslot was made without"]
    renewed = desk.kind.renew(SUBJECT, cabinet.slot().params, desk.helpers())
    assert renewed.params["touch"] is True


def test_a_key_that_answers_untouched_is_told_of(tmp_path: Path) -> None:
    """Where any program may leave the touch out, the touch protects from nobody on this host, and that is said."""
    for key, warned in ((Key(untouched=True), True), (Key(), False)):
        desk = Desk(key)
        desk.kind.create(SUBJECT, {}, desk.helpers())
        assert any("leave the touch out" in line for line in desk.person.told) is warned


@pytest.mark.parametrize("others", [0, 1, 3])
def test_the_right_one_of_several_keys_is_found(tmp_path: Path, others: int) -> None:
    """Looking for it costs no touch and no PIN try, on none of them."""
    keys = [Key(bytes([number]), pin="0000000") for number in range(others)]
    key = Key(pin=PIN.decode())
    desk = Desk(key, answers=(PIN, PIN))
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add({"pin": "yes"})
    desk.hub.pull(key)
    for other in keys:
        desk.hub.plug(other)
    desk.hub.plug(key)
    cabinet.open()
    assert [other.finger.wanted for other in keys] == [0] * others
    assert [other.pins.given for other in keys] == [[]] * others
    assert key.pins.given.count(False) == 0


def test_what_is_said_when_the_key_is_not_there(tmp_path: Path) -> None:
    """No key, another one, several others: each has its words, and nobody is asked for a PIN."""
    key = Key(pin=PIN.decode())
    desk = Desk(key, answers=(PIN,))
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add({"pin": "yes"})
    desk.types()
    desk.hub.pull(key)
    with pytest.raises(SlotFailed, match="no security key is plugged in") as failed:
        cabinet.open()
    assert failed.value.hint == "plug it in, run the command again"
    for number, words in ((1, "the one that is plugged in is not the"), (2, "none of the 2 that are plugged in is")):
        desk.hub.plug(Key(bytes([number])))
        with pytest.raises(SlotFailed, match=words):
            cabinet.open()
    assert desk.person.asked == []


def test_a_key_that_may_not_be_opened_is_told(tmp_path: Path) -> None:
    """A service user without a udev rule hears that, not that there is no key; another key's slot is still found."""
    key, other = Key(), Key(b"two")
    desk = Desk(key)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add()
    desk.hub.plug(other)
    desk.hub.locked = {other}
    cabinet.open()
    desk.hub.locked = {key, other}
    with pytest.raises(SlotFailed, match="may not open the security key at /dev/hidraw0") as failed:
        cabinet.open()
    assert "udev" in failed.value.hint


def test_one_key_is_enrolled_at_a_time() -> None:
    """With none or several plugged in, nothing is made."""
    desk = Desk()
    with pytest.raises(SlotFailed, match="no security key is plugged in"):
        desk.kind.create(SUBJECT, {}, desk.helpers())
    for name in (b"one", b"two"):
        desk.hub.plug(Key(name))
    with pytest.raises(SlotFailed, match="2 security keys are plugged in: Software Key 0, Software Key 1"):
        desk.kind.create(SUBJECT, {}, desk.helpers())


def second(cabinet: Cabinet) -> None:
    """What ``unlatch secret add-slot borg fido2 --label second`` does."""
    opened = cabinet.open()
    with cabinet.desk.here():
        wanted = NewSlot("fido2", "second", {})
        editing.add_slot(cabinet.store, opened, wanted, cabinet.desk.helpers())


def test_a_second_key_is_enrolled_beside_the_first(tmp_path: Path) -> None:
    """With both plugged in, the first one opens the secret and the other one gets the slot."""
    one, two = Key(b"one"), Key(b"two")
    cabinet = Cabinet(tmp_path, Desk(one))
    cabinet.add()
    cabinet.desk.hub.plug(two)
    second(cabinet)
    assert (one.finger.touched, two.finger.touched) == (3, 2)
    cabinet.desk.hub.pull(one)
    assert cabinet.open().slot.label == "second"


def test_a_second_key_may_take_the_only_port(tmp_path: Path) -> None:
    """The first key is never taken for the second; there is a minute to change them, and a person is told."""
    one, two = Key(b"one"), Key(b"two")
    desk = Desk(one)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add()
    with pytest.raises(SlotFailed, match="the security key that is plugged in is enrolled for this secret already"):
        second(cabinet)
    assert desk.person.told == ["plug in the security key that is to be enrolled, within 60 seconds"]
    assert one.finger.touched == 3
    looks = iter(range(1000))

    def change() -> None:
        look = next(looks)
        if look == 2:
            desk.hub.pull(one)
        if look == 4:
            desk.hub.plug(two)

    desk.while_waiting = change
    second(cabinet)
    assert desk.hub.open == 0
    assert cabinet.open().slot.label == "second"


def test_rotating_asks_for_each_key_in_turn(tmp_path: Path) -> None:
    """Both keys are needed for a new master key, not both at once."""
    one, two = Key(b"one"), Key(b"two")
    desk = Desk(one, two)
    cabinet = Cabinet(tmp_path, desk)
    desk.hub.pull(two)
    cabinet.add()
    desk.hub.plug(two)
    second(cabinet)
    desk.hub.pull(two)
    opened = cabinet.open()

    def change() -> None:
        desk.hub.pull(one)
        desk.hub.plug(two)
        desk.while_waiting = lambda: None

    desk.while_waiting = change
    desk.types()
    with desk.here():
        editing.rotate(cabinet.store, opened, desk.helpers())
    assert desk.person.told == ["plug in the security key of the keyslot second, within 60 seconds"]
    assert cabinet.open().slot.label == "second"
    desk.hub.pull(two)
    desk.hub.plug(one)
    assert cabinet.open().slot.label == "fido2"


def test_rotating_without_a_key_changes_nothing(tmp_path: Path) -> None:
    """A key that nobody finds: the words say which, and the secret is as it was."""
    one, two = Key(b"one"), Key(b"two")
    desk = Desk(one)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add()
    desk.hub.plug(two)
    second(cabinet)
    desk.hub.pull(two)
    opened, start = cabinet.open(), desk.hub.clock.now
    before = cabinet.file()
    with desk.here(), pytest.raises(SlotFailed, match="the one that is plugged in is not"):
        editing.rotate(cabinet.store, opened, desk.helpers())
    assert 60 <= desk.hub.clock.now - start < 62
    assert cabinet.file() == before


@pytest.mark.parametrize("key", [Key(extensions=()), Key(protocols=())], ids=["no hmac-secret", "no protocol"])
def test_a_key_that_cannot_is_not_enrolled(key: Key) -> None:
    """A key without hmac-secret is refused at once."""
    desk = Desk(key)
    with pytest.raises(SlotFailed, match="no hmac-secret"):
        desk.kind.create(SUBJECT, {}, desk.helpers())
    assert key.finger.wanted == 0


def test_another_program_may_use_the_key_first(tmp_path: Path) -> None:
    """While another program's question is open at the key, ours waits its turn."""
    key = Key()
    desk = Desk(key)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add()
    other = desk.hub.ports()[0].open()
    key.finger.there = False
    side = desk.hub.side(key)
    side.put(other._channel_id.to_bytes(4) + b"\x90\x00\x01\x0b".ljust(60, b"\0"))
    reads = iter(range(1000))

    def patience() -> None:
        if next(reads) == 3:
            key.finger.there = True
            side.tick()

    desk.hub.before_read = patience
    cabinet.open()
    other.close()


def test_a_changed_slot_is_not_tried_for_ever(tmp_path: Path) -> None:
    """Another salt in the file: the key answers, nothing opens, and nothing is rolled."""
    key = Key()
    desk = Desk(key)
    created = desk.kind.create(SUBJECT, {}, desk.helpers())
    kek = bytes(created.kek.reveal())
    params = created.params | {"salt": base64url.encode(bytes(32))}
    with pytest.raises(SlotFailed, match="does not open the keyslot fido2, which was changed"):
        desk.kind.open(SUBJECT, params, accepting(kek), desk.helpers())
    assert key.finger.touched == 3


def test_outputs_cross_the_cable_sealed(tmp_path: Path) -> None:
    """Neither an output, nor a salt, nor the PIN stands in what goes over USB."""
    key = Key(pin=PIN.decode())
    desk = Desk(key, answers=(PIN,) * 2)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add({"pin": "yes"})
    cabinet.open()
    wire = b"".join(packet[5:] for packet in desk.hub.packets) + b"".join(packet[7:] for packet in desk.hub.packets)
    salt = base64url.decode(cabinet.slot().params["salt"], "salt", 32)
    for secret in (*key.outputs, salt, PIN):
        assert secret[:12] not in wire


def test_the_page_knows_what_is_said() -> None:
    """Every sentence that docs/secrets-fido2.md explains is one that is said."""
    page = (SOURCE.parents[1] / "docs" / "secrets-fido2.md").read_text()
    rows = re.findall(r"^\| (.*?) \| .* \|$", page.split("## When it does not open")[1], re.MULTILINE)[1:]
    said = [
        key_troubles.none_plugged(),
        key_troubles.other_keys(1),
        key_troubles.WrongPin(7, replug=False),
        key_troubles.paused(5),
        key_troubles.last_try(1, "/dev/hidraw0"),
    ]
    for error in (PermissionError(errno.EACCES, ""), CtapError(0x2F), CtapError(0x06), CtapError(0x36)):
        with pytest.raises(SlotFailed) as failed, key_troubles.translated("/dev/hidraw0"):
            raise error
        said.append(failed.value)
    for row in rows:
        assert any(error.why.startswith(row) for error in said), row
    assert len(rows) == len(said)
