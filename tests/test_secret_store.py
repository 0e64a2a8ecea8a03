"""Where stored secrets lie: modes, replacement in one step, and two writers that lose nothing."""

import os
import stat
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from secret_files import CONTENT, Typist, made

from unlatch.keyslots import editing, passphrase, vault
from unlatch.keyslots.errors import BadSecretFile, Busy, Changed, NoSuchSecret, SecretExists, SlotFailed, Unsafe
from unlatch.keyslots.header import SecretFile
from unlatch.keyslots.opening import Opening
from unlatch.keyslots.store import Store, directory
from unlatch.secret import Secret


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "secrets"))


@pytest.fixture
def stored(store: Store) -> Opening:
    """One secret in the store, open."""
    file, master, _ = made()
    store.add(file, lambda _: None)
    return Opening(file, file.header.slots[0], master, Secret(CONTENT))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "MEMORY", passphrase.MIN_MEMORY)
    monkeypatch.setattr(passphrase, "PASSES", 1)


def holds(store: Store, master: Secret, name: str = "borg") -> bytes:
    content = vault.open_file(store.read(name), master)
    return bytes(content.reveal())


def test_everything_is_for_its_owner_only(store: Store, stored: Opening) -> None:
    """The directory has mode 0700 and every file in it 0600, whatever the umask."""
    assert stat.S_IMODE(os.stat(store.path).st_mode) == 0o700
    for name in os.listdir(store.path):
        assert stat.S_IMODE(os.stat(f"{store.path}/{name}").st_mode) == 0o600
    assert store.names() == ["borg"]


@pytest.mark.parametrize("what", ["group", "link", "fifo", "directory", "foreign"])
def test_what_is_not_ours_alone_is_not_read(store: Store, stored: Opening, what: str, tmp_path: Path) -> None:
    """A file that others may read, a link, a fifo and another user's file are refused, and never waited for."""
    path = Path(store.file("borg"))
    if what == "group":
        path.chmod(0o640)
    elif what == "foreign":
        os.chown(path, 65534, 65534)
    else:
        path.rename(tmp_path / "elsewhere")
        {
            "link": lambda: path.symlink_to(tmp_path / "elsewhere"),
            "fifo": lambda: os.mkfifo(path, 0o600),
            "directory": lambda: path.mkdir(mode=0o700),
        }[what]()
    with pytest.raises(Unsafe):
        store.read("borg")


def test_a_directory_open_to_others_is_refused(store: Store, stored: Opening) -> None:
    """Who may write the directory may replace files, so it must be its owner's alone."""
    os.chmod(store.path, 0o770)
    for act in (lambda: store.read("borg"), store.names, lambda: store.remove("borg")):
        with pytest.raises(Unsafe):
            act()


def test_a_file_under_another_name_is_refused(store: Store, stored: Opening) -> None:
    """Whoever swaps two files on the disk gets an error, not the other secret."""
    os.rename(store.file("borg"), store.file("root"))
    with pytest.raises(BadSecretFile, match="holds the secret borg"):
        store.read("root")
    with pytest.raises(NoSuchSecret):
        store.read("borg")


def test_adding_replaces_nothing(store: Store, stored: Opening) -> None:
    """A secret that is there is not overwritten by another of its name."""
    with pytest.raises(SecretExists):
        store.add(made()[0], lambda _: None)
    assert holds(store, stored.master) == CONTENT


def test_a_file_that_does_not_open_never_gets_its_name(store: Store, stored: Opening) -> None:
    """When the check of what was written fails, the old file is there and nothing else."""

    def fail(_: SecretFile) -> None:
        raise BadSecretFile("it does not open")

    before = sorted(os.listdir(store.path))
    with pytest.raises(BadSecretFile):
        store.edit("borg", lambda now: now, fail)
    assert sorted(os.listdir(store.path)) == before
    assert holds(store, stored.master) == CONTENT


