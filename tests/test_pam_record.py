"""Keys of record: what counts as root's own file, what is stored in it, and that a bad one denies."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pam_desk import UID, Desk, Forge

from unlatch.pam import challenge, record
from unlatch.pam.entry import Entry
from unlatch.pam.errors import Unfit
from unlatch.pam.record import Record
from unlatch.settings import Settings

# pytest's own threads run while it forks; the service has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    forge = Forge()
    forge.make("first")
    forge.make("second")
    yield forge
    forge.close()


def enrolled(desk: Desk, *names: str, sign_as: str = "", web: str = "", tls: tuple[str, str] = ("", "")) -> Path:
    """Write a record of these keys of the forge."""
    keys = tuple(desk.forge.keys[name] for name in names)
    kept = Record(Entry(keys, False, sign_as, web, *tls), tuple(desk.forge.block(name).strip() for name in names))
    return Path(record.write(str(desk.records), "alice", kept))


def why(desk: Desk, service: str = "sudo") -> str:
    """Why the account is not challenged."""
    with pytest.raises(Unfit) as caught:
        desk.challenge(service)
    assert caught.value.why.isprintable()
    return caught.value.why


def test_a_record_counts_for_every_service(desk: Desk) -> None:
    """Without a keyring, without a home, and with no service listed; each of its keys opens the challenge."""
    enrolled(desk, "first", "second")
    desk.account = desk.account._replace(home="")
    desk.settings = Settings()
    for service in ("sshd", "sudo", "su-l", "login", "vlock"):
        made = desk.challenge(service)
        assert made.source == "record"
        assert made.fingerprints == (desk.forge.keys["first"], desk.forge.keys["second"])
        assert desk.forge.read(made.armour).encode().endswith(bytes(made.response.reveal()) + b"\n")


def test_what_is_written_is_read_again(desk: Desk) -> None:
    """As it was; by root, for everybody to read, and over the one before."""
    enrolled(desk, "first")
    path = enrolled(desk, "second", sign_as=desk.forge.keys["first"], web="webQrNoAuthTls", tls=("/k.pem", "/c.pem"))
    found = record.read(str(desk.records), "alice")
    assert found is not None
    keys = (desk.forge.keys["second"],)
    assert found.entry == Entry(keys, False, desk.forge.keys["first"], "webQrNoAuthTls", "/k.pem", "/c.pem")
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (0, 0o644)
    assert record.names(str(desk.records)) == ["alice"]
    assert record.remove(str(desk.records), "alice")
    assert not record.remove(str(desk.records), "alice")
    assert record.read(str(desk.records), "alice") is None


def test_a_record_wins_over_the_home(desk: Desk) -> None:
    """What runs as the user cannot enrol a key of its own, for no service."""
    enrolled(desk, "first")
    desk.has("second")
    desk.entry("{second} notrust nosign none")
    assert desk.challenge("sshd").fingerprints == (desk.forge.keys["first"],)
    record.remove(str(desk.records), "alice")
    assert desk.challenge("sshd").fingerprints == (desk.forge.keys["second"],)
    assert "no key of record" in why(desk, "sudo")


def spoiled(change: Callable[[bytes, Desk], bytes]) -> Callable[[Desk, Path], None]:
    return lambda desk, path: path.write_bytes(change(path.read_bytes(), desk)) and None


def linked(desk: Desk, path: Path) -> None:
    path.rename(desk.records / ".moved")
    path.symlink_to(".moved")


def made_directory(desk: Desk, path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(desk: Desk, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BAD: dict[str, tuple[Callable[[Desk, Path], None], str]] = {
    "foreign": (lambda desk, path: os.chown(path, UID, UID), f"belongs to uid {UID}"),
    "group-writable": (lambda desk, path: path.chmod(0o664), "others may write to it"),
    "directory-foreign": (lambda desk, path: os.chown(desk.records, UID, UID), f"belongs to uid {UID}"),
    "directory-writable": (lambda desk, path: desk.records.chmod(0o777), "others may write to it"),
    "parent-writable": (lambda desk, path: desk.root.chmod(0o1777), "others may write to it"),
    "link": (linked, "a symbolic link"),
    "directory": (made_directory, "not a regular file"),
    "fifo": (fifo, "not a regular file"),
    "empty": (spoiled(lambda data, desk: b""), "no entry"),
    "huge": (spoiled(lambda data, desk: data + b"\n" * 65536), "larger than 65536 bytes"),
    "address": (
        spoiled(lambda data, desk: data.replace(desk.forge.keys["first"].encode(), b"first@example.org")),
        "full fingerprint",
    ),
    "no-block": (spoiled(lambda data, desk: data.partition(b"-----")[0]), "one armoured public key for each"),
    "two-blocks": (spoiled(lambda data, desk: data + desk.forge.block("second")), "one armoured public key for each"),
    "torn": (spoiled(lambda data, desk: data[:-40]), "one armoured public key for each"),
    "trailing": (spoiled(lambda data, desk: data + b"and more\n"), "one armoured public key for each"),
    "another": (
        spoiled(lambda data, desk: data.partition(b"-----")[0] + desk.forge.block("second")),
        "is another one, or none",
    ),
    "damaged": (spoiled(lambda data, desk: data.replace(b"\n=", b"\nAAAA\n=")), "gpg cannot read the key"),
    "binary": (spoiled(lambda data, desk: b"\xff" + data), "not text in UTF-8"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_record_denies_and_nothing_takes_its_place(desk: Desk, how: str) -> None:
    """Not even for a service for which a good ~/.auth_gpg would count."""
    path = enrolled(desk, "first")
    desk.has("second")
    desk.entry("{second} notrust nosign none")
    change, told = BAD[how]
    change(desk, path)
    for service in ("sudo", "sshd"):
        assert told in why(desk, service)


def test_without_a_directory_nobody_has_a_record(desk: Desk) -> None:
    """A fresh host: no record is no mistake."""
    desk.records.rmdir()
    assert record.read(str(desk.records), "alice") is None
    assert record.names(str(desk.records)) == []
    assert "no key of record" in why(desk)


def test_the_tls_files_of_a_record_are_roots(desk: Desk) -> None:
    """They are read with root's rights, so nobody else may have made them; named from / on."""
    key, certificate = desk.root / "k.pem", desk.root / "c.pem"
    key.write_bytes(b"KEY")
    certificate.write_bytes(b"CERTIFICATE")
    enrolled(desk, "first", web="webQrAuthTls", tls=(str(key), str(certificate)))
    made = desk.challenge("sudo")
    assert made.tls is not None
    assert (bytes(made.tls[0].reveal()), made.tls[1]) == (b"KEY", b"CERTIFICATE")
    os.chown(key, UID, UID)
    assert why(desk) == f"{key}: belongs to uid {UID}"
    enrolled(desk, "first", web="webQrAuthTls", tls=("k.pem", "c.pem"))
    assert why(desk) == "k.pem: in a record this must be an absolute path"


