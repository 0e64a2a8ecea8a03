"""The state on disk: private, whole, one writer at a time, and a clear error when it is not."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from key_server import House

from unlatch.matrix.crypto import Machine
from unlatch.matrix.errors import StoreBroken, StoreBusy, StoreMissing
from unlatch.matrix.store import MAX_STATE, Store

STATE = {"sync": "s1", "count": 0, "text": "日本"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(str(tmp_path / "deep" / "matrix"))
    made.create(os.urandom)
    with made.locked():
        made.save(STATE)
    return made


def file(store: Store, name: str = "state.json") -> Path:
    return Path(store.path, name)


def test_what_is_saved_is_loaded(store: Store) -> None:
    """The same state, in a directory and files that nobody else can read."""
    assert store.load() == Store(store.path).load() == STATE
    assert Path(store.path).stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in Path(store.path).iterdir()} == {
        "state.json": 0o600,
        "pickle.key": 0o600,
        "lock": 0o600,
    }


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    """A lax umask opens nothing."""
    before = os.umask(0)
    try:
        store = Store(str(tmp_path / "m"))
        store.create(os.urandom)
        with store.locked():
            store.save(STATE)
    finally:
        os.umask(before)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "m", *(tmp_path / "m").iterdir()))


def test_create_can_be_repeated(store: Store) -> None:
    """Setup may run again: key and state stay."""
    key = store.pickle_key()
    store.create(os.urandom)
    assert (store.pickle_key(), store.load(), len(key)) == (key, STATE, 32)


def test_nothing_there(tmp_path: Path) -> None:
    """Before setup there is nothing to load, and that is its own error."""
    store = Store(str(tmp_path / "none"))
    for use in (store.load, store.pickle_key, lambda: store.locked().__enter__()):
        with pytest.raises(StoreMissing):
            use()
    assert (store.exists(), store.changed()) == (False, True)
    store.create(os.urandom)
    with pytest.raises(StoreMissing):
        store.load()


def test_a_deleted_state(store: Store) -> None:
    """Somebody removed the state, or the key, or the lock, or the directory: said, and nothing is made up."""
    file(store, "pickle.key").rename(file(store, "kept"))
    for use in (store.pickle_key, lambda: store.create(os.urandom)):
        with pytest.raises(StoreBroken, match="gone"):
            use()
    file(store, "kept").rename(file(store, "pickle.key"))
    file(store, "lock").unlink()
    with pytest.raises(StoreBroken, match="lock: it is gone"), store.locked():
        pass
    file(store).unlink()
    with pytest.raises(StoreMissing):
        store.load()
    for path in Path(store.path).iterdir():
        path.unlink()
    Path(store.path).rmdir()
    with pytest.raises(StoreMissing):
        store.load()


def test_every_truncation_is_noticed(store: Store) -> None:
    """A file cut at any byte is broken, never half a state."""
    whole = file(store).read_bytes()
    for length in range(len(whole)):
        file(store).write_bytes(whole[:length])
        with pytest.raises(StoreBroken):
            store.load()
    for length in (0, 31):
        file(store, "pickle.key").write_bytes(b"x" * length)
        with pytest.raises(StoreBroken, match="32 bytes"):
            store.pickle_key()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"state"',
        b"{}",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"format": "unlatch matrix state 1", "sha256": "x", "state": STATE}).encode(),
        json.dumps({"format": "unlatch matrix state 1", "sha256": "x", "state": []}).encode(),
        json.dumps({"format": "unlatch matrix state 2", "sha256": "x", "state": {}}).encode(),
        b" " * (MAX_STATE + 1),
    ],
    ids=range(11),
)
def test_a_foreign_file_is_no_state(store: Store, text: bytes) -> None:
    """Another format, another version, a wrong checksum, something huge."""
    file(store).write_bytes(text)
    with pytest.raises(StoreBroken) as raised:
        store.load()
    assert str(file(store)) in str(raised.value)


@pytest.mark.parametrize("name", ["state.json", "pickle.key", "lock", "."])
def test_what_others_may_read_is_refused(store: Store, name: str) -> None:
    """A key that was readable may have been read: say it instead of going on."""
    os.chmod(file(store, name), 0o750)
    use = {"state.json": store.load, "pickle.key": store.pickle_key}.get(name, lambda: store.locked().__enter__())
    with pytest.raises(StoreBroken, match="0750"):
        use()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away needs root")
@pytest.mark.parametrize("name", ["state.json", "."])
def test_what_belongs_to_another_user_is_refused(store: Store, name: str) -> None:
    """Somebody else's file is not our state, even if root could read it."""
    os.chown(file(store, name), 65534, -1)
    with pytest.raises(StoreBroken, match="another user"):
        store.load()


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_no_links_and_no_odd_files(store: Store, tmp_path: Path, kind: str) -> None:
    """A link leads elsewhere, and a pipe would hang."""
    file(store).rename(tmp_path / "elsewhere")
    if kind == "link":
        file(store).symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(file(store), 0o600)
    else:
        file(store).mkdir(0o700)
    with pytest.raises(StoreBroken):
        store.load()
    linked = Store(str(tmp_path / "linked"))
    os.symlink(store.path, linked.path)
    with pytest.raises(StoreBroken):
        linked.load()


