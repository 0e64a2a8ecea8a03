"""The state on disk: one directory (0700) with ``state.json``, ``pickle.key`` and ``lock`` (0600 each).

How it is used, by the broker as by ``unlatch matrix setup``:

    with store.locked():                    # short: no network inside
        if store.changed():                 # another process was faster
            state = store.load()
        ...
        store.save(state)                   # before anything that depends on it leaves the process

The lock is a file of its own, because ``state.json`` is another file after each save. Every process that is allowed in
is one of ours, so the lock is no protection against anybody; the modes are.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

from unlatch.matrix.errors import StoreBroken, StoreBusy, StoreMissing

STATE, KEY, LOCK = "state.json", "pickle.key", "lock"
KEY_SIZE = 32
MAX_STATE = 8 * 1024 * 1024  # bytes; a full state (every session table at its bound) is below 2 MiB
FORMAT = "unlatch matrix state 1"
_POLL = 0.01  # s between tries for the lock; flock(2) itself knows no time limit

Stamp = tuple[int, int, int]


class Store:
    """A directory of ours. Nothing is read or made before the first call."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: Stamp | None = None
        self._held = False

    def create(self, random: Callable[[int], bytes]) -> None:
        """Make the directory and the pickle key, if they are not there. Setup calls it; it may be repeated.

        Raises:
            StoreBroken: the directory or a file in it is not ours alone, or the state lost its key.
            OSError: it cannot be made.
        """
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        self._check_directory()
        os.close(os.open(self._at(LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        with self.locked():
            if not os.path.lexists(self._at(KEY)):
                if self.exists():
                    raise StoreBroken(self._at(KEY), "it is gone, and without it the state cannot be read")
                self._replace(KEY, random(KEY_SIZE))

    def exists(self) -> bool:
        """Whether there is a saved state (readable or not)."""
        return os.path.lexists(self._at(STATE))

    @contextlib.contextmanager
    def locked(self, seconds: float = 10.0) -> Iterator[None]:
        """Keep every other process (and thread) out. Not reentrant. Blocks: use a thread in an event loop.

        Raises:
            StoreMissing, StoreBroken
            StoreBusy: somebody held the lock for ``seconds``.
        """
        self._check_directory()
        lock = self._open(LOCK, os.O_RDWR)
        try:
            self._wait_for(lock, time.monotonic() + seconds)
            self._held = True
            try:
                yield
            finally:
                self._held = False
        finally:
            os.close(lock)  # and with it the lock

    def pickle_key(self) -> bytes:
        """The 32 bytes for Machine.dump and Machine.load; apart from the state, so that a copy of that alone is dead.

        Raises:
            StoreMissing, StoreBroken
        """
        key, _ = self._read(KEY, KEY_SIZE)
        if len(key) != KEY_SIZE:
            raise StoreBroken(self._at(KEY), f"it must have {KEY_SIZE} bytes")
        return key

    def load(self) -> dict[str, Any]:
        """The last saved state, checked.

        Raises:
            StoreMissing: nothing was ever saved here.
            StoreBroken: deleted, truncated, changed, foreign or open to others.
        """
        text, stamp = self._read(STATE, MAX_STATE)
        try:
            document = json.loads(text)
            state, checksum, form = document["state"], document["sha256"], document["format"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise StoreBroken(self._at(STATE), "it is truncated or no state of ours") from None
        if form != FORMAT:
            raise StoreBroken(self._at(STATE), "it is of another version of Unlatch")
        if not isinstance(state, dict) or _checksum(state) != checksum:
            raise StoreBroken(self._at(STATE), "it is damaged: its checksum is wrong")
        self._seen = stamp
        return state

    def changed(self) -> bool:
        """Whether another process saved since our last load or save: then load again. One stat(2)."""
        try:
            return _stamp(os.stat(self._at(STATE), follow_symlinks=False)) != self._seen
        except OSError:
            return True  # load will say what is wrong

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state in one step: after a power cut it is the old or the new one. Only while locked.

        Raises:
            StoreBroken: the directory is no longer ours alone.
            OSError: it cannot be written; the old state is still there.
        """
        if not self._held:
            raise RuntimeError("Store.save without Store.locked")
        self._check_directory()
        document = {"format": FORMAT, "sha256": _checksum(state), "state": state}
        self._seen = self._replace(STATE, json.dumps(document).encode())

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _replace(self, name: str, data: bytes) -> Stamp:
        """Write beside, make it durable, rename, make the name durable (the order of fsync(2) that survives a cut)."""
        beside = self._at(name + ".new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)  # left by a process that died; we hold the lock
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(beside, flags, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            stamp = _stamp(os.fstat(file.fileno()))
        os.rename(beside, self._at(name))
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return stamp

    def _read(self, name: str, limit: int) -> tuple[bytes, Stamp]:
        self._check_directory()
        with open(self._open(name, os.O_RDONLY), "rb") as file:
            data = file.read(limit + 1)
            stamp = _stamp(os.fstat(file.fileno()))
        if len(data) > limit:
            raise StoreBroken(self._at(name), "it is too big")
        return data, stamp

    def _open(self, name: str, flags: int) -> int:
        """Open a file of ours, and nobody else's.

        Raises:
            StoreMissing, StoreBroken
        """
        try:
            opened = os.open(self._at(name), flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            if name != STATE and self.exists():
                raise StoreBroken(self._at(name), "it is gone, and the state is useless without it") from None
            raise StoreMissing(f"no Matrix state in {self.path}") from None
        except OSError as problem:
            raise StoreBroken(self._at(name), problem.strerror or "it cannot be opened") from None
        try:
            _check_ours(self._at(name), os.fstat(opened), stat.S_ISREG)
        except StoreBroken:
            os.close(opened)
            raise
        return opened

    def _check_directory(self) -> None:
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            raise StoreMissing(f"no Matrix state in {self.path}") from None
        except OSError as problem:
            raise StoreBroken(self.path, problem.strerror or "it cannot be read") from None
        _check_ours(self.path, found, stat.S_ISDIR)

    def _wait_for(self, lock: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreBusy(f"another process is using {self.path}") from None
                time.sleep(_POLL)
            else:
                return


def _check_ours(path: str, found: os.stat_result, kind: Callable[[int], bool]) -> None:
    if not kind(found.st_mode):
        raise StoreBroken(path, "it is no plain file or directory")
    if found.st_uid != os.geteuid():
        raise StoreBroken(path, "it belongs to another user")
    if found.st_mode & 0o077:
        raise StoreBroken(path, f"others may read it: its mode is {stat.S_IMODE(found.st_mode):04o}")


def _checksum(state: dict[str, Any]) -> str:
    # Against torn and edited files, not against an attacker: who can write here can do anything.
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _stamp(found: os.stat_result) -> Stamp:
    # A rename keeps the file's own times; inode numbers come back, hence the nanoseconds beside them.
    return found.st_ino, found.st_mtime_ns, found.st_size
