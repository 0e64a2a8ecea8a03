"""Reach a card: our commands to scdaemon, through gpg-agent, and its errors as troubles that a person can understand.

How the state is asked without spending a try or opening a pinentry (measured with scdaemon 2.2.40; docs/cards.md):

- The card is asked first, with an empty VERIFY. It answers 9000, 63Cx or 6983 and compares nothing. scdaemon only
  remembers: for half a second after the card was pulled, and for ever after another program reset it, it says that the
  PIN is verified.
- scdaemon is asked as well, by CHECKPIN under ``pinentry-mode=cancel``: what it does not know to be verified, it asks
  for. If it is wrong about the card, only a new scdaemon helps, as it never gives the PIN to the card again.
- Cards before version 3 of the specification may take an empty VERIFY for a wrong PIN. There, reading the counters
  proves that the card is there, and scdaemon's word about the PIN is all that there is.
"""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from unlatch.gnupg import card
from unlatch.gnupg.agent import Agent, patiently
from unlatch.gnupg.card import BLOCKED, LOCKED, UNLOCKED, Card, PinStatus
from unlatch.gnupg.card_errors import (
    CardTrouble,
    Empty,
    HeldByAnother,
    Hung,
    NoDaemon,
    NoKey,
    NoLoopback,
    NoReader,
    NotOpenPGP,
    Occupied,
    OtherCard,
    PulledOut,
    Restricted,
    SeveralCards,
    Touch,
    Unused,
)
from unlatch.gnupg.children import children_of
from unlatch.gnupg.errors import (
    Cancelled,
    CardChanged,
    CardFault,
    CardRemoved,
    CardReset,
    Forbidden,
    GpgError,
    InvalidName,
    NoCard,
    NoCardDaemon,
    NoData,
    NoDevice,
    NoReply,
    NotSupported,
    PinBlocked,
)
from unlatch.gnupg.readers import Reader, readers
from unlatch.secret import Secret

QUICK_SECONDS = 4.0  # for what a card does in milliseconds; a check in front of a job must not wait longer
SLOW_SECONDS = 30.0  # for what reads a lot or computes: LEARN on a slow card takes 3 s, a signature of RSA 4096 too
_LOOK_AGAIN = 0.5  # pcscd looks every 0.4 s whether a card is still there

# scdaemon 2.2 hands on its own status words (apdu.h, SW_HOST_...) as errors of APDU: 1000B is a card that just went.
_HOST_STATUS = 0x100
_AGENT = 4  # libgpg-error's number for who said it (err-sources.h.in)
_VERIFIED, _BLOCKED_WORD, _TRIES_LEFT = 0x9000, 0x6983, 0x63C0
# Not verified, whatever scdaemon believes: the condition is not satisfied (6982), or who answers is no OpenPGP
# application, as another program has selected its own (no such reference, command or class: ISO 7816-4, 5.6).
_NOT_VERIFIED = (0x6982, 0x6A88, 0x6D00, 0x6E00)
# SHA-256 of "unlatch card check", bare and as RSA's DigestInfo (RFC 8017, 9.2 note 1).
_HASH = "2209dbcbb9c9cf2b4ea141fd0e10283036c8bf5b2f6e18ac24755103f17fe175"
_DIGEST_INFO = "3031300d060960864801650304020105000420"


class PinState(NamedTuple):
    """Whether the PIN is verified: "unlocked", "locked", "blocked". ``lying``: scdaemon says unlocked and is wrong."""

    state: str
    lying: bool = False


@contextlib.contextmanager
def troubles(agent: Agent) -> Iterator[None]:
    """Turn what gpg-agent and scdaemon say into what is wrong with agent, reader or card.

    Raises:
        CardTrouble: instead of the errors that mean one; any other GpgError passes.
    """
    try:
        yield
    except Forbidden:
        raise Restricted(agent.socket) from None
    except NoCardDaemon:
        raise NoDaemon(off=False) from None
    except NotSupported as error:
        if error.source != _AGENT:
            raise  # scdaemon's word about something that this card cannot do
        raise NoDaemon(off=True) from None
    except NoCard:
        raise Empty from None
    except (NoDevice, CardRemoved, CardReset, CardChanged):
        raise missing() from None
    except NoReply as error:
        raise _silent(agent, error.seconds) from None
    except GpgError as error:
        if error.code >> 8 == _HOST_STATUS:
            raise missing() from None
        raise


