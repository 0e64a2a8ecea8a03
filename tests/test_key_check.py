"""``unlatch key check`` and ``key list``: quick looks that ask nobody, start nothing, and change nothing."""

import json
import sys
from pathlib import Path

import pytest
from house import UNLATCH, House
from software_keys import FIRST, PRESET, YEARS, SoftwareKeys


@pytest.fixture
def home(house: House) -> SoftwareKeys:
    """A GnuPG home with a key and a subkey, both locked."""
    home = SoftwareKeys(house, PRESET + YEARS)
    home.make("a@x")
    home.add("a@x")
    home.lock_all()
    return home


def test_a_locked_key_is_said_to_be_locked(home: SoftwareKeys) -> None:
    """With its own exit code, its name, and the command that unlocks it; nobody is rung."""
    code, out, errors = home.unlatch("key", "check", "a@x")
    assert (code, out) == (7, "")
    primary, subkey = (fingerprint[-16:] for fingerprint in home.fingerprints("a@x"))
    assert errors.splitlines() == [
        f"unlatch: error: locked: <a@x> ({primary}), <a@x> ({subkey})",
        f'unlatch: hint: run "unlatch key unlock {primary} {subkey}"',
    ]
    assert home.house.phone.messages() == []


@pytest.mark.parametrize("sign", [(), ("--sign",)])
def test_an_unlocked_key_is_silence(home: SoftwareKeys, sign: tuple[str, ...]) -> None:
    """By address, key id, fingerprint and keygrip alike."""
    assert home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)[0] == 0
    for what in ("a@x", home.fingerprints("a@x")[1], home.fingerprints("a@x")[0][-8:], home.grips("a@x")[0]):
        assert home.unlatch("key", "check", *sign, what) == (0, "", "")


def test_all_that_is_named_must_be_unlocked(home: SoftwareKeys) -> None:
    """One of two is not enough."""
    first, second = home.grips("a@x")
    assert home.unlatch("key", "unlock", "--stdin", first, feed=FIRST)[0] == 0
    assert home.unlatch("key", "check", first)[0] == 0
    assert home.unlatch("key", "check", first, second)[0] == 7
    assert home.unlatch("key", "check", "a@x")[0] == 7


def test_a_key_without_a_passphrase_is_always_usable(home: SoftwareKeys) -> None:
    """There is nothing to unlock."""
    home.make("free@x", b"")
    assert home.unlatch("key", "check", "--sign", "free@x") == (0, "", "")
    assert "no passphrase protects it" in home.unlatch("key", "list", "free@x")[1]


def test_no_agent_is_started_to_look(home: SoftwareKeys) -> None:
    """A job from cron must not become the owner of an agent; without one no key is unlocked."""
    home.restart()
    code, _, errors = home.unlatch("key", "check", "a@x")
    assert code == 7
    assert "no gpg-agent runs, so no key is unlocked" in errors
    assert home.house.processes_called(b"gpg-agent") == []


def test_a_job_without_an_environment_can_look(home: SoftwareKeys) -> None:
    """As cron starts it: no terminal, no path, no locale, nothing but the home."""
    assert home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)[0] == 0
    bare = {"HOME": str(home.house.root), "GNUPGHOME": str(home.house.gnupg)}
    job = home.house.start(
        "env", "-i", *(f"{name}={value}" for name, value in bare.items()), UNLATCH, "key", "check", "a@x"
    )
    assert job.wait(timeout=20) == 0


def test_a_keygrip_needs_no_gpg(home: SoftwareKeys) -> None:
    """Names are gpg's; without gpg a keygrip is still found, and a name is an error that says so."""
    grip = home.grips("a@x")[0]
    assert home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)[0] == 0
    hidden = home.house.root / "hidden"
    hidden.write_text("")
    run = f'mount --bind {hidden} /usr/bin/gpg && exec "$0" key check "$1"'
    codes = []
    for what in (grip, "a@x"):
        job = home.house.start("unshare", "--mount", "sh", "-c", run, UNLATCH, what)
        _, errors = job.communicate(timeout=20)
        codes.append(job.returncode)
    assert codes == [0, 1]
    assert b"error: gpg: permission denied" in errors


