"""Stored secrets for tests: a file with two slots whose KEKs the test knows, and a slot kind's helpers."""

import os
from collections.abc import Callable
from types import TracebackType

from unlatch.frontends.asking import Wanted
from unlatch.keyslots import vault
from unlatch.keyslots.header import ID_SIZE, SLOT_ID_SIZE, WRAPPED_SIZE, Header, SecretFile, Slot
from unlatch.keyslots.slots import Helpers
from unlatch.prompt import Verdict
from unlatch.secret import Secret

CONTENT = b"correct horse battery staple"


def counting() -> Callable[[int], bytes]:
    """Not random at all: the bytes 0, 1, 2, ... for files that must be the same each time."""
    place = [0]

    def random(size: int) -> bytes:
        data = bytes((place[0] + number) % 256 for number in range(size))
        place[0] += size
        return data

    return random


def passphrase_slot(label: str, slot_id: bytes) -> Slot:
    params = {"memory": 65536, "passes": 3, "lanes": 4, "salt": "AAECAwQFBgcICQoLDA0ODw", "words": True}
    return Slot(slot_id, "passphrase", label, params, bytes(WRAPPED_SIZE))


def made(random: Callable[[int], bytes] = os.urandom, name: str = "borg") -> tuple[SecretFile, Secret, list[Secret]]:
    """A file with two slots, its master key, and the slots' KEKs."""
    master = vault.new_master(random)
    header = Header(random(ID_SIZE), name, 1_790_000_000, 1, ("backup*.service",), ())
    keks = [Secret(random(32)), Secret(random(32))]
    for kek, label in zip(keks, ("words", "spare"), strict=True):
        slot = passphrase_slot(label, random(SLOT_ID_SIZE))
        header = header.with_slot(vault.wrap(header, slot, kek, master, random))
    return vault.seal_file(header, master, Secret(CONTENT), random), master, keks


class Typist:
    """A person who types what the test says, and remembers what was asked and how it ended."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[Wanted] = []
        self.verdicts: list[Verdict] = []
        self.told: list[str] = []

    def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
        self.asked.append(wanted)
        return Secret(self.answers.pop(0))

    def judge(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    def close(self) -> None:
        pass

    def __enter__(self) -> "Typist":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def helpers(self, **environ: str) -> Helpers:
        return Helpers(lambda: self, self.told.append, os.urandom, {**os.environ, **environ})
