"""The three passwords of a card: their retry counters, what they open, and a record of every time somebody tried one.

Specification 4.3: PW1 is the PIN, checked for signing (81) and for everything else (82) apart; PW3 is the admin PIN
(83); the resetting code only gives a blocked PIN a new value.
"""

import copy
import hmac
from enum import Enum
from typing import NamedTuple

from card import apdu

SIGN, USE, ADMIN = 0x81, 0x82, 0x83  # references of VERIFY
TRIES = 3
MINIMUM = {"pin": 6, "reset": 8, "admin": 8}  # 4.3
MAXIMUM = 127
FACTORY = {"pin": b"123456", "reset": b"", "admin": b"12345678"}
NAME = {SIGN: "pin", USE: "pin", ADMIN: "admin"}


class Tries(NamedTuple):
    """What is left of three tries each."""

    pin: int
    reset: int
    admin: int


class Result(Enum):
    """What became of one look at a password."""

    RIGHT = "right"
    WRONG = "wrong"  # it cost a try
    BLOCKED = "blocked"  # no try was left, so nothing was compared
    ASKED = "asked"  # an empty VERIFY: the state, nothing else


class Attempt(NamedTuple):
    """One VERIFY, CHANGE REFERENCE DATA or RESET RETRY COUNTER."""

    command: str  # "verify", "change", "reset"
    password: str  # "pin", "reset", "admin"
    reference: int  # 81, 82, 83; what the command named
    result: Result


class Password:
    """One value with its retry counter. An empty value is a password that does not exist: no try, no counter."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._value = b""
        self.tries = 0
        self.set(FACTORY[name])

    def set(self, value: bytes) -> None:
        """A new value and all tries."""
        self._value = value
        self.tries = TRIES if value else 0

    def fits(self, value: bytes) -> bool:
        """Would this value be long enough, and short enough?"""
        return MINIMUM[self.name] <= len(value) <= MAXIMUM

    def split(self, data: bytes) -> tuple[bytes, bytes]:
        """Old and new value that stand behind each other: the card knows how long its old one is."""
        return data[: len(self._value)], data[len(self._value) :]

    def check(self, value: bytes) -> Result:
        """Compare; anything but the right value costs a try, also one that is too short to be it."""
        if not self.tries:
            return Result.BLOCKED
        if hmac.compare_digest(value, self._value):
            self.tries = TRIES
            return Result.RIGHT
        self.tries -= 1
        return Result.WRONG


class Passwords:
    """All three, what has been verified since power came on, and the record.

    Cards differ in what they answer to a wrong value, and some say 63C0 where others say 6983: ``tells_tries``.
    """

    def __init__(self, record: list[Attempt], tells_tries: bool) -> None:
        self._tells_tries = tells_tries
        self.pin, self.reset, self.admin = Password("pin"), Password("reset"), Password("admin")
        self.verified: set[int] = set()
        self.several_signatures = False  # C4, first byte; factory: one signature for each VERIFY
        self._record = record

    def copy(self, record: list[Attempt]) -> "Passwords":
        """The same values and tries; nothing is verified."""
        twin = Passwords(record, self._tells_tries)
        twin.pin, twin.reset, twin.admin = (copy.copy(password) for password in (self.pin, self.reset, self.admin))
        twin.several_signatures = self.several_signatures
        return twin

    @property
    def tries(self) -> Tries:
        """What is left."""
        return Tries(self.pin.tries, self.reset.tries, self.admin.tries)

    def status(self) -> bytes:
        """Data object C4."""
        return bytes([self.several_signatures, MAXIMUM, MAXIMUM, MAXIMUM, *self.tries])

    def require(self, *references: int) -> None:
        """One of these must have been verified.

        Raises:
            Status: NOT_SATISFIED.
        """
        if not self.verified & set(references):
            raise apdu.Status(apdu.NOT_SATISFIED)

    def verify(self, reference: int, value: bytes, forget: bool) -> None:
        """VERIFY (7.2.2); ``forget`` is P1 = FF.

        Raises:
            Status: the tries left for an empty value, or why it failed.
        """
        password = self._named(reference)
        if forget:
            self.verified.discard(reference)
        elif not value:
            self._note("verify", password, reference, Result.ASKED)
            if reference not in self.verified:
                raise apdu.Status(self._left(password))
        else:
            self.verified.discard(reference)
            self._check("verify", password, reference, value)
            self.verified.add(reference)

    def change(self, reference: int, data: bytes) -> None:
        """CHANGE REFERENCE DATA (7.2.3): the old value and the new one behind it.

        Raises:
            Status: why it failed. The old value comes first: a new one that does not fit is no reason to tell nobody
                whether the old one was right, so it costs a try too if it was not.
        """
        password = self._named(reference)
        old, new = password.split(data)
        self._check("change", password, reference, old)
        if not password.fits(new):
            raise apdu.Status(apdu.WRONG_DATA)
        password.set(new)

    def reset_pin(self, by_admin: bool, data: bytes) -> None:
        """RESET RETRY COUNTER (7.2.4): with the resetting code before the new PIN, or by a verified admin.

        Raises:
            Status: why it failed.
        """
        if by_admin:
            self.require(ADMIN)
            new = data
        else:
            code, new = self.reset.split(data)
            self._check("reset", self.reset, SIGN, code)
        if not self.pin.fits(new):
            raise apdu.Status(apdu.WRONG_DATA)
        self.pin.set(new)
        self.verified -= {SIGN, USE}

    def set_resetting_code(self, value: bytes) -> None:
        """Data object D3; empty takes it away.

        Raises:
            Status: WRONG_DATA for one of a wrong length.
        """
        if value and not self.reset.fits(value):
            raise apdu.Status(apdu.WRONG_DATA)
        self.reset.set(value)

    def signed(self) -> None:
        """A signature was made: unless several are allowed, the next one needs the PIN anew (C4, first byte)."""
        if not self.several_signatures:
            self.verified.discard(SIGN)

    def _named(self, reference: int) -> Password:
        if reference not in NAME:
            raise apdu.Status(apdu.UNKNOWN_DATA)
        return self.admin if reference == ADMIN else self.pin

    def _check(self, command: str, password: Password, reference: int, value: bytes) -> None:
        result = password.check(value)
        self._note(command, password, reference, result)
        if result is Result.BLOCKED:
            raise apdu.Status(apdu.BLOCKED)
        if result is Result.WRONG:
            raise apdu.Status(self._left(password) if self._tells_tries else apdu.NOT_SATISFIED)

    def _left(self, password: Password) -> int:
        if password.tries or self._tells_tries:
            return apdu.TRIES_LEFT + password.tries
        return apdu.BLOCKED

    def _note(self, command: str, password: Password, reference: int, result: Result) -> None:
        self._record.append(Attempt(command, password.name, reference, result))
