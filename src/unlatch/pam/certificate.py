"""A public key with all that is certified with it, as gpg lists it, and whether it may be used. Pure.

Format: GnuPG's doc/DETAILS, "Format of the colon listings".
"""

import re
from typing import NamedTuple

from unlatch.pam import entry
from unlatch.pam.errors import Spent, Unfit

_BAD = {"r": "revoked", "e": "expired", "i": "invalid", "d": "disabled", "n": "not trusted"}
_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")
_MAIL = re.compile(r"<([^<>]*)>\s*\Z")


class Certificate(NamedTuple):
    """``fingerprints`` are the primary key's and its subkeys'; ``names`` are pairs of validity and user id.

    ``uses`` are the letters of the primary key, capitals for the whole.
    """

    fingerprints: tuple[str, ...]
    validity: str
    uses: str
    names: tuple[tuple[str, str], ...]

    @property
    def fingerprint(self) -> str:
        return self.fingerprints[0]


def parse(listing: bytes) -> list[Certificate]:
    """The certificates of a colon listing."""
    keys: list[Certificate] = []
    # gpg escapes line feeds and colons in a user id, not the other characters at which splitlines() would divide it.
    for line in listing.split(b"\n"):
        columns = [*line.decode("utf-8", "replace").split(":"), *[""] * 12]
        if columns[0] == "pub":
            keys.append(Certificate((), columns[1], columns[11], ()))
        elif keys and columns[0] == "fpr":
            keys[-1] = keys[-1]._replace(fingerprints=(*keys[-1].fingerprints, columns[9]))
        elif keys and columns[0] == "uid":
            name = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), columns[9])
            keys[-1] = keys[-1]._replace(names=(*keys[-1].names, (columns[1], name)))
    return [key for key in keys if key.fingerprints]


def judge(key: Certificate, word: str, use: str) -> None:
    """Refuse a key that must not be used, or that cannot do this (E encrypt, S sign).

    Raises:
        Spent
    """
    if key.validity in _BAD:
        raise Spent(f"the key {_called(key, word)} is {_BAD[key.validity]}")
    if "D" in key.uses:
        raise Spent(f"the key {_called(key, word)} is disabled")
    if use not in key.uses:
        raise Spent(f"the key {_called(key, word)} cannot {'encrypt' if use == 'E' else 'sign'} (any more)")


def check_valid(key: Certificate, word: str) -> None:
    """Refuse a key that the listing keyring's trust database does not call fully valid.

    An address must itself be shown to belong to the key; a fingerprint needs any name that does.

    Raises:
        Unfit
    """
    names = [validity for validity, name in key.names if entry.is_fingerprint(word) or _mail(name) == word.lower()]
    if not set(names) & {"f", "u"}:
        raise Unfit(f"the key {_called(key, word)} is not fully valid by the account's trust database (gpg --edit-key)")


def is_named(key: Certificate, word: str) -> bool:
    """Whether a fingerprint or an address stands for it."""
    return word in key.fingerprints or word.lower() in {_mail(name) for _, name in key.names}


def _called(key: Certificate, word: str) -> str:
    return word if entry.is_fingerprint(word) else f"{key.fingerprint} of {word}"


def _mail(name: str) -> str:
    found = _MAIL.search(name)
    return (found[1] if found else name).strip().lower()
