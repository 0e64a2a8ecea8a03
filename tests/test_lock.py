"""``unlatch lock`` and ``unlatch key lock``: what was granted is over, whatever granted it."""

import os
import signal

import pytest
from house import House
from software_keys import FIRST, PRESET, SECOND, YEARS, SoftwareKeys

from unlatch.cli import lock
from unlatch.errors import UnlatchError
from unlatch.gnupg import keys, locking
from unlatch.gnupg.errors import CardFault
from unlatch.gnupg.grants import Records
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import HomeKey
from unlatch.gnupg.locking import Locked, Place, lock_cards, lock_keys

PLACE = Place(Home.find({}, 65534, "/nonexistent"), Records("/nonexistent/.gnupg", 65534, {}, "/nonexistent"))


@pytest.fixture
def home(house: House) -> SoftwareKeys:
    """A GnuPG home with two unlocked keys."""
    home = SoftwareKeys(house, PRESET + YEARS)
    home.make("a@x", FIRST)
    home.make("b@x", SECOND)
    code, _, errors = home.unlatch("key", "unlock", "--stdin", feed=FIRST + b"\n" + SECOND)
    assert code == 0, errors
    return home


def test_lock_forgets_every_key(home: SoftwareKeys) -> None:
    """However it was unlocked, and passphrases that belong to no key as well; gpg has nothing left to sign with."""
    home.house.run("gpg-connect-agent", f"PRESET_PASSPHRASE some-file -1 {FIRST.hex()}", "/bye")
    code, out, errors = home.unlatch("lock")
    assert (code, errors) == (0, "")
    assert out.count("locked <a@x>") == out.count("locked <b@x>") == 1
    assert home.cached() == set()
    assert home.sign("a@x") != 0
    kept = home.house.run("gpg-connect-agent", "GET_PASSPHRASE --no-ask some-file X X X", "/bye")
    assert b"No data" in kept
    assert home.unlatch("lock")[:2] == (0, "nothing was unlocked\n")


def test_key_lock_forgets_what_was_named(home: SoftwareKeys) -> None:
    """And nothing else; without a name, every key."""
    code, out, _ = home.unlatch("key", "lock", "a@x")
    assert (code, out.count("locked")) == (0, 1)
    assert home.cached() == set(home.grips("b@x"))
    assert home.unlatch("key", "lock")[0] == 0
    assert home.cached() == set()


def test_an_entry_of_gpg_itself_is_forgotten_too(home: SoftwareKeys) -> None:
    """What a pinentry answered is kept in another way than what was preset."""
    home.lock_all()
    signing = ("gpg", "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase-fd", "0", "-u", "a@x")
    home.house.run(*signing, "--detach-sign", "--output", "-", "/dev/null", feed=FIRST)
    assert home.cached() == set(home.grips("a@x"))
    assert home.unlatch("key", "lock", "a@x")[0] == 0
    assert home.cached() == set()


@pytest.mark.parametrize("command", [("lock",), ("key", "lock")])
def test_without_an_agent_nothing_is_unlocked(home: SoftwareKeys, command: tuple[str, ...]) -> None:
    """And none is started to say so."""
    home.restart()
    code, out, errors = home.unlatch(*command)
    assert (code, errors) == (0, "")
    assert "nothing" in out
    assert home.house.processes_called(b"gpg-agent") == []


def test_an_agent_that_hangs_is_told_as_not_locked(home: SoftwareKeys) -> None:
    """A stopped agent cannot forget: that is an error with a way to end it, and not silence."""
    (pid,) = home.house.processes_called(b"gpg-agent")
    os.kill(pid, signal.SIGSTOP)
    code, out, errors = home.unlatch("lock")
    assert (code, out) == (1, "")
    assert "error: not locked: the keys of gpg-agent" in errors
    assert "pkill -KILL" in errors
    os.kill(pid, signal.SIGCONT)


# As the first login does it: the second agent starts where GnuPG looks from then on.
TWO_AGENTS = """
mount -t tmpfs tmpfs /run
sign="gpg --batch --quiet --pinentry-mode loopback --passphrase-fd 0 --detach-sign -o -"
unlock() { printf '%s' "$2" | $sign -u $1 /dev/null >/dev/null; }
unlock a@x "$1"
mkdir -p /run/user/$(id -u)/gnupg && chmod 700 /run/user/$(id -u) /run/user/$(id -u)/gnupg
gpgconf --create-socketdir
unlock b@x "$2"
"$0" lock
"""


def test_both_of_two_agents_are_locked(home: SoftwareKeys) -> None:
    """Where everything else stops and says so, lock goes on with both."""
    from house import UNLATCH

    home.restart()
    out = home.house.run(
        "unshare", "--mount", "sh", "-c", TWO_AGENTS, UNLATCH, FIRST.decode(), SECOND.decode()
    ).decode()
    assert sorted(line.split()[1] for line in out.splitlines()) == ["<a@x>", "<b@x>"]


class _Agent:
    """An agent that a test invents: what it was told, and at which command it fails."""

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.told: list[str] = []

    def ask(self, command: str, **_: object) -> bytes:
        self.told.append(command)
        if command == self.fails_at:
            raise CardFault(100663404, "Card error")
        return b""

    def status(self, command: str, **_: object) -> list[tuple[str, str]]:
        self.ask(command)
        return [("SERIALNO", "D276000124010304FF51000000010000")]

    def __enter__(self) -> "_Agent":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_card_that_cannot_be_asked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Perhaps it is unlocked: that is no "nothing was unlocked", and the daemon that knows its PIN is ended."""
    agent = _Agent("SCD APDU 00200081")
    monkeypatch.setattr(locking, "agents", lambda _: [agent])
    (told,) = lock_cards(PLACE)
    assert isinstance(told.trouble, CardFault)
    assert agent.told[-1] == "SCD KILLSCD"


def test_one_agent_that_fails_keeps_no_other_from_being_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two, the second has its turn after the first has refused."""
    first, second = _Agent("KEYINFO --list --with-ssh --ssh-fpr=sha256"), _Agent()
    monkeypatch.setattr(locking, "agents", lambda _: [first, second])
    monkeypatch.setattr(keys, "find", lambda *_: [])
    (told,) = lock_keys(PLACE)
    assert isinstance(told.trouble, CardFault)
    assert "RELOADAGENT" in second.told


def test_every_key_is_forgotten_before_anything_that_takes_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """gpg may stand before a locked keyring when it is asked for names: the agent has forgotten by then."""
    agent = _Agent()

    def find(*_: object) -> list[HomeKey]:
        assert "RELOADAGENT" in agent.told
        return []

    monkeypatch.setattr(locking, "agents", lambda _: [agent])
    monkeypatch.setattr(keys, "find", find)
    assert lock_keys(PLACE) == []


def test_every_kind_has_its_turn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One kind that cannot lock keeps no other from it, and the exit code says that something is left."""
    monkeypatch.setattr(
        lock,
        "KINDS",
        (
            lambda _: [Locked("first"), Locked("second", UnlatchError("it is stuck"))],
            lambda _: [Locked("third")],
        ),
    )
    with lock.command.make_context("lock", []) as context:
        assert lock.command.invoke(context) == 1
    shown = capsys.readouterr()
    assert shown.out == "locked first\nlocked third\n"
    assert "error: not locked: second: it is stuck" in shown.err
