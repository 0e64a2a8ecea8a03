"""Nothing is handed out that is not in the audit trail; what ``unlatch run`` asks for, in the order of its options."""

import json
import os
import stat

import pytest
from house import UNLATCH, House
from secret_keeping import KEY, Keeping

from unlatch.broker.audit import RECORDS_PER_MINUTE

SECRET = b"correct horse"


@pytest.fixture
def keeping(house: House) -> Keeping:
    return Keeping(house)


@pytest.mark.parametrize("name", ["borg", "gpg:{}/note.gpg"])
def test_a_trail_that_cannot_be_written_keeps_it_shut(keeping: Keeping, name: str) -> None:
    """A broker that hears of the opening but cannot write it down does not let it pass."""
    house = keeping.house
    keeping.add("borg", SECRET)
    house.run("gpg", "--batch", "--trust-model", "always", "-e", "-r", KEY, "-o", house.root / "note.gpg", feed=SECRET)
    trail = house.runtime / "audit.jsonl"
    trail.unlink(missing_ok=True)
    trail.mkdir()
    code, out, err = keeping.fails(UNLATCH, "get", name.format(house.root))
    assert (code, out) == (1, b"")
    assert "audit trail" in err


def test_whoever_floods_the_trail_opens_nothing_unseen(keeping: Keeping) -> None:
    """Beyond the lines that one user may write in a minute nothing is opened."""
    keeping.add("borg", SECRET)
    flood = (
        "import os, sys\n"
        "from unlatch import runtime\nfrom unlatch.ask import Asker\n"
        "asker = Asker(runtime.candidates(os.geteuid(), os.environ, '/'), uid=os.geteuid(), environ=os.environ)\n"
        "asker.open()\n"
        f"for number in range({2 * RECORDS_PER_MINUTE + 1}):\n"
        "    asker.record('noise', 'noise', '')\n"
    )
    code, _, err = keeping.fails(UNLATCH.with_name("python"), "-c", flood)
    assert code == 1
    assert "could not be written" in err


def test_pass_and_gpg_stand_in_the_trail(keeping: Keeping) -> None:
    """What another program opened for us is a line too."""
    house = keeping.house
    note = house.root / "note.gpg"
    house.run("gpg", "--batch", "--trust-model", "always", "-e", "-r", KEY, "-o", note, feed=SECRET)
    keeping.unlatch("get", f"gpg:{note}")
    records = [json.loads(line) for line in (house.runtime / "audit.jsonl").read_text().splitlines()]
    assert [(record["secret"], record["by"]) for record in records if record["event"] == "opened"] == [
        (f"gpg:{note}", "gpg")
    ]


def test_an_empty_first_line_of_pass_is_no_password(keeping: Keeping) -> None:
    """An entry that begins with an empty line gives an error and not an empty password."""
    keeping.run("pass", "init", KEY)
    keeping.run("pass", "insert", "--multiline", "empty", feed=b"\nuser: root\n")
    code, out, err = keeping.fails(UNLATCH, "get", "pass:empty")
    assert (code, out) == (1, b"")
    assert "its first line is empty" in err


def test_lines_of_standard_input_come_in_the_order_of_the_options(keeping: Keeping) -> None:
    """The first line is for the first variable, whatever the names are."""
    words = (
        "run",
        "--stdin",
        "--env",
        "FIRST=zeta",
        "--env",
        "SECOND=alpha",
        "--",
        "sh",
        "-c",
        'echo "$FIRST $SECOND"',
    )
    assert keeping.unlatch(*words, feed=b"one\ntwo\n") == b"one two\n"


def test_a_directory_in_memory_leaves_a_place_for_secrets(keeping: Keeping) -> None:
    """The directory of stored secrets that --dir makes on its way is for its owner alone, so that it can be used."""
    words = ("run", "--stdin", "--dir", "FOLDER=typed", "--", "sh", "-c", 'cat "$FOLDER/typed"')
    old = os.umask(0o022)
    try:
        assert keeping.unlatch(*words, feed=SECRET + b"\n") == SECRET
    finally:
        os.umask(old)
    assert stat.S_IMODE(keeping.directory.stat().st_mode) == 0o700
    keeping.add("borg", SECRET)


@pytest.mark.parametrize("entry", ["backup", "", "backup/", "nothing"])
def test_a_folder_of_pass_is_no_password(keeping: Keeping, entry: str) -> None:
    """pass lists a folder and exits 0; the list is not handed out as a password."""
    keeping.run("pass", "init", KEY)
    keeping.run("pass", "insert", "--multiline", "backup/db01", feed=SECRET)
    code, out, err = keeping.fails(UNLATCH, "get", f"pass:{entry}")
    assert (code, out) == (1, b"")
    assert "there is no such entry" in err


def test_gpg_writes_no_file_whatever_its_settings_say(keeping: Keeping) -> None:
    """An output file in gpg.conf gets neither the key of a keyslot nor a secret."""
    house = keeping.house
    keeping.add("borg", SECRET)
    note = house.root / "note.gpg"
    house.run("gpg", "--batch", "--trust-model", "always", "-e", "-r", KEY, "-o", note, feed=SECRET)
    (house.gnupg / "gpg.conf").write_text(f"output {house.root}/leak\n")
    assert keeping.unlatch("get", "borg") == SECRET
    assert keeping.unlatch("get", f"gpg:{note}") == SECRET
    assert not (house.root / "leak").exists()


def test_a_secret_that_the_kernel_cannot_keep_is_told(keeping: Keeping) -> None:
    """--for with more than a key of the kernel holds is an error that says so, and nothing is printed."""
    keeping.add("large", b"x" * 40000)
    code, out, err = keeping.fails(UNLATCH, "get", "--for", "1h", "large")
    assert (code, out) == (1, b"")
    assert "more than 32767 bytes" in err
