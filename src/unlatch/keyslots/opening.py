"""Open a stored secret: whether this process may, which keyslot, the roll afterwards, the line in the audit trail."""

import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

from unlatch import origin
from unlatch.errors import Malformed
from unlatch.keyslots import rolling, vault
from unlatch.keyslots.errors import BadSecretFile, NotForThisUnit, SlotFailed
from unlatch.keyslots.header import Header, SecretFile, Slot
from unlatch.keyslots.slots import KINDS, Helpers, Subject, kind_of
from unlatch.keyslots.store import Store
from unlatch.secret import Secret


class Opening(NamedTuple):
    """An open secret. ``file`` is as it stands on the disk now."""

    file: SecretFile
    slot: Slot
    master: Secret
    content: Secret

    def __repr__(self) -> str:
        return f"Opening({self.file.header.name}, redacted)"


class Uses(NamedTuple):
    """What happens to an open content before the person hears that it opened, so that who waits for the same finds it.

    ``record(secret, slot, unit)`` writes the audit trail; if it raises, nothing is handed out. ``keep`` makes a grant.
    """

    record: Callable[[str, str, str], None]
    keep: Callable[[Secret], object] = lambda _: None


def open_secret(store: Store, name: str, helpers: Helpers, uses: Uses, *, slot: str = "") -> Opening:
    """Open it with the first keyslot that opens; ``slot`` is the label of the one that shall.

    Slots that need no typing come first (:data:`unlatch.keyslots.slots.KINDS`). One that fails is told, and the next is
    tried; a person who denies has denied the secret.

    Raises:
        NoSuchSecret, BadSecretFile, Unsafe, BadName: of the file.
        NotForThisUnit: ``allow_units`` names others.
        SlotFailed: no slot opened; the last one's words.
        Denied, Expired, Withdrawn, Refused, NoBroker, Released: of the dialogue with the person.
    """
    file = store.read(name)
    unit = check_unit(file.header, origin.units_of(os.getpid()))
    check_slots(file.header)
    failed = SlotFailed("it has no keyslot")
    slots = slots_to_try(file.header, slot)
    for place, each in enumerate(slots):
        attempt = _Attempt(file, each, unit, uses)
        try:
            opened = kind_of(each.kind).open(Subject(name, each.label), each.params, attempt.unwrap, helpers)
        except SlotFailed as error:
            failed = error
            if place + 1 < len(slots):
                helpers.tell(f"the keyslot {each.label} did not open: {error.why}; trying the next")
            continue
        assert attempt.content is not None  # no kind makes a master key by itself
        if opened.roll is not None:
            file = rolling.roll(store, file, each, opened, helpers)
        return Opening(file, each, opened.master, attempt.content)
    raise failed


class _Attempt:
    """One slot's ``unwrap``: the master key, and with it the content, recorded and kept."""

    def __init__(self, file: SecretFile, slot: Slot, unit: str, uses: Uses) -> None:
        self._file = file
        self._slot = slot
        self._unit = unit
        self._uses = uses
        self.content: Secret | None = None

    def unwrap(self, kek: Secret) -> Secret:
        """See :class:`unlatch.keyslots.slots.SlotKind`."""
        master = vault.unwrap(self._file.header, self._slot, kek)
        content = vault.open_file(self._file, master)
        self._uses.record(self._file.header.name, f"{self._slot.kind} {self._slot.label}", self._unit)
        self._uses.keep(content)
        self.content = content
        return master


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
