"""What keygrips are called, and which of them a person means. Pure.

gpg-agent knows keygrips only. Names come from gpg's listing of the public keyring (GnuPG's doc/DETAILS, "Format of the
colon listings"), which needs no agent and so starts none, and from the comments of keys that ssh-add brought.
"""

import re
from typing import NamedTuple

from unlatch.errors import UnlatchError

_ESCAPE = re.compile(r"\\x([0-9a-fA-F]{2})")
_ADDRESS = re.compile(r"<([^<>]+@[^<>]+)>\s*\Z")
_HEX = re.compile(r"(?:0x)?([0-9A-F]{8}|[0-9A-F]{16}|[0-9A-F]{40})\Z", re.I)
_SSH = re.compile(r"(?:MD5|SHA\d+):\S+\Z")
_STATES = {"e": "expired", "r": "revoked", "d": "disabled", "i": "invalid"}


class NotAKey(UnlatchError):
    """Not one of the ways in which a key can be named. ``what`` is what was given."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: not a keygrip, key id, fingerprint or address")
        self.what = what


class NoSuchKey(UnlatchError):
    """No such secret key is in this home. ``what`` is what was given."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: there is no such secret key")
        self.what = what


class AgentKey(NamedTuple):
    """What KEYINFO says of a key. ``kind`` is D (a file), T (a card) or - (missing); ``protection`` P, C (none) or -.

    ``cached``: the agent holds a passphrase for it, which need not be the right one. ``ssh``: the agent offers it to
    ssh, by sshcontrol; ``confirm``: but asks before each use.
    """

    grip: str
    kind: str = "D"
    serial: str = ""
    cached: bool = False
    protection: str = "P"
    ssh_fingerprint: str = ""
    ssh: bool = False
    confirm: bool = False
    disabled: bool = False


class Certified(NamedTuple):
    """One key as gpg lists it. ``primary`` is the fingerprint of the key that certifies it; a primary key has its own.

    ``uses`` are letters of gpg's: c, s, e, a; ``state`` is "" for a good one; ``expires`` seconds since 1970, 0 never.
    """

    grip: str
    fingerprint: str
    primary: str
    user_ids: tuple[str, ...] = ()
    uses: str = ""
    state: str = ""
    expires: int = 0

    @property
    def key_id(self) -> str:
        return self.fingerprint[-16:]


class HomeKey(NamedTuple):
    """A secret key of a home: what the agent knows, and what it is called."""

    agent: AgentKey
    certified: Certified | None = None
    comment: str = ""

    @property
    def grip(self) -> str:
        return self.agent.grip

    @property
    def name(self) -> str:
        """What a person calls it; the keygrip where it has no name."""
        if self.certified is not None and self.certified.user_ids:
            return self.certified.user_ids[0]
        return self.comment or self.grip

    @property
    def is_primary(self) -> bool:
        """Whether it certifies the others of its certificate."""
        return self.certified is not None and self.certified.primary == self.certified.fingerprint

    @property
    def in_software(self) -> bool:
        """Whether a passphrase is all that it needs, or less."""
        return self.agent.kind == "D"

    @property
    def usable(self) -> bool:
        """Whether the agent would use it now without asking, if what it holds is right."""
        return self.in_software and (self.agent.cached or self.agent.protection == "C")


def parse_keyinfo(text: str) -> AgentKey | None:
    """What follows ``S KEYINFO``; None for what is no such line. Further columns of later releases are ignored."""
    columns = text.split()
    if len(columns) < 9 or not re.fullmatch(r"[0-9A-F]{40}", columns[0]):
        return None
    grip, kind, serial, _, cached, protection, fingerprint, _, flags = columns[:9]
    return AgentKey(
        grip=grip,
        kind=kind,
        serial=_said(serial),
        cached=cached == "1",
        protection=protection,
        ssh_fingerprint=_said(fingerprint),
        ssh="S" in flags,
        confirm="c" in flags,
        disabled="D" in flags,
    )


