"""What a kind of keyslot is, and which kinds there are: a file each, one contract for all (tests/keyslot_contract.py).

A kind turns something that a person has into a key-encryption key (KEK) of 32 bytes. It knows nothing of files or of
the master key: it is given ``unwrap`` to try a KEK, so it can ask again after a wrong one.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from unlatch.frontends.asking import Person
from unlatch.keyslots.errors import BadSecretFile
from unlatch.keyslots.header import Params
from unlatch.secret import Secret

KINDS = ("fido2", "gpg", "passphrase")  # in the order in which they are tried


class Helpers(NamedTuple):
    """What a kind may use of the world.

    ``person()`` opens a dialogue with whoever answers (the phone, this terminal, standard input); ``tell(text)`` shows
    a line to whoever runs the command; ``random(n)`` gives n random bytes. ``seconds`` is how long the person has for
    each answer, 0 for what the broker's settings say.
    """

    person: Callable[[], Person]
    tell: Callable[[str], None]
    random: Callable[[int], bytes]
    environ: Mapping[str, str]
    seconds: int = 0


class Subject(NamedTuple):
    """Whose slot it is, for texts that people see; ``siblings`` are the parameters of its other slots of this kind."""

    secret: str
    label: str
    siblings: tuple[Params, ...] = ()


class Created(NamedTuple):
    """A new slot's parameters, and the KEK that wraps the master key."""

    params: Params
    kek: Secret


class Opened(NamedTuple):
    """An open slot: the master key, and what to wrap it with from now on, if the kind rolls (fido2)."""

    master: Secret
    roll: Created | None = None


class SlotKind(Protocol):
    """One kind of keyslot; the module ``unlatch.keyslots.KIND`` has one as ``kind``."""

    def check(self, params: Params) -> None:
        """Look at parameters from a file before anything is computed with them.

        Raises:
            Malformed: other fields, other types, out of bounds.
        """

    def create(self, subject: Subject, wishes: Mapping[str, str], helpers: Helpers) -> Created:
        """Make a new slot. ``wishes`` are the command's options for this kind.

        Raises:
            SlotFailed: with what to do about it.
        """

    def renew(self, subject: Subject, params: Params, helpers: Helpers) -> Created:
        """Make the same slot anew, for another master key: the same OpenPGP keys, the same security key, new words.

        Raises:
            SlotFailed: with what to do about it.
        """

    def open(self, subject: Subject, params: Params, unwrap: Callable[[Secret], Secret], helpers: Helpers) -> Opened:
        """Open it. ``unwrap(kek)`` gives the master key, or raises WrongKey.

        Raises:
            SlotFailed: with what to do about it.
            Denied, Expired, Withdrawn, Refused, NoBroker, Released: of the dialogue with the person.
        """


def kind_of(name: str) -> SlotKind:
    """The kind of this name, imported when it is first needed.

    Raises:
        BadSecretFile: this version of Unlatch does not know it.
    """
    if name not in KINDS:
        raise BadSecretFile(f"it has a keyslot of the kind {name}, which this version of Unlatch does not know")
    kind: SlotKind = importlib.import_module(f"unlatch.keyslots.{name}").kind
    return kind
