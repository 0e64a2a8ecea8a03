"""The key's side of PIN/UV auth protocols one and two (6.5.6, 6.5.7)."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ctap.codes import Code, Refused


class One:
    """Protocol one: one key for everything, no initialization vector, short seals."""

    version = 1

    def __init__(self) -> None:
        self.regenerate()

    def regenerate(self) -> None:
        """A new key pair for agreements: at power-up, and after each wrong PIN."""
        self._private = ec.generate_private_key(ec.SECP256R1())

    def public_key(self) -> dict[int, Any]:
        """For the platform, as COSE_Key (6.5.5.4)."""
        numbers = self._private.public_key().public_numbers()
        return {1: 2, 3: -25, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}

    def shared(self, peer: Mapping[int, Any]) -> bytes:
        """What the platform and this key have in common (decapsulate)."""
        try:
            point = ec.EllipticCurvePublicNumbers(
                int.from_bytes(peer[-2]), int.from_bytes(peer[-3]), ec.SECP256R1()
            ).public_key()
        except (ValueError, KeyError, TypeError):
            raise Refused(Code.INVALID_PARAMETER) from None
        return self._derived(self._private.exchange(ec.ECDH(), point))

    def encrypt(self, key: bytes, plain: bytes) -> bytes:
        return _cbc(key, bytes(16), plain, encrypt=True)

    def decrypt(self, key: bytes, sealed: bytes) -> bytes:
        return _cbc(key, bytes(16), sealed, encrypt=False)

    def verify(self, key: bytes, message: bytes, seal: bytes) -> None:
        """Raises Refused for another seal."""
        if not hmac.compare_digest(self._seal(key, message), seal):
            raise Refused(Code.PIN_AUTH_INVALID)

    def _derived(self, point: bytes) -> bytes:
        return hashlib.sha256(point).digest()

    def _seal(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, "sha256")[:16]


class Two(One):
    """Protocol two: a key for seals and one for encryption."""

    version = 2

    def encrypt(self, key: bytes, plain: bytes) -> bytes:
        vector = os.urandom(16)
        return vector + _cbc(key[32:], vector, plain, encrypt=True)

    def decrypt(self, key: bytes, sealed: bytes) -> bytes:
        return _cbc(key[32:], sealed[:16], sealed[16:], encrypt=False)

    def _derived(self, point: bytes) -> bytes:
        return b"".join(
            HKDF(hashes.SHA256(), 32, bytes(32), b"CTAP2 " + use + b" key").derive(point) for use in (b"HMAC", b"AES")
        )

    def _seal(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key[:32], message, "sha256")


def _cbc(key: bytes, vector: bytes, data: bytes, *, encrypt: bool) -> bytes:
    if not data or len(data) % 16 or len(vector) != 16:
        raise Refused(Code.INVALID_PARAMETER)
    cipher = Cipher(algorithms.AES(key), modes.CBC(vector))
    worker = cipher.encryptor() if encrypt else cipher.decryptor()
    return worker.update(data) + worker.finalize()
