"""What can be done to a stored secret: make it, give it slots and take them away, rotate its master key, rename it.

Whoever edits must have opened it, because the seal covers the whole header. What is changed is the file as it stands
when its lock is held, so two that edit at once lose nothing; a secret that was rotated meanwhile is not ours to edit
any more (Changed).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from unlatch.keyslots import vault
from unlatch.keyslots.errors import Changed, SlotFailed
from unlatch.keyslots.header import ID_SIZE, MAX_SLOTS, SLOT_ID_SIZE, WRAPPED_SIZE, Header, SecretFile, Slot
from unlatch.keyslots.opening import Opening
from unlatch.keyslots.slots import Created, Helpers, Subject, kind_of
from unlatch.keyslots.store import Store
from unlatch.secret import Secret


class NewSlot(NamedTuple):
    """A keyslot that somebody wants: its kind, its label, the options of its kind."""

    kind: str
    label: str
    wishes: Mapping[str, str]


def add(
    store: Store,
    name: str,
    content: Secret,
    slots: Sequence[NewSlot],
    helpers: Helpers,
    *,
    created: int,
    allow_units: tuple[str, ...] = (),
) -> SecretFile:
    """Store a new secret with these slots; ``created`` is seconds since 1970.

    Raises:
        SecretExists, BadName, Unsafe, Busy, SlotFailed, BadSecretFile (content too long), OSError
    """
    master = vault.new_master(helpers.random)
    header = Header(helpers.random(ID_SIZE), name, created, 1, allow_units, ())
    for wanted in slots:
        header = _with_new_slot(header, wanted, master, helpers)
    file = vault.seal_file(header, master, content, helpers.random)
    store.add(file, lambda written: vault.open_file(written, master).wipe())
    return file


def add_slot(store: Store, opening: Opening, wanted: NewSlot, helpers: Helpers) -> SecretFile:
    """Give it a further slot.

    Raises:
        SlotFailed, Changed, and what :meth:`Store.edit` raises.
    """
    _check_room(opening.file.header, wanted.label)
    return add_made_slot(store, opening, wanted, _created(opening.file.header, wanted, helpers), helpers)


def add_made_slot(store: Store, opening: Opening, wanted: NewSlot, made: Created, helpers: Helpers) -> SecretFile:
    """Give it a further slot that its kind has made already; the KEK is wiped.

    Raises:
        SlotFailed, Changed, and what :meth:`Store.edit` raises.
    """
    header = _with_made_slot(opening.file.header, wanted, made, opening.master, helpers)
    return _edit(store, opening, lambda now: _joined(now, header.slots[-1]), helpers)


def remove_slot(store: Store, opening: Opening, label: str, helpers: Helpers) -> SecretFile:
    """Take a slot away. Old copies of the file still open with it.

    Raises:
        SlotFailed: there is no such slot, or it is the last.
        Changed, and what :meth:`Store.edit` raises.
    """

    def change(now: Header) -> Header:
        slot = _labelled(now, label)
        if len(now.slots) == 1:
            raise SlotFailed("it is the last keyslot", f"unlatch secret remove {now.name}")
        return now.without_slot(slot.id)

    return _edit(store, opening, change, helpers)


def rename(store: Store, opening: Opening, name: str, helpers: Helpers) -> SecretFile:
    """Give it another name.

    Raises:
        SecretExists, BadName, Changed, and what :meth:`Store.edit` raises.
    """
    return _edit(store, opening, lambda now: now._replace(name=name), helpers)


def rotate(store: Store, opening: Opening, helpers: Helpers, content: Secret | None = None) -> SecretFile:
    """A new master key, every slot made anew for it, and a new content if there is one.

    Nothing is written before every slot is made.

    Raises:
        SlotFailed: a slot could not be made; take it away first if its key is lost.
        Changed, and what :meth:`Store.edit` raises.
    """
    before = opening.file.header
    master = vault.new_master(helpers.random)
    header = before._replace(generation=before.generation + 1, slots=())
    for slot in before.slots:
        made = kind_of(slot.kind).renew(Subject(header.name, slot.label), slot.params, helpers)
        header = header.with_slot(_wrapped(header, slot._replace(params=made.params), made, master, helpers))

    def change(now: SecretFile) -> SecretFile:
        if now.header != before:
            raise Changed(before.name)
        return vault.seal_file(header, master, opening.content if content is None else content, helpers.random)

    return store.edit(before.name, change, lambda written: vault.open_file(written, master).wipe())


def _edit(store: Store, opening: Opening, change: Callable[[Header], Header], helpers: Helpers) -> SecretFile:
    before = opening.file.header

    def changed(now: SecretFile) -> SecretFile:
        if (now.header.id, now.header.generation) != (before.id, before.generation):
            raise Changed(before.name)
        content = vault.open_file(now, opening.master)
        return vault.seal_file(change(now.header), opening.master, content, helpers.random)

    return store.edit(before.name, changed, lambda written: vault.open_file(written, opening.master).wipe())


def _with_new_slot(header: Header, wanted: NewSlot, master: Secret, helpers: Helpers) -> Header:
    _check_room(header, wanted.label)
    return _with_made_slot(header, wanted, _created(header, wanted, helpers), master, helpers)


def _created(header: Header, wanted: NewSlot, helpers: Helpers) -> Created:
    siblings = tuple(slot.params for slot in header.slots if slot.kind == wanted.kind)
    return kind_of(wanted.kind).create(Subject(header.name, wanted.label, siblings), wanted.wishes, helpers)


def _with_made_slot(header: Header, wanted: NewSlot, made: Created, master: Secret, helpers: Helpers) -> Header:
    empty = Slot(helpers.random(SLOT_ID_SIZE), wanted.kind, wanted.label, made.params, bytes(WRAPPED_SIZE))
    return header.with_slot(_wrapped(header, empty, made, master, helpers))


def _wrapped(header: Header, slot: Slot, made: Created, master: Secret, helpers: Helpers) -> Slot:
    wrapped = vault.wrap(header, slot, made.kek, master, helpers.random)
    made.kek.wipe()
    return wrapped


def _joined(header: Header, slot: Slot) -> Header:
    _check_room(header, slot.label)
    return header.with_slot(slot)


def _check_room(header: Header, label: str) -> None:
    if len(header.slots) >= MAX_SLOTS:
        raise SlotFailed(f"it has {MAX_SLOTS} keyslots already", f"unlatch secret remove-slot {header.name} LABEL")
    if any(slot.label == label for slot in header.slots):
        raise SlotFailed(f"it has a keyslot {label} already", "choose another name with --label")


def _labelled(header: Header, label: str) -> Slot:
    found = next((slot for slot in header.slots if slot.label == label), None)
    if found is None:
        raise SlotFailed(f"it has no keyslot {label}", f"unlatch secret show {header.name}")
    return found
