"""``unlatch get``: from a stored secret, pass, gpg, a grant, or a person; and nothing on standard output otherwise."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from house import UNLATCH, House
from real import real
from real_gnupg import finish
from secret_keeping import APART, KEY, Keeping
from terminal import Terminal
from waiting import until

from unlatch.cli import secrets
from unlatch.runtime import Runtime, candidates

SECRET = b"correct horse battery staple"


@pytest.fixture
def keeping(house: House) -> Keeping:
    return Keeping(house)


def test_a_stored_secret_comes_byte_for_byte(keeping: Keeping) -> None:
    """What was stored is what is printed: no newline is added, none is lost, and --newline adds one."""
    for secret in (SECRET, SECRET + b"\n", bytes(range(1, 256)), b"\0zero\0"):
        keeping.add("borg", secret)
        assert keeping.unlatch("get", "borg") == secret
        assert keeping.unlatch("get", "--newline", "borg") == secret + b"\n"
        keeping.unlatch("secret", "remove", "--yes", "borg")


def test_a_generated_secret_is_32_random_bytes(keeping: Keeping) -> None:
    """--generate stores 32 bytes in base64, and never the same twice."""
    for name in ("one", "two"):
        keeping.unlatch("secret", "add", name, "--generate", "--to", KEY)
    first, second = keeping.unlatch("get", "one"), keeping.unlatch("get", "two")
    assert first != second
    assert re.fullmatch(rb"[A-Za-z0-9+/]{43}=", first)


def test_pass_and_gpg_are_sources(keeping: Keeping) -> None:
    """pass:ENTRY gives the first line of an entry, gpg:FILE the whole of a file."""
    real("pass")
    keeping.run("pass", "init", KEY)
    keeping.run("pass", "insert", "--multiline", "backup/db01", feed=SECRET + b"\nuser: root\n")
    assert keeping.unlatch("get", "pass:backup/db01") == SECRET
    file = keeping.house.root / "note.gpg"
    keeping.run("gpg", "--batch", "--trust-model", "always", "-e", "-r", KEY, "-o", file, feed=b"two\nlines\n")
    assert keeping.unlatch("get", f"gpg:{file}") == b"two\nlines\n"


def test_a_person_is_asked_for_anything_else(keeping: Keeping) -> None:
    """A name that is no stored secret is a prompt with that name; what is typed is printed."""
    asking = keeping.start(UNLATCH, "get", "--reason", "restore of db01", "restic")
    ring = keeping.house.phone.ring()
    page = keeping.house.open(ring["link"])
    assert page.prompt is not None
    assert (page.prompt.title, page.prompt.keeper) == ("Secret restic", "program")
    assert "restore of db01" in page.prompt.text
    page.unlock(SECRET)
    code, out, err = finish(asking)
    assert (code, out) == (0, SECRET), err
    assert page.verdict().outcome == "accepted"


@pytest.mark.parametrize("what", ["denied", "withdrawn", "no such entry", "no such file", "damaged", "timeout"])
def test_nothing_is_printed_on_failure(keeping: Keeping, what: str) -> None:
    """Whatever goes wrong, standard output stays empty, the exit code says so, and there is a sentence."""
    if what in ("denied", "timeout"):
        asking = keeping.start(UNLATCH, "get", *(["--timeout", "1"] if what == "timeout" else []), "restic")
        link = keeping.house.phone.ring()["link"]
        if what == "denied":
            keeping.house.open(link).deny()
        code, out, err = finish(asking)
        assert code == 4
    elif what == "withdrawn":
        asking = keeping.start(UNLATCH, "get", "restic")
        keeping.house.phone.ring()
        asking.terminate()
        code, out, err = finish(asking)
        assert keeping.house.phone.end()["outcome"] == "withdrawn"
    else:
        name = {"no such entry": "pass:nothing", "no such file": "gpg:/nonexistent", "damaged": "borg"}[what]
        if what == "damaged":
            keeping.add("borg", SECRET)
            file = keeping.directory / "borg.json"
            file.write_bytes(file.read_bytes()[:100])
        code, out, err = keeping.fails(UNLATCH, "get", name)
        assert code == 1
    assert code != 0
    assert out == b""
    assert "Traceback" not in err
    if what != "withdrawn":
        assert "unlatch: error:" in err


def test_a_damaged_secret_is_never_asked_for(keeping: Keeping) -> None:
    """A file that cannot be read must not become a question to a person, who would type the secret into the void."""
    keeping.add("borg", SECRET)
    (keeping.directory / "borg.json").write_bytes(b"{}")
    assert keeping.fails(UNLATCH, "get", "borg")[0] == 1
    assert keeping.house.phone.messages() == []


def test_every_opening_is_in_the_audit_trail(keeping: Keeping) -> None:
    """Who opened which secret with which keyslot stands there, and nothing of the secret."""
    keeping.add("borg", SECRET)
    keeping.unlatch("get", "borg")
    records = [json.loads(line) for line in (keeping.house.runtime / "audit.jsonl").read_text().splitlines()]
    opened = [record for record in records if record["event"] == "opened"]
    assert [(record["uid"], record["secret"], record["by"]) for record in opened] == [(0, "borg", "gpg gpg")]
    assert "opened" in keeping.unlatch("log").decode()


def test_without_a_trail_nothing_is_handed_out(keeping: Keeping) -> None:
    """When the broker cannot be reached, so that the opening would stand nowhere, nothing is printed."""
    keeping.add("borg", SECRET)
    broken = keeping.house.root / "file"
    broken.write_text("")
    code, out, err = keeping.fails(UNLATCH, "get", "borg", UNLATCH_RUNTIME_DIR=str(broken))
    assert (code, out) == (1, b"")
    assert "no broker" in err


def test_a_secret_may_be_for_units_only(keeping: Keeping) -> None:
    """A process outside of the units that are allowed gets nothing, and is told which unit it is in."""
    keeping.unlatch("secret", "add", "borg", "--to", KEY, "--allow-unit", "backup@*.service", feed=SECRET)
    code, out, err = keeping.fails(UNLATCH, "get", "borg")
    assert (code, out) == (1, b"")
    assert "only for its units" in err


def test_a_grant_serves_without_asking_until_it_is_locked(keeping: Keeping) -> None:
    """--for keeps the secret in the kernel; further gets ask nobody; status says until when; lock ends it."""
    script = keeping.house.root / "script"
    script.write_text(
        """#!/bin/sh -e