def test_saving_needs_the_lock(store: Store) -> None:
    """A save outside the lock could undo another process's: it is a mistake of ours."""
    with pytest.raises(RuntimeError):
        store.save(STATE)


def test_a_save_that_fails_keeps_the_old_state(store: Store) -> None:
    """What cannot be written (not JSON here) leaves the old state; a leftover of a dead process is replaced."""
    file(store, "state.json.new").write_bytes(b"half a sta")
    with store.locked():
        with pytest.raises(TypeError):
            store.save({"bad": object()})
        assert store.load() == STATE
        store.save({"new": 1})
    assert store.load() == {"new": 1}
    assert not file(store, "state.json.new").exists()


def test_the_disk_is_full(store: Store) -> None:
    """An error while writing is an OSError, and the old state is still there."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from unlatch.matrix.store import Store; s = Store(sys.argv[1]);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with s.locked():\n try:\n  s.save({'big': 'x' * 5000})\n except OSError as e:\n  sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", code, store.path], check=False, timeout=30).returncode == 7
    assert store.load() == STATE


def test_changed_by_another_one(store: Store) -> None:
    """One stat tells whether to load again; our own saves do not count."""
    other = Store(store.path)
    assert other.changed()
    other.load()
    assert not other.changed()
    with other.locked():
        other.save(STATE)
    assert not other.changed()
    assert store.changed()


def count_up(path: str, times: int) -> None:
    store = Store(path)
    for _ in range(times):
        with store.locked():
            state = store.load()
            store.save({**state, "count": state["count"] + 1})


def test_processes_take_turns(store: Store) -> None:
    """Four real processes, each adding 25: nothing is lost."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=count_up, args=(store.path, 25)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert store.load()["count"] == 100


HOLDER = """
import sys
from unlatch.matrix.store import Store
with Store(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_held_lock_is_named_and_a_dead_holder_frees_it(store: Store) -> None:
    """Whoever waits too long is told; a killed process leaves nothing locked."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy), store.locked(seconds=0.05):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        with store.locked(seconds=10):
            pass
    finally:
        holder.kill()
        holder.communicate(timeout=10)


def ring(path: str, name: str, phone: dict[str, object], connection: object) -> None:
    """A process that sends one ring from the shared state; the test is its homeserver."""
    store = Store(path)
    with store.locked():
        state, key = store.load(), store.pickle_key()
        machine = Machine.load(state["machine"], key)
        machine.keys_query_done(phone["query"])  # type: ignore[arg-type]
        devices = machine.recipients(["@alex:example.org"]).devices
        machine.keys_claimed(phone["claim"])  # type: ignore[arg-type]
        encrypted = machine.encrypt("!room", "m.room.message", {"body": name}, devices, 0)
        store.save({**state, "machine": machine.dump(key)})
    connection.send((encrypted.to_device, encrypted.content))  # type: ignore[attr-defined]


def test_three_senders_at_once_lose_nothing(tmp_path: Path) -> None:
    """Three real processes ring from one state: the phone reads all three, and answers to each are readable."""
    house, store = House(), Store(str(tmp_path / "m"))
    store.create(os.urandom)
    with store.locked():
        store.save({"machine": house.bot.dump(store.pickle_key())})
    query = house.server.answer_query(house.bot.keys_query(house.members), house.bot.user_id)
    devices = house.bot.recipients(house.members).devices
    context = multiprocessing.get_context("spawn")
    running = []
    for name in ("one", "two", "three"):
        ours, theirs = context.Pipe()
        given = {"query": query, "claim": house.server.answer_claim(house.bot.keys_claim(devices))}
        process = context.Process(target=ring, args=(store.path, name, given, theirs))
        process.start()
        running.append((name, process, ours))
    for name, process, pipe in running:
        assert pipe.poll(60)
        to_device, content = pipe.recv()
        process.join(60)
        house.server.send(house.bot, to_device)
        assert house.hears(house.phone, house.event(house.bot, content)) == name
    final = Machine.load(store.load()["machine"], store.pickle_key())
    ((_, sessions),) = final._olm.sessions.items()
    assert len(sessions) == 3


def test_a_copy_of_the_state_alone_is_dead(tmp_path: Path) -> None:
    """Without pickle.key the state opens nothing."""
    house, store = House(), Store(str(tmp_path / "m"))
    store.create(os.urandom)
    with store.locked():
        store.save(house.bot.dump(store.pickle_key()))
    other = Store(str(tmp_path / "other"))
    other.create(os.urandom)
    file(other).write_bytes(file(store).read_bytes())
    file(other).chmod(0o600)
    with pytest.raises(StoreBroken, match=r"pickle\.key"):
        Machine.load(other.load(), other.pickle_key())
