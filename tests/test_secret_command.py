"""``unlatch secret``: each subcommand through the real program, its errors, and where the secret never is."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from house import UNLATCH, House
from real_gnupg import finish
from secret_keeping import KEY, Keeping
from terminal import Terminal
from waiting import until

CANARY = b"canary-7f3a-correct-horse"
OTHER = "robin@example.org"


@pytest.fixture
def keeping(house: House) -> Keeping:
    return Keeping(house)


@pytest.fixture
def borg(keeping: Keeping) -> Keeping:
    """With one secret that the key opens."""
    keeping.add("borg", CANARY)
    return keeping


def rows(keeping: Keeping, name: str = "borg") -> list[tuple[str, str]]:
    """What show says, by lines: title and value; further lines of a value have no title."""
    lines = keeping.unlatch("secret", "show", name).decode().splitlines()
    width = max(len(line.split("  ")[0]) for line in lines) + 2
    return [(line[:width].strip(), line[width:]) for line in lines]


def slots(keeping: Keeping, name: str = "borg") -> list[str]:
    return [value.split(":")[0] for title, value in rows(keeping, name) if title == "keyslot"]


def fails(keeping: Keeping, *words: str, code: int = 1, says: str, hint: str = "") -> None:
    """The command fails with this code and sentence, the next command as a hint, and nothing on standard output."""
    got, out, err = keeping.fails(UNLATCH, "secret", *words)
    assert (got, out) == (code, b""), err
    assert err.startswith("unlatch: error: ")
    assert says in err
    assert f"unlatch: hint: {hint}" in err if hint else True
    assert "Traceback" not in err
    assert CANARY.decode() not in err


# add


def test_add_takes_standard_input_byte_for_byte(keeping: Keeping) -> None:
    """Newlines and zero bytes belong to the secret, up to its greatest size."""
    for name, secret in (("line", CANARY + b"\n"), ("zero", b"\0\xff\0"), ("large", os.urandom(65536))):
        keeping.add(name, secret)
        assert keeping.unlatch("get", name) == secret


def test_add_asks_at_a_terminal_without_echo(keeping: Keeping) -> None:
    """A typed secret ends with the line, and is not shown."""
    environ = keeping.house.environ(**keeping.environ)
    with Terminal([UNLATCH, "secret", "add", "borg", "--to", KEY], environ) as terminal:
        terminal.expect("secret borg:")
        until(lambda: not terminal.echoes(), "the end of the echo")
        terminal.type(f"{CANARY.decode()}\n")
        assert terminal.end() == 0
        assert CANARY.decode() not in terminal.screen
        assert "borg is stored; it opens with gpg" in terminal.screen
    assert keeping.unlatch("get", "borg") == CANARY


def test_add_can_make_several_keyslots_and_name_units(keeping: Keeping) -> None:
    """All keyslots of one command open the same secret; units are shown as they were given."""
    keeping.run("gpg", "--batch", "--passphrase", "", "--quick-gen-key", OTHER, "rsa2048", "encr")
    words = ["--to", KEY, "--to", OTHER, "--passphrase", "--allow-unit", "borg*.service", "--allow-unit", "b.timer"]
    keeping.unlatch("secret", "add", "borg", "--generate", *words)
    shown = rows(keeping)
    assert ("units", "borg*.service") in shown
    assert ("", "b.timer") in shown
    (keys,) = [value for title, value in shown if title == "keyslot" and "gpg" in value]
    assert len(re.findall(r"\b[0-9A-F]{40}\b", keys)) == 2
    assert slots(keeping) == ["gpg (gpg)", "words (passphrase)"]


@pytest.mark.parametrize(
    ("words", "code", "says", "hint"),
    [
        (["borg", "--to", KEY], 1, "there is a stored secret borg already", "unlatch secret show borg"),
        (["Borg", "--to", KEY], 1, "a secret's name has 1 to 64", ""),
        (["../borg", "--to", KEY], 1, "a secret's name has 1 to 64", ""),
        (["other"], 2, "a secret needs a keyslot", ""),
        (["other", "--generate", "--to", "nobody@example.org"], 1, "gpg knows no key", "gpg --list-keys"),
        (["other", "--to", KEY], 1, "a secret of 1 to 65536 bytes", "unlatch secret add --help"),
    ],
    ids=["taken", "capital", "path", "no keyslot", "no key", "no secret"],
)
def test_add_refuses(borg: Keeping, words: list[str], code: int, says: str, hint: str) -> None:
    """A name that is taken or none, no keyslot, no such key, an empty secret; and what is there stays."""
    before = {path: path.read_bytes() for path in borg.directory.glob("*.json")}
    if words[0] == "borg":
        words = [*words, "--generate"]
    fails(borg, "add", *words, code=code, says=says, hint=hint)
    assert {path: path.read_bytes() for path in borg.directory.glob("*.json")} == before


def test_add_refuses_a_secret_that_is_too_long(keeping: Keeping) -> None:
    """One byte more than a secret may have is told, and not cut off."""
    command = [str(UNLATCH), "secret", "add", "borg", "--to", KEY]
    environ = keeping.house.environ(**keeping.environ)
    done = subprocess.run(command, input=bytes(65537), env=environ, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert b"1 to 65536 bytes" in done.stderr
    assert keeping.unlatch("secret", "list") == b""


# list and show


def test_list_names_the_good_beside_the_broken(borg: Keeping) -> None:
    """A damaged file is told on standard error and by the exit code; the others are listed all the same."""
    borg.add("restic", CANARY)
    broken = borg.directory / "broken.json"
    broken.write_bytes(b"{}")
    broken.chmod(0o600)
    readable = borg.directory / "readable.json"
    readable.write_bytes((borg.directory / "borg.json").read_bytes())
    readable.chmod(0o644)
    code, out, err = borg.fails(UNLATCH, "secret", "list")
    assert (code, out) == (1, b"borg  gpg\nrestic  gpg\n")
    assert f"{broken}: it is no stored secret of ours" in err
    assert f"{readable}: others may read it" in err


def test_list_and_show_open_nothing(borg: Keeping) -> None:
    """They need no broker, ask nobody, leave no line in the trail, and show the secret in no form."""
    listed = borg.unlatch("secret", "list") + borg.unlatch("secret", "show", "borg")
    assert CANARY not in listed
    shown = dict(rows(borg))
    assert (shown["name"], shown["generation"], shown["units"]) == ("borg", "1", "any")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", shown["created"])
    assert not (borg.house.runtime / "audit.jsonl").exists()


def test_without_secrets_the_list_is_empty(keeping: Keeping) -> None:
    """Nothing is made for looking."""
    process = keeping.start(UNLATCH, "secret", "list")
    assert process.communicate(timeout=60) == (b"", b"unlatch: no secret is stored here\n")
    assert process.returncode == 0
    assert not keeping.directory.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["show", "none"],
        ["add-slot", "none", "gpg", "--to", KEY],
        ["remove-slot", "none", "gpg"],
        ["rotate", "none"],
        ["rename", "none", "other"],
        ["remove", "none", "--yes"],
        ["paper", "none"],
    ],
    ids=lambda words: str(words[0]),
)
def test_what_is_not_there_is_told(keeping: Keeping, words: list[str]) -> None:
    """Each subcommand says that there is no such secret, and what to type next."""
    fails(keeping, *words, says="there is no stored secret none", hint="unlatch secret list")


# keyslots


def test_keyslots_are_added_and_taken_away(borg: Keeping) -> None:
    """A new keyslot opens the same secret; one that was taken away opens it no more; the last one stays."""
    words = words_told(borg, "secret", "add-slot", "borg", "passphrase", "--label", "safe")
    assert slots(borg) == ["gpg (gpg)", "safe (passphrase)"]
    borg.unlatch("secret", "remove-slot", "borg", "gpg")
    assert slots(borg) == ["safe (passphrase)"]
    assert borg.unlatch("get", "--stdin", "borg", feed=f"{words}\n".encode()) == CANARY
    command = f"echo {words} | unlatch secret remove-slot borg safe --stdin"
    code, _, err = borg.fails("sh", "-c", command)
    assert code == 1
    assert "it is the last keyslot" in err
    assert "hint: unlatch secret remove borg" in err
    assert slots(borg) == ["safe (passphrase)"]


def words_told(keeping: Keeping, *words: str) -> str:
    """The generated words that a command shows."""
    code, out, err = finish(keeping.start(UNLATCH, *words))
    assert (code, out) == (0, b""), err
    (found,) = re.findall(r"shown this once: ((?:[a-z]{5} ?){6})$", err, re.MULTILINE)
    return str(found)


def test_a_passphrase_can_be_chosen_on_the_phone(borg: Keeping) -> None:
    """--choose asks for a new one; one that is too short is refused; what was chosen opens it as it was typed."""
    adding = borg.start(UNLATCH, "secret", "add-slot", "borg", "passphrase", "--choose")
    page = borg.house.open(borg.house.phone.ring(1)["link"])
    assert page.prompt is not None
    assert page.prompt.kind == "new-passphrase"
    page.unlock(b"Too Short")
    code, _, err = finish(adding)
    assert code == 1
    assert "fewer than 12 characters" in err
    adding = borg.start(UNLATCH, "secret", "add-slot", "borg", "passphrase", "--choose")
    borg.house.open(borg.house.phone.ring(2)["link"]).unlock(b"My Own Passphrase")
    assert finish(adding)[0] == 0
    typed = ("get", "--stdin", "--slot", "passphrase", "borg")
    assert borg.unlatch(*typed, feed=b"My Own Passphrase\n") == CANARY


@pytest.mark.parametrize(
    ("words", "code", "says", "hint"),
    [
        (["add-slot", "borg", "gpg", "--to", KEY], 1, "it has a keyslot gpg already", "choose another name"),
        (["add-slot", "borg", "gpg", "--label", "x"], 1, "needs 1 to 16 keys", "unlatch secret add-slot"),
        (["add-slot", "borg", "tpm"], 2, "'tpm' is not one of", 'run "unlatch secret add-slot --help"'),
        (["remove-slot", "borg", "words"], 1, "it has no keyslot words", "unlatch secret show borg"),
        (["remove-slot", "borg", "gpg"], 1, "it is the last keyslot", "unlatch secret remove borg"),
        (["rotate", "borg", "--generate", "--replace"], 2, "exclude each other", ""),
        (["rename", "borg", "Borg"], 1, "a secret's name has 1 to 64", ""),
        (["rename", "borg", "restic"], 1, "there is a stored secret restic already", "unlatch secret show restic"),
        (["list", "borg"], 2, "unexpected extra argument", 'run "unlatch secret list --help"'),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_mistakes_change_nothing(borg: Keeping, words: list[str], code: int, says: str, hint: str) -> None:
    """Each is told with what to type next, and every file is as it was."""
    borg.add("restic", CANARY)
    before = {path: path.read_bytes() for path in borg.directory.glob("*.json")}
    fails(borg, *words, code=code, says=says, hint=hint)
    assert {path: path.read_bytes() for path in borg.directory.glob("*.json")} == before


# rotate, rename, remove


def test_rotate_keeps_makes_or_replaces_the_content(borg: Keeping) -> None:
    """Without an option the content stays under a new master key; --generate and --replace give another one."""
    file = borg.directory / "borg.json"
    before = json.loads(file.read_bytes())
    borg.unlatch("secret", "rotate", "borg")
    after = json.loads(file.read_bytes())
    assert (before["generation"], after["generation"]) == (1, 2)
    assert before["slots"][0]["wrapped"] != after["slots"][0]["wrapped"]
    assert borg.unlatch("get", "borg") == CANARY
    borg.unlatch("secret", "rotate", "borg", "--replace", feed=b"another\n")
    assert borg.unlatch("get", "borg") == b"another\n"
    borg.unlatch("secret", "rotate", "borg", "--generate")
    assert re.fullmatch(rb"[A-Za-z0-9+/]{43}=", borg.unlatch("get", "borg"))
    assert dict(rows(borg))["generation"] == "4"


def test_rotate_makes_new_words(borg: Keeping) -> None:
    """The words of before open nothing any more, the new ones do."""
    old = words_told(borg, "secret", "add-slot", "borg", "passphrase")
    process = borg.start(UNLATCH, "secret", "rotate", "borg")
    told = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 0, told
    assert "words and recovery sheets from before do not open borg any more" in told
    found = re.search(r"shown this once: (.*)", told)
    assert found is not None
    new = found[1]
    assert old != new
    typed = ("get", "--stdin", "--slot", "passphrase", "borg")
    assert borg.unlatch(*typed, feed=f"{new}\n".encode()) == CANARY
    code, out, _ = borg.fails("sh", "-c", f"yes '{old}' | unlatch {' '.join(typed)}")
    assert (code, out) == (1, b"")


def test_rename_moves_it(borg: Keeping) -> None:
    """It opens under the new name, and the old one is free."""
    borg.unlatch("secret", "rename", "borg", "borg-db01")
    assert borg.unlatch("secret", "list") == b"borg-db01  gpg\n"
    assert borg.unlatch("get", "borg-db01") == CANARY


def test_remove_asks_for_the_name(borg: Keeping) -> None:
    """At a terminal the name has to be typed; anything else removes nothing; --yes asks nobody."""
    environ = borg.house.environ(**borg.environ)
    for typed, code, left in (("yes", 1, b"borg  gpg\n"), ("borg", 0, b"")):
        with Terminal([UNLATCH, "secret", "remove", "borg"], environ) as terminal:
            terminal.expect("type borg to remove it for good:")
            terminal.type(f"{typed}\n")
            assert terminal.end() == code
        assert borg.unlatch("secret", "list") == left
    borg.add("borg", CANARY)
    borg.unlatch("secret", "remove", "borg", "--yes")
    assert borg.unlatch("secret", "list") == b""


def test_remove_without_a_terminal_needs_a_yes(borg: Keeping) -> None:
    """Nothing is removed by a script that did not say so."""
    code, out, err = borg.fails(UNLATCH, "secret", "remove", "borg")
    assert (code, out) == (1, b"")
    assert "there is no terminal" in err
    assert borg.unlatch("secret", "list") == b"borg  gpg\n"


# people, and where the secret never is


@pytest.mark.parametrize("words", [["rotate"], ["rename", "x"], ["remove-slot", "words"], ["paper"]], ids=str)
def test_a_person_who_denies_ends_it(keeping: Keeping, words: list[str]) -> None:
    """Exit code 4, the file as it was."""
    words_told(keeping, "secret", "add", "borg", "--generate", "--passphrase")
    before = (keeping.directory / "borg.json").read_bytes()
    process = keeping.start(UNLATCH, "secret", words[0], "borg", *words[1:])
    keeping.house.open(keeping.house.phone.ring()["link"]).deny()
    code, out, err = finish(process)
    assert (code, out) == (4, b""), err
    assert "was denied" in err
    assert (keeping.directory / "borg.json").read_bytes() == before


def test_units_hold_for_every_subcommand_that_opens(keeping: Keeping) -> None:
    """Outside of the units that are named nothing is opened, not even to edit."""
    keeping.unlatch("secret", "add", "borg", "--generate", "--to", KEY, "--allow-unit", "nothing.service")
    for words in (["rotate", "borg"], ["rename", "borg", "x"], ["add-slot", "borg", "passphrase"], ["paper", "borg"]):
        fails(keeping, *words, says="borg is only for its units", hint="unlatch secret show borg lists the units")


def test_the_secret_is_in_no_argument_log_or_file(borg: Keeping) -> None:
    """After everything was done to it the canary stands in no file of the house and in no output but that of get."""
    said = bytearray()
    arguments = borg.house.root / "arguments"
    spy = borg.house.root / "bin" / "gpg"  # the one program that is started on the way
    spy.parent.mkdir()
    spy.write_text(f'#!/bin/sh\ntr "\\0" " " </proc/$$/cmdline >>{arguments}\nexec /usr/bin/gpg "$@"\n')
    spy.chmod(0o755)
    borg.environ["PATH"] = f"{spy.parent}:{borg.environ['PATH']}"
    for words in (
        ["list"], ["show", "borg"], ["add-slot", "borg", "passphrase"], ["rotate", "borg"], ["paper", "borg"],
        ["remove-slot", "borg", "paper"], ["rename", "borg", "other"],
    ):  # fmt: skip
        code, out, err = finish(borg.start(UNLATCH, "secret", *words))
        assert code == 0, err
        said += out + err.encode()
    assert CANARY not in said
    trail = (borg.house.runtime / "audit.jsonl").read_bytes()
    assert trail.count(b'"opened"') == 5
    assert b"--decrypt" in arguments.read_bytes()
    for path in Path(borg.house.root).rglob("*"):
        if path.is_file():
            assert CANARY not in path.read_bytes(), path
