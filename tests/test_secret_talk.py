"""What ``unlatch secret`` shows, and where: new words not in logs, and no complaint about files of others."""

import pytest
from house import UNLATCH, House
from real_gnupg import finish
from secret_keeping import Keeping


@pytest.fixture
def keeping(house: House) -> Keeping:
    return Keeping(house)


@pytest.mark.parametrize(
    "words", ["add new --generate --passphrase", "add-slot borg passphrase", "rotate --generate words"]
)
def test_new_words_are_not_shown_in_a_file_that_others_can_read(keeping: Keeping, words: str) -> None:
    """Standard error that goes to a file for everybody is an error before anything is made or anybody asked."""
    keeping.add("borg", b"secret")
    if words.endswith(" words"):
        keeping.unlatch("secret", "add", "words", "--generate", "--passphrase")
    before = {file.name: file.read_bytes() for file in keeping.directory.glob("*.json")}
    log = keeping.house.root / "log"
    running = keeping.start("sh", "-c", f"umask 022; exec {UNLATCH} secret {words} 2>{log}")
    code, out, _ = finish(running)
    assert (code, out) == (1, b"")
    assert "that others can read" in log.read_text()
    assert "shown this once" not in log.read_text()
    assert {file.name: file.read_bytes() for file in keeping.directory.glob("*.json")} == before
    assert keeping.house.phone.messages() == []


def test_a_file_that_no_secret_could_be_is_left_out(keeping: Keeping) -> None:
    """list names our secrets and takes no offence at what else lies there."""
    keeping.add("borg", b"secret")
    for name in ("Foo.json", "a b.json", "notes.txt"):
        (keeping.directory / name).touch(0o600)
    assert keeping.unlatch("secret", "list") == b"borg  gpg\n"
