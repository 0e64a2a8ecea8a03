"""One entry of ``~/.auth_gpg``, or of the key of record in /etc/unlatch/pam: whose key, and how a challenge is shown.

    KEY[,KEY] trust|notrust SIGN-AS|nosign WEBQR [TLS-KEY [TLS-CERTIFICATE]]

Blanks between the words, ``#`` at the beginning of a line for a comment, one entry a file. KEY is a full fingerprint or
an address; WEBQR one of :data:`WEB`, and any other word is no web page. Pure.
"""

import re
from typing import NamedTuple

from unlatch.pam.errors import Unfit

MAX_FILE = 4096  # bytes of ~/.auth_gpg
MAX_TLS = 65536  # bytes of a TLS key, and of a certificate with those above it
MAX_KEYS = 3

# The word: whether the page asks for a name and a password, and whether it is served with TLS.
WEB = {
    "webQrAuthTls": (True, True),
    "webQrNoAuthTls": (False, True),
    "webQrAuthNoTls": (True, False),
    "webQrNoAuthNoTls": (False, False),
}
BROKER = "webQrBroker"  # through the broker's public_url, like any link

_FINGERPRINT = re.compile(r"(?:[0-9A-F]{40}|[0-9A-F]{64})\Z")
# What stands behind "@" is left to gpg; a word that it could take for an option or for a part of a name is not passed.
_ADDRESS = re.compile(r"[^\s<>,@=*#&|!/-][^\s<>,@=*#&|!/]*@[^\s<>,@=*#&|!/-][^\s<>,@=*#&|!/]*\Z")


class Entry(NamedTuple):
    """``keys`` are fingerprints in capitals without a prefix, or addresses. ``sign_as`` and ``web`` empty: neither."""

    keys: tuple[str, ...]
    trust: bool
    sign_as: str = ""
    web: str = ""
    tls_key: str = ""
    tls_certificate: str = ""


def parse(text: str, name: str) -> Entry:
    """Read the one entry of a file; ``name`` is what messages call it.

    Raises:
        Unfit: with the line's number and what would be right.
    """
    found: tuple[int, list[str]] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if found is not None:
            raise Unfit(f"{name}:{number}: a second entry; one counts, and further keys stand in it after commas")
        found = number, words
    if found is None:
        raise Unfit(f"{name}: no entry")
    try:
        return _entry(found[1])
    except ValueError as error:
        raise Unfit(f"{name}:{found[0]}: {error}") from None


def from_bytes(content: bytes, name: str) -> Entry:
    """The same, of what was read from a file.

    Raises:
        Unfit
    """
    try:
        return parse(content.decode(), name)
    except UnicodeDecodeError:
        raise Unfit(f"{name}: not text in UTF-8") from None


def is_fingerprint(key: str) -> bool:
    """Whether a key of an entry is a full fingerprint (of 40 digits, or 64 in version 5), and no address."""
    return bool(_FINGERPRINT.match(key))


def is_address(key: str) -> bool:
    """Whether it is an address as an entry may have it."""
    return bool(_ADDRESS.match(key))


def _entry(words: list[str]) -> Entry:
    if words[0] in ("trust", "notrust"):
        raise ValueError('the key is missing: the line begins with a fingerprint or an address, then "trust"')
    if not 4 <= len(words) <= 6:
        raise ValueError("an entry is: KEY trust|notrust SIGN-AS|nosign WEBQR [TLS-KEY [TLS-CERTIFICATE]]")
    keys = tuple(_key(key) for key in words[0].split(","))
    if len(keys) > MAX_KEYS or len(set(keys)) < len(keys):
        raise ValueError(f"at most {MAX_KEYS} keys, each once")
    if words[1] not in ("trust", "notrust"):
        raise ValueError('the second word must be "trust" or "notrust"')
    sign_as = "" if words[2] == "nosign" else _key(words[2])
    web = words[3] if words[3] in WEB or words[3] == BROKER else ""
    tls_key, tls_certificate = [*words[4:], "", ""][:2]
    if web in WEB and WEB[web][1] and not tls_certificate:
        raise ValueError(f"{web} needs two more words: the files of the TLS key and of its certificate")
    return Entry(keys, words[1] == "trust", sign_as, web, tls_key, tls_certificate)


def _key(word: str) -> str:
    digits = word.removeprefix("0x").upper()
    if is_fingerprint(digits):
        return digits
    if is_address(word):
        return word
    raise ValueError("a key is a full fingerprint (40 digits) or an address such as alice@example.org")