unlatch get --for 1h restic
unlatch get restic
unlatch status
unlatch status --json >&2
unlatch lock
unlatch lock
unlatch get restic
"""
    )
    script.chmod(0o755)
    running = keeping.start(*APART, script)
    for number in (1, 2):
        page = keeping.house.open(keeping.house.phone.ring(number)["link"])
        page.unlock(SECRET)
    code, out, err = finish(running)
    assert code == 0, err
    text = out.decode()
    assert text.startswith((SECRET * 2).decode())
    assert re.search(r"secret restic: open until \d{4}-\d\d-\d\d \d\d:\d\d for every process of this user", text)
    assert "locked the secret restic\nnothing was unlocked\n" in text
    assert text.endswith(SECRET.decode())
    (told,) = json.loads(err.splitlines()[1])["secrets"]
    assert told["name"] == "restic"
    assert 3500 < told["until"] - time.time() <= 3600
    assert len(keeping.house.phone.messages("ring")) == 2


def test_a_grant_ends_by_itself(keeping: Keeping) -> None:
    """After its time the kernel has forgotten the secret, and a person is asked again."""
    running = keeping.start(
        *APART, "sh", "-c", "unlatch get --for 1s x; while unlatch status | grep -q x:; do :; done; unlatch get x"
    )
    for number in (1, 2):
        keeping.house.open(keeping.house.phone.ring(number)["link"]).unlock(SECRET)
    code, out, err = finish(running)
    assert (code, out) == (0, SECRET * 2), err


def test_several_at_once_ring_once_and_are_served_by_the_grant(keeping: Keeping) -> None:
    """Five processes that want the same secret with --for ring one time, and all get it."""
    running = keeping.start(*APART, "sh", "-c", "for i in 1 2 3 4 5; do unlatch get --for 1h x & done; wait")
    ring = keeping.house.phone.ring()

    def waiting() -> bool:
        prompts = keeping.house.ask_admin({"op": "status"})["prompts"]
        return len(prompts) == 1 and len(prompts[0]["followers"]) == 4

    until(waiting, "four followers")
    keeping.house.open(ring["link"]).unlock(SECRET)
    code, out, err = finish(running)
    assert (code, out) == (0, SECRET * 5), err
    assert len(keeping.house.phone.messages("ring")) == 1


def test_a_terminal_gets_a_newline_and_no_control_characters(keeping: Keeping) -> None:
    """At a terminal the secret ends with a newline; one that would move the cursor is refused."""
    keeping.add("plain", SECRET)
    keeping.add("wild", b"\x1b[2Jgone")
    environ = keeping.house.environ(**keeping.environ)
    for name, code in (("plain", 0), ("wild", 1)):
        with Terminal([str(UNLATCH), "get", name], environ) as terminal:
            assert terminal.end() == code
            shown = terminal.screen
        assert (SECRET.decode() in shown) == (code == 0)
        assert "\x1b[2J" not in shown


def test_wrong_words_open_nothing_and_right_ones_do(keeping: Keeping) -> None:
    """A passphrase slot asks on the phone; a wrong passphrase is told on the open page, which goes on."""
    told = keeping.start(UNLATCH, "secret", "add", "borg", "--passphrase", "--generate")
    code, _, err = finish(told)
    assert code == 0, err
    words = re.search(r"shown this once: ([a-z ]+)", err)
    assert words is not None
    asking = keeping.start(UNLATCH, "get", "borg")
    page = keeping.house.open(keeping.house.phone.ring()["link"])
    page.unlock(b"wrong words")
    verdict = page.verdict()
    assert verdict.outcome == "wrong"
    page = page.follow(verdict)
    assert page.prompt is not None
    assert page.prompt.attempt == (2, 3)
    page.unlock(words[1].encode())
    code, out, err = finish(asking)
    assert code == 0, err
    assert len(out) == 44
    assert page.verdict().outcome == "accepted"


def test_no_secret_is_on_the_disk(keeping: Keeping) -> None:
    """After storing, opening and handing over, no file of the house holds the secret."""
    keeping.add("borg", SECRET)
    keeping.unlatch("get", "borg")
    keeping.unlatch("run", "--env", "A=borg", "--fd", "B=borg", "--file", "C=borg", "--dir", "D=borg", "--", "true")
    for path in Path(keeping.house.root).rglob("*"):
        if path.is_file():
            assert SECRET not in path.read_bytes(), path


def test_an_edit_beside_another_asks_for_itself(keeping: Keeping) -> None:
    """Two changes of one secret at once ring one after the other; the second is not sent away by the first's end."""
    told = keeping.start(UNLATCH, "secret", "add", "borg", "--passphrase", "--generate")
    words = re.search(r"shown this once: ([a-z ]+)", finish(told)[2])
    assert words is not None
    edits = [keeping.start(UNLATCH, "secret", "add-slot", "borg", "gpg", "--to", KEY, "--label", name) for name in "ab"]
    for number in (1, 2):
        keeping.house.open(keeping.house.phone.ring(number)["link"]).unlock(words[1].encode())
    for edit in edits:
        code, _, err = finish(edit)
        assert code == 0, err
    shown = keeping.unlatch("secret", "show", "borg").decode()
    assert "a (gpg)" in shown
    assert "b (gpg)" in shown