def test_a_full_disk_loses_nothing(store: Store, stored: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new file cannot be made durable, the old one stays."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        editing.rename(store, stored, "other", Typist().helpers())
    monkeypatch.undo()
    assert store.names() == ["borg"]
    assert holds(store, stored.master) == CONTENT


def test_renaming_moves_the_secret(store: Store, stored: Opening) -> None:
    """The new name is under the seal, the old file is gone, and a name that is taken is refused."""
    editing.rename(store, stored, "other", Typist().helpers())
    assert store.names() == ["other"]
    assert holds(store, stored.master, "other") == CONTENT
    store.add(made()[0], lambda _: None)
    with pytest.raises(SecretExists):
        editing.rename(store, stored._replace(file=store.read("other")), "borg", Typist().helpers())
    assert store.names() == ["borg", "other"]


def test_slots_come_and_go(store: Store, stored: Opening) -> None:
    """A further slot opens the same secret, labels are not given twice, and the last slot stays."""
    typist = Typist()
    wanted = editing.NewSlot("passphrase", "paper", {})
    editing.add_slot(store, stored, wanted, typist.helpers())
    assert [slot.label for slot in store.read("borg").header.slots] == ["words", "spare", "paper"]
    with pytest.raises(SlotFailed, match="already"):
        editing.add_slot(store, stored._replace(file=store.read("borg")), wanted, typist.helpers())
    for label in ("words", "spare"):
        editing.remove_slot(store, stored, label, typist.helpers())
    with pytest.raises(SlotFailed, match="last"):
        editing.remove_slot(store, stored, "paper", typist.helpers())
    with pytest.raises(SlotFailed, match="no keyslot"):
        editing.remove_slot(store, stored, "nobody", typist.helpers())
    file = store.read("borg")
    words = typist.told[-1].rpartition(": ")[2].encode()
    paper = file.header.slots[0]
    opened = passphrase.kind.open(
        editing.Subject("borg", "paper"),
        paper.params,
        lambda kek: vault.unwrap(file.header, paper, kek),
        Typist(words).helpers(),
    )
    assert opened.master == stored.master


def test_rotation_ends_every_old_key(store: Store, stored: Opening) -> None:
    """After a rotation the old master key opens nothing, the generation is one higher, and the content is kept."""
    before = store.read("borg")
    typist = Typist()
    editing.rotate(store, stored, typist.helpers())
    after = store.read("borg")
    assert after.header.generation == before.header.generation + 1
    assert {slot.label for slot in after.header.slots} == {"words", "spare"}
    with pytest.raises(BadSecretFile):
        vault.open_file(after, stored.master)
    words = typist.told[0].rpartition(": ")[2].encode()
    first = after.header.slots[0]
    opened = passphrase.kind.open(
        editing.Subject("borg", "words"),
        first.params,
        lambda kek: vault.unwrap(after.header, first, kek),
        Typist(words).helpers(),
    )
    content = vault.open_file(after, opened.master)
    assert bytes(content.reveal()) == CONTENT


def test_who_opened_before_a_rotation_cannot_edit_after_it(store: Store, stored: Opening) -> None:
    """An edit that began before another process rotated is refused, and so is a second rotation."""
    editing.rotate(store, stored, Typist().helpers(), Secret(b"new"))
    for act in (
        lambda: editing.rename(store, stored, "other", Typist().helpers()),
        lambda: editing.add_slot(store, stored, editing.NewSlot("passphrase", "more", {}), Typist().helpers()),
        lambda: editing.rotate(store, stored, Typist().helpers()),
    ):
        with pytest.raises(Changed):
            act()
    assert store.names() == ["borg"]


def test_a_held_lock_is_waited_for_with_a_bound(store: Store, stored: Opening) -> None:
    """A writer that hangs makes others give up with words, and readers do not notice."""
    with store.locked("borg"):
        with pytest.raises(Busy), Store(store.path).locked("borg", seconds=0.05):
            pass
        assert holds(store, stored.master) == CONTENT


def _add_many(path: str, opening: Opening, who: int, barrier: Barrier) -> None:
    store = Store(path)
    barrier.wait()
    for number in range(3):
        editing.add_slot(store, opening, editing.NewSlot("passphrase", f"{who}-{number}", {}), Typist().helpers())


@pytest.fixture
def at_once() -> Barrier:
    return get_context("fork").Barrier(4)


def test_four_writers_lose_nothing(store: Store, stored: Opening, at_once: Barrier) -> None:
    """Four processes that add three slots each at once leave all twelve, and the secret opens."""
    context = get_context("fork")
    writers = [
        context.Process(target=_add_many, args=(store.path, stored, who, at_once), daemon=True) for who in range(4)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    labels = {slot.label for slot in store.read("borg").header.slots}
    assert labels == {"words", "spare"} | {f"{who}-{number}" for who in range(4) for number in range(3)}
    assert holds(store, stored.master) == CONTENT


def test_a_job_without_environment_finds_the_same_place() -> None:
    """The directory depends on the account and one variable of ours, not on what a desktop sets."""
    assert directory({"XDG_DATA_HOME": "/elsewhere"}, "/home/api") == "/home/api/.local/share/unlatch/secrets"
    assert directory({"UNLATCH_SECRETS": "/srv/s"}, "/home/api") == "/srv/s"