def test_a_full_disk_keeps_the_record_before(desk: Desk) -> None:
    """A record is whole or not there; what was half written is removed."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k,mode=755", "tmpfs", desk.records], check=True)
    try:
        path = enrolled(desk, "first")
        before = path.read_bytes()
        (desk.records / ".filler").write_bytes(bytes(4096))
        with pytest.raises(Unfit, match="no space left on device"):
            enrolled(desk, "second")
        assert path.read_bytes() == before
        assert sorted(os.listdir(desk.records)) == [".filler", "alice"]
    finally:
        subprocess.run(["umount", desk.records], check=True)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_unfit(data: bytes) -> None:
    """Nothing else comes out, whatever somebody wrote."""
    head = f"{'A' * 40} notrust nosign none\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n".encode()
    for content in (data, head + data, head + data + b"\n-----END PGP PUBLIC KEY BLOCK-----"):
        try:
            found = record.parse(content, "file")
        except Unfit:
            continue
        assert len(found.blocks) == len(found.entry.keys)


def test_one_account_never_reads_the_record_of_another(desk: Desk) -> None:
    """A name is a file's name and no path; those of NSS are checked before they come here."""
    enrolled(desk, "first")
    bob = desk.account._replace(name="bob")
    with pytest.raises(Unfit, match="no key of record"):
        challenge.find(bob, "sudo", Settings(), desk.places)
