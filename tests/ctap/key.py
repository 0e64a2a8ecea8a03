"""The key itself: a request in, an answer out, and in between it may wait for a finger."""

import hashlib
import hmac
import os
import struct
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor

from ctap.codes import Code, Refused
from ctap.pins import GET, MAKE, Pins

UP, UV, ATTESTED, EXTENDED = 0x01, 0x04, 0x40, 0x80  # flags of authenticator data
AAGUID = bytes.fromhex("7563746170000000736f667477617265")
WAITS_SECONDS = 60.0  # for a finger, by itself; longer than we let it
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256

Working = Generator[None, bool, bytes]


class Finger:
    """Whoever touches the key: ``there`` from now on, or after so many looks, or never."""

    def __init__(self, *, there: bool = True, after: int = 0) -> None:
        self.there = there
        self._after = after
        self.touched = 0  # how often it was wanted and given
        self.wanted = 0

    def touch(self) -> bool:
        """Is it there now?"""
        if not self.there or self._after > 0:
            self._after -= 1
            return False
        self.touched += 1
        return True


class Key:
    """One security key. Two of the same ``seed`` are the same key.

    Args:
        untouched: gives hmac-secret without a touch too, as a Nitrokey 3 before 1.8.2; CTAP 2.1 refuses that (12.5).
        always_pin: the option alwaysUv. ``free_making``: makeCredUvNotRqd.
        tokens: CTAP 2.1's tokens with permissions; False is a key of CTAP 2.0.
        two_secrets: with the PIN it gives other outputs than without; False is a key of CTAP 2.0.
    """

    def __init__(
        self,
        seed: bytes = b"one",
        pin: str = "",
        *,
        protocols: Sequence[int] = (2, 1),
        untouched: bool = False,
        always_pin: bool = False,
        free_making: bool = False,
        tokens: bool = True,
        two_secrets: bool = True,
        extensions: Sequence[str] = ("hmac-secret",),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.finger = Finger()
        self.pins = Pins(pin, protocols, tokens=tokens)
        self.outputs: list[bytes] = []  # all that hmac-secret ever gave
        self.asked: list[int] = []  # the number of every request
        self.untouched = untouched
        self._protocols = list(protocols)
        self._always_pin = always_pin
        self._free_making = free_making
        self._two_secrets = two_secrets
        self._extensions = list(extensions)
        self._clock = clock
        self._secret = hashlib.sha256(b"software key " + seed).digest()

    def work(self, request: bytes) -> Working:
        """Answer a request; yields while it waits for a finger, and is sent whether to give up."""
        self.asked.append(request[0])
        try:
            return b"\0" + cbor.encode(reply) if (reply := (yield from self._command(request))) else b"\0"
        except Refused as refused:
            return bytes([refused.code])

    def _command(self, request: bytes) -> Generator[None, bool, dict[int, Any]]:
        try:
            fields = cbor.decode(request[1:]) if len(request) > 1 else {}
        except (ValueError, LookupError, struct.error):
            raise Refused(Code.INVALID_CBOR) from None
        if not isinstance(fields, Mapping):
            raise Refused(Code.INVALID_CBOR)
        try:
            match request[0]:
                case 0x01:
                    return (yield from self._make(fields))
                case 0x02:
                    return (yield from self._get(fields))
                case 0x04:
                    return self._info()
                case 0x06:
                    return self.pins.command(fields)
                case 0x0B:
                    yield from self._touch()
                    return {}
                case _:
                    raise Refused(Code.INVALID_COMMAND)
        except KeyError:
            raise Refused(Code.MISSING_PARAMETER) from None

    def _info(self) -> dict[int, Any]:
        """authenticatorGetInfo (6.4)."""
        options = {"rk": False, "up": True, "clientPin": bool(self.pins.pin_hash), "plat": False}
        if self.pins.tokens:
            options |= {"pinUvAuthToken": True, "makeCredUvNotRqd": self._free_making, "alwaysUv": self._always_pin}
        versions = ["FIDO_2_0", "FIDO_2_1"] if self.pins.tokens else ["FIDO_2_0"]
        info = {1: versions, 2: self._extensions, 3: AAGUID, 4: options, 5: 1200, 6: self._protocols}
        return info | {7: 8, 8: 128} if self.pins.tokens else info

    def _make(self, request: Mapping[int, Any]) -> Generator[None, bool, dict[int, Any]]:
        """authenticatorMakeCredential (6.1)."""
        rp = request[2]["id"]
        if not any(offered["alg"] == -7 for offered in request[4]):
            raise Refused(Code.UNSUPPORTED_ALGORITHM)
        if request.get(7, {}).get("rk"):
            raise Refused(Code.UNSUPPORTED_OPTION)
        verified = self.pins.verify(request, 8, MAKE, rp, request[1])
        if not verified and (self._always_pin or (self.pins.pin_hash and not self._free_making)):
            raise Refused(Code.PUAT_REQUIRED)
        yield from self._touch()
        self.pins.touched()
        credential = self._new_credential(rp)
        key = self._signing_key(credential)
        numbers = key.public_key().public_numbers()
        public = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        attested = AAGUID + len(credential).to_bytes(2) + credential + cbor.encode(public)
        wanted = request.get(6, {}).get("hmac-secret") is True and "hmac-secret" in self._extensions
        data = _authenticator_data(
            rp, UP | ATTESTED | (UV if verified else 0), attested, {"hmac-secret": True} if wanted else None
        )
        return {1: "packed", 2: data, 3: {"alg": -7, "sig": _signed(key, data + request[1])}}

    def _get(self, request: Mapping[int, Any]) -> Generator[None, bool, dict[int, Any]]:
        """authenticatorGetAssertion (6.2)."""
        rp, options = request[1], request.get(5, {})
        presence = options.get("up", True)
        if "rk" in options:
            raise Refused(Code.UNSUPPORTED_OPTION)
        verified = self.pins.verify(request, 6, GET, rp, request[2])
        if self._always_pin and presence and not verified:
            raise Refused(Code.PUAT_REQUIRED)
        credential = next((known["id"] for known in request.get(3, []) if self._is_mine(known["id"], rp)), None)
        if credential is None:
            raise Refused(Code.NO_CREDENTIALS)
        wanted = request.get(4, {}).get("hmac-secret") if "hmac-secret" in self._extensions else None
        if wanted is not None and not presence and not self.untouched:
            raise Refused(Code.UNSUPPORTED_OPTION)
        if presence:
            yield from self._touch()
            self.pins.touched()
        extension = None if wanted is None else {"hmac-secret": self._hmac(wanted, credential, verified=verified)}
        flags = (UP if presence else 0) | (UV if verified else 0)
        data = _authenticator_data(rp, flags, b"", extension)
        signature = _signed(self._signing_key(credential), data + request[2])
        return {1: {"type": "public-key", "id": credential}, 2: data, 3: signature}

    def _hmac(self, wanted: Mapping[int, Any], credential: bytes, *, verified: bool) -> bytes:
        """hmac-secret (12.5)."""
        protocol = self.pins.protocol(wanted.get(4, 1))
        shared = protocol.shared(wanted[1])
        protocol.verify(shared, wanted[2], wanted[3])
        salts = protocol.decrypt(shared, wanted[2])
        if len(salts) not in (32, 64):
            raise Refused(Code.INVALID_LENGTH)
        secret = self._secret_for(b"with PIN" if verified and self._two_secrets else b"without", credential)
        outputs = [hmac.digest(secret, salts[start : start + 32], "sha256") for start in range(0, len(salts), 32)]
        self.outputs += outputs
        return protocol.encrypt(shared, b"".join(outputs))

    def _touch(self) -> Generator[None, bool, None]:
        """Wait for the finger, not for ever; the platform may cancel."""
        self.finger.wanted += 1
        end = self._clock() + WAITS_SECONDS
        while not self.finger.touch():
            if (yield):
                raise Refused(Code.KEEPALIVE_CANCEL)
            if self._clock() >= end:
                raise Refused(Code.USER_ACTION_TIMEOUT)

    # Credentials are not kept: their id is a nonce and a proof that this key made it, and all keys come from it.

    def _new_credential(self, rp: str) -> bytes:
        nonce = os.urandom(16)
        return nonce + hmac.digest(self._secret, b"id" + nonce + rp.encode(), "sha256")

    def _is_mine(self, credential: bytes, rp: str) -> bool:
        proof = hmac.digest(self._secret, b"id" + credential[:16] + rp.encode(), "sha256")
        return hmac.compare_digest(credential[16:], proof)

    def _signing_key(self, credential: bytes) -> ec.EllipticCurvePrivateKey:
        number = int.from_bytes(self._secret_for(b"signing", credential))
        return ec.derive_private_key(number % (_ORDER - 1) + 1, ec.SECP256R1())

    def _secret_for(self, use: bytes, credential: bytes) -> bytes:
        return hmac.digest(self._secret, use + b"\0" + credential, "sha256")


def _authenticator_data(rp: str, flags: int, attested: bytes, extensions: dict[str, Any] | None) -> bytes:
    """WebAuthn section 6.1; this key counts nothing."""
    flags |= EXTENDED if extensions else 0
    head = hashlib.sha256(rp.encode()).digest() + bytes([flags]) + bytes(4)
    return head + attested + (cbor.encode(extensions) if extensions else b"")


def _signed(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))
