"""What can be wrong with a card: a sentence each, for page and terminal; cli/card_words.py has the hints."""

from unlatch.errors import UnlatchError
from unlatch.gnupg.card import number_of


class CardTrouble(UnlatchError):
    """A card cannot be used as it is. The text is printable, but for what a card says of itself."""


class NoReader(CardTrouble):
    """No reader. ``pcscd`` is None when nothing is known of pcscd, else whether it answers."""

    def __init__(self, *, pcscd: bool) -> None:
        super().__init__("no card reader is connected" if pcscd else "no card was found, and pcscd does not answer")
        self.pcscd = pcscd


class Empty(CardTrouble):
    """Readers without a card. ``readers`` are their names, where they are known."""

    def __init__(self, readers: tuple[str, ...] = ()) -> None:
        super().__init__("no card is in the reader" + (f" {readers[0]}" if len(readers) == 1 else ""))
        self.readers = readers


class HeldByAnother(CardTrouble):
    """A card is there, and another program has it for itself."""

    def __init__(self, reader: str) -> None:
        super().__init__(f"another program holds the card in the reader {reader}")
        self.reader = reader


class Unused(CardTrouble):
    """A card is there, and scdaemon does not use it: it looks at another reader, or cannot talk to the card."""

    def __init__(self, readers: tuple[str, ...]) -> None:
        super().__init__(f"scdaemon does not use the card in the reader {' or '.join(readers)}")
        self.readers = readers


class OtherCard(CardTrouble):
    """Not the card that is wanted. ``present`` are application ids, ``unseen`` readers whose cards scdaemon ignores."""

    def __init__(self, wanted: str, present: tuple[str, ...], unseen: tuple[str, ...] = ()) -> None:
        names = " and ".join(map(number_of, present))
        super().__init__(f"the card {number_of(wanted)} is wanted, and {names} is in the reader")
        self.wanted = wanted
        self.present = present
        self.unseen = unseen


class SeveralCards(CardTrouble):
    """Nobody said which. ``unseen`` are readers whose cards scdaemon does not use."""

    def __init__(self, present: tuple[str, ...], unseen: tuple[str, ...] = ()) -> None:
        super().__init__(f"{len(present) + len(unseen)} cards are there, and nobody said which one is meant")
        self.present = present
        self.unseen = unseen


class NotOpenPGP(CardTrouble):
    """A card of another kind. ``serial`` is what scdaemon calls it."""

    def __init__(self, serial: str) -> None:
        super().__init__(f"the card {serial} is no OpenPGP card")
        self.serial = serial


class Blocked(CardTrouble):
    """No PIN is taken any more. ``reset`` and ``admin`` are the tries left of reset code and admin PIN."""

    def __init__(self, aid: str, reset: int, admin: int) -> None:
        super().__init__(f"the PIN of the card {number_of(aid)} is blocked")
        self.aid = aid
        self.reset = reset
        self.admin = admin


class FewTries(CardTrouble):
    """One more wrong PIN would block the card, and nobody said that this may be risked."""

    def __init__(self, aid: str, tries: int) -> None:
        super().__init__(f"the card {number_of(aid)} has {tries_left(tries)}, and a wrong PIN would block it")
        self.aid = aid
        self.tries = tries


class StillLocked(CardTrouble):
    """The card works only after its PIN was given."""

    def __init__(self, aid: str, *, lying: bool = False) -> None:
        super().__init__(
            f"the card {number_of(aid)} was reset by another program, and scdaemon does not know it"
            if lying
            else f"the card {number_of(aid)} is locked"
        )
        self.aid = aid
        self.lying = lying


class WrongPin(CardTrouble):
    """The last PIN that could be tried was wrong. ``tries`` are left."""

    def __init__(self, aid: str, tries: int) -> None:
        super().__init__(f"wrong PIN: {tries_left(tries)} for the card {number_of(aid)}")
        self.aid = aid
        self.tries = tries


class NotTried(CardTrouble):
    """A PIN that was not given to the card, so that it cost nothing. The text says why."""


class PulledOut(CardTrouble):
    """The card went away while it was given a PIN. The text says what is known of that PIN."""

    def __init__(self, text: str = "the card went away while it was given the PIN") -> None:
        super().__init__(text)


class NoKey(CardTrouble):
    """A card without the keys that are needed to ``purpose``: "sign" something, or to be "unlock"ed for something."""

    def __init__(self, aid: str, purpose: str) -> None:
        keys = "a key to log in nor one to sign" if purpose == "sign" else "a key to log in nor one to decrypt"
        super().__init__(f"the card {number_of(aid)} has neither {keys}")
        self.aid = aid


class Touch(CardTrouble):
    """A card that wants to be touched for each use of a key, so that it is of no use to a job."""

    def __init__(self, aid: str, use: str) -> None:
        super().__init__(f"the card {number_of(aid)} wants to be touched each time that its key to {use} is used")
        self.aid = aid
        self.use = use


class Restricted(CardTrouble):
    """The agent's socket is one for other hosts or a browser, which may not use cards."""

    def __init__(self, path: str) -> None:
        super().__init__(f"the gpg-agent at {path} forbids card commands: its socket is a restricted one")
        self.path = path


class NoDaemon(CardTrouble):
    """The agent has no scdaemon to talk to cards. ``off``: it was told so; else one may come in some seconds."""

    def __init__(self, *, off: bool) -> None:
        super().__init__(
            f"gpg-agent has no scdaemon: it is {'switched off' if off else 'not installed, or just ended'}"
        )
        self.off = off


class NoLoopback(CardTrouble):
    """The agent takes a PIN from its own pinentry only."""

    def __init__(self) -> None:
        super().__init__("gpg-agent does not take a PIN from its clients")


class Hung(CardTrouble):
    """scdaemon does not answer. ``pid`` is its process, 0 if there is none; ``stopped``: by a signal."""

    def __init__(self, seconds: float, pid: int, *, stopped: bool = False) -> None:
        super().__init__(f"scdaemon{f' (pid {pid})' if pid else ''} has not answered for {seconds:.0f} s")
        self.pid = pid
        self.stopped = stopped


class Busy(CardTrouble):
    """Another command of ours has been with the card all the time."""

    def __init__(self) -> None:
        super().__init__("another unlatch command is giving a PIN to a card, and does not come to an end")


class Occupied(CardTrouble):
    """An open pinentry, which keeps everybody else from the card until it is answered. ``pid`` is its process."""

    def __init__(self, pid: int) -> None:
        super().__init__(
            f"somebody is being asked for a card's PIN (pinentry, pid {pid}); until then it serves nobody else"
        )
        self.pid = pid


def tries_left(tries: int) -> str:
    """``1 try left``."""
    return "no try left" if tries == 0 else "1 try left" if tries == 1 else f"{tries} tries left"
