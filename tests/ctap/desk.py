"""Security keys at hand, the keyslot kind that sees them, a store with a secret, and somebody who types PINs."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from secret_files import CONTENT, Typist

from ctap.key import Key
from ctap.port import Hub
from unlatch.frontends.asking import Wanted
from unlatch.keyslots import editing, fido2, opening, passphrase
from unlatch.keyslots.fido2 import Fido2
from unlatch.keyslots.header import SecretFile, Slot
from unlatch.keyslots.slots import Helpers, Subject
from unlatch.keyslots.store import Store
from unlatch.secret import Secret

SUBJECT = Subject("borg", "fido2")
PIN, WRONG = b"123456", b"654321"


class Person(Typist):
    """Types what the test says; ``meanwhile`` happens while a question is open."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__(*answers)
        self.meanwhile: Callable[[], None] = lambda: None
        self.coalesced: list[str] = []

    def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
        self.coalesced.append(coalesce)
        self.meanwhile()
        return super().ask(wanted, coalesce=coalesce, seconds=seconds)


class Desk:
    """``answers`` are typed one after the other."""

    def __init__(self, *keys: Key, answers: tuple[bytes, ...] = ()) -> None:
        self.hub = Hub(*keys)
        self.kind = Fido2(self.hub.ports, self.hub.clock, self.sleep)
        self.while_waiting: Callable[[], None] = lambda: None
        self.person = Person(*answers)

    def sleep(self, seconds: float) -> None:
        """Time passes, and somebody may do something meanwhile."""
        self.hub.clock.pass_by(seconds)
        self.while_waiting()

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Whoever opens a secret of this process finds these keys; words are derived as fast as a file may ask."""
        before = fido2.kind, passphrase.MEMORY, passphrase.PASSES
        fido2.kind, passphrase.MEMORY, passphrase.PASSES = self.kind, passphrase.MIN_MEMORY, 1
        try:
            yield
        finally:
            fido2.kind, passphrase.MEMORY, passphrase.PASSES = before

    def helpers(self) -> Helpers:
        """What the kind may use; what it tells stands in ``person.told``."""
        return Helpers(lambda: self.person, self.person.told.append, os.urandom, os.environ)

    def types(self, *answers: bytes) -> None:
        """What is typed from now on, and nothing more."""
        self.person.answers = list(answers)
        self.person.asked.clear()
        self.person.verdicts.clear()
        self.person.told.clear()


class Cabinet:
    """A store with the secret ``borg``, beside this desk."""

    def __init__(self, path: Path, desk: Desk) -> None:
        self.desk = desk
        self.store = Store(str(path / "secrets"))
        self.records: list[tuple[str, str, str]] = []

    def add(self, wishes: Mapping[str, str] | None = None, *more: editing.NewSlot) -> None:
        """Store the secret with a slot for the key that is plugged in, and further ones."""
        slots = [editing.NewSlot("fido2", "fido2", wishes or {}), *more]
        with self.desk.here():
            editing.add(self.store, "borg", Secret(CONTENT), slots, self.desk.helpers(), created=1_790_000_000)

    def open(self, label: str = "") -> opening.Opening:
        """Open it as a command would."""
        uses = opening.Uses(lambda *words: self.records.append(words))
        with self.desk.here():
            opened = opening.open_secret(self.store, "borg", self.desk.helpers(), uses, slot=label)
        assert bytes(opened.content.reveal()) == CONTENT
        return opened

    def file(self) -> SecretFile:
        """What is on the disk."""
        return self.store.read("borg")

    def slot(self, label: str = "fido2") -> Slot:
        """A slot of it."""
        return next(slot for slot in self.file().header.slots if slot.label == label)
