"""Algorithm attributes: data objects C1, C2, C3 and FA (specification 4.4.3.9 and 4.4.3.11)."""

from typing import NamedTuple

from card import apdu, tlv

RSA, ECDH, ECDSA, EDDSA = 0x01, 0x12, 0x13, 0x16
ED25519 = bytes.fromhex("2B06010401DA470F01")
CV25519 = bytes.fromhex("2B060104019755010501")
NISTP256 = bytes.fromhex("2A8648CE3D030107")
PLAIN_IMPORT = 0x00  # a private RSA key is imported as e, p, q
EXPONENT_BITS = 32

SLOTS = ("sign", "decrypt", "auth")
Slot = int  # an index into SLOTS


class Algorithm(NamedTuple):
    """What a key is made of: ``bits`` for RSA, ``curve`` (object identifier) for the others."""

    kind: int
    bits: int = 0
    curve: bytes = b""

    @property
    def name(self) -> str:
        """As gpg writes it."""
        if self.kind == RSA:
            return f"rsa{self.bits}"
        return {ED25519: "ed25519", CV25519: "cv25519", NISTP256: "nistp256"}[self.curve]

    def attributes(self) -> bytes:
        """The value of C1, C2, C3."""
        if self.kind == RSA:
            sizes = self.bits.to_bytes(2, "big") + EXPONENT_BITS.to_bytes(2, "big")
            return bytes([RSA]) + sizes + bytes([PLAIN_IMPORT])
        return bytes([self.kind]) + self.curve


_RSA = tuple(Algorithm(RSA, bits) for bits in (2048, 3072, 4096))
_SIGNING = (*_RSA, Algorithm(ECDSA, curve=NISTP256), Algorithm(EDDSA, curve=ED25519))
_DECRYPTING = (*_RSA, Algorithm(ECDH, curve=NISTP256), Algorithm(ECDH, curve=CV25519))
SUPPORTED: tuple[tuple[Algorithm, ...], ...] = (_SIGNING, _DECRYPTING, _SIGNING)
FACTORY = Algorithm(RSA, 2048)


def parse(slot: Slot, value: bytes) -> Algorithm:
    """What somebody wrote into C1, C2, C3.

    Raises:
        Status: WRONG_DATA; this slot has no such algorithm.
    """
    for algorithm in SUPPORTED[slot]:
        # RSA: other sizes of e and other import formats may be asked for; a card may insist on its own (4.4.3.9).
        # Curves: an optional last byte FF asks for imports with the public key.
        wanted = value[:3] if value[:1] == bytes([RSA]) else value.removesuffix(b"\xff")
        if wanted == algorithm.attributes()[: len(wanted)] and len(wanted) >= 3:
            return algorithm
    raise apdu.Status(apdu.WRONG_DATA)


def named(slot: Slot, name: str) -> Algorithm:
    """The algorithm with this name that a slot can have."""
    return next(algorithm for algorithm in SUPPORTED[slot] if algorithm.name == name)


def information() -> bytes:
    """Data object FA: everything that each slot can have."""
    return b"".join(
        tlv.pack(0xC1 + slot, algorithm.attributes())
        for slot, algorithms in enumerate(SUPPORTED)
        for algorithm in algorithms
    )
