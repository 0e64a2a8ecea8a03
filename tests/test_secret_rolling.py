"""Rolling: what was recorded when a slot was opened opens nothing after the next time; and what holds others off."""

import errno
import fcntl
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ctap.desk import PIN, Cabinet, Desk
from ctap.key import Key
from secret_files import CONTENT

from unlatch.keyslots import editing, opening, rolling, store, vault
from unlatch.keyslots.editing import NewSlot
from unlatch.keyslots.errors import BadSecretFile, Changed, NoSuchSecret, WrongKey
from unlatch.keyslots.header import SecretFile, to_json
from unlatch.keyslots.slots import Opened, Subject
from unlatch.secret import Secret


@pytest.fixture
def key() -> Key:
    return Key()


@pytest.fixture
def cabinet(tmp_path: Path, key: Key) -> Cabinet:
    """The secret borg with one security key, never opened yet."""
    cabinet = Cabinet(tmp_path, Desk(key))
    cabinet.add()
    return cabinet


def content_of(file: SecretFile, master: Secret) -> bytes:
    content = vault.open_file(file, master)
    return bytes(content.reveal())


def opens(output: bytes, file: SecretFile) -> bool:
    """Whether who recorded this output opens this copy of the file with it."""
    opened = []
    for slot in file.header.slots:
        try:
            master = vault.unwrap(file.header, slot, Secret(output))
        except WrongKey:
            continue
        opened.append(content_of(file, master))
    assert opened in ([], [CONTENT])
    return bool(opened)


@pytest.mark.parametrize("wishes", [{}, {"no-touch": "yes"}, {"pin": "yes"}], ids=["touch", "no touch", "pin"])
def test_what_was_recorded_opens_nothing_after_the_next_unlock(tmp_path: Path, wishes: dict[str, str]) -> None:
    """Every output of every unlock so far is tried on the file; only the latest one's second output still fits."""
    key = Key(pin=PIN.decode(), untouched="no-touch" in wishes)
    cabinet = Cabinet(tmp_path, Desk(key, answers=(PIN,) * 20))
    cabinet.add(wishes)
    for _ in range(8):
        recorded = list(key.outputs)
        cabinet.open()
        current, following = key.outputs[len(recorded) :]
        assert [opens(output, cabinet.file()) for output in recorded] == [False] * len(recorded)
        assert not opens(current, cabinet.file())
        # The limit that docs/secrets-fido2.md states: this one goes with the next unlock.
        assert opens(following, cabinet.file())
    assert len(set(key.outputs)) == len(key.outputs) - 8  # each second output is the next unlock's first


def test_an_old_copy_stays_open_to_its_outputs(cabinet: Cabinet, key: Key) -> None:
    """A limit that the documentation states: a backup of yesterday's file opens with what was recorded then."""
    copies = []
    for _ in range(3):
        copies.append(cabinet.file())
        cabinet.open()
    for number, copy in enumerate(copies):
        fitting = {output for output in key.outputs if opens(output, copy)}
        assert fitting == {key.outputs[2 * number + 1 if number else 0]}


def test_only_rotating_heals_a_known_master_key(cabinet: Cabinet, key: Key) -> None:
    """A limit that the documentation states: who ever opened a slot opens every later copy, until it is rotated."""
    master = cabinet.open().master
    cabinet.open()
    assert content_of(cabinet.file(), master) == CONTENT
    touched, recorded = key.finger.touched, list(key.outputs)
    opened = cabinet.open()
    with cabinet.desk.here():
        editing.rotate(cabinet.store, opened, cabinet.desk.helpers())
    assert key.finger.touched == touched + 2  # one opens, one renews
    with pytest.raises(BadSecretFile):
        vault.open_file(cabinet.file(), master)
    assert not any(opens(output, cabinet.file()) for output in recorded)
    cabinet.open()


def test_rolling_changes_its_slot_only(tmp_path: Path, key: Key) -> None:
    """Other slots, label, id, units and generation stay byte for byte."""
    cabinet = Cabinet(tmp_path, Desk(key))
    cabinet.add({}, NewSlot("passphrase", "words", {}))
    before = cabinet.file().header
    cabinet.open()
    after = cabinet.file().header
    assert after._replace(slots=()) == before._replace(slots=())
    assert [slot for slot in after.slots if slot.kind != "fido2"] == [before.slots[1]]
    old, new = before.slots[0], after.slots[0]
    assert new._replace(params=new.params | {"salt": old.params["salt"]}, wrapped=old.wrapped) == old
    assert (new.params["salt"], new.wrapped) != (old.params["salt"], old.wrapped)


