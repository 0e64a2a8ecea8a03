"""Set up a new card: what there is, what is wished, and the steps from one to the other. Pure.

Nothing is remembered between two runs: the card tells what is done, so a run that was broken off goes on where it was.
What a card does not tell is whether its PINs are still those of a new card; that is asked.

The PINs are changed last. Some cards (Gnuk) take no new PIN before they have keys, and put the PIN back when keys come;
and whoever is interrupted half-way still knows the PINs that are in force.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from unlatch.errors import UnlatchError
from unlatch.gnupg.card import Card, CardKey, Line

FACTORY_PIN, FACTORY_ADMIN = b"123456", b"12345678"  # OpenPGP card 3.4.1, 4.2 and every maker's leaflet
MIN_ADMIN = 8  # bytes (4.3.1)
MAX_NAME, MAX_LANGUAGES = 39, 4  # bytes of 5B, languages of two letters in 5F2D (4.4.1)

# What people choose -> the algorithm of each slot.
ALGORITHMS: Mapping[str, tuple[str, str, str]] = {
    "rsa3072": ("rsa3072",) * 3,
    "rsa4096": ("rsa4096",) * 3,
    "ed25519": ("ed25519", "cv25519", "ed25519"),
}
SLOTS = {1: "sign", 2: "decrypt", 3: "authenticate"}
# OpenPGP's numbers of algorithms (RFC 9580, 9.1; EdDSA as GnuPG 2 has it).
_RSA, _ECDH, _ECDSA, _EDDSA = 1, 18, 19, 22
_ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")
_USER_ID = re.compile(r"([^<>()]*?)\s*(?:\(([^<>()]*)\))?\s*(?:<([^<>]*)>)?")
_EXPIRES = re.compile(r"0|[1-9][0-9]{0,3}[dwmy]?|[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Unfit(UnlatchError):
    """A wish that no card can take. The text says what would do."""


class Facts(NamedTuple):
    """What is there. ``attributes``: the algorithm of each slot, with a key or without.

    ``certified`` are the fingerprints of the card's keys that a certificate of the keyring names.
    """

    card: Card
    attributes: Mapping[int, str]
    longest_admin: int
    certified: frozenset[str] = frozenset()


class Source(NamedTuple):
    """A secret key of the home that is to move into a slot.

    ``number`` is gpg's: 0 the primary key, else that of the subkey. ``on_card``: its secret part is not on this disk.
    """

    slot: int
    fingerprint: str
    algorithm: str
    number: int
    on_card: bool


class Wishes(NamedTuple):
    """What is wished; None leaves as it is. ``sources``: keys to move; without any, keys are made on the card."""

    name: str | None = None
    language: str | None = None
    forcesig: bool | None = None
    algorithm: str = ""
    sources: tuple[Source, ...] = ()
    overwrite: frozenset[str] = frozenset()  # fingerprints that may be lost
    factory_pin: bool = False
    factory_admin: bool = False


class Step(NamedTuple):
    """One thing to do: its kind, what a person reads, the slot, and the value for the card."""

    kind: str  # "name", "language", "algorithm", "generate", "move", "forcesig", "pin", "admin pin"
    text: str
    slot: int = 0
    value: str = ""


def plan(facts: Facts, wishes: Wishes) -> tuple[Step, ...]:
    """The steps that are left, in their order.

    Raises:
        Unfit: a name or language that the card cannot hold.
    """
    steps = [*_about_the_holder(facts.card, wishes)]
    steps += _moves(facts, wishes) if wishes.sources else _generation(facts, wishes)
    if wishes.forcesig is not None and wishes.forcesig != facts.card.status.forced:
        text = "ask for the PIN for each signature" if wishes.forcesig else "ask for the PIN once for all signatures"
        steps.append(Step("forcesig", text, value="%00" if wishes.forcesig else "%01"))
    if wishes.factory_pin:
        steps.append(Step("pin", "change the PIN from the factory one"))
    if wishes.factory_admin:
        steps.append(Step("admin pin", "change the admin PIN from the factory one"))
    return tuple(steps)


def lost(facts: Facts, wishes: Wishes) -> tuple[CardKey, ...]:
    """The keys on the card that the plan would destroy."""
    there = {key.number: key for key in facts.card.keys}
    if wishes.sources:
        return tuple(there[each.slot] for each in to_move(facts, wishes) if each.slot in there)
    return facts.card.keys if must_generate(facts, wishes) else ()


def must_generate(facts: Facts, wishes: Wishes) -> bool:
    """Whether keys are to be made: there is none to log in with, or a run was broken off, or all may be lost.

    gpg makes the key to sign, the one to log in, the one to decrypt, and then the certificate. So the first two without
    the third and without a certificate are the ruins of a run.
    """
    if wishes.sources:
        return False
    has = {key.number: name_of(key) for key in facts.card.keys}
    if has and set(has.values()) <= wishes.overwrite:
        return True
    return 3 not in has or (has.keys() == {1, 3} and not facts.certified)


def name_of(key: CardKey) -> str:
    """What a key is called where it is about to be lost; one that no OpenPGP program made has no fingerprint."""
    return key.fingerprint or key.grip


def needs_pin(steps: tuple[Step, ...]) -> bool:
    """Whether somebody has to give the PIN: gpg signs the certificate that it makes."""
    return any(step.kind in ("generate", "pin") for step in steps)


def needs_admin(steps: tuple[Step, ...]) -> bool:
    """Whether somebody has to give the admin PIN: to write anything."""
    return any(step.kind != "pin" for step in steps)


def attribute_value(slot: int, algorithm: str) -> str:
    """What SETATTR KEY-ATTR takes: slot, number of the algorithm, name (scdaemon, change_keyattr_from_string)."""
    if algorithm.startswith("rsa"):
        number = _RSA
    elif slot == 2:
        number = _ECDH
    else:
        number = _EDDSA if algorithm == "ed25519" else _ECDSA
    return f"--force {slot} {number} {algorithm}"


def attributes(lines: list[Line]) -> dict[int, str]:
    """The algorithm of each slot from GETATTR KEY-ATTR: ``3 22 Ed25519``, ``1 1 rsa3072 32 1``."""
    words = [text.split() for keyword, text in lines if keyword == "KEY-ATTR"]
    return {int(each[0]): same_name(each[2]) for each in words if len(each) > 2 and each[0] in "123"}


def same_name(algorithm: str) -> str:
    """An algorithm's name as gpg has it on its command line; scdaemon writes some in another way."""
    name = algorithm.lower()
    return {"curve25519": "cv25519", "nist p-256": "nistp256"}.get(name, name)


