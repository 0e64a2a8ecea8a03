"""The PIN of a key: authenticatorClientPIN (6.5), its tries, and the tokens that stand for it."""

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ctap.codes import Code, Refused
from ctap.pin_protocols import One, Two

TRIES, IN_A_ROW = 8, 3
MAKE, GET = 0x01, 0x02  # permissions (6.5.5.7)


class Pins:
    """``tries`` and ``pin_hash`` outlive the power; the rest does not.

    Args:
        pin: what is set, "" for none.
        protocols: the versions that it speaks.
        tokens: whether it knows permissions (CTAP 2.1), or only the older tokens.
    """

    def __init__(self, pin: str, protocols: Sequence[int], *, tokens: bool) -> None:
        self.pin_hash = _hashed(pin.encode()) if pin else b""
        self.tries = TRIES
        self.given: list[bool] = []  # every PIN that reached the key: was it right?
        self.tokens = tokens
        self._versions = protocols
        self.power_on()

    def power_on(self) -> None:
        """What a new plugging-in resets."""
        self.protocols: dict[int, One] = {new.version: new for new in (One(), Two()) if new.version in self._versions}
        self._in_a_row = 0
        self._token, self._permissions, self._for = os.urandom(32), 0, ""

    def command(self, request: Mapping[int, Any]) -> dict[int, Any]:
        """One authenticatorClientPIN."""
        protocol = self.protocol(request.get(1))
        match request.get(2):
            case 0x01:
                self._want_pin()
                paused = self.tokens and self._in_a_row >= IN_A_ROW  # a key of CTAP 2.0 does not say that
                return {3: self.tries, 4: True} if paused else {3: self.tries}
            case 0x02:
                return {1: protocol.public_key()}
            case 0x03:
                return self._set(protocol, request)
            case 0x04:
                return self._change(protocol, request)
            case 0x05:
                return self._grant(protocol, request, MAKE | GET, "")
            case 0x09 if self.tokens:
                permissions, rp = request.get(9), request.get(10, "")
                if not permissions:
                    raise Refused(Code.INVALID_PARAMETER)
                return self._grant(protocol, request, permissions, rp)
            case _:
                raise Refused(Code.INVALID_SUBCOMMAND)

    def protocol(self, version: object) -> One:
        """The protocol of this version; one that it does not speak is refused."""
        if version is None:
            raise Refused(Code.MISSING_PARAMETER)
        if not isinstance(version, int) or version not in self.protocols:
            raise Refused(Code.INVALID_PARAMETER)
        return self.protocols[version]

    def verify(self, request: Mapping[int, Any], place: int, permission: int, rp: str, message: bytes) -> bool:
        """Whether the request at ``place`` proves a token; a wrong proof, or one for something else, is refused."""
        if request.get(place) is None:
            return False
        self.protocol(request.get(place + 1)).verify(self._token, message, request[place])
        if not self._permissions & permission or self._for not in ("", rp):
            raise Refused(Code.PIN_AUTH_INVALID)
        if self.tokens:
            self._for = rp
        return True

    def touched(self) -> None:
        """A touch uses the token up (6.1.2 step 14, 6.2.2 step 11)."""
        if self.tokens:
            self._permissions = 0

    def _set(self, protocol: One, request: Mapping[int, Any]) -> dict[int, Any]:
        if self.pin_hash:
            raise Refused(Code.PIN_AUTH_INVALID)
        shared = protocol.shared(request[3])
        protocol.verify(shared, request[5], request[4])
        self.pin_hash = _new_pin(protocol.decrypt(shared, request[5]))
        return {}

    def _change(self, protocol: One, request: Mapping[int, Any]) -> dict[int, Any]:
        self._want_pin()
        shared = protocol.shared(request[3])
        protocol.verify(shared, request[5] + request[6], request[4])
        self._check(protocol, shared, request[6])
        self.pin_hash = _new_pin(protocol.decrypt(shared, request[5]))
        return {}

    def _grant(self, protocol: One, request: Mapping[int, Any], permissions: int, rp: str) -> dict[int, Any]:
        self._want_pin()
        shared = protocol.shared(request[3])
        self._check(protocol, shared, request[6])
        self._token, self._permissions, self._for = os.urandom(32), permissions, rp
        return {2: protocol.encrypt(shared, self._token)}

    def _check(self, protocol: One, shared: bytes, sealed: bytes) -> None:
        """Count a try, look at the PIN, give the tries back if it is right (6.5.5.7.1)."""
        if self.tries == 0:
            raise Refused(Code.PIN_BLOCKED)
        if self._in_a_row >= IN_A_ROW:
            raise Refused(Code.PIN_AUTH_BLOCKED)
        self.tries -= 1
        self.given.append(hmac.compare_digest(protocol.decrypt(shared, sealed), self.pin_hash))
        if not self.given[-1]:
            protocol.regenerate()
            self._in_a_row += 1
            if self.tries == 0:
                raise Refused(Code.PIN_BLOCKED)
            raise Refused(Code.PIN_AUTH_BLOCKED if self._in_a_row >= IN_A_ROW else Code.PIN_INVALID)
        self.tries, self._in_a_row = TRIES, 0

    def _want_pin(self) -> None:
        if not self.pin_hash:
            raise Refused(Code.PIN_NOT_SET)


def _hashed(pin: bytes) -> bytes:
    return hashlib.sha256(pin).digest()[:16]


def _new_pin(padded: bytes) -> bytes:
    pin = padded.rstrip(b"\0")
    if len(padded) != 64 or len(pin) > 63 or len(pin.decode()) < 4:
        raise Refused(Code.PIN_POLICY_VIOLATION)
    return _hashed(pin)