def test_each_enrolled_key_rolls_its_own_slot(tmp_path: Path) -> None:
    """Two keys, as recommended: either opens, whichever is plugged in, and rolls only itself."""
    one, two = Key(b"one"), Key(b"two")
    desk = Desk(one)
    cabinet = Cabinet(tmp_path, desk)
    cabinet.add()
    opened = cabinet.open()
    desk.hub.pull(one)
    desk.hub.plug(two)
    with desk.here():
        editing.add_slot(cabinet.store, opened, NewSlot("fido2", "second", {}), desk.helpers())
    first = cabinet.slot()
    for _ in range(2):
        assert cabinet.open().slot.label == "second"
    assert cabinet.slot() == first
    desk.hub.pull(two)
    desk.hub.plug(one)
    second = cabinet.slot("second")
    assert cabinet.open().slot.label == "fido2"
    assert cabinet.slot("second") == second


def opened_by(cabinet: Cabinet) -> tuple[SecretFile, Opened]:
    """A process that has opened the slot, and not rolled it yet."""
    file = cabinet.file()
    slot = cabinet.slot()
    return file, cabinet.desk.kind.open(
        Subject("borg", slot.label),
        slot.params,
        lambda kek: vault.unwrap(file.header, slot, kek),
        cabinet.desk.helpers(),
    )


def roll(cabinet: Cabinet, file: SecretFile, opened: Opened) -> SecretFile:
    return rolling.roll(cabinet.store, file, file.header.slots[0], opened, cabinet.desk.helpers())


def test_the_second_of_two_processes_leaves_the_slot(cabinet: Cabinet) -> None:
    """Both opened with the same salt: the first one rolls, the second one's KEK never gets into the file."""
    first, second = opened_by(cabinet), opened_by(cabinet)
    rolled = roll(cabinet, *first)
    on_disk = (Path(cabinet.store.path) / "borg.json").read_bytes()
    assert roll(cabinet, *second) == rolled
    assert (Path(cabinet.store.path) / "borg.json").read_bytes() == on_disk
    cabinet.open()


def test_a_slot_that_was_taken_away_stays_away(tmp_path: Path, key: Key) -> None:
    """Whoever removes a stolen key's slot while somebody opens with it has removed it."""
    cabinet = Cabinet(tmp_path, Desk(key))
    cabinet.add({}, NewSlot("passphrase", "words", {}))
    pending = opened_by(cabinet)
    opening_ = cabinet.open()
    pending_again = opened_by(cabinet)
    editing.remove_slot(cabinet.store, opening_, "fido2", cabinet.desk.helpers())
    for each in (pending, pending_again):
        roll(cabinet, *each)
        assert [slot.label for slot in cabinet.file().header.slots] == ["words"]


def test_a_slot_that_was_added_meanwhile_stays(cabinet: Cabinet) -> None:
    """What another process changed elsewhere in the file is kept by the roll."""
    file, opened = opened_by(cabinet)
    master = opened.master
    other = opening.Opening(file, cabinet.slot(), master, Secret(CONTENT))
    with cabinet.desk.here():
        editing.add_slot(cabinet.store, other, NewSlot("passphrase", "words", {}), cabinet.desk.helpers())
    roll(cabinet, file, opened)
    assert [slot.label for slot in cabinet.file().header.slots] == ["fido2", "words"]
    cabinet.open()


def test_a_secret_that_was_rotated_meanwhile_is_left_alone(cabinet: Cabinet) -> None:
    """What was opened is handed out, as it was when it was read; the new file is untouched, and not ours to edit."""
    pending, (file, opened) = cabinet.open(), opened_by(cabinet)
    with cabinet.desk.here():
        editing.rotate(cabinet.store, pending, cabinet.desk.helpers(), Secret(b"new content"))
    rotated = cabinet.file()
    left = roll(cabinet, file, opened)
    assert cabinet.file() == rotated
    assert left == file
    late = opening.Opening(left, left.header.slots[0], opened.master, Secret(CONTENT))
    with pytest.raises(Changed):
        editing.rename(cabinet.store, late, "other", cabinet.desk.helpers())


