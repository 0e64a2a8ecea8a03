"""What setup has changed, with the originals: enough to put everything back byte for byte.

It lies in a directory that only its owner may enter: root's, also where the changes are in another user's home, because
what root restores must not be another's choice. An entry is on the disk before its change is made; if it was not made
after all, undoing finds nothing to do.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from unlatch.errors import Malformed, UnlatchError
from unlatch.setup import files
from unlatch.setup.changes import Change
from unlatch.setup.files import FileState

VERSION = 1
_MAX = 4 << 20  # bytes of the list of entries; each has some hundred


class Busy(UnlatchError):
    """Another setup runs."""

    def __init__(self) -> None:
        super().__init__("another setup is at work")


class Units(NamedTuple):
    """Units that setup enabled and started, which were neither before; ``runtime``: directories that came of it."""

    manager: Literal["system", "user"]
    enabled: tuple[str, ...]
    started: tuple[str, ...]
    runtime: tuple[str, ...] = ()


class Entry(NamedTuple):
    """One change of a path, or of units. ``gnupghome`` is whose agent is told of it; ``number`` names the copies."""

    number: int
    change: Change | None = None
    gnupghome: str = ""
    units: Units | None = None


def hidden(change: Change) -> Change:
    """The change without the content of a secret: its SHA-256 in its place."""
    if not change.secret or change.after.kind != "file":
        return change
    return change._replace(after=change.after._replace(data=hashlib.sha256(change.after.data).digest()))


class Journal:
    """The entries, oldest first."""

    def __init__(self, directory: str) -> None:
        """Read what is there; nothing is made yet.

        Raises:
            Malformed, OSError: it cannot be read.
        """
        self.directory = directory
        self._made: list[str] = []
        self.entries: list[Entry] = []
        self._read()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else changes it, or anything by it, meanwhile.

        Raises:
            Busy, Malformed, OSError
        """
        self._make_directories()
        lock = os.open(f"{self.directory}/lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy from None
            self._read()  # again: somebody may have been at work until now
            try:
                yield
            finally:
                self._leave_if_empty()
        finally:
            os.close(lock)

    def record(self, change: Change, gnupghome: str = "") -> None:
        """Write down a change that is about to be made, with its original.

        Of a secret only a hash is kept, which is enough to see whether it was changed since; there is never an original
        of one.
        """
        number = max((entry.number for entry in self.entries), default=0) + 1
        self.entries.append(Entry(number, hidden(change), gnupghome))
        self._save()

    def done(self, change: Change, after: FileState) -> None:
        """Write down what a change that was just recorded has led to, in every detail."""
        last = self.entries[-1]
        assert last.change is not None
        assert last.change.path == change.path
        self.entries[-1] = last._replace(change=hidden(last.change._replace(after=after)))
        self._save()

    def record_units(self, units: Units) -> None:
        """Write down units that are about to be enabled."""
        number = max((entry.number for entry in self.entries), default=0) + 1
        self.entries.append(Entry(number, None, "", units))
        self._save()

    def forget(self, entry: Entry) -> None:
        """It was undone."""
        self.entries.remove(entry)
        self._save()

    def original(self, entry: Entry) -> str:
        """Where the original of a file lies."""
        return f"{self.directory}/{entry.number:04d}.before"

    def _make_directories(self) -> None:
        made = []
        folder = self.directory
        while not os.path.isdir(folder):
            made.append(folder)
            folder = os.path.dirname(folder)
        for folder in reversed(made):
            os.mkdir(folder, 0o700)
        self._made = self._made or list(reversed(made))
        os.chmod(self.directory, 0o700)

    def _leave_if_empty(self) -> None:
        """An empty journal leaves nothing behind."""
        if self.entries:
            return
        shutil.rmtree(self.directory, ignore_errors=True)
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # others live there by now
                os.rmdir(folder)

    def _save(self) -> None:
        for entry in self.entries:
            if entry.change is not None:
                # With its mode and owner, for "cp -p" by hand; nobody else can enter the directory.
                self._keep(f"{entry.number:04d}.before", entry.change.before)
                self._keep(f"{entry.number:04d}.after", entry.change.after._replace(mode=0o600, uid=-1, gid=-1))
        listed = {"version": VERSION, "made": self._made, "entries": [_plain(entry) for entry in self.entries]}
        self._keep("journal.json", FileState("file", json.dumps(listed, indent=1).encode("ascii"), 0o600))
        self._sweep()

    def _keep(self, name: str, state: FileState) -> None:
        path = f"{self.directory}/{name}"
        before = files.look(path)
        if state.kind == "file" and (before.kind, before.data) != ("file", state.data):
            files.put(path, before, state)

    def _sweep(self) -> None:
        """Copies that no entry needs any more."""
        needed = {f"{entry.number:04d}" for entry in self.entries}
        for name in os.listdir(self.directory):
            stem, _, suffix = name.partition(".")
            if suffix in ("before", "after") and stem not in needed:
                os.unlink(f"{self.directory}/{name}")

    def _read(self) -> None:
        self.entries = []
        state = files.look(f"{self.directory}/journal.json", _MAX)
        if state.kind != "file":
            return
        try:
            listed = json.loads(state.data)
        except ValueError:
            raise Malformed("journal") from None
        match listed:
            case {"version": 1, "made": list(made), "entries": list(entries)}:
                self._made = [str(folder) for folder in made]
                self.entries = [self._entry(entry) for entry in entries]
            case _:
                raise Malformed("journal")

    def _entry(self, plain: object) -> Entry:
        match plain:
            case {"number": int(number), "units": dict(units)}:
                return Entry(number, None, "", _units(units))
            case {
                "number": int(number), "path": str(path), "user": str(user), "gnupghome": str(gnupghome),
                "tells": str(tells), "secret": bool(secret), "before": before, "after": after,
            }:  # fmt: skip
                old = files.from_description(before, self._copy(f"{number:04d}.before", before))
                new = files.from_description(after, self._copy(f"{number:04d}.after", after))
                return Entry(number, Change(path, old, new, user, tells, "", secret), gnupghome)
        raise Malformed("journal")

    def _copy(self, name: str, described: object) -> bytes:
        kept = files.look(f"{self.directory}/{name}")
        if isinstance(described, dict) and described.get("kind") == "file" and kept.kind != "file":
            raise Malformed(f"journal: {name}")
        return kept.data


def _plain(entry: Entry) -> dict[str, Any]:
    if entry.units is not None:
        return {"number": entry.number, "units": entry.units._asdict()}
    change = entry.change
    assert change is not None
    return {
        "number": entry.number,
        "path": change.path,
        "user": change.user,
        "gnupghome": entry.gnupghome,
        "tells": change.tells,
        "secret": change.secret,
        "before": files.describe(change.before),
        "after": files.describe(change.after),
    }


def _units(plain: dict[str, Any]) -> Units:
    match plain:
        case {
            "manager": "system" | "user" as manager, "enabled": list(enabled), "started": list(started),
            "runtime": list(runtime),
        }:  # fmt: skip
            return Units(manager, *(tuple(map(str, names)) for names in (enabled, started, runtime)))
    raise Malformed("journal")
