"""The emulated card by itself, command by command: what the OpenPGP specification 3.4.1 says it must do."""

import hashlib

import pytest
from card import apdu, pins, tlv
from card.card import ADMIN_PIN, PIN, Card
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils, x25519

AID = bytes.fromhex("D27600012401")
DIGEST = hashlib.sha256(b"to be signed").digest()
# DigestInfo of SHA-256 (RFC 8017, 9.2): what the card gets for a signature with RSA.
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420") + DIGEST
CRT = {"sign": b"\xb6\0", "decrypt": b"\xb8\0", "auth": b"\xa4\0"}


class Line:
    """Commands to a card whose application is selected; with extended lengths."""

    def __init__(self, card: Card) -> None:
        self.card = card
        assert self(0xA4, 0x0400, AID) == b""

    def __call__(self, ins: int, p: int = 0, data: bytes = b"", wanted: int = 65536, word: int = apdu.OK) -> bytes:
        size = len(data).to_bytes(2, "big") + data if data else b""
        raw = bytes([0, ins]) + p.to_bytes(2, "big") + b"\0" + size + (wanted % 65536).to_bytes(2, "big")
        answer = self.card.exchange(raw)
        assert int.from_bytes(answer[-2:], "big") == word, answer[-2:].hex()
        return answer[:-2]

    def verify(self, reference: int, value: bytes = b"", word: int = apdu.OK) -> None:
        self(0x20, reference, value, word=word)

    def public(self, slot: str) -> dict[int, bytes]:
        """The public key in a slot: the parts of 7F49."""
        return dict(tlv.unpack(tlv.find(self(0x47, 0x8100, CRT[slot]), 0x7F49)))


@pytest.fixture
def line() -> Line:
    return Line(Card(serial=0x12345678))


def rsa_public(parts: dict[int, bytes]) -> rsa.RSAPublicKey:
    n, e = (int.from_bytes(parts[tag], "big") for tag in (0x81, 0x82))
    return rsa.RSAPublicNumbers(e, n).public_key()


# Data objects.


def test_the_card_names_itself(line: Line) -> None:
    """Application identifier, historical bytes and abilities are where readers look for them (4.4.3, 6)."""
    data = line(0xCA, 0x006E)
    assert tlv.find(data, 0x4F) == bytes.fromhex("D276000124010304FF51123456780000")
    assert tlv.find(data, 0x5F52)[-3:] == bytes.fromhex("059000")
    assert tlv.find(data, 0x73, 0xC4) == bytes([0, 127, 127, 127, 3, 0, 3])
    assert tlv.find(data, 0x73, 0xC1) == bytes.fromhex("010800002000")
    assert line(0xCA, 0x00C4) == tlv.find(data, 0x73, 0xC4)


def test_the_answer_to_reset_holds(line: Line) -> None:
    """The ATR ends with the sum of its bytes, and its historical bytes tell of chaining and extended lengths."""
    for extended, told in ((True, 0xC0), (False, 0x80)):
        atr = Card(extended=extended).answer_to_reset()
        check = 0
        for byte in atr[1:]:
            check ^= byte
        assert check == 0
        assert atr[6:13] == bytes([0x00, 0x31, 0xC5, 0x73, 0xC0, 0x01, told])


@pytest.mark.parametrize(
    ("tag", "value"), [(0x5B, b"Doe<<Jane"), (0x5F2D, b"deen"), (0x5F50, b"https://a"), (0x5E, b"login")]
)
def test_objects_are_written_by_the_admin_only(line: Line, tag: int, value: bytes) -> None:
    """Name, language, address and login take the admin PIN to write and nothing to read."""
    line(0xDA, tag, value, word=apdu.NOT_SATISFIED)
    line.verify(pins.USE, PIN)
    line(0xDA, tag, value, word=apdu.NOT_SATISFIED)
    line.verify(pins.ADMIN, ADMIN_PIN)
    line(0xDA, tag, value)
    line.card.power_on()
    line = Line(line.card)
    assert line(0xCA, tag) == value
    if tag in (0x5B, 0x5F2D):
        assert tlv.find(line(0xCA, 0x65), tag) == value


def test_an_object_that_does_not_fit_is_refused(line: Line) -> None:
    """Too long, unknown and of a wrong length: nothing is written."""
    line.verify(pins.ADMIN, ADMIN_PIN)
    line(0xDA, 0x5B, b"x" * 40, word=apdu.WRONG_DATA)
    line(0xDA, 0x00C7, b"x" * 19, word=apdu.WRONG_DATA)
    line(0xDA, 0x1234, b"x", word=apdu.UNKNOWN_DATA)
    line(0xCA, 0x1234, word=apdu.UNKNOWN_DATA)


