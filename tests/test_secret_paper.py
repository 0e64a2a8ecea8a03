"""``unlatch secret paper``: the sheet has words that open the secret, and is nobody else's to read."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import segno
from house import UNLATCH, House
from real_gnupg import finish
from secret_keeping import Keeping
from terminal import Terminal

from unlatch.cli import sheet

SECRET = b"correct horse battery staple"
WORDS = r"((?:[bdfghjklmnprstvz][aiou][bdfghjklmnprstvz][aiou][bdfghjklmnprstvz] ?){6})"


@pytest.fixture
def keeping(house: House) -> Keeping:
    keeping = Keeping(house)
    keeping.add("borg", SECRET)
    return keeping


def words_of(text: str) -> str:
    """The six words that stand on a line of their own."""
    (found,) = re.findall(rf"^\s*(?:<p class=\"words\">)?{WORDS}(?:</p>)?$", text, re.MULTILINE)
    return str(found).strip()


def opens(keeping: Keeping, typed: str, label: str = "paper") -> bytes:
    """Open the secret as whoever has the sheet does."""
    asking = keeping.start(UNLATCH, "get", "--slot", label, "borg")
    page = keeping.house.open(keeping.house.phone.ring(len(keeping.house.phone.messages("ring")) + 1)["link"])
    page.unlock(typed.encode())
    code, out, err = finish(asking)
    assert code == 0, err
    return out


def test_the_words_of_the_sheet_open_the_secret(keeping: Keeping) -> None:
    """What was printed opens the secret on the phone, as it stands there and as the code says it."""
    text = keeping.unlatch("secret", "paper", "borg").decode()
    words = words_of(text)
    assert opens(keeping, words) == SECRET
    assert opens(keeping, sheet.scanned(words)) == SECRET
    assert "paper (passphrase)" in keeping.unlatch("secret", "show", "borg").decode()


def test_the_sheet_says_how_to_use_it(keeping: Keeping) -> None:
    """Name, host, user, file, generation and date stand there, the next command too, and each line fits on paper."""
    text = keeping.unlatch("secret", "paper", "borg").decode()
    assert "Recovery sheet of the secret borg" in text
    for fact in (os.uname().nodename, str(keeping.directory / "borg.json"), "generation  1", "unlatch get --tty"):
        assert fact in text
    assert re.search(r"printed +\d{4}-\d\d-\d\d$", text, re.MULTILINE)
    assert "\x1b" not in text
    assert all(len(line) <= 80 for line in text.splitlines() if str(keeping.directory) not in line)


def test_the_code_holds_the_words(keeping: Keeping) -> None:
    """The half blocks are a QR code of the words with its quiet zone, dark where there is ink."""
    text = keeping.unlatch("secret", "paper", "borg").decode()
    rows = []
    wide = max(map(len, re.findall(r"^[ ▀▄█]+$", text, re.MULTILINE)))
    for line in re.findall(rf"^[ ▀▄█]{{{wide}}}$", text, re.MULTILINE):
        rows += [[glyph in "▀█" for glyph in line], [glyph in "▄█" for glyph in line]]
    code = segno.make_qr(words_of(text).upper(), error="q", boost_error=False)
    drawn = [list(map(bool, row)) for row in code.matrix_iter(border=4)]
    assert rows[: len(drawn)] == drawn


def test_a_terminal_shows_it_black_on_white(keeping: Keeping) -> None:
    """On a dark terminal a camera still sees dark ink on white."""
    with Terminal([UNLATCH, "secret", "paper", "borg"], keeping.house.environ(**keeping.environ)) as terminal:
        assert terminal.end() == 0
        assert re.search("\x1b\\[30;107m[ ▀▄█]+\x1b\\[0m", terminal.screen)
        words = words_of(terminal.screen)
    assert opens(keeping, words) == SECRET


def test_a_page_is_for_a_printer_and_for_its_owner(keeping: Keeping) -> None:
    """--html writes one file of mode 0600 that loads nothing; standard output has no words then."""
    place = keeping.house.root / "sheet"
    place.mkdir(mode=0o700)
    out = keeping.unlatch("secret", "paper", "borg", "--html", place / "borg.html")
    assert out == b""
    file = place / "borg.html"
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert not re.search(r"(?:src|href)=|url\(|<script", text)
    assert "<svg" in text
    assert opens(keeping, words_of(text)) == SECRET


@pytest.mark.parametrize("what", ["open directory", "exists", "link", "no directory", "readable output", "journal"])
def test_nobody_is_asked_when_others_could_read_it(keeping: Keeping, what: str) -> None:
    """A place that others can read, or a log, is refused before the secret is opened, and no keyslot is made."""
    place = keeping.house.root / "sheet"
    place.mkdir(mode=0o755 if what == "open directory" else 0o700)
    file = place / "borg.html"
    before = (keeping.directory / "borg.json").read_bytes()
    environ = keeping.house.environ(**keeping.environ)
    command = [str(UNLATCH), "secret", "paper", "borg"]
    out = place / "out"
    if what == "exists":
        file.write_text("x")
    elif what == "link":
        file.symlink_to(keeping.house.root / "elsewhere")
    elif what == "no directory":
        file = place / "none" / "borg.html"
    with out.open("wb") as stream:
        out.chmod(0o644)
        if what == "journal":
            out.chmod(0o600)
            found = os.fstat(stream.fileno())
            environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
        elif what != "readable output":
            command += ["--html", str(file)]
        done = subprocess.run(command, env=environ, stdout=stream, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 1
    assert b"unlatch: error:" in done.stderr
    assert b"unlatch: hint:" in done.stderr
    assert out.read_bytes() == b""
    assert (keeping.directory / "borg.json").read_bytes() == before
    trail = keeping.house.runtime / "audit.jsonl"
    assert not trail.exists() or '"opened"' not in trail.read_text()


def test_a_sheet_that_could_not_be_printed_opens_nothing(keeping: Keeping) -> None:
    """When the words cannot be written, their keyslot is taken away again."""
    command = ["sh", "-c", f"{UNLATCH} secret paper borg >/dev/full"]
    code, out, err = keeping.fails(*command)
    assert (code, out) == (1, b"")
    assert "no space left" in err
    assert "paper" not in keeping.unlatch("secret", "show", "borg").decode()
    assert not re.search(WORDS, err)


def test_a_second_sheet_needs_a_name(keeping: Keeping) -> None:
    """A label that is taken is refused with what to do; another one makes a second sheet."""
    first = words_of(keeping.unlatch("secret", "paper", "borg").decode())
    code, _, err = keeping.fails(UNLATCH, "secret", "paper", "borg")
    assert code == 1
    assert "unlatch secret remove-slot borg paper" in err
    second = words_of(keeping.unlatch("secret", "paper", "--label", "safe", "borg").decode())
    assert first != second
    assert opens(keeping, second, "safe") == SECRET


def test_a_rotation_voids_the_sheet(keeping: Keeping) -> None:
    """After a rotation the generation on the sheet is not that of the secret, and the words open nothing."""
    words = words_of(keeping.unlatch("secret", "paper", "borg").decode())
    keeping.unlatch("secret", "rotate", "borg")
    assert re.search(r"generation +2", keeping.unlatch("secret", "show", "borg").decode())
    typing = (f"{UNLATCH} get --stdin --slot paper borg", f"{words}\n{words}\n{words}\n")
    done = subprocess.run(
        ["sh", "-c", typing[0]], input=typing[1].encode(), env=keeping.house.environ(**keeping.environ),
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, b"")


def test_the_words_stand_nowhere_else(keeping: Keeping) -> None:
    """No file of the house, no audit line and no word on standard error holds them."""
    asking = keeping.start(UNLATCH, "secret", "paper", "borg")
    code, out, err = finish(asking)
    assert code == 0, err
    words = words_of(out.decode())
    assert words not in err
    for path in Path(keeping.house.root).rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert words.encode() not in data, path
            assert SECRET not in data, path


def test_nothing_of_a_sheet_is_in_its_repr() -> None:
    """An exception that carries one shows no words."""
    made = sheet.Sheet("borg", "paper", 1, "babab babab", "web03", "root", "/f", "2026-01-01")
    assert "babab" not in repr(made)