def longest_admin(text: str) -> int:
    """How many bytes an admin PIN may have, by CHV-STATUS."""
    return int(text.replace("+", " ").split()[3])


def name_value(name: str) -> str:
    """A person's name as the card holds it: ``Meier<<Anna`` (ISO/IEC 7501-1).

    Raises:
        Unfit: it cannot hold this one.
    """
    words = name.split()
    if not all(character.isascii() and character.isprintable() and character != "<" for character in name):
        raise Unfit("a card holds a name in ASCII letters only")
    value = f"{words[-1]}<<{'<'.join(words[:-1])}" if words else ""
    if len(value) > MAX_NAME:
        raise Unfit(f"a card holds a name of at most {MAX_NAME - 1} characters")
    return value


def language_value(language: str) -> str:
    """Languages as the card holds them: ``deen``.

    Raises:
        Unfit: these are none.
    """
    value = re.sub(r"[ ,]", "", language.lower())
    if not re.fullmatch(f"([a-z]{{2}}){{0,{MAX_LANGUAGES}}}", value):
        raise Unfit(f'a language has two letters, as in "de"; a card holds at most {MAX_LANGUAGES}')
    return value


def user_id(text: str) -> tuple[str, str, str]:
    """Name, address and comment of ``Backup db01 (vault) <backup@db01.example>``, as gpg asks for them.

    Raises:
        Unfit: it is none.
    """
    found = _USER_ID.fullmatch(text.strip())
    if _ADDRESS.fullmatch(text.strip()):
        return "", text.strip(), ""
    if found is None or not text.isprintable() or not (found[1] or found[3]):
        raise Unfit('a user id looks like "Backup db01 <backup@db01.example>"')
    if found[3] is not None and not _ADDRESS.fullmatch(found[3]):
        raise Unfit("the user id has no mail address in its brackets")
    return found[1], found[3] or "", found[2] or ""


def expiry(text: str) -> str:
    """When the certificate expires, as gpg takes it.

    Raises:
        Unfit: it is no such time.
    """
    value = text.strip().lower()
    value = "0" if value in ("", "never", "none") else value
    if not _EXPIRES.fullmatch(value):
        raise Unfit('an expiry is a number with d, w, m or y ("2y"), a date (2030-12-31), or "never"')
    return value


def _about_the_holder(card: Card, wishes: Wishes) -> list[Step]:
    steps = []
    if wishes.name is not None and " ".join(wishes.name.split()) != card.holder:
        text = f"write the name {wishes.name}" if wishes.name else "remove the name"
        steps.append(Step("name", text, value=name_value(wishes.name)))
    if wishes.language is not None and (value := language_value(wishes.language)) != card.language:
        steps.append(Step("language", f"write the language {value}" if value else "remove the language", value=value))
    return steps


def _generation(facts: Facts, wishes: Wishes) -> list[Step]:
    if not must_generate(facts, wishes):
        return []
    wanted = dict(zip(SLOTS, ALGORITHMS[wishes.algorithm or "rsa3072"], strict=True))
    steps = [_algorithm(slot, algorithm) for slot, algorithm in wanted.items() if facts.attributes[slot] != algorithm]
    return [*steps, Step("generate", f"make three keys on the card ({wishes.algorithm or 'rsa3072'})")]


def _moves(facts: Facts, wishes: Wishes) -> list[Step]:
    steps = []
    for each in to_move(facts, wishes):
        if facts.attributes[each.slot] != each.algorithm:
            steps.append(_algorithm(each.slot, each.algorithm))
        text = f"move the key {each.fingerprint[-16:]} to {SLOTS[each.slot]} with; it leaves this disk"
        steps.append(Step("move", text, each.slot, each.fingerprint))
    return steps


def to_move(facts: Facts, wishes: Wishes) -> list[Source]:
    """The keys that are to move and are not on the card yet."""
    there = {key.number: key.fingerprint for key in facts.card.keys}
    return [each for each in wishes.sources if there.get(each.slot) != each.fingerprint]


def _algorithm(slot: int, algorithm: str) -> Step:
    text = f"set the key to {SLOTS[slot]} with to {algorithm}"
    return Step("algorithm", text, slot, attribute_value(slot, algorithm))