def test_fingerprints_and_times_have_a_place_each(line: Line) -> None:
    """C7 to C9 are the three parts of C5, CE to D0 those of CD."""
    line.verify(pins.ADMIN, ADMIN_PIN)
    line(0xDA, 0x00C8, b"\x11" * 20)
    line(0xDA, 0x00D0, b"\x22" * 4)
    assert line(0xCA, 0x00C5) == bytes(20) + b"\x11" * 20 + bytes(20)
    assert line(0xCA, 0x00CD) == bytes(8) + b"\x22" * 4


def test_private_objects_have_their_own_rules(line: Line) -> None:
    """0103 is the PIN's to read and write, 0104 the admin's, 0101 and 0102 anybody's to read (4.4.1)."""
    for tag, writer, value in ((0x0101, pins.USE, PIN), (0x0102, pins.ADMIN, ADMIN_PIN)):
        line.verify(writer, value)
        line(0xDA, tag, b"note")
    line.card.power_on()
    line = Line(line.card)
    assert line(0xCA, 0x0101) == line(0xCA, 0x0102) == b"note"
    line(0xCA, 0x0103, word=apdu.NOT_SATISFIED)
    line(0xCA, 0x0104, word=apdu.NOT_SATISFIED)
    line.verify(pins.USE, PIN)
    assert line(0xCA, 0x0103) == b""
    line(0xCA, 0x0104, word=apdu.NOT_SATISFIED)


def test_a_challenge_is_random_and_bounded(line: Line) -> None:
    """GET CHALLENGE gives as many bytes as were wanted."""
    first, second = line(0x84, wanted=32), line(0x84, wanted=32)
    assert len(first) == 32
    assert first != second
    line(0x84, wanted=5000, word=apdu.WRONG_PARAMETERS)


