"""Private keys on a card: made there or imported, and what they do (specification 4.4.3.12, 7.2.10 to 7.2.14)."""

from typing import Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils, x25519

from card import algorithms, apdu, rsa_keys, tlv
from card.algorithms import Algorithm

GENERATED, IMPORTED = 1, 2  # data object DE
_RAW = serialization.Encoding.Raw, serialization.PublicFormat.Raw
_POINT = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
_DIGESTS: dict[int, hashes.HashAlgorithm] = {
    20: hashes.SHA1(), 28: hashes.SHA224(), 32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512(),
}  # fmt: skip
_NATIVE = b"\x40"  # GnuPG's prefix of a point in the curve's own form


class Key(Protocol):
    """One private key."""

    def public(self) -> bytes:
        """The content of 7F49."""
        ...

    def sign(self, data: bytes) -> bytes:
        """COMPUTE DIGITAL SIGNATURE and INTERNAL AUTHENTICATE."""
        ...

    def decipher(self, data: bytes) -> bytes:
        """DECIPHER: the session key, or what two keys agree on."""
        ...


class RSAKey:
    """PKCS #1 1.5, as the card does it: what is signed comes as a DigestInfo, what is decrypted with a leading 00."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        numbers = key.private_numbers()
        self._p, self._q, self._dp, self._dq = numbers.p, numbers.q, numbers.dmp1, numbers.dmq1
        self._inverse = numbers.iqmp
        self._n, self._e = numbers.public_numbers.n, numbers.public_numbers.e
        self.size = key.key_size // 8

    def public(self) -> bytes:
        return tlv.pack(0x81, self._n.to_bytes(self.size, "big")) + tlv.pack(0x82, self._e.to_bytes(4, "big"))

    def sign(self, data: bytes) -> bytes:
        if not 0 < len(data) <= self.size * 2 // 5:  # 7.2.10
            raise apdu.Status(apdu.WRONG_DATA)
        return self._apply(b"\0\1" + b"\xff" * (self.size - 3 - len(data)) + b"\0" + data)

    def decipher(self, data: bytes) -> bytes:
        if data[:1] != b"\0" or len(data) != self.size + 1:
            raise apdu.Status(apdu.WRONG_DATA)
        padded = self._apply(data[1:])
        end = padded.find(b"\0", 2)
        if padded[:2] != b"\0\2" or end < 10:
            raise apdu.Status(apdu.WRONG_DATA)
        return padded[end + 1 :]

    def _apply(self, block: bytes) -> bytes:
        number = int.from_bytes(block, "big") % self._n
        m1, m2 = pow(number, self._dp, self._p), pow(number, self._dq, self._q)
        return (m2 + (m1 - m2) * self._inverse % self._p * self._q).to_bytes(self.size, "big")


class Ed25519Key:
    """EdDSA: what is signed comes as it is."""

    def __init__(self, key: ed25519.Ed25519PrivateKey) -> None:
        self._key = key

    def public(self) -> bytes:
        return tlv.pack(0x86, self._key.public_key().public_bytes(*_RAW))

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)

    def decipher(self, data: bytes) -> bytes:
        raise apdu.Status(apdu.CONDITIONS_NOT_SATISFIED)


class CV25519Key:
    """X25519."""

    def __init__(self, key: x25519.X25519PrivateKey) -> None:
        self._key = key

    def public(self) -> bytes:
        return tlv.pack(0x86, self._key.public_key().public_bytes(*_RAW))

    def sign(self, data: bytes) -> bytes:
        raise apdu.Status(apdu.CONDITIONS_NOT_SATISFIED)

    def decipher(self, data: bytes) -> bytes:
        point = _point(data)
        if len(point) == 33:
            point = point.removeprefix(_NATIVE)
        return self._key.exchange(x25519.X25519PublicKey.from_public_bytes(point))


class P256Key:
    """ECDSA and ECDH on NIST's P-256."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def public(self) -> bytes:
        return tlv.pack(0x86, self._key.public_key().public_bytes(*_POINT))

    def sign(self, data: bytes) -> bytes:
        if len(data) not in _DIGESTS:
            raise apdu.Status(apdu.WRONG_DATA)
        digest = utils.Prehashed(_DIGESTS[len(data)])
        r, s = utils.decode_dss_signature(self._key.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def decipher(self, data: bytes) -> bytes:
        other = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _point(data))
        return self._key.exchange(ec.ECDH(), other)


def generate(algorithm: Algorithm, number: int) -> Key:
    """A new key; RSA keys with the same ``number`` are the same in one run of the tests, because they take seconds."""
    if algorithm.kind == algorithms.RSA:
        return RSAKey(rsa_keys.rsa_key(algorithm.bits, number))
    if algorithm.curve == algorithms.ED25519:
        return Ed25519Key(ed25519.Ed25519PrivateKey.generate())
    if algorithm.curve == algorithms.CV25519:
        return CV25519Key(x25519.X25519PrivateKey.generate())
    return P256Key(ec.generate_private_key(ec.SECP256R1()))


def imported(algorithm: Algorithm, template: bytes, values: bytes) -> Key:
    """A key from outside: the private key template 7F48 and the values 5F48 that it describes.

    Raises:
        Status: WRONG_DATA; this is no key of that algorithm.
    """
    parts, at = {}, 0
    for tag, size in tlv.headers(template):
        parts[tag] = values[at : at + size]
        at += size
    if at != len(values):
        raise apdu.Status(apdu.WRONG_DATA)
    try:
        return _built(algorithm, parts)
    except (KeyError, ValueError, OverflowError):
        raise apdu.Status(apdu.WRONG_DATA) from None


def _built(algorithm: Algorithm, parts: dict[int, bytes]) -> Key:
    if algorithm.kind == algorithms.RSA:
        e, p, q = (int.from_bytes(parts[tag], "big") for tag in (0x91, 0x92, 0x93))
        key = _rsa(e, p, q)
        if key.key_size != algorithm.bits:
            raise ValueError("another size")
        return RSAKey(key)
    private = parts[0x92].rjust(32, b"\0")
    if algorithm.curve == algorithms.ED25519:
        return Ed25519Key(ed25519.Ed25519PrivateKey.from_private_bytes(private))
    if algorithm.curve == algorithms.CV25519:
        # The number as such, highest byte first; X25519 writes it the other way round (RFC 7748, 5).
        return CV25519Key(x25519.X25519PrivateKey.from_private_bytes(private[::-1]))
    return P256Key(ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1()))


def _rsa(e: int, p: int, q: int) -> rsa.RSAPrivateKey:
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    more = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *more, public).private_key()


def _point(data: bytes) -> bytes:
    """The other side's public key in a cipher object A6 (7.2.11)."""
    try:
        return tlv.find(data, 0xA6, 0x7F49, 0x86)
    except tlv.BadTLV:
        raise apdu.Status(apdu.WRONG_DATA) from None
