"""``unlatch card init --from-key``: a key that lies on a disk moves to a card, with a copy made first."""

import re
import subprocess
from pathlib import Path

import pytest
from card.card import ADMIN_PIN
from card.gnupg import BATCH, provision
from card.house import CardHouse
from card.sshd import SSHServer, agent_socket
from card.unlatch import card
from house import UNLATCH
from real_gnupg import LOOPBACK, finish
from waiting import until

OWNER = "Vault <vault@db01.example>"
PASSPHRASE = b"canary passphrase of a key"
NEW, NEW_ADMIN = b"canary-2718", b"canary-admin-31"
WORDS = ("--from-key", "vault@db01.example", "--own-pin", "--own-admin-pin", "--yes")


def software_key(house: CardHouse, *uses: str) -> list[str]:
    """A key with subkeys; the fingerprints, the primary key's first."""
    house.run(*BATCH, *LOOPBACK, "--quick-gen-key", OWNER, "ed25519", "sign", "never", feed=PASSPHRASE)
    primary = fingerprints(house)[0]
    for use, algorithm in (("encr", "cv25519"), ("auth", "ed25519")):
        if use in uses:
            house.run(*BATCH, *LOOPBACK, "--quick-add-key", primary, algorithm, use, "never", feed=PASSPHRASE)
    house.run("gpg-connect-agent", "RELOADAGENT", "/bye")
    return fingerprints(house)


def fingerprints(house: CardHouse) -> list[str]:
    """Of all keys in the keyring."""
    listing = house.run(*BATCH, "--with-colons", "--list-keys", OWNER).decode()
    return re.findall(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)


def give(house: CardHouse, process: "subprocess.Popen[bytes]", over: frozenset[str] = frozenset()) -> None:
    """Answer every ring that is not ``over``: the admin PIN for the card, the passphrase for the key."""
    answered = set(over)
    while process.poll() is None:
        until(lambda: process.poll() is not None or rung(house) - answered, "a ring")
        for ring in house.phone.messages("ring"):
            if ring["link"] not in answered:
                answered.add(ring["link"])
                house.open(ring["link"]).unlock(ADMIN_PIN if ring["kind"] == "pin" else PASSPHRASE)


def rung(house: CardHouse) -> set[str]:
    """The links of all rings."""
    return {ring["link"] for ring in house.phone.messages("ring")}


def test_a_key_moves_and_logs_in(card_house: CardHouse, tmp_path: Path) -> None:
    """Three keys go to their slots, a copy is made before, stubs stay on the disk, and real ssh is let in."""
    primary, encryption, login = software_key(card_house, "encr", "auth")
    copy = tmp_path / "copy.asc"
    moving = card_house.start(UNLATCH, "card", "init", *WORDS, "--backup", copy)
    give(card_house, moving)
    code, out, err = finish(moving)
    assert code == 0, err
    assert "the key leaves this disk: what stays is a stub" in err
    made = card_house.card
    assert all(made.has_key(slot) for slot in ("sign", "decrypt", "auth"))
    shown = card(card_house, "status").out
    assert all(each in shown.replace(" ", "") for each in (primary, encryption, login))
    listing = card_house.run(*BATCH, "--list-secret-keys", OWNER).decode()
    assert listing.count("sec>") + listing.count("ssb>") == 3
    assert copy.read_bytes().startswith(b"-----BEGIN PGP PRIVATE KEY BLOCK-----")
    assert copy.stat().st_mode & 0o077 == 0
    assert PASSPHRASE not in copy.read_bytes() + out + err.encode()
    assert made.wrong_pin_count() == 0
    server = SSHServer(card_house)
    socket = agent_socket(card_house)
    server.allow(out.decode().strip())
    card_house.unlock()
    code, said, errors = finish(server.login("echo", "in", socket=socket))
    assert (code, said) == (0, b"in\n"), errors
    again = card(card_house, "init", *WORDS, "--no-backup")
    assert (again.code, again.out) == (0, out.decode()), again.err


def test_interrupted_between_two_keys_it_goes_on(card_house: CardHouse) -> None:
    """The ones that are on the card stay there; only the others move."""
    software_key(card_house, "encr", "auth")
    words = (*WORDS, "--no-backup")
    first = card_house.start(UNLATCH, "card", "init", *words)
    card_house.open(card_house.phone.links(1)[0]).unlock(ADMIN_PIN)
    card_house.open(card_house.phone.links(2)[1]).unlock(PASSPHRASE)
    assert first.stderr is not None
    assert any(line.startswith(b"unlatch: done: move") for line in first.stderr)
    first.kill()
    first.wait(20)
    assert card_house.card.has_key("sign")
    until(lambda: not card_house.processes_called(b"--edit-key"), "the end of gpg")
    left = card(card_house, "init", "--dry-run", *words).err.count("move the key")
    assert 1 <= left <= 2  # the next one may have begun
    rest = card_house.start(UNLATCH, "card", "init", *words)
    give(card_house, rest, frozenset(rung(card_house)))
    code, _, err = finish(rest)
    assert code == 0, err
    assert err.count("done: move the key") == left
    assert card_house.card.has_key("auth")


def test_a_slot_with_another_key_is_not_overwritten(card_house: CardHouse) -> None:
    """Each fingerprint is shown, and nothing happens to the card until they were named."""
    provision(card_house, "ed25519")
    software_key(card_house, "auth")
    done = card(card_house, "init", *WORDS, "--no-backup")
    assert done.code == 1
    assert done.error.startswith("the card has a key to sign with already: ")
    assert done.hints[0].startswith('to destroy it: "--overwrite ')
    assert card_house.card.submitted("admin") == 0
    assert card(card_house, "status").out.count("key to") == 3


@pytest.mark.parametrize(
    ("uses", "words", "error"),
    [
        ((), ("--no-backup",), "that key has no subkey to log in with"),
        (("auth",), (), "the key leaves this disk, and nobody said whether there is a copy"),
        (("auth",), ("--no-backup", "--algorithm", "rsa3072"), "--algorithm, --user-id and --expires are for keys"),
        (("auth",), ("--from-key", "nobody@x.example"), "nobody@x.example: there is no such secret key"),
    ],
)
def test_what_cannot_be_moved(card_house: CardHouse, uses: tuple[str, ...], words: tuple[str, ...], error: str) -> None:
    """It is told before anybody is asked for a PIN."""
    software_key(card_house, *uses)
    done = card(card_house, "init", *WORDS, *words)
    assert done.error.startswith(error)
    assert done.code in (1, 2)
    assert done.hints
    assert card_house.card.record() == []