def test_the_time_to_answer_counts_for_a_stored_secret_too(keeping: Keeping) -> None:
    """--timeout ends the prompt of a keyslot as it ends that of a typed secret: exit code 4, nothing printed."""
    assert finish(keeping.start(UNLATCH, "secret", "add", "borg", "--passphrase", "--generate"))[0] == 0
    asking = keeping.start(UNLATCH, "get", "--timeout", "1", "borg")
    keeping.house.phone.ring()
    assert finish(asking)[:2] == (4, b"")
    assert keeping.house.phone.end()["outcome"] == "expired"


def test_an_opening_is_recorded_by_the_broker_that_rings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where $HOME is not the account's home, the trail is that of the broker to which every asker goes."""
    asked = []

    class Listening:
        def __init__(self, places: list[Runtime], **_: object) -> None:
            asked.append(places)

        def open(self) -> None: ...

        def record(self, *said: str) -> None: ...

        def close(self) -> None: ...

    monkeypatch.setattr(secrets, "Asker", Listening)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("UNLATCH_RUNTIME_DIR", raising=False)
    secrets.record("borg", "gpg gpg", "")
    assert asked == [candidates(os.geteuid(), os.environ, str(tmp_path))]
    assert asked != [candidates(os.geteuid(), os.environ, "/elsewhere")]
