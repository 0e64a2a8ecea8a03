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

MIN_PIN = 6  # bytes (4.3.1)
MAX_PIN = 88  # bytes; gpg-agent 2.2.40 takes no more (its S INQUIRE_MAXLEN), whatever the card would
LOW = 2  # with fewer tries left than this, nobody tries a PIN without being told to

UNLOCKED, LOCKED, BLOCKED = "unlocked", "locked", "blocked"  # the states of a PIN, as people read them

_USES = {1: "sign", 2: "decrypt", 3: "authenticate"}
_AID = re.compile(r"D27600012401[0-9A-F]{20}")
_PAIR = re.compile(r"([0-9A-F]{40}) OPENPGP\.([123])\b")


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
    number: int  # 1, 2, 3, as in OPENPGP.1
    fingerprint: str
    grip: str
    algorithm: str
    touch: bool = False  # the card wants to be touched for each use


class Card(NamedTuple):
    """A card as ``unlatch card status`` shows it."""

    aid: str  # the whole application id in hexadecimal, what scdaemon calls the serial number
    reader: str
    maker: str
    holder: str
    language: str
    url: str
    login: str
    status: PinStatus
    keys: tuple[CardKey, ...]
    signatures: int  # made so far with the signature key

    @property
    def number(self) -> str:
        """The serial number that is printed on cards and that gpg shows."""
        return number_of(self.aid)


def number_of(aid: str) -> str:
    """The eight digits of an application id that people call the serial number; any other id as it is."""
    return aid[20:28] if is_openpgp(aid) else aid


def is_openpgp(aid: str) -> bool:
    """Whether this is the id of an OpenPGP application."""
    return _AID.fullmatch(aid) is not None


def tells_status(aid: str) -> bool:
    """Whether an empty VERIFY asks for the state and cannot cost a try: since version 3 of the specification."""
    return is_openpgp(aid) and int(aid[12:14], 16) >= 3


def means(wanted: str, aid: str) -> bool:
    """Whether a person who typed ``wanted`` means this card: its number, or its id, in any of the usual forms."""
    typed = wanted.replace(" ", "").replace(":", "").upper()
    return typed in (aid, number_of(aid)) or (is_openpgp(aid) and typed == aid[16:28])


def serials(lines: Iterable[Line]) -> tuple[str, ...]:
    """The application ids of all SERIALNO lines, each once; an older scdaemon puts a date behind them."""
    return tuple(dict.fromkeys(text.split(" ")[0] for keyword, text in lines if keyword == "SERIALNO" and text))


def keypairs(lines: Iterable[Line]) -> dict[int, str]:
    """The keygrips of the keys that are on a card, by their number: 1 signs, 2 decrypts, 3 logs in."""
    found = (_PAIR.match(text) for keyword, text in lines if keyword == "KEYPAIRINFO")
    return {int(match[2]): match[1] for match in found if match}


def pin_status(text: str) -> PinStatus:
    """Read CHV-STATUS: ``+1+127+127+127+3+0+3``, where a plus is an escaped blank.

    Raises:
        Malformed: it is not that.
    """
    parts = text.replace("+", " ").split()
    if len(parts) < 7 or not all(part.isascii() and part.isdigit() for part in parts[:7]):
        raise Malformed("CHV-STATUS")
    several, longest, _, _, pin, reset, admin = map(int, parts[:7])
    return PinStatus(several == 0, longest, pin, reset, admin)


def read_card(lines: Iterable[Line]) -> Card:
    """A card from the lines of LEARN, and of GETATTR KEY-ATTR, which LEARN of 2.2 does not give.

    Raises:
        Malformed: without a serial number or the state of its PINs it is no OpenPGP card.
    """
    known = list(lines)
    first: dict[str, str] = {}
    for keyword, text in known:
        first.setdefault(keyword, text)
    aids = serials(known)
    if not aids or "CHV-STATUS" not in first:
        raise Malformed("card")
    counter = first.get("SIG-COUNTER", "")
    return Card(
        aid=aids[0],
        reader=first.get("READER", ""),
        maker=first.get("MANUFACTURER", "").partition(" ")[2],
        holder=holder(first.get("DISP-NAME", "")),
        language=plain(first.get("DISP-LANG", "")),
        url=plain(first.get("PUBKEY-URL", "")),
        login=plain(first.get("LOGIN-DATA", "")),
        status=pin_status(first["CHV-STATUS"]),
        keys=_keys(known),
        signatures=int(counter) if counter.isascii() and counter.isdigit() else 0,
    )


def holder(text: str) -> str:
    """DISP-NAME, ``Meier<<Anna`` (ISO/IEC 7501-1: surname first), as people write it."""
    surname, _, given = plain(text).partition("<<")
    return " ".join(part for part in (given.replace("<", " "), surname.replace("<", " ")) if part)


def touch(text: str) -> bool:
    """Whether a UIF line says that the card wants to be touched: its first byte is 0 for no."""
    return plain(text)[:1] not in ("", "\0")


def plain(text: str) -> str:
    """A percent and plus escaped text of scdaemon's."""
    return unescape(text.replace("+", " ").encode("utf-8", "surrogateescape")).decode("utf-8", "replace")


def _keys(lines: list[Line]) -> tuple[CardKey, ...]:
    """The keys that are there: scdaemon gives the keygrip of each, and the fingerprint if one was stored with it."""
    prints = {number: words[0] for number, words in _numbered(lines, "KEY-FPR") if words}
    algorithms = {number: _algorithm(words) for number, words in _numbered(lines, "KEY-ATTR")}
    grips = keypairs(lines)
    return tuple(
        CardKey(
            use=use,
            number=number,
            fingerprint=prints.get(number, ""),
            grip=grips.get(number, ""),
            algorithm=algorithms.get(number, ""),
            touch=touch(next((text for keyword, text in lines if keyword == f"UIF-{number}"), "")),
        )
        for number, use in _USES.items()
        if number in prints or number in grips
    )


def _numbered(lines: list[Line], wanted: str) -> Iterable[tuple[int, list[str]]]:
    for keyword, text in lines:
        number, *words = text.split(" ")
        if keyword == wanted and number.isascii() and number.isdigit():
            yield int(number), words


def _algorithm(words: list[str]) -> str:
    """What stands behind the number of the algorithm: ``1 rsa3072 32 1``, ``22 Ed25519``."""
    return words[1].lower() if len(words) > 1 else ""
