"""Security keys through the commands: what a terminal and a phone show, and what a script gets."""

import json
import os
import sys
from pathlib import Path

import pytest
from house import House
from real_gnupg import finish
from terminal import Terminal
from waiting import until

PROGRAM = (sys.executable, Path(__file__).parent / "ctap" / "program.py")
SECRET = b"correct horse battery staple"
PIN = b"pin-canary-7351"
PLAIN = {"seed": "one"}
PROTECTED = {"seed": "one", "pin": PIN.decode()}


class Server:
    """A house whose ``unlatch`` sees software keys."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.environ = {"UNLATCH_SECRETS": str(house.root / "secrets")}

    def unlatch(self, *words: str, keys: list[dict[str, object]], feed: bytes = b"") -> bytes:
        """It must succeed; gives its standard output."""
        return self.house.run(*PROGRAM, *words, feed=feed, KEYS=json.dumps(keys), **self.environ)

    def start(self, *words: str, keys: list[dict[str, object]]) -> "tuple[int, bytes, str]":
        """As a service does; gives exit code, standard output and standard error."""
        return finish(self.house.start(*PROGRAM, *words, KEYS=json.dumps(keys), **self.environ))

    def at_terminal(self, *words: str, keys: list[dict[str, object]]) -> Terminal:
        """As a person does."""
        return Terminal([*PROGRAM, *words], self.house.environ(KEYS=json.dumps(keys), **self.environ))

    def salt(self) -> str:
        """The salt of the first slot that has one."""
        slots = json.loads((self.house.root / "secrets" / "borg.json").read_text())["slots"]
        return str(next(slot["params"]["salt"] for slot in slots if slot["kind"] == "fido2"))


@pytest.fixture
def server(house: House) -> Server:
    return Server(house)


def test_a_person_at_the_server(server: Server) -> None:
    """Enrolling takes two touches and recommends a second key; opening takes one; each is asked for by name."""
    keys: list[dict[str, object]] = [{**PLAIN, "finger": 2}]
    with server.at_terminal("secret", "add", "borg", "--fido2", "--generate", keys=keys) as terminal:
        terminal.expect("unlatch: touch Software Key 0 within 30 seconds to enrol it")
        terminal.expect("unlatch: borg is stored; it opens with fido2")
        terminal.expect("enrol a second one: unlatch secret add-slot borg fido2 --label second")
        terminal.expect("unlatch secret paper borg")
        assert terminal.end() == 0
    before = server.salt()
    with server.at_terminal("get", "--newline", "borg", keys=keys) as terminal:
        terminal.expect("unlatch: touch Software Key 0 within 30 seconds to open its keyslot")
        assert terminal.end() == 0
    assert server.salt() != before
    both: list[dict[str, object]] = [PLAIN, {"seed": "two"}]
    server.unlatch("secret", "add-slot", "borg", "fido2", "--label", "second", keys=both)
    shown = server.unlatch("secret", "show", "borg", keys=[]).decode()
    assert "fido2 (fido2): touch\n" in shown
    assert "second (fido2): touch\n" in shown
    records = map(json.loads, (server.house.runtime / "audit.jsonl").read_text().splitlines())
    assert [record["by"] for record in records if record["event"] == "opened"] == ["fido2 fido2"] * 2


def test_a_key_in_a_rack(server: Server) -> None:
    """A key that allows it opens for a service with nobody there; most do not allow it, which is told at once."""
    keys: list[dict[str, object]] = [{**PLAIN, "untouched": True}]
    server.unlatch("secret", "add", "borg", "--fido2", "--no-touch", keys=keys, feed=SECRET)
    keys[0]["finger"] = None
    code, out, err = server.start("get", "borg", keys=keys)
    assert (code, out, err) == (0, SECRET, "")
    code, out, err = server.start("secret", "add", "other", "--fido2", "--no-touch", "--generate", keys=[PLAIN])
    assert (code, out) == (1, b"")
    assert err.splitlines()[-2:] == [
        "unlatch: error: this security key gives nothing without a touch",
        "unlatch: hint: leave --no-touch out",
    ]


def test_the_pin_is_asked_on_the_phone(server: Server) -> None:
    """A page shows the tries; a wrong PIN costs one and rings anew; the right one opens, and none stands anywhere."""
    asking = server.house.start(
        *PROGRAM,
        "secret",
        "add",
        "borg",
        "--fido2",
        "--pin",
        "--generate",
        KEYS=json.dumps([PROTECTED]),
        **server.environ,
    )
    page = server.house.open(server.house.phone.ring()["link"])
    assert page.prompt is not None
    assert page.prompt.title == "PIN of a security key, to enrol it for borg"
    page.unlock(PIN)
    assert page.verdict().outcome == "accepted"
    assert finish(asking)[0] == 0

    asking = server.house.start(*PROGRAM, "get", "borg", KEYS=json.dumps([PROTECTED]), **server.environ)
    page = server.house.open(server.house.phone.ring(2)["link"])
    assert page.prompt is not None
    assert page.prompt.kind == "pin"
    assert page.prompt.keeper == "card"
    assert page.prompt.text.startswith("8 tries left.")
    page.unlock(b"wrong-canary-1")
    verdict = page.verdict()
    assert (verdict.outcome, verdict.next_link) == ("failed", None)
    assert verdict.text.startswith("Wrong PIN, 7 tries left.")
    page = server.house.open(server.house.phone.ring(3)["link"])
    assert page.prompt is not None
    assert page.prompt.error == "Wrong PIN, 7 tries left."
    page.unlock(PIN)
    assert page.verdict().outcome == "accepted"
    code, out, err = finish(asking)
    assert (code, len(out)) == (0, 44)
    written = b"".join(path.read_bytes() for path in server.house.root.rglob("*") if path.is_file())
    for canary in (PIN, b"wrong-canary-1", out):
        assert canary not in written
        assert canary.decode() not in err


@pytest.fixture
def protected(server: Server) -> Server:
    """With a secret that its key opens by PIN and touch; the file on the disk was never opened."""
    with server.at_terminal("secret", "add", "borg", "--fido2", "--pin", "--tty", "--generate", keys=[PROTECTED]) as it:
        it.expect("PIN:")
        until(lambda: not it.echoes(), "the end of the echo")
        it.type(f"{PIN.decode()}\n")
        assert it.end() == 0
    return server


def test_the_pin_is_asked_at_the_terminal(protected: Server) -> None:
    """With --tty: the tries stand above the question, nothing is echoed, and the PIN may be typed again."""
    with protected.at_terminal("get", "--tty", "borg", keys=[PROTECTED]) as terminal:
        terminal.expect("PIN of the security key, to open borg")
        terminal.expect("8 tries left.")
        terminal.expect("PIN:")
        until(lambda: not terminal.echoes(), "the end of the echo")
        terminal.type("wrong-canary\n")
        terminal.expect("Wrong PIN, 7 tries left.")
        terminal.expect("PIN:")
        until(lambda: not terminal.echoes(), "the end of the echo")
        terminal.type(f"{PIN.decode()}\n")
        assert terminal.end() == 0
        assert "canary" not in terminal.screen
    assert protected.house.phone.messages() == []


def test_a_script_gives_the_pin_once(protected: Server) -> None:
    """--stdin: the right PIN opens; a wrong one is the error, with the tries that are left, and nothing on stdout."""
    assert len(protected.unlatch("get", "--stdin", "borg", keys=[PROTECTED], feed=PIN + b"\n")) == 44
    wrong = protected.house.root / "wrong"
    wrong.write_bytes(b"wrong-canary\n" + PIN + b"\n")
    shell = ("sh", "-c", 'exec "$@" <"$0"', str(wrong))
    asking = protected.house.start(
        *shell, *PROGRAM, "get", "--stdin", "borg", KEYS=json.dumps([PROTECTED]), **protected.environ
    )
    code, out, err = finish(asking)
    assert (code, out) == (1, b"")
    assert err.splitlines() == ["unlatch: error: wrong PIN, 7 tries left", "unlatch: hint: run the command again"]


def test_without_its_key_a_secret_opens_with_the_next_slot(server: Server) -> None:
    """No key, another key: the reason stands there, and then the words are asked for; without a next slot it fails."""
    code, _, err = server.start("secret", "add", "borg", "--fido2", "--passphrase", "--generate", keys=[PLAIN])
    assert code == 0
    words = next(line for line in err.splitlines() if "shown this once" in line).rpartition(": ")[2]
    asking = server.house.start(*PROGRAM, "get", "borg", KEYS="[]", **server.environ)
    page = server.house.open(server.house.phone.ring()["link"])
    page.unlock(words.encode())
    code, out, err = finish(asking)
    assert (code, len(out)) == (0, 44)
    why = "the keyslot fido2 did not open: no security key is plugged in; trying the next"
    assert f"unlatch: {why}" in err
    code, out, err = server.start("get", "--slot", "fido2", "borg", keys=[{"seed": "other"}])
    assert (code, out) == (1, b"")
    assert err.splitlines() == [
        "unlatch: error: the one that is plugged in is not the security key of the keyslot",
        "unlatch: hint: plug in the other one",
    ]


def test_options_of_security_keys_need_one(server: Server) -> None:
    """--no-touch and --pin without --fido2 are a mistake, not ignored."""
    for option in ("--no-touch", "--pin"):
        code, out, err = server.start("secret", "add", "borg", "--passphrase", "--generate", option, keys=[])
        assert (code, out) == (2, b"")
        assert "so they need --fido2" in err
    assert not os.path.exists(server.environ["UNLATCH_SECRETS"])


def test_nobody_touches_a_key_for_a_name_that_is_taken(server: Server) -> None:
    """That there is such a secret already is told before the key is asked."""
    server.unlatch("secret", "add", "borg", "--fido2", "--generate", keys=[PLAIN])
    code, out, err = server.start("secret", "add", "borg", "--fido2", "--generate", keys=[{**PLAIN, "finger": None}])
    assert (code, out) == (1, b"")
    assert err.splitlines() == [
        "unlatch: error: there is a stored secret borg already",
        "unlatch: hint: unlatch secret show borg",
    ]
