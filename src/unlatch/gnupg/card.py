"""What an OpenPGP card says of itself: scdaemon's status lines, read into plain data. Pure.

Sources: "OpenPGP application on ISO smart card operating systems" 3.4 (serial numbers 4.2.1, PIN lengths 4.3, status
words 7.2.2), and the lines that scdaemon 2.2.40 and 2.4 give to LEARN (scd/app-openpgp.c).
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from unlatch.errors import Malformed
from unlatch.wire.assuan import unescape

Line = tuple[str, str]  # a status line: keyword and text, as Agent.status gives them

MIN_PIN = 6  # bytes (4.3.1); scdaemon asks the card's own key derivation only after that
MIN_ADMIN = 8
LOW = 2  # fewer tries than this are not touched without being told to

UNLOCKED, LOCKED, BLOCKED = "unlocked", "locked", "blocked"  # the states of a PIN, as people read them

_USES = {1: "sign", 2: "decrypt", 3: "authenticate"}
_AID = re.compile(r"D27600012401[0-9A-F]{20}")
_ALGORITHMS = {1: "rsa", 18: "ecdh", 19: "ecdsa", 22: "eddsa"}


class PinStatus(NamedTuple):
    """CHV-STATUS. ``forced``: the signature PIN is asked for each signature; the numbers are tries left."""

    forced: bool
    longest: int  # bytes of the PIN
    pin: int
    reset: int  # 0 as well when the card has no reset code
    admin: int


class CardKey(NamedTuple):
    """A key on a card. Texts are empty where the card does not say."""

    use: str  # "sign", "decrypt", "authenticate"
    fingerprint: str
    grip: str = ""
    algorithm: str = ""
    touch: bool = False  # the card wants to be touched for each use


class Card(NamedTuple):
    """A card as ``unlatch card status`` shows it."""

    aid: str  # the whole application id in hexadecimal, what scdaemon calls the serial number
    holder: str
    language: str
    url: str
    login: str
    maker: str
    status: PinStatus
    keys: tuple[CardKey, ...]
    signatures: int  # made so far with the signature key

    @property
    def number(self) -> str:
        """The serial number that is printed on cards and that gpg shows."""
        return number_of(self.aid)

    def key(self, use: str) -> CardKey | None:
        """The key for this use, if the card has one."""
        return next((key for key in self.keys if key.use == use), None)


def number_of(aid: str) -> str:
    """The eight digits of an application id that people call the serial number; any other id as it is."""
    return aid[20:28] if _AID.fullmatch(aid) else aid


def serial_of(lines: Iterable[Line]) -> str:
    """The application id of a SERIALNO line.

    Raises:
        Malformed: there is none.
    """
    for keyword, text in lines:
        if keyword == "SERIALNO":
            return text.split(" ")[0]
    raise Malformed("SERIALNO")


def is_openpgp(aid: str) -> bool:
    """Whether this is the id of an OpenPGP application."""
    return _AID.fullmatch(aid) is not None


def means(wanted: str, aid: str) -> bool:
    """Whether a person who typed ``wanted`` means this card: its number, or its id, with or without blanks."""
    typed = wanted.replace(" ", "").replace(":", "").upper()
    return typed in (aid, number_of(aid), aid[16:28])


def pin_status(text: str) -> PinStatus:
    """Read CHV-STATUS: `` 1+127+127+127+3+0+3``; the parts are escaped blanks.

    Raises:
        Malformed: it is not that.
    """
    parts = text.replace("+", " ").split()
    if len(parts) < 7 or not all(part.isascii() and part.isdigit() for part in parts[:7]):
        raise Malformed("CHV-STATUS")
    keeps, longest, _, _, pin, reset, admin = map(int, parts[:7])
    return PinStatus(keeps == 0, longest, pin, reset, admin)


def read_card(lines: Iterable[Line]) -> Card:
    """A card from the lines of LEARN.

    Raises:
        Malformed: without a serial number or the state of its PINs it is no OpenPGP card.
    """
    known = list(lines)
    first: dict[str, str] = {}
    for keyword, text in known:
        first.setdefault(keyword, text)
    if "CHV-STATUS" not in first:
        raise Malformed("CHV-STATUS")
    counter = first.get("SIG-COUNTER", "")
    return Card(
        aid=serial_of(known),
        holder=_holder(_plain(first.get("DISP-NAME", ""))),
        language=_plain(first.get("DISP-LANG", "")),
        url=_plain(first.get("PUBKEY-URL", "")),
        login=_plain(first.get("LOGIN-DATA", "")),
        maker=first.get("MANUFACTURER", "").partition(" ")[2],
        status=pin_status(first["CHV-STATUS"]),
        keys=_keys(known),
        signatures=int(counter) if counter.isascii() and counter.isdigit() else 0,
    )


def _keys(lines: list[Line]) -> tuple[CardKey, ...]:
    """The keys that are there: a fingerprint is not all zeros then, and in GnuPG not reported."""
    prints = {number: rest[0] for number, rest in _numbered(lines, "KEY-FPR") if rest and rest[0].strip("0")}
    algorithms = {number: _algorithm(rest) for number, rest in _numbered(lines, "KEY-ATTR")}
    grips = {}
    for text in (text for keyword, text in lines if keyword == "KEYPAIRINFO"):
        grip, _, rest = text.partition(" ")
        found = re.match(r"OPENPGP\.(\d)", rest)
        if found and grip != "X":
            grips[int(found[1])] = grip
    return tuple(
        CardKey(
            use=use,
            fingerprint=prints[number],
            grip=grips.get(number, ""),
            algorithm=algorithms.get(number, ""),
            touch=_plain(next((text for word, text in lines if word == f"UIF-{number}"), ""))[:1] not in ("", "\0"),
        )
        for number, use in _USES.items()
        if number in prints
    )


def _numbered(lines: list[Line], wanted: str) -> Iterable[tuple[int, list[str]]]:
    for keyword, text in lines:
        number, *rest = text.split(" ")
        if keyword == wanted and number.isascii() and number.isdigit():
            yield int(number), rest


def _algorithm(rest: list[str]) -> str:
    """``1 rsa3072 17 1`` and ``22 ed25519`` say the name themselves; what does not is told by its number."""
    if len(rest) < 2:
        return ""
    name = rest[1]
    if name.isdigit() and rest[0].isdigit():
        return f"{_ALGORITHMS.get(int(rest[0]), 'algorithm ' + rest[0])}{name}"
    return name


def _holder(name: str) -> str:
    """``Meier<<Anna`` (ISO/IEC 7501-1: surname first) as people write it."""
    surname, _, given = name.partition("<<")
    return " ".join(part for part in (given.replace("<", " "), surname.replace("<", " ")) if part)


def _plain(text: str) -> str:
    """A percent and plus escaped text of scdaemon's."""
    return unescape(text.replace("+", " ").encode("utf-8", "surrogateescape")).decode("utf-8", "replace")
