"""Real gpg with a card: a conversation that is checked word by word, and cards that gpg has put keys on."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from card.algorithms import SLOTS
from card.card import ADMIN_PIN, PIN, Card
from card.house import CardHouse

OWNER = "Backup db01 <backup@db01.example>"
PLAINTEXT = b"s3cr3t of the database\n"
BATCH = ("gpg", "--batch", "--quiet", "--no-tty")
# The conversation that gpg has through descriptors instead of a terminal (GnuPG's doc/DETAILS).
_TALK = ("gpg", "--no-tty", "--command-fd", "0", "--status-fd", "1", "--quiet")
_QUESTION = re.compile(r"^\[GNUPG:\] GET_(?:LINE|BOOL|HIDDEN) (\S+)", re.MULTILINE)

Talk = list[tuple[str, str]]  # what gpg asks for, and what it is told

_GENERATE: Talk = [
    ("cardedit.prompt", "admin"),
    ("cardedit.prompt", "generate"),
    ("cardedit.genkeys.backup_enc", "n"),
    ("keygen.valid", "0"),
    ("keygen.name", "Backup db01"),
    ("keygen.email", "backup@db01.example"),
    ("keygen.comment", ""),
    ("cardedit.prompt", "quit"),
]


class Provisioned(NamedTuple):
    """A card with three keys that gpg made on it, and the certificate for a keyring."""

    card: Card
    certificate: bytes
    fingerprint: str


_made: dict[str, Provisioned] = {}


def talk(house: CardHouse, *words: str | Path, script: Talk) -> str:
    """Let gpg ask and answer it; gives what it said.

    Raises:
        AssertionError: it asked for something else, or failed.
    """
    said = house.run(*_TALK, *words, feed=_answers(script)).decode()
    assert _QUESTION.findall(said) == [question for question, _ in script], said
    return said


def start_talk(house: CardHouse, *words: str | Path, script: Talk) -> "subprocess.Popen[bytes]":
    """The same for gpg that has to be answered otherwise meanwhile; what it asks for is not checked."""
    answers = house.root / "answers"
    answers.write_bytes(_answers(script))
    return house.start("/bin/sh", "-c", 'exec "$@" <"$0"', answers, *_TALK, *words)


def by_loopback(house: CardHouse, value: bytes) -> tuple[str, ...]:
    """Options of gpg that give this for every PIN it asks for; a test that wants one for all sets them alike."""
    path = house.root / "loopback"
    path.write_bytes(value)
    return ("--pinentry-mode", "loopback", "--passphrase-file", str(path))


def generate(house: CardHouse) -> str:
    """Make three keys on the card with gpg --card-edit; both PINs have to be ``ADMIN_PIN``. Gives the fingerprint."""
    said = talk(house, *by_loopback(house, ADMIN_PIN), "--card-edit", script=_GENERATE)
    found = re.search(r"KEY_CREATED B ([0-9A-F]{40})", said)
    assert found, said
    return found[1]


def provision(house: CardHouse, algorithm: str = "rsa2048", *, serial: int = 1) -> Provisioned:
    """Put a card with three keys into the first reader and its certificate into the keyring.

    gpg makes the keys on a card once for each worker; after that it is a copy, in 0.1 s. No program is left that has
    talked to the card, so it is locked and nobody knows its state. PIN and admin PIN are those of a new card.
    """
    if algorithm not in _made:
        _made[algorithm] = _make(house, algorithm)
    made = _made[algorithm]
    card = made.card.copy(serial)
    house.replace(card)
    house.run(*BATCH, "--import", feed=made.certificate)
    house.run(*BATCH, "--card-status")  # so that the keyring knows where the private keys are
    house.run("gpgconf", "--kill", "all")
    house.pcsc.readers[0].commands.clear()
    return made._replace(card=card)


def encrypt(house: CardHouse, content: bytes = PLAINTEXT) -> Path:
    """A file for the owner of the card."""
    path = house.root / "secret.gpg"
    path.write_bytes(house.run(*BATCH, "--trust-model", "always", "-e", "-r", OWNER, feed=content))
    return path


def set_algorithms(card: Card, algorithm: str) -> None:
    """Give all three slots this algorithm; a curve that only signs stands for its pair."""
    for slot in SLOTS:
        card.set_algorithm(slot, "cv25519" if (slot, algorithm) == ("decrypt", "ed25519") else algorithm)


def _answers(script: Talk) -> bytes:
    return "".join(f"{answer}\n" for _, answer in script).encode()


def _make(house: CardHouse, algorithm: str) -> Provisioned:
    card = Card()
    set_algorithms(card, algorithm)
    card.set_pin(ADMIN_PIN)
    house.replace(card)
    fingerprint = generate(house)
    certificate = house.run(*BATCH, "--export", fingerprint)
    house.run("gpgconf", "--kill", "all")
    card.set_pin(PIN)
    return Provisioned(card.copy(), certificate, fingerprint)