# Keys.


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_rsa_signs_deciphers_and_authenticates(line: Line, bits: int) -> None:
    """Keys made on the card do what their slots are for, and only after the PIN for that."""
    make(line, {"sign": f"rsa{bits}", "decrypt": f"rsa{bits}", "auth": f"rsa{bits}"})
    line(0x2A, 0x9E9A, DIGEST_INFO, word=apdu.NOT_SATISFIED)
    line.verify(pins.SIGN, PIN)
    signature = line(0x2A, 0x9E9A, DIGEST_INFO)
    rsa_public(line.public("sign")).verify(signature, DIGEST, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))

    cryptogram = rsa_public(line.public("decrypt")).encrypt(b"session key", padding.PKCS1v15())
    line(0x2A, 0x8086, b"\0" + cryptogram, word=apdu.NOT_SATISFIED)
    line.verify(pins.USE, PIN)
    assert line(0x2A, 0x8086, b"\0" + cryptogram) == b"session key"
    line(0x2A, 0x8086, b"\0" + bytes(bits // 8), word=apdu.WRONG_DATA)

    signature = line(0x88, 0, DIGEST_INFO)
    rsa_public(line.public("auth")).verify(signature, DIGEST, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
    line(0x88, 0, bytes(bits // 8), word=apdu.WRONG_DATA)


def test_curve25519_signs_and_agrees(line: Line) -> None:
    """ed25519 signs what it is given, cv25519 finds the shared secret with GnuPG's prefix and without."""
    make(line, {"sign": "ed25519", "decrypt": "cv25519", "auth": "ed25519"})
    line.verify(pins.SIGN, PIN)
    line.verify(pins.USE, PIN)
    for slot, operation in (("sign", (0x2A, 0x9E9A)), ("auth", (0x88, 0))):
        public = ed25519.Ed25519PublicKey.from_public_bytes(line.public(slot)[0x86])
        public.verify(line(*operation, b"whatever" * 40), b"whatever" * 40)

    mine = x25519.X25519PrivateKey.generate()
    point = mine.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    shared = mine.exchange(x25519.X25519PublicKey.from_public_bytes(line.public("decrypt")[0x86]))
    for written in (point, b"\x40" + point):
        assert line(0x2A, 0x8086, cipher_object(written)) == shared
    line(0x2A, 0x8086, b"no data object", word=apdu.WRONG_DATA)


def test_nistp256_signs_and_agrees(line: Line) -> None:
    """ECDSA takes a digest and gives two numbers of 32 bytes; ECDH gives the shared x coordinate."""
    make(line, {"sign": "nistp256", "decrypt": "nistp256", "auth": "nistp256"})
    line.verify(pins.SIGN, PIN)
    line.verify(pins.USE, PIN)
    curve = ec.SECP256R1()
    public = ec.EllipticCurvePublicKey.from_encoded_point(curve, line.public("sign")[0x86])
    both = line(0x2A, 0x9E9A, DIGEST)
    signature = utils.encode_dss_signature(int.from_bytes(both[:32], "big"), int.from_bytes(both[32:], "big"))
    public.verify(signature, DIGEST, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    line(0x88, 0, DIGEST[:17], word=apdu.WRONG_DATA)

    mine = ec.generate_private_key(curve)
    point = mine.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    theirs = ec.EllipticCurvePublicKey.from_encoded_point(curve, line.public("decrypt")[0x86])
    assert line(0x2A, 0x8086, cipher_object(point)) == mine.exchange(ec.ECDH(), theirs)


def test_a_key_made_again_is_another_one(line: Line) -> None:
    """GENERATE replaces the key, sets the signature counter back, and needs the admin PIN; reading it needs nothing."""
    line(0x47, 0x8100, CRT["sign"], word=apdu.UNKNOWN_DATA)
    line(0x47, 0x8000, CRT["sign"], word=apdu.NOT_SATISFIED)
    line.verify(pins.ADMIN, ADMIN_PIN)
    line(0x47, 0x8000, CRT["sign"])
    first = line.public("sign")
    line.verify(pins.SIGN, PIN)
    line(0x2A, 0x9E9A, DIGEST_INFO)
    assert line.card.signatures() == 1
    assert line(0xCA, 0x7A) == tlv.pack(0x93, b"\0\0\1")
    line(0x47, 0x8000, CRT["sign"])
    assert line.public("sign") != first
    assert line.card.signatures() == 0
    assert line(0xCA, 0x00DE) == bytes([1, 1, 2, 0, 3, 0])


def test_another_algorithm_ends_the_key(line: Line) -> None:
    """C1 to C3 take what FA lists and nothing else; the same algorithm again keeps the key."""
    make(line, {"auth": "ed25519"})
    same = line(0xCA, 0x00C3)
    line(0xDA, 0x00C3, same)
    assert line.card.has_key("auth")
    line(0xDA, 0x00C3, bytes.fromhex("010C00002000"))
    assert not line.card.has_key("auth")
    line(0xDA, 0x00C3, bytes.fromhex("010400002000"), word=apdu.WRONG_DATA)  # rsa1024
    line(0xDA, 0x00C2, bytes.fromhex("162B06010401DA470F01"), word=apdu.WRONG_DATA)  # EdDSA to decrypt
    for tag, attributes in tlv.unpack(line(0xCA, 0x00FA)):
        line(0xDA, tag, attributes)
        assert line(0xCA, tag) == attributes


def test_keys_from_outside_are_taken(line: Line) -> None:
    """An extended header list (4.4.3.12) brings a private key; the card then has its public key and says "imported"."""
    line.verify(pins.ADMIN, ADMIN_PIN)
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.private_numbers()
    values = [
        (0x91, (65537).to_bytes(4, "big")),
        *((tag, n.to_bytes(128, "big")) for tag, n in ((0x92, numbers.p), (0x93, numbers.q))),
    ]
    line(0xDB, 0x3FFF, header_list("sign", values))
    assert rsa_public(line.public("sign")) == key.public_key()

    line(0xDA, 0x00C3, bytes.fromhex("162B06010401DA470F01"))
    line(0xDB, 0x3FFF, header_list("auth", [(0x92, bytes(range(32)))]))
    public = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    assert line.public("auth")[0x86] == public.public_bytes_raw()
    assert line(0xCA, 0x00DE) == bytes([1, 2, 2, 0, 3, 2])


def test_a_key_that_does_not_fit_is_refused(line: Line) -> None:
    """Another size, a part that is missing, values that are cut off, or no admin: nothing changes."""
    line(0xDB, 0x3FFF, header_list("sign", [(0x92, bytes(32))]), word=apdu.NOT_SATISFIED)
    line.verify(pins.ADMIN, ADMIN_PIN)
    line(0xDB, 0x3FFF, header_list("sign", [(0x92, bytes(32))]), word=apdu.WRONG_DATA)
    line(0xDB, 0x3FFF, header_list("sign", [(0x91, b"\1\0\1"), (0x92, b"\7"), (0x93, b"\13")]), word=apdu.WRONG_DATA)
    short = tlv.pack(0x4D, CRT["sign"] + tlv.pack(0x7F48, b"\x92\x20") + tlv.pack(0x5F48, b"short"))
    line(0xDB, 0x3FFF, short, word=apdu.WRONG_DATA)
    line(0xDB, 0x3FFF, b"\x4d\x05", word=apdu.WRONG_DATA)
    assert not line.card.has_key("sign")


# The line below the commands.


def test_what_was_verified_ends_with_the_power(line: Line) -> None:
    """A reset, a power cut and a new SELECT forget the PIN; no command works before SELECT."""
    line.verify(pins.USE, PIN)
    assert line.card.verified()
    line.card.power_on()
    assert not line.card.verified()
    line(0xCA, 0x006E, word=apdu.CONDITIONS_NOT_SATISFIED)
    line = Line(line.card)
    line.verify(pins.USE, PIN)
    assert line(0xA4, 0x0400, AID) == b""
    assert not line.card.verified()
    line(0xA4, 0x0400, bytes.fromhex("A000000308"), word=apdu.NOT_FOUND)


def test_a_factory_reset_needs_both_steps(line: Line) -> None:
    """TERMINATE by the admin, then ACTIVATE: all is as on a new card; ACTIVATE alone does nothing."""
    make(line, {"auth": "ed25519"})
    line(0xDA, 0x5B, b"Doe<<Jane")
    line(0x44)
    assert line.card.has_key("auth")
    line(0xE6)
    line(0xCA, 0x006E, word=apdu.TERMINATED)
    line.card.power_on()
    line = Line(line.card)
    line(0x44)
    assert not line.card.has_key("auth")
    assert line(0xCA, 0x5B) == b""
    line.verify(pins.USE, PIN)


def test_terminate_is_the_admins_unless_nobody_is(line: Line) -> None:
    """Without the admin PIN a card cannot be terminated, except when that PIN is blocked: the way out (7.2.16)."""
    line(0xE6, word=apdu.NOT_SATISFIED)
    line.card.set_admin_pin(tries=0)
    line(0xE6)
    line(0x44)
    assert line.card.tries() == (3, 0, 3)


def test_commands_may_come_in_pieces() -> None:
    """Chained commands and GET RESPONSE do what one extended command does; a chain cannot change its mind."""
    card = Card(extended=False)
    exchange = card.exchange
    assert exchange(bytes.fromhex("00A4040006D27600012401")) == b"\x90\0"
    assert exchange(bytes.fromhex("002000830831323334353637380000")[:13]) == b"\x90\0"
    assert exchange(b"\x10\xda\0\x5b\x02Do") == b"\x90\0"
    assert exchange(b"\x00\xda\0\x5b\x06e<<Jan") == b"\x90\0"
    assert exchange(b"\0\xca\0\x5b\0") == b"Doe<<Jan\x90\0"
    card.generate("sign", "rsa2048")
    answer = exchange(b"\0\x47\x81\0\x02\xb6\0\0")
    assert len(answer) == 258
    assert answer[-2] == 0x61
    rest = exchange(bytes([0, 0xC0, 0, 0, answer[-1]]))
    assert rest[-2:] == b"\x90\0"
    assert len(tlv.find(answer[:-2] + rest[:-2], 0x7F49, 0x81)) == 256
    assert exchange(b"\0\xc0\0\0\0") == b"\x69\x85"
    assert exchange(b"\x10\xda\0\x5b\x02Do") == b"\x90\0"
    assert exchange(b"\0\xda\0\x5e\x02Do") == b"\x68\x83"
    assert exchange(b"\0\xda\0\x5b\0\0\x02Do") == b"\x67\0"  # extended, which this card does not take


@pytest.mark.parametrize(
    "raw", ["", "00", "00CA00", "002000820631", "00CA006E000000", "00DA005B00FFFF41", "00CA006E0102"]
)
def test_bytes_that_are_no_command_are_refused(raw: str) -> None:
    """Cut off, contradictory or empty: a wrong length, and the card goes on."""
    card = Card()
    line = Line(card)
    assert card.exchange(bytes.fromhex(raw))[-2:] in (b"\x67\0", b"\x90\0")
    assert line(0xCA, 0x5B) == b""


def make(line: Line, algorithms: dict[str, str]) -> None:
    """Keys as an admin makes them: attributes, then GENERATE."""
    line.verify(pins.ADMIN, ADMIN_PIN)
    for slot, algorithm in algorithms.items():
        number = list(CRT).index(slot)
        attributes = next(
            value for tag, value in tlv.unpack(line(0xCA, 0x00FA)) if tag == 0xC1 + number and NAMES[algorithm] in value
        )
        line(0xDA, 0x00C1 + number, attributes)
        line(0x47, 0x8000, CRT[slot])


NAMES = {
    "rsa2048": b"\x01\x08\x00", "rsa3072": b"\x01\x0c\x00", "rsa4096": b"\x01\x10\x00",
    "ed25519": bytes.fromhex("2B06010401DA470F01"), "cv25519": bytes.fromhex("2B060104019755010501"),
    "nistp256": bytes.fromhex("2A8648CE3D030107"),
}  # fmt: skip


def cipher_object(point: bytes) -> bytes:
    return tlv.pack(0xA6, tlv.pack(0x7F49, tlv.pack(0x86, point)))


def header_list(slot: str, values: list[tuple[int, bytes]]) -> bytes:
    """Data object 4D: which slot, which parts of which length, and the parts."""
    template = b"".join(bytes([tag]) + tlv.length(len(value)) for tag, value in values)
    content = b"".join(value for _, value in values)
    return tlv.pack(0x4D, CRT[slot] + tlv.pack(0x7F48, template) + tlv.pack(0x5F48, content))