def parse_listing(text: str) -> list[Certified]:
    """The keys of ``gpg --with-colons --with-keygrip --list-keys``, in its order."""
    found: list[Certified] = []
    certificate: list[Certified] = []
    names: list[str] = []
    for line in [*text.splitlines(), "pub"]:
        columns = line.split(":")
        record = columns[0]
        columns += [""] * (13 - len(columns))
        if record == "pub":
            found += [key._replace(user_ids=tuple(names)) for key in certificate if key.grip]
            certificate, names = [], []
        if record in ("pub", "sub"):
            # Capital letters sum up the whole certificate.
            uses = "".join(letter for letter in columns[11] if letter.islower())
            state = _STATES.get(columns[1], "")
            certificate.append(Certified("", "", "", uses=uses, state=state, expires=_seconds(columns[6])))
        elif record == "fpr" and certificate and not certificate[-1].fingerprint:
            primary = certificate[0].fingerprint or columns[9]
            certificate[-1] = certificate[-1]._replace(fingerprint=columns[9], primary=primary)
        elif record == "grp" and certificate:
            certificate[-1] = certificate[-1]._replace(grip=columns[9])
        elif record == "uid" and columns[1] not in ("r", "i"):
            names.append(_ESCAPE.sub(lambda match: chr(int(match[1], 16)), columns[9]))
    return found


def join(agent: list[AgentKey], certified: list[Certified], comments: dict[str, str]) -> list[HomeKey]:
    """The agent's keys with their names: those of the keyring first, each certificate together, then the others."""
    left = {key.grip: key for key in agent}
    named = [HomeKey(left.pop(key.grip), key, comments.get(key.grip, "")) for key in certified if key.grip in left]
    return named + [HomeKey(key, None, comments.get(grip, "")) for grip, key in left.items()]


def select(keys: list[HomeKey], what: str) -> list[HomeKey]:
    """The keys that a person means by a keygrip, a fingerprint (gpg's or ssh's), a key id, or an address.

    A primary key and an address stand for the whole certificate, because one passphrase mostly opens all of it; a
    subkey stands for itself, and so does what ends with "!", as in gpg.

    Raises:
        NotAKey, NoSuchKey
    """
    found = _select(keys, what)
    if not found:
        raise NoSuchKey(what)
    return found


def search_terms(what: str) -> list[str]:
    """What gpg is to look for, so that it need not list a whole keyring; nothing where the agent's word will do.

    Raises:
        NotAKey
    """
    bare = "".join(what.split()).removesuffix("!")
    if found := _HEX.match(bare):
        digits = found[1].upper()
        return [f"&{digits}", digits] if len(digits) == 40 else [digits]
    if _SSH.match(what):
        return []
    address = _address(what)
    if not address:
        raise NotAKey(what)
    return [f"<{address}>"]


def _select(keys: list[HomeKey], what: str) -> list[HomeKey]:
    if _SSH.match(what):
        return [key for key in keys if key.agent.ssh_fingerprint == what]
    bare = "".join(what.split())
    if found := _HEX.match(bare.removesuffix("!")):
        digits = found[1].upper()
        exact = [key for key in keys if key.grip == digits]
        named = [key for key in keys if key.certified is not None and key.certified.fingerprint.endswith(digits)]
        return exact or (named if bare.endswith("!") else _whole(keys, named))
    address = _address(what)
    if not address:
        raise NotAKey(what)
    commented = [key for key in keys if key.certified is None and key.comment.lower() == address]
    return commented + [key for key in keys if key.certified is not None and _has(key.certified, address)]


def _whole(keys: list[HomeKey], named: list[HomeKey]) -> list[HomeKey]:
    """These keys, and all that the primary ones among them certify."""
    grips = {key.grip for key in named}
    primaries = {key.certified.primary for key in named if key.is_primary and key.certified}
    return [key for key in keys if key.grip in grips or (key.certified and key.certified.primary in primaries)]


def _address(what: str) -> str:
    """The mail address that was given, bare or in brackets; "" for something else."""
    bare = what.strip().removeprefix("<").removesuffix(">").lower()
    return bare if "@" in bare and not re.search(r"[<>\s]", bare) else ""


def _has(key: Certified, address: str) -> bool:
    found = (_ADDRESS.search(name) for name in key.user_ids)
    return address in [match[1].lower() for match in found if match] or address in [n.lower() for n in key.user_ids]


def _said(column: str) -> str:
    return "" if column == "-" else column


def _seconds(column: str) -> int:
    return int(column) if column.isascii() and column.isdigit() else 0