def test_it_starts_without_what_other_commands_need(home: SoftwareKeys) -> None:
    """What is dear to import would cost more than all that it has to do."""
    code = (
        "import sys; sys.argv[1:] = ['key', 'check', 'a@x']\n"
        "from unlatch.cli import entry\n"
        "try: entry.main()\n"
        "except SystemExit as done: print(done.code, *sys.modules)\n"
    )
    done = home.house.start(sys.executable, "-c", code)
    out, _ = done.communicate(timeout=20)
    status, *modules = out.decode().split()
    assert status == "7"
    assert not {"click", "subprocess", "cryptography", "asyncio", "msgspec", "hashlib", "dataclasses"} & set(modules)


@pytest.mark.parametrize("arguments", [("--help",), ("--nonsense",), (), ("https://host/x#y",)])
def test_what_is_no_key_goes_to_the_real_parser(home: SoftwareKeys, arguments: tuple[str, ...]) -> None:
    """Help, mistakes, and links that nobody should have typed here."""
    code, out, errors = home.unlatch("key", "check", *arguments)
    assert code == (0 if arguments == ("--help",) else 2)
    assert "Traceback" not in out + errors
    assert "https" not in errors


def test_a_list_tells_all_about_each_key(home: SoftwareKeys) -> None:
    """For people in columns, for scripts as JSON."""
    first, second = home.grips("a@x")
    assert home.unlatch("key", "unlock", "--stdin", first, feed=FIRST)[0] == 0
    rows = json.loads(home.unlatch("key", "list", "--json")[1])
    assert [(row["keygrip"], row["state"], row["uses"], row["ssh"]) for row in rows] == [
        (first, "unlocked", ["sign", "certify"], False),
        (second, "locked", ["decrypt"], False),
    ]
    assert {row["name"] for row in rows} == {"<a@x>"}
    assert rows[0]["fingerprint"] == home.fingerprints("a@x")[0]
    assert rows[0]["seconds"] is None
    shown = home.unlatch("key", "list", "a@x")[1].splitlines()
    assert [line.split()[:3] for line in shown] == [
        ["unlocked", first, home.fingerprints("a@x")[0][-16:]],
        ["locked", second, home.fingerprints("a@x")[1][-16:]],
    ]


def test_a_key_of_ssh_add_is_listed_with_its_comment(house: House) -> None:
    """And found by it, and by the fingerprint that ssh-add -l prints."""
    home = SoftwareKeys(house, PRESET + YEARS + "enable-ssh-support\n", pinentry=_typing(house))
    key = house.root / "id_ed25519"
    house.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "backup@laptop", "-f", key)
    fingerprint = house.run("ssh-keygen", "-l", "-f", key).split()[1].decode()
    house.run("gpgconf", "--launch", "gpg-agent")
    socket = house.run("gpgconf", "--list-dirs", "agent-ssh-socket").decode().strip()
    house.run("ssh-add", "-q", key, SSH_AUTH_SOCK=socket)
    (row,) = json.loads(home.unlatch("key", "list", "--json")[1])
    assert (row["name"], row["fingerprint"], row["ssh"]) == ("backup@laptop", fingerprint, True)
    home.lock_all()
    for what in ("backup@laptop", fingerprint, row["keygrip"]):
        assert home.unlatch("key", "check", what)[0] == 7
        assert home.unlatch("key", "unlock", "--stdin", what, feed=FIRST)[0] == 0
        assert home.unlatch("key", "check", "--sign", what) == (0, "", "")
        assert home.unlatch("key", "lock", what)[0] == 0


def _typing(house: House) -> Path:
    """A pinentry that gives the passphrase under which ssh-add's key is stored."""
    script = house.root / "typing"
    answer = f'echo "S PIN_REPEATED"; echo "D {FIRST.decode()}"; echo OK'
    script.write_text(
        f"#!/bin/sh\necho OK\nwhile read -r line; do case $line in GETPIN) {answer};; *) echo OK;; esac; done\n"
    )
    script.chmod(0o755)
    return script
