"""Open a stored secret: whether this process may, which keyslot, the roll afterwards, the line in the audit trail."""

import os
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from unlatch import origin
from unlatch.errors import Malformed
from unlatch.keyslots import rolling, vault
from unlatch.keyslots.errors import BadSecretFile, NotForThisUnit, SlotFailed
from unlatch.keyslots.header import Header, SecretFile, Slot
from unlatch.keyslots.slots import KINDS, Helpers, Opened, Subject, kind_of
from unlatch.keyslots.store import Store
from unlatch.secret import Secret

Record = Callable[[str, str, str], None]


class Opening(NamedTuple):
    """An open secret. ``file`` is as it stands on the disk now."""

    file: SecretFile
    slot: Slot
    master: Secret
    content: Secret

    def __repr__(self) -> str:
        return f"Opening({self.file.header.name}, redacted)"


def open_secret(store: Store, name: str, helpers: Helpers, record: Record, *, slot: str = "") -> Opening:
    """Open it with the first keyslot that opens; ``slot`` is the label of the one that shall.

    Slots that need no typing come first (:data:`unlatch.keyslots.slots.KINDS`). One that fails is told, and the next is
    tried; a person who denies has denied the secret. ``record(secret, slot, unit)`` writes the audit trail, before
    anything is handed out; if it raises, nothing is.

    Raises:
        NoSuchSecret, BadSecretFile, Unsafe, BadName: of the file.
        NotForThisUnit: ``allow_units`` names others.
        SlotFailed: no slot opened; the last one's words.
        Denied, Expired, Withdrawn, Refused, NoBroker, Released: of the dialogue with the person.
    """
    file = store.read(name)
    unit = check_unit(file.header, origin.units_of(os.getpid()))
    check_slots(file.header)
    chosen, opened = _first(file, slot, helpers)
    content = vault.open_file(file, opened.master)
    if opened.roll is not None:
        file = rolling.roll(store, file, chosen, opened, content, helpers)
    record(name, f"{chosen.kind} {chosen.label}", unit)
    return Opening(file, chosen, opened.master, content)


def check_unit(header: Header, units: tuple[str, str]) -> str:
    """The unit of this process that ``allow_units`` names; without such a list any, or "" outside of units.

    The list is read before a key was there to check it; a changed one breaks the seal, and nothing is handed out.

    Raises:
        NotForThisUnit
    """
    present = tuple(unit for unit in reversed(units) if unit)
    if not header.allow_units:
        return present[0] if present else ""
    for unit in present:
        if any(fnmatchcase(unit, pattern) for pattern in header.allow_units):
            return unit
    raise NotForThisUnit(header.name, present)


def check_slots(header: Header) -> None:
    """Look at every slot's parameters before any is used.

    Raises:
        BadSecretFile
    """
    for slot in header.slots:
        try:
            kind_of(slot.kind).check(slot.params)
        except Malformed as error:
            raise BadSecretFile(f"{error} in the keyslot {slot.label}") from None


def slots_to_try(header: Header, label: str) -> list[Slot]:
    """The slots in the order in which they are tried.

    Raises:
        SlotFailed: there is none with this label.
    """
    slots = [slot for slot in header.slots if label in ("", slot.label)]
    if not slots:
        raise SlotFailed(f"{header.name} has no keyslot {label}", f"unlatch secret show {header.name}")
    return sorted(slots, key=lambda slot: KINDS.index(slot.kind))


def _first(file: SecretFile, label: str, helpers: Helpers) -> tuple[Slot, Opened]:
    failed = SlotFailed("it has no keyslot")
    slots = slots_to_try(file.header, label)
    for place, slot in enumerate(slots):
        subject = Subject(file.header.name, slot.label)
        try:
            return slot, kind_of(slot.kind).open(subject, slot.params, _unwrapper(file.header, slot), helpers)
        except SlotFailed as error:
            failed = error
            if place + 1 < len(slots):
                helpers.tell(f"the keyslot {slot.label} did not open: {error.why}; trying the next")
    raise failed


def _unwrapper(header: Header, slot: Slot) -> Callable[[Secret], Secret]:
    return lambda kek: vault.unwrap(header, slot, kek)


def home_of(uid: int, environ: Mapping[str, str]) -> str:
    """The home directory of the account, whatever $HOME says; for a uid without an account, $HOME.

    A job without an environment and one under sudo must look where the account's secrets are.
    """
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return environ.get("HOME", "/")