def present(agent: Agent, *, patient: bool = True, seconds: float = QUICK_SECONDS) -> tuple[str, ...]:
    """The application ids of the cards that scdaemon has, the selected one first.

    With pcscd scdaemon uses one reader, with its own driver all of them. ``patient``: wait while a new scdaemon starts
    (2 to 4 s).

    Raises:
        CardTrouble: there is none.
        BrokenPipe: scdaemon is gone, and nobody is patient.
    """

    def look() -> list[card.Line]:
        return agent.status("SCD SERIALNO", seconds=seconds)

    with troubles(agent):
        selected = patiently(look, repeatable=True) if patient else look()
        others = agent.status("SCD GETINFO card_list", seconds=seconds)
    return card.serials([*selected, *others])


def demand(agent: Agent, aid: str, *, seconds: float = QUICK_SECONDS) -> None:
    """Select one of the present cards.

    Raises:
        CardTrouble
    """
    with troubles(agent):
        agent.ask(f"SCD SERIALNO --demand={aid}", seconds=seconds)


def select(agent: Agent, wanted: str = "", *, patient: bool = True, seconds: float = QUICK_SECONDS) -> str:
    """Select the card that is wanted, or the only one; its application id.

    ``wanted`` is a serial number as people write it.

    Raises:
        CardTrouble: there is none, another one, or several.
        BrokenPipe: as :func:`present`.
    """
    found = present(agent, patient=patient, seconds=seconds)
    aid = _choose(wanted, found)
    if aid != found[0]:
        demand(agent, aid, seconds=seconds)
    return aid


def state_of(agent: Agent, aid: str, *, seconds: float = QUICK_SECONDS) -> PinState:
    """The state of the selected card's PIN, by its own word and scdaemon's.

    Raises:
        CardTrouble
    """
    with troubles(agent):
        word = _ask_card(agent, aid, seconds)
        if word == _BLOCKED_WORD:
            return PinState(BLOCKED)
        claimed = _ask_scdaemon(agent, aid, seconds)
    if word == _VERIFIED or (word is None and claimed):
        return PinState(UNLOCKED if claimed else LOCKED)
    return PinState(LOCKED, lying=claimed)


def status_of(agent: Agent, *, seconds: float = QUICK_SECONDS) -> PinStatus:
    """The selected card's counters, read from the card.

    Raises:
        CardTrouble
    """
    with troubles(agent):
        lines = agent.status("SCD GETATTR CHV-STATUS", seconds=seconds)
    return card.pin_status(dict(lines).get("CHV-STATUS", ""))


def holder_of(agent: Agent, *, seconds: float = QUICK_SECONDS) -> str:
    """The name that stands on the selected card, "" for none.

    Raises:
        CardTrouble
    """
    with troubles(agent):
        return card.holder(dict(agent.status("SCD GETATTR DISP-NAME", seconds=seconds)).get("DISP-NAME", ""))


def unlocks_something(agent: Agent, *, seconds: float = SLOW_SECONDS) -> bool:
    """Whether the selected card has a key to log in or to decrypt with.

    Without one, scdaemon gives the PIN to the card for signing only, and asks for it again each time (app-openpgp.c,
    verify_chv2): there is nothing that unlocking could do.

    Raises:
        CardTrouble
    """
    with troubles(agent):
        return card.keypairs(agent.status("SCD LEARN --keypairinfo", seconds=seconds)).keys() & {2, 3} != set()


def learn(agent: Agent, *, seconds: float = SLOW_SECONDS) -> Card:
    """All that the selected card tells everybody.

    Raises:
        CardTrouble
        Malformed: it tells something else.
    """
    with troubles(agent):
        lines = agent.status("SCD LEARN --force", seconds=seconds)
        lines += agent.status("SCD GETATTR KEY-ATTR", seconds=seconds)
    return card.read_card(lines)


def wants_touch(agent: Agent, *, seconds: float = QUICK_SECONDS) -> bool:
    """Whether the selected card wants to be touched for each login (3.4, 4.4.3.6: the user interaction flag).

    Raises:
        CardTrouble
    """
    with troubles(agent):
        try:
            flag = dict(agent.status("SCD GETATTR UIF-3", seconds=seconds)).get("UIF-3", "")
        except (InvalidName, NoData, NotSupported):
            return False
    return card.touch(flag)


def give_pin(agent: Agent, aid: str, pin: Secret, *, seconds: float = SLOW_SECONDS) -> None:
    """Give the PIN to the selected card, as its very bytes. A wrong one costs a try, so nothing is ever repeated here.

    Raises:
        BadPin, PinBlocked: the card refused it.
        PulledOut: the card went away, and may have seen it or not: its counters tell.
        NoLoopback: the agent's settings do not allow it; the PIN went nowhere.
        CardTrouble: as everywhere.
    """
    with troubles(agent):
        try:
            agent.ask("OPTION pinentry-mode=loopback", seconds=seconds)
        except GpgError:
            raise NoLoopback from None
        try:
            agent.ask(f"SCD CHECKPIN {aid}", inquire={"PASSPHRASE": lambda _: pin}, seconds=seconds)
        except (CardFault, NoDevice, CardRemoved, CardReset, CardChanged):
            raise PulledOut from None
        except Cancelled:
            raise NoLoopback from None