def test_a_secret_that_was_removed_meanwhile_is_gone(cabinet: Cabinet) -> None:
    """Rolling brings nothing back."""
    pending = opened_by(cabinet)
    cabinet.store.remove("borg")
    with pytest.raises(NoSuchSecret):
        roll(cabinet, *pending)
    assert cabinet.store.names() == []


def test_a_change_without_the_key_gets_no_seal_of_ours(cabinet: Cabinet) -> None:
    """Somebody who can write the disk adds a unit while the slot is open: nothing is written, the error names it."""
    pending = opened_by(cabinet)
    path = Path(cabinet.store.path) / "borg.json"
    forged = path.read_bytes().replace(b'"allow_units": []', b'"allow_units": ["evil.service"]')
    path.write_bytes(forged)
    with pytest.raises(BadSecretFile, match="changed since it was sealed"):
        roll(cabinet, *pending)
    assert path.read_bytes() == forged


@pytest.mark.parametrize("what", ["header", "wrapped", "slot"])
def test_a_disk_that_gives_back_something_else_keeps_the_old_file(
    cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """What was written is read back and opened with the next output before it replaces anything."""

    def spoiled(file: SecretFile) -> bytes:
        head, slot = file.header, file.header.slots[0]
        if what == "header":
            head = head._replace(created=1)
        elif what == "wrapped":
            head = head.with_slot(slot._replace(wrapped=bytes(len(slot.wrapped))))
        else:
            head = head._replace(slots=(slot._replace(id=bytes(8)),))
        return to_json(file._replace(header=head))

    path = Path(cabinet.store.path) / "borg.json"
    before = path.read_bytes()
    monkeypatch.setattr(store, "to_json", spoiled)
    with pytest.raises(BadSecretFile):
        cabinet.open()
    assert sorted(os.listdir(cabinet.store.path)) == [".borg.lock", "borg.json"]
    assert path.read_bytes() == before
    monkeypatch.undo()
    cabinet.open()


@pytest.mark.parametrize("call", ["open", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_what_cannot_be_written_is_told_and_opens(
    cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """A full, broken or read-only disk keeps nobody from the secret; the slot is as it was, and that is told."""
    before = cabinet.slot()

    class Broken:
        def __getattr__(self, name: str) -> object:
            return self.fail if name == call else getattr(os, name)

        def fail(self, path: object, *words: object, **more: object) -> object:
            if call == "open" and not (isinstance(path, str) and path.endswith(".new")):
                real: Callable[..., int] = os.open
                return real(path, *words, **more)
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store, "os", Broken())
    cabinet.open()
    told = cabinet.desk.person.told[-1]
    assert told == (
        f"the keyslot fido2 could not be rolled ({os.strerror(number).lower()}): "
        "who recorded what the key said today can open this file until it is"
    )
    monkeypatch.undo()
    assert cabinet.slot() == before
    assert sorted(os.listdir(cabinet.store.path)) == [".borg.lock", "borg.json"]
    cabinet.open()
    assert cabinet.slot() != before


def test_a_lock_that_another_process_holds_is_told_and_opens(cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped while it wrote keeps nobody from the secret."""
    lock = os.open(f"{cabinet.store.path}/.borg.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    seconds = itertools.count()
    monkeypatch.setattr(store, "time", SimpleNamespace(monotonic=lambda: next(seconds), sleep=lambda _: None))
    before = cabinet.slot()
    cabinet.open()
    assert "another process is working on borg" in cabinet.desk.person.told[-1]
    assert cabinet.slot() == before
    os.close(lock)
    cabinet.open()
    assert cabinet.slot() != before


def test_the_next_kek_is_wiped(cabinet: Cabinet) -> None:
    """What opens tomorrow's file does not stay in this process, rolled or not."""
    (file, opened), (_, late) = opened_by(cabinet), opened_by(cabinet)
    for each in (opened, late):
        roll(cabinet, file, each)
        assert each.roll is not None
        assert bytes(each.roll.kek.reveal()) == bytes(32)
