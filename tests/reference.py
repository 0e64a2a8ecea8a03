"""The seals of docs/protocol.md a second time, slowly, from hashlib, hmac and the two primitives X25519 and AES-GCM.

What ``unlatch.seal`` gets from a library (HKDF, HPKE) stands here as the RFCs write it, so that vectors/link.json can
be checked against something that shares no code with it. Deterministic: nonces and the ephemeral key are arguments.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEM = b"KEM" + bytes.fromhex("0020")  # DHKEM(X25519, HKDF-SHA256)


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract, RFC 5869 section 2.2."""
    return hmac.digest(salt, secret, "sha256")


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand for at most one block, RFC 5869 section 2.3."""
    assert size <= 32
    return hmac.digest(key, info + b"\x01", "sha256")[:size]


def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA256."""
    return expand(extract(salt, secret), info, 32)


def ticket(owner: bytes) -> bytes:
    """docs/protocol.md 1.2."""
    return hashlib.sha256(b"unlatch/1 ticket" + owner).digest()[:16]


def info(ticket: bytes, answer_key: bytes, details: bytes) -> bytes:
    """What an answer is bound to."""
    return b"unlatch/1 answer" + ticket + answer_key + hashlib.sha256(details).digest()


def seal(key: bytes, nonce: bytes, context: bytes, plaintext: bytes) -> bytes:
    """The form of details, stamps and verdicts."""
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def hpke_seal(pk: bytes, ephemeral: bytes, info: bytes, plaintext: bytes, aad: bytes = b"", aead: int = 2) -> bytes:
    """HPKE SealBase (RFC 9180 section 6.1) with the ephemeral private key given: enc and ciphertext."""
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    agreed = private.exchange(X25519PublicKey.from_public_bytes(pk))
    return hpke_seal_agreed(agreed, private.public_key().public_bytes_raw(), pk, info, plaintext, aad, aead)


def hpke_seal_agreed(
    agreed: bytes, enc: bytes, pk: bytes, info: bytes, plaintext: bytes, aad: bytes = b"", aead: int = 2
) -> bytes:
    """The same from the result of X25519 onwards (sections 4.1 and 5.1), so that an attacker's choice can be tried."""
    prk = _labeled_extract(_KEM, b"", b"eae_prk", agreed)
    shared = _labeled_expand(_KEM, prk, b"shared_secret", enc + pk, 32)
    suite = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x0020, 0x0001, aead))
    context = (
        b"\x00" + _labeled_extract(suite, b"", b"psk_id_hash", b"") + _labeled_extract(suite, b"", b"info_hash", info)
    )
    secret = _labeled_extract(suite, shared, b"secret", b"")
    key = _labeled_expand(suite, secret, b"key", context, {1: 16, 2: 32}[aead])
    nonce = _labeled_expand(suite, secret, b"base_nonce", context, 12)
    return enc + AESGCM(key).encrypt(nonce, plaintext, aad)


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + suite + label + secret)


def _labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return expand(key, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, size)
