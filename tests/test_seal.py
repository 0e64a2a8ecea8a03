"""Links and seals: the known answers, and that nothing opens which was touched, swapped or forged."""

import hmac
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from unlatch import base64url, seal
from unlatch.errors import Malformed, SealBroken
from unlatch.prompt import Answer, Verdict, verdict_to_json
from unlatch.seal import Link, OwnedLink
from unlatch.secret import Secret

VECTORS = Path(__file__).parent / "vectors"
HPKE = json.loads((VECTORS / "hpke.json").read_text("utf-8"))["vectors"]
LINK = json.loads((VECTORS / "link.json").read_text("utf-8"))

# Every u-coordinate that agrees on zero with any private key: the points of order 1, 2, 4 and 8 of the curve and of its
# twist, also in their second spelling (value + 2**255 - 19) where it fits into 255 bits. RFC 7748 section 5 has the top
# bit ignored, so each counts a second time with that bit set.
_P = 2**255 - 19
_EIGHTH = int.from_bytes(bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little")
_TWIST = int.from_bytes(bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little")
SMALL_ORDER = [
    (point + top).to_bytes(32, "little") for point in (0, 1, _EIGHTH, _TWIST, _P - 1, _P, _P + 1) for top in (0, 2**255)
]

DETAILS = seal.pad(b'{"kind":"passphrase","title":"open the door"}')
ANSWER = Answer("secret", bytes(range(32)), Secret(b"correct horse"))


def raw(name: str) -> bytes:
    return bytes.fromhex(LINK[name])


def on_wire(name: str) -> bytes:
    return base64url.decode(LINK[name], name)


def known_link() -> OwnedLink:
    link = Link(raw("ticket"), raw("public_key"), raw("link_secret"))
    return OwnedLink(link, raw("owner"), X25519PrivateKey.from_private_bytes(raw("private_key")))


def flipped(data: bytes) -> Iterator[bytes]:
    """Every neighbour of ``data`` at a distance of one bit."""
    whole = int.from_bytes(data, "big")
    return ((whole ^ 1 << bit).to_bytes(len(data), "big") for bit in range(8 * len(data)))


def opens(open_it: Callable[..., object], *parts: object) -> bool:
    """Whether it opens; any exception but SealBroken is the test's failure."""
    try:
        open_it(*parts)
    except SealBroken:
        return False
    return True


@pytest.fixture
def owned() -> OwnedLink:
    return seal.new_link(os.urandom)


# -- known answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", HPKE, ids=["aes-128-gcm", "aes-256-gcm"])
def test_the_library_opens_the_vectors_of_rfc_9180(vector: dict[str, Any]) -> None:
    """The HPKE that we rely on opens the RFC's own ciphertexts, and refuses them for another info or aad."""
    aead = {1: hpke.AEAD.AES_128_GCM, 2: hpke.AEAD.AES_256_GCM}[vector["aead_id"]]
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, aead)
    v = {name: bytes.fromhex(value) for name, value in vector.items() if name != "aead_id"}
    key = X25519PrivateKey.from_private_bytes(v["skRm"])
    # Private, as the public interface has no associated data; only the RFC's vectors need it.
    decrypt = openssl.hpke._decrypt_with_aad
    assert decrypt(suite, v["enc"] + v["ct"], key, v["info"], v["aad"]) == v["pt"]
    for info, aad in ((b"", v["aad"]), (v["info"], b"")):
        with pytest.raises(Exception, match=r"^$") as caught:
            decrypt(suite, v["enc"] + v["ct"], key, info, aad)
        assert type(caught.value).__name__ == "InvalidTag"


@pytest.mark.parametrize("vector", HPKE, ids=["aes-128-gcm", "aes-256-gcm"])
def test_the_reference_seals_the_vectors_of_rfc_9180(vector: dict[str, Any]) -> None:
    """The second implementation, which our own vectors come from, reproduces the RFC's bytes."""
    v = {name: bytes.fromhex(value) for name, value in vector.items() if name != "aead_id"}
    sealed = reference.hpke_seal(v["pkRm"], v["skEm"], v["info"], v["pt"], v["aad"], vector["aead_id"])
    assert sealed == v["enc"] + v["ct"]


def test_the_link_vector_is_what_the_reference_computes() -> None:
    """vectors/link.json follows from its inputs by docs/protocol.md alone, without the product."""
    ticket, secret = raw("ticket"), raw("link_secret")
    keys = {
        use: reference.derive(secret, ticket, b"unlatch/1 " + use.encode()) for use in ("details", "view", "answer")
    }
    details, stamp, answer, verdict = (LINK[name].encode() for name in ("details", "stamp", "answer", "verdict"))
    info = reference.info(ticket, keys["answer"], details)
    assert reference.ticket(raw("owner")) == ticket
    assert {use: key.hex() for use, key in keys.items()} == LINK["keys"]
    assert hmac.digest(keys["view"], raw("nonce") + raw("page"), "sha256") == raw("proof")
    assert info == raw("info")
    assert len(info) == 96
    assert reference.derive(raw("reply_key"), ticket, b"unlatch/1 verdict") == raw("verdict_key")
    for name, key, plaintext in (
        ("details", keys["details"], details),
        ("stamp", keys["details"], stamp),
        ("verdict", raw("verdict_key"), verdict),
    ):
        sealed = reference.seal(key, raw(f"{name}_nonce"), f"unlatch/1 {name}".encode() + ticket, plaintext)
        assert sealed == on_wire(f"sealed_{name}_text"), name
    assert reference.hpke_seal(raw("public_key"), raw("ephemeral_key"), info, answer) == on_wire("sealed_answer_text")


def test_the_product_reads_the_link_vector() -> None:
    """Ticket, keys, proof and every sealed text come out of our code as the vector says."""
    owned = known_link()
    link, details = owned.link, LINK["details"].encode()
    assert seal.ticket_of(raw("owner")) == link.ticket
    assert (link.ticket_text, link.fragment) == (LINK["ticket_text"], LINK["fragment_text"])
    assert seal.parse_link(LINK["ticket_text"], LINK["fragment_text"]) == link
    assert {use: key.hex() for use, key in seal.keys_of(link)._asdict().items()} == LINK["keys"]
    assert seal.view_proof(seal.keys_of(link).view, raw("nonce"), raw("page")) == raw("proof")
    assert seal.open_details(link, on_wire("sealed_details_text")) == details
    assert seal.open_stamp(link, on_wire("sealed_stamp_text")) == LINK["stamp"].encode()
    answer = seal.open_answer(owned, details, on_wire("sealed_answer_text"))
    assert answer == Answer("secret", raw("reply_key"), Secret(raw("secret")), keep=True)
    verdict = seal.open_verdict(raw("reply_key"), link.ticket, on_wire("sealed_verdict_text"))
    following = json.loads(LINK["verdict"])["next"]
    assert verdict == Verdict("wrong", "", (following["ticket"], following["fragment"]))


def test_the_product_writes_the_link_vector() -> None:
    """Given the vector's randomness, details, stamp and verdict are sealed to the very same bytes."""
    link = known_link().link
    verdict = seal.open_verdict(raw("reply_key"), link.ticket, on_wire("sealed_verdict_text"))
    stamp = LINK["stamp"].rstrip().encode()
    for name, sealed in (
        ("details", seal.seal_details(link, LINK["details"].encode(), lambda n: raw("details_nonce")[:n])),
        ("stamp", seal.seal_stamp(link, stamp, lambda n: raw("stamp_nonce")[:n])),
        ("verdict", seal.seal_verdict(raw("reply_key"), link.ticket, verdict, lambda n: raw("verdict_nonce")[:n])),
    ):
        assert sealed == on_wire(f"sealed_{name}_text"), name


# -- both ways ---------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=300))
def test_an_answer_reaches_the_asker(secret: bytes) -> None:
    """What is sealed with the link and the details shown opens with the asker's key, and tells its length in steps."""
    owned = known_link()
    answer = Answer("secret", bytes(32), Secret(secret))
    sealed = seal.seal_answer(owned.link, DETAILS, answer)
    assert seal.open_answer(owned, DETAILS, sealed) == answer
    assert (len(sealed) - 32 - 16) % 256 == 0


def test_links_are_fresh_and_say_nothing(owned: OwnedLink) -> None:
    """Two links share nothing, the sealing is never the same twice, and no repr shows a key."""
    other = seal.new_link(os.urandom)
    assert not {*owned.link, owned.owner} & {*other.link, other.owner}
    assert owned.link.public_key == owned.private_key.public_key().public_bytes_raw()
    assert seal.seal_details(owned.link, DETAILS, os.urandom) != seal.seal_details(owned.link, DETAILS, os.urandom)
    assert seal.seal_answer(owned.link, DETAILS, ANSWER) != seal.seal_answer(owned.link, DETAILS, ANSWER)
    shown = f"{owned!r} {owned.link!r} {owned.link} {seal.keys_of(owned.link)!r}"
    assert shown == "OwnedLink(redacted) Link(redacted) Link(redacted) LinkKeys(redacted)"


@given(st.text(max_size=90) | st.none(), st.text(max_size=90) | st.none())
def test_what_is_no_link_is_malformed(ticket: str | None, fragment: str | None) -> None:
    """Texts that are not a ticket and a fragment are Malformed, and nothing else escapes."""
    with pytest.raises(Malformed):
        seal.parse_link(ticket, fragment)


# -- one bit -----------------------------------------------------------------------------------------------------------


def test_one_bit_of_a_sealed_text_and_it_stays_shut(owned: OwnedLink) -> None:
    """Details, stamp, answer and verdict with any single bit changed do not open."""
    link = owned.link
    details = seal.seal_details(link, DETAILS, os.urandom)
    stamp = seal.seal_stamp(link, b"{}", os.urandom)
    answer = seal.seal_answer(link, DETAILS, ANSWER)
    verdict = seal.seal_verdict(ANSWER.reply_key, link.ticket, Verdict("accepted"), os.urandom)
    assert not any(opens(seal.open_details, link, changed) for changed in flipped(details))
    assert not any(opens(seal.open_stamp, link, changed) for changed in flipped(stamp))
    assert not any(opens(seal.open_answer, owned, DETAILS, changed) for changed in flipped(answer))
    assert not any(opens(seal.open_verdict, ANSWER.reply_key, link.ticket, changed) for changed in flipped(verdict))


def test_one_bit_of_the_details_and_the_answer_stays_shut(owned: OwnedLink) -> None:
    """An answer is bound to every bit of what was shown, padding included."""
    answer = seal.seal_answer(owned.link, DETAILS, ANSWER)
    assert not any(opens(seal.open_answer, owned, changed, answer) for changed in flipped(DETAILS))


def test_one_bit_of_the_link_and_the_asker_opens_nothing(owned: OwnedLink) -> None:
    """An answer made with a link that differs in any bit of ticket, public key or link secret does not open."""
    for link in changed_links(owned.link):
        try:
            answer = seal.seal_answer(link, DETAILS, ANSWER)
        except SealBroken:
            continue  # the changed key happens to be a small-order point
        assert not opens(seal.open_answer, owned, DETAILS, answer)


def test_one_bit_of_the_link_and_the_page_opens_nothing(owned: OwnedLink) -> None:
    """A link that differs in any bit of ticket or link secret reads nothing, and proves no view."""
    details = seal.seal_details(owned.link, DETAILS, os.urandom)
    stamp = seal.seal_stamp(owned.link, b"{}", os.urandom)
    proof = seal.view_proof(seal.keys_of(owned.link).view, b"n" * 16, b"p" * 16)
    for link in changed_links(owned.link):
        if link.public_key == owned.link.public_key:  # the public key keys only the answer
            assert not opens(seal.open_details, link, details)
            assert not opens(seal.open_stamp, link, stamp)
            assert seal.view_proof(seal.keys_of(link).view, b"n" * 16, b"p" * 16) != proof


def test_one_bit_of_nonce_or_page_and_the_proof_differs() -> None:
    """A view proof holds for one nonce and one page id."""
    key, nonce, page = raw("nonce") * 2, raw("nonce"), raw("page")
    proof = seal.view_proof(key, nonce, page)
    assert all(seal.view_proof(key, changed, page) != proof for changed in flipped(nonce))
    assert all(seal.view_proof(key, nonce, changed) != proof for changed in flipped(page))
    assert all(seal.view_proof(changed, nonce, page) != proof for changed in flipped(key))


def test_one_bit_of_info_and_the_answer_stays_shut(owned: OwnedLink) -> None:
    """HPKE's info is checked whole: any bit changed, and an otherwise right answer does not open."""
    info = reference.info(owned.link.ticket, seal.keys_of(owned.link).answer, DETAILS)
    plaintext = seal.pad(b'{"answer":"no","reply_key":"' + b"A" * 43 + b'"}')
    ephemeral = os.urandom(32)
    right = reference.hpke_seal(owned.link.public_key, ephemeral, info, plaintext)
    assert seal.open_answer(owned, DETAILS, right).answer == "no"
    for changed in flipped(info):
        sealed = reference.hpke_seal(owned.link.public_key, ephemeral, changed, plaintext)
        assert not opens(seal.open_answer, owned, DETAILS, sealed)


def test_one_bit_of_the_verdicts_keys_and_it_stays_shut(owned: OwnedLink) -> None:
    """A verdict opens only with its reply key and for its ticket."""
    ticket = owned.link.ticket
    verdict = seal.seal_verdict(ANSWER.reply_key, ticket, Verdict("accepted"), os.urandom)
    assert not any(opens(seal.open_verdict, changed, ticket, verdict) for changed in flipped(ANSWER.reply_key))
    assert not any(opens(seal.open_verdict, ANSWER.reply_key, changed, verdict) for changed in flipped(ticket))


def changed_links(link: Link) -> Iterator[Link]:
    """Every link at a distance of one bit."""
    yield from (link._replace(ticket=changed) for changed in flipped(link.ticket))
    yield from (link._replace(public_key=changed) for changed in flipped(link.public_key))
    yield from (link._replace(secret=changed) for changed in flipped(link.secret))


# -- swapped, cut, forged ----------------------------------------------------------------------------------------------


def test_an_answer_to_another_question_fails(owned: OwnedLink) -> None:
    """The same link with other details shown: the answer does not open."""
    answer = seal.seal_answer(owned.link, seal.pad(b'{"title":"something harmless"}'), ANSWER)
    assert not opens(seal.open_answer, owned, DETAILS, answer)


def test_an_answer_for_another_ticket_fails(owned: OwnedLink) -> None:
    """An answer sealed to the right key, but under another ticket of the same asker, does not open."""
    other = seal.new_link(os.urandom)
    moved = other.link._replace(public_key=owned.link.public_key)
    assert not opens(seal.open_answer, owned, DETAILS, seal.seal_answer(moved, DETAILS, ANSWER))
    assert not opens(seal.open_answer, owned, DETAILS, seal.seal_answer(other.link, DETAILS, ANSWER))


def test_an_answer_from_the_public_key_alone_fails(owned: OwnedLink) -> None:
    """Who knows ticket and public key, but not the link secret, cannot make an answer that opens."""
    guess = owned.link._replace(secret=bytes(32))
    assert not opens(seal.open_answer, owned, DETAILS, seal.seal_answer(guess, DETAILS, ANSWER))


def test_details_and_stamp_are_not_interchangeable(owned: OwnedLink) -> None:
    """The asker's claims never open as the broker's word, though both are under one key, and the other way round."""
    assert not opens(seal.open_stamp, owned.link, seal.seal_details(owned.link, DETAILS, os.urandom))
    assert not opens(seal.open_details, owned.link, seal.seal_stamp(owned.link, b"{}", os.urandom))


@pytest.mark.parametrize("size", [0, 1, 12, 27, 28, 31, 32, 47, 48, seal.MAX_SEALED, seal.MAX_SEALED + 1])
def test_texts_of_odd_sizes_stay_shut(owned: OwnedLink, size: int) -> None:
    """Too short, too long, or cut anywhere: SealBroken and nothing else."""
    junk = os.urandom(size)
    assert not opens(seal.open_details, owned.link, junk)
    assert not opens(seal.open_stamp, owned.link, junk)
    assert not opens(seal.open_answer, owned, DETAILS, junk)
    assert not opens(seal.open_verdict, bytes(32), owned.link.ticket, junk)


def test_an_answer_that_opens_but_is_none_is_broken(owned: OwnedLink) -> None:
    """Properly sealed nonsense is SealBroken too: the asker answers it with "spoiled", whatever it was."""
    public_key = X25519PublicKey.from_public_bytes(owned.link.public_key)
    info = reference.info(owned.link.ticket, seal.keys_of(owned.link).answer, DETAILS)
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    for nonsense in (b"", b"{}", b"\xff" * 256, b"[" * 20_000, b'{"answer":"yes","reply_key":""}'):
        assert not opens(seal.open_answer, owned, DETAILS, suite.encrypt(nonsense, public_key, info))


@pytest.mark.parametrize("point", SMALL_ORDER, ids=bytes.hex)
def test_small_order_points_fail(owned: OwnedLink, point: bytes) -> None:
    """A key that agrees on zero with everybody is refused: as the link's key, and as the answer's encapsulated key."""
    with pytest.raises(ValueError, match="shared"):
        owned.private_key.exchange(X25519PublicKey.from_public_bytes(point))  # it is such a point
    assert not opens(seal.seal_answer, owned.link._replace(public_key=point), DETAILS, ANSWER)
    # What an attacker would send: everything right, for the shared secret of zeros.
    assert not opens(seal.open_answer, owned, DETAILS, sealed_with_zero(owned, point))


def sealed_with_zero(owned: OwnedLink, point: bytes) -> bytes:
    """The answer "no" under the key that follows from a shared secret of zeros, with ``point`` as enc."""
    info = reference.info(owned.link.ticket, seal.keys_of(owned.link).answer, DETAILS)
    plaintext = seal.pad(b'{"answer":"no","reply_key":"' + b"A" * 43 + b'"}')
    return reference.hpke_seal_agreed(bytes(32), point, owned.link.public_key, info, plaintext)


def test_a_verdict_forged_from_the_link_alone_fails(owned: OwnedLink) -> None:
    """Whoever has the whole link, and no reply key, makes no verdict that the page would open."""
    link, keys = owned.link, seal.keys_of(owned.link)
    forged = Verdict("wrong", "type it again", (link.ticket_text, link.fragment))
    for known in (link.secret, link.public_key, link.ticket * 2, bytes(32), *keys):
        assert not opens(
            seal.open_verdict, ANSWER.reply_key, link.ticket, seal.seal_verdict(known, link.ticket, forged, os.urandom)
        )
        bare = reference.seal(known, bytes(12), b"unlatch/1 verdict" + link.ticket, seal.pad(verdict_to_json(forged)))
        assert not opens(seal.open_verdict, ANSWER.reply_key, link.ticket, bare)


def test_a_verdict_that_opens_but_is_none_is_broken(owned: OwnedLink) -> None:
    """Properly sealed nonsense is not a verdict."""
    key = reference.derive(ANSWER.reply_key, owned.link.ticket, b"unlatch/1 verdict")
    nonsense = reference.seal(key, bytes(12), b"unlatch/1 verdict" + owned.link.ticket, b'{"outcome":"open sesame"}')
    assert not opens(seal.open_verdict, ANSWER.reply_key, owned.link.ticket, nonsense)


def test_a_broken_seal_tells_no_reason(owned: OwnedLink) -> None:
    """Changed, swapped or nonsense: one error, one text, no cause attached."""
    with pytest.raises(SealBroken) as caught:
        seal.open_answer(owned, DETAILS, b"\x00" * 100)
    assert str(caught.value) == "could not open the sealed answer"
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None
