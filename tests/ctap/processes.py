"""Processes that open and edit one secret at once, or are killed while they roll: run by test_secret_rolling_processes.

    python processes.py killed DIRECTORY
    python processes.py together DIRECTORY FIRST SECOND
    python processes.py make|open DIRECTORY

It is a program of its own so that it can fork: nothing has threads here.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import TracebackType
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from ctap.desk import Cabinet, Desk
from ctap.key import Key
from unlatch.keyslots import editing, rolling, store, vault
from unlatch.keyslots.editing import NewSlot
from unlatch.keyslots.errors import Changed, WrongKey
from unlatch.secret import Secret

CALLS = ("makedirs", "stat", "fstat", "open", "close", "unlink", "rename", "fsync")
ROUNDS = 6


class Death:
    """Kills this process at the fault point with this number; ``passed`` are their names so far."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._passed = 0

    def point(self, name: str) -> None:
        if self._passed == self._at:
            os.write(1, f"{name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        self._passed += 1

    def __getattr__(self, name: str) -> Any:
        """This stands in for the module os: a fault point before and after each call that reaches the disk."""
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*words: Any, **more: Any) -> Any:
            self.point(f"before {name}")
            result = real(*words, **more)
            self.point(f"after {name}")
            return result

        return call


class Stream:
    """Stands in for an open file: its writing may stop in the middle."""

    def __init__(self, stream: IO[bytes], death: Death) -> None:
        self._stream = stream
        self._death = death

    def __enter__(self) -> "Stream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._death.point("after closing")

    def write(self, data: bytes) -> None:
        for end in (1, len(data) // 2, len(data) - 1, len(data)):
            self._stream.write(data[self._stream.tell() : end])
            self._stream.flush()
            self._death.point(f"after {end} of {len(data)} bytes")

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._death.point("after reading")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def die_while_rolling(cabinet: Cabinet, key: Key, at: int, recorder: int) -> None:
    """Open the secret, tell what the key said, and be killed at a fault point of the roll."""
    roll = rolling.roll
    death = Death(at)

    def armed(*words: Any) -> Any:
        os.write(recorder, b"".join(key.outputs[-2:]))
        setattr(store, "os", death)  # noqa: B010
        setattr(store, "open", lambda *more: Stream(open(*more), death))  # noqa: B010, SIM115
        return roll(*words)

    rolling.roll = armed
    cabinet.open()
    os._exit(0)


def killed(directory: Path) -> None:
    """Kill at every fault point; after each the secret opens, and what was recorded opens nothing any more."""
    key = Key()
    cabinet = Cabinet(directory, Desk(key))
    cabinet.add()
    recorded: list[bytes] = []
    for at in range(1000):
        before = cabinet.file()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            die_while_rolling(cabinet, key, at, writer)
        os.close(writer)
        outputs = os.read(reader, 64)
        os.close(reader)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            assert at > 20, "there are fewer fault points than writing needs"
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        recorded += [outputs[:32], outputs[32:]]
        after = cabinet.file()
        left = sorted(set(os.listdir(cabinet.store.path)) - {".borg.lock", "borg.json"})
        cabinet.open()
        assert sorted(os.listdir(cabinet.store.path)) == [".borg.lock", "borg.json"]
        assert not any(fits(output, cabinet) for output in recorded)
        print(json.dumps({"at": at, "file": "old" if after == before else "new", "left": left}), flush=True)


def fits(output: bytes, cabinet: Cabinet) -> bool:
    file = cabinet.file()
    try:
        vault.unwrap(file.header, file.header.slots[0], Secret(output))
    except WrongKey:
        return False
    return True


class Process:
    """One of two; both meet at ``barrier`` before each change of the file."""

    def __init__(self, directory: Path, name: str, barrier: Barrier) -> None:
        self._name = name
        self._barrier = barrier
        self.key = Key()
        self.desk = Desk(self.key)
        self.cabinet = Cabinet(directory, self.desk)
        self._armed = False
        edit = store.Store.edit

        def together(*words: Any) -> Any:
            if self._armed:
                self._armed = False
                self._barrier.wait(20)
            return edit(*words)

        store.Store.edit = together  # type: ignore[method-assign]

    def roll(self, _: int) -> None:
        """Open it; rolling is the change."""
        self._armed = True
        self.cabinet.open()

    def add(self, number: int) -> None:
        """Give it one more slot, for another key."""
        label = f"{self._name} {number}"
        spare = Key(label.encode())
        self.desk.hub.plug(spare)
        opened = self.cabinet.open()
        wanted = NewSlot("fido2", label, {})
        self._armed = True
        with self._unless_changed():
            editing.add_slot(self.cabinet.store, opened, wanted, self.desk.helpers())
        self.desk.hub.pull(spare)

    def remove(self, number: int) -> None:
        """Take a slot away."""
        opened = self.cabinet.open("fido2")
        self._armed = True
        editing.remove_slot(self.cabinet.store, opened, f"old {number}", self.desk.helpers())

    def rotate(self, _: int) -> None:
        """A new master key; all keys are there, as that takes."""
        others = [Key(f"{name} {number}".encode()) for name in ("one", "two") for number in range(ROUNDS)]
        for other in others:
            self.desk.hub.plug(other)
        opened = self.cabinet.open()
        self._armed = True
        with self._unless_changed():
            editing.rotate(self.cabinet.store, opened, self.desk.helpers())
        for other in others:
            self.desk.hub.pull(other)

    @contextlib.contextmanager
    def _unless_changed(self) -> Iterator[None]:
        """Says "changed" when the other one changed something first that makes this edit void."""
        try:
            with self.desk.here():
                yield
        except Changed:
            print("changed", flush=True)

    def run(self, what: str) -> None:
        """Do it again and again."""
        act: Callable[[int], None] = getattr(self, what)
        for number in range(ROUNDS):
            self._barrier.wait(20)
            act(number)


def together(directory: Path, first: str, second: str) -> None:
    """Two processes at once; what is left is printed."""
    desk = Desk(Key())
    cabinet = Cabinet(directory, desk)
    cabinet.add()
    if "remove" in (first, second):
        opened = cabinet.open()
        for number in range(ROUNDS):
            old = Key(f"old {number}".encode())
            desk.hub.plug(old)
            with desk.here():
                editing.add_slot(cabinet.store, opened, NewSlot("fido2", f"old {number}", {}), desk.helpers())
            desk.hub.pull(old)
            opened = cabinet.open("fido2")
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)

    def start(name: str, what: str) -> Any:
        process = context.Process(target=lambda: Process(directory, name, barrier).run(what))
        process.start()
        return process

    processes = [start("one", first), start("two", second)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0, process.exitcode
    opened = cabinet.open()
    for slot in opened.file.header.slots[1:]:
        Cabinet(directory, Desk(Key(slot.label.encode()))).open(slot.label)
    labels = [slot.label for slot in cabinet.file().header.slots]
    print(json.dumps({"labels": labels, "generation": opened.file.header.generation}), flush=True)


def make(directory: Path) -> None:
    """The secret, with the key."""
    Cabinet(directory, Desk(Key())).add()


def open_(directory: Path) -> None:
    """Open it; says whether the slot was rolled, and what was told."""
    cabinet = Cabinet(directory, Desk(Key()))
    before = cabinet.file()
    cabinet.open()
    print(json.dumps({"rolled": cabinet.file() != before, "told": cabinet.desk.person.told}), flush=True)


if __name__ == "__main__":
    commands = {"killed": killed, "together": together, "make": make, "open": open_}
    commands[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])  # type: ignore[operator]