def prove(agent: Agent, aid: str, *, seconds: float = SLOW_SECONDS) -> str:
    """Make a signature with the selected card's authentication key, or its signature key without one; says which.

    Nothing is asked: what needs a PIN or a touch fails.

    Raises:
        Cancelled: it would have asked for the PIN.
        CardTrouble
    """
    found = learn(agent, seconds=seconds)
    key = next((key for use in ("authenticate", "sign") for key in found.keys if key.use == use), None)
    if key is None:
        raise NoKey(aid, "sign")
    if key.touch:
        raise Touch(aid, key.use)
    data = f"{_DIGEST_INFO if key.algorithm.startswith('rsa') else ''}{_HASH}"
    with troubles(agent):
        agent.ask("OPTION pinentry-mode=cancel", seconds=seconds)
        agent.ask(f"SCD SETDATA {data}", seconds=seconds)
        command = "PKAUTH" if key.use == "authenticate" else "PKSIGN --hash=sha256"
        if not agent.ask(f"SCD {command} OPENPGP.{key.number}", seconds=seconds):
            raise CardTrouble(f"the card {card.number_of(aid)} gave an empty signature")
    return key.use


def renew(agent: Agent) -> None:
    """End scdaemon, which forgets what it believes of cards; the next command starts another, 2 to 4 s later."""
    with troubles(agent):
        agent.ask("SCD KILLSCD", seconds=QUICK_SECONDS)


def missing() -> CardTrouble:
    """Why scdaemon has no card: it says the same of a missing reader, a missing card, and one that others hold."""
    found = readers()
    if found is None:
        return NoReader(pcscd=False)
    if any(reader.present for reader in found):
        import time

        time.sleep(_LOOK_AGAIN)
        found = readers() or ()
    return _missing(found)


def _missing(found: tuple[Reader, ...]) -> CardTrouble:
    if not found:
        return NoReader(pcscd=True)
    full = [reader for reader in found if reader.present]
    if not full:
        return Empty(tuple(reader.name for reader in found))
    held = [reader for reader in full if reader.held]
    return HeldByAnother(held[0].name) if held else Unused(tuple(reader.name for reader in full))


def _choose(wanted: str, present: tuple[str, ...]) -> str:
    """The application id of the one card that is meant."""
    found = [aid for aid in present if not wanted or card.means(wanted, aid)]
    full = [reader for reader in readers() or () if reader.present]
    # scdaemon holds the card that it uses; one that nobody holds it does not look at. If none is held, the card that it
    # speaks of has just gone, which it learns half a second later than pcscd.
    unseen = tuple(reader.name for reader in full if not reader.held and any(each.held for each in full))
    if not found:
        raise OtherCard(wanted, present, unseen)
    if len(found) > 1 or (not wanted and unseen):
        raise SeveralCards(present, unseen)
    if not card.is_openpgp(found[0]):
        raise NotOpenPGP(found[0])
    return found[0]


def _ask_card(agent: Agent, aid: str, seconds: float) -> int | None:
    """The card's own word about its PIN: 9000, 63Cx, 6983, one of those above; None if it gives none."""
    if not card.tells_status(aid):
        return _BLOCKED_WORD if status_of(agent, seconds=seconds).pin == 0 else None
    word = int.from_bytes(agent.ask("SCD APDU 00200082", seconds=seconds)[-2:], "big")
    known = word in (_VERIFIED, _BLOCKED_WORD, *_NOT_VERIFIED) or word & 0xFFF0 == _TRIES_LEFT
    return (_BLOCKED_WORD if word == _TRIES_LEFT else word) if known else None


def _ask_scdaemon(agent: Agent, aid: str, seconds: float) -> bool:
    """Whether scdaemon believes that the PIN is verified."""
    agent.ask("OPTION pinentry-mode=cancel", seconds=seconds)
    try:
        agent.ask(f"SCD CHECKPIN {aid}", seconds=seconds)
    except (Cancelled, PinBlocked):
        return False
    return True


def _silent(agent: Agent, seconds: float) -> CardTrouble:
    """Why the agent does not answer: an open pinentry keeps everybody from the card, or scdaemon hangs."""
    children = children_of(agent.pid)
    for child in children:
        if child.is_pinentry:
            return Occupied(child.pid)
    scdaemon = next((child for child in children if child.name == "scdaemon"), None)
    return Hung(seconds, scdaemon.pid if scdaemon else 0, stopped=bool(scdaemon and scdaemon.stopped))
