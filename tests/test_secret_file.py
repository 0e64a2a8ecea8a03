"""The file of a stored secret: one vector for each fault, and an old file that must open for ever."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from secret_files import CONTENT, counting, made

from unlatch.keyslots import header, vault
from unlatch.keyslots.errors import BadName, BadSecretFile, WrongKey
from unlatch.keyslots.header import SecretFile, from_json, to_json
from unlatch.keyslots.opening import check_slots
from unlatch.secret import Secret

VECTORS = Path(__file__).parent / "vectors" / "secrets"
FAULTS = json.loads((VECTORS / "faults.json").read_text())
# The KEK of the first slot of version-1.json, as secret_files.counting makes it.
KEK = bytes(range(48, 80))


def opens(data: bytes, kek: bytes = KEK, slot: int = 0) -> bytes:
    """What a file holds, opened as the commands do."""
    file = from_json(data)
    check_slots(file.header)
    content = vault.open_file(file, vault.unwrap(file.header, file.header.slots[slot], Secret(kek)))
    return bytes(content.reveal())


def test_a_file_of_version_1_stays_readable() -> None:
    """The file that the first release wrote opens with its KEK, byte for byte what was stored."""
    assert opens((VECTORS / "version-1.json").read_bytes()) == CONTENT


def test_a_file_is_written_as_the_vector_says() -> None:
    """The same keys and nonces make the very same bytes: the format has not changed by accident."""
    assert to_json(made(counting())[0]) == (VECTORS / "version-1.json").read_bytes()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault["fault"]))
def test_each_fault_is_named(fault: dict[str, str]) -> None:
    """A damaged file is refused with the error that the documentation names, and never with another one."""
    errors = {"BadSecretFile": BadSecretFile, "WrongKey": WrongKey}
    with pytest.raises(errors[fault["error"]]) as caught:
        opens(fault["file"].encode("ascii", "surrogateescape"))
    assert fault["says"] in str(caught.value)


@given(st.integers(0, 1_000_000), st.integers(1, 255))
def test_any_changed_byte_is_noticed(place: int, change: int) -> None:
    """Whatever byte of the file is changed, it is refused, or says the very same as before (blanks)."""
    data = bytearray((VECTORS / "version-1.json").read_bytes())
    data[place % len(data)] ^= change
    try:
        assert opens(bytes(data)) == CONTENT
        assert from_json(bytes(data)) == from_json((VECTORS / "version-1.json").read_bytes())
    except (BadSecretFile, WrongKey):
        pass


@given(st.binary(max_size=400))
def test_garbage_is_refused(data: bytes) -> None:
    """Bytes that are no stored secret are a BadSecretFile, whatever they are."""
    with pytest.raises(BadSecretFile):
        from_json(data)


def test_a_slot_opens_with_its_own_kek_only() -> None:
    """Neither another slot's KEK nor a slot moved into another secret opens anything."""
    file, master, keks = made()
    other, other_master, _ = made()
    assert vault.unwrap(file.header, file.header.slots[1], keks[1]) == master
    for head, slot, kek in (
        (file.header, file.header.slots[0], keks[1]),
        (other.header, file.header.slots[0], keks[0]),
        (file.header._replace(generation=2), file.header.slots[0], keks[0]),
    ):
        with pytest.raises(WrongKey):
            vault.unwrap(head, slot, kek)
    with pytest.raises(BadSecretFile):
        vault.open_file(SecretFile(file.header, other.sealed), master)
    with pytest.raises(BadSecretFile):
        vault.open_file(file, other_master)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"created": 1},
        {"generation": 2},
        {"allow_units": ()},
        {"slots": ()},
    ],
    ids=str,
)
def test_the_header_is_under_the_seal(change: dict[str, object]) -> None:
    """A header that was changed in any field does not open, even for who has the master key."""
    file, master, _ = made()
    with pytest.raises(BadSecretFile):
        vault.open_file(file._replace(header=file.header._replace(**change)), master)


def test_the_size_of_a_secret_is_hidden() -> None:
    """Passphrases of 1 and of 250 bytes make files of one size."""
    file, master, _ = made(counting())
    sizes = {
        len(to_json(vault.seal_file(file.header, master, Secret(b"x" * size), counting())))
        for size in (1, 28, 250, 252)
    }
    assert len(sizes) == 1


@pytest.mark.parametrize("size", [0, header.MAX_SECRET + 1])
def test_a_secret_has_bytes_but_not_too_many(size: int) -> None:
    """No content and more than 64 KiB are refused before anything is written."""
    file, master, _ = made()
    with pytest.raises(BadSecretFile):
        vault.seal_file(file.header, master, Secret(bytes(size)), counting())


def test_the_largest_file_is_readable() -> None:
    """Sixteen slots and the largest secret fit into what is read back."""
    file, master, _ = made()
    slots = tuple(file.header.slots[0]._replace(id=bytes([number] * 8)) for number in range(header.MAX_SLOTS))
    big = vault.seal_file(file.header._replace(slots=slots), master, Secret(bytes(header.MAX_SECRET)), counting())
    assert from_json(to_json(big)) == big


@pytest.mark.parametrize("name", ["", ".borg", "-x", "a/b", "..", "Borg", "a" * 65, "a\n", "ä", "a b"])
def test_names_that_cannot_be_files_are_refused(name: str) -> None:
    """A name never leaves its directory, hides, or looks like an option."""
    with pytest.raises(BadName):
        header.check_name(name)


def test_nothing_secret_is_in_a_repr() -> None:
    """The repr of a slot has neither parameters nor wrapped key."""
    slot = made()[0].header.slots[0]
    assert repr(slot) == "Slot(passphrase, words)"
