"""Links and seals: everything that makes a stranger with a wire tap learn nothing. Pure; docs/protocol.md 1 and 2.

The rules that hold here:
- The answer is sealed to the key of the fragment (HPKE, RFC 9180, base mode) and bound, through ``info``, to the
  ticket, to the link secret and to the very details that were shown. An answer made for another question never opens.
- The link secret keys the details, the view proof and the binding, and nothing else. In particular no verdict:
  whoever only has the link can neither forge a "wrong passphrase, type it again here" nor read where the page goes on.
- Failing to open is one error without a reason (``SealBroken``); what failed is nobody's business.
"""

from collections.abc import Callable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from unlatch import base64url
from unlatch.errors import Malformed, SealBroken
from unlatch.prompt import Answer, Verdict, answer_from_json, answer_to_json, verdict_from_json, verdict_to_json

TICKET_SIZE = 16
TOKEN_SIZE = 32
KEY_SIZE = 32
NONCE_SIZE = 12
PAD = 256  # bytes; hides the length of a passphrase among all passphrases that people type
MAX_SEALED = 24576  # bytes; the largest secret in base64url within JSON is 11 KiB, details are smaller than 16 KiB

RandomBytes = Callable[[int], bytes]

_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class Link(NamedTuple):
    """What a person receives: enough to read the question and to seal one answer."""

    ticket: bytes
    public_key: bytes
    secret: bytes

    @property
    def ticket_text(self) -> str:
        return base64url.encode(self.ticket)

    @property
    def fragment(self) -> str:
        return base64url.encode(self.public_key + self.secret)

    def __repr__(self) -> str:
        return "Link(redacted)"


class OwnedLink(NamedTuple):
    """What the asker holds for one ticket: the link, the token that registers it, the key that opens the answer."""

    link: Link
    owner: bytes
    private_key: X25519PrivateKey

    def __repr__(self) -> str:
        return "OwnedLink(redacted)"


class LinkKeys(NamedTuple):
    """The three keys that come from a link secret."""

    details: bytes
    view: bytes
    answer: bytes

    def __repr__(self) -> str:
        return "LinkKeys(redacted)"


def new_link(random: RandomBytes) -> OwnedLink:
    """A fresh ticket with its own keys; ``random(n)`` gives n random bytes."""
    owner, secret = random(TOKEN_SIZE), random(TOKEN_SIZE)
    private_key = X25519PrivateKey.from_private_bytes(random(KEY_SIZE))
    public_key = private_key.public_key().public_bytes_raw()
    return OwnedLink(Link(ticket_of(owner), public_key, secret), owner, private_key)


def ticket_of(owner: bytes) -> bytes:
    """The ticket that only the holder of this owner token can register."""
    return _sha256(b"unlatch/1 ticket" + owner)[:TICKET_SIZE]


def parse_link(ticket: object, fragment: object) -> Link:
    """A link from the two texts of its URL.

    Raises:
        Malformed: not a ticket and a fragment.
    """
    keys = base64url.decode(fragment, "fragment", KEY_SIZE + TOKEN_SIZE)
    return Link(base64url.decode(ticket, "ticket", TICKET_SIZE), keys[:KEY_SIZE], keys[KEY_SIZE:])


def keys_of(link: Link) -> LinkKeys:
    """Derive the keys that read the details, prove a view and bind an answer."""
    return LinkKeys(*(_hkdf(link.secret, link.ticket, b"unlatch/1 " + use) for use in (b"details", b"view", b"answer")))


def pad(json_text: bytes) -> bytes:
    """JSON with spaces behind it, up to a multiple of 256 bytes."""
    return json_text + b" " * (-len(json_text) % PAD)


def seal_details(link: Link, padded: bytes, random: RandomBytes) -> bytes:
    """Seal padded details for the page."""
    return _seal(keys_of(link).details, b"unlatch/1 details" + link.ticket, padded, random)


def open_details(link: Link, sealed: bytes) -> bytes:
    """The padded details, as the answer must be bound to them.

    Raises:
        SealBroken
    """
    return _open(keys_of(link).details, b"unlatch/1 details" + link.ticket, sealed, "details")


def seal_stamp(link: Link, json_text: bytes, random: RandomBytes) -> bytes:
    """Seal the broker's own word about the asker for the page."""
    return _seal(keys_of(link).details, b"unlatch/1 stamp" + link.ticket, pad(json_text), random)


def open_stamp(link: Link, sealed: bytes) -> bytes:
    """The broker's word, as padded JSON.

    Raises:
        SealBroken
    """
    return _open(keys_of(link).details, b"unlatch/1 stamp" + link.ticket, sealed, "stamp")


def view_proof(view_key: bytes, nonce: bytes, page: bytes) -> bytes:
    """What a page sends to show that it has the link. Compare with ``hmac.compare_digest``."""
    proof = hmac.HMAC(view_key, hashes.SHA256())
    proof.update(nonce + page)
    return proof.finalize()


def seal_answer(link: Link, padded_details: bytes, answer: Answer) -> bytes:
    """Seal an answer to the asker, bound to the link and to the details that were shown.

    Raises:
        SealBroken: the link's public key is one that agrees on nothing (RFC 9180 section 7.1.4).
    """
    try:
        public_key = X25519PublicKey.from_public_bytes(link.public_key)
        return _SUITE.encrypt(pad(answer_to_json(answer)), public_key, _answer_info(link, padded_details))
    except ValueError:
        raise SealBroken("answer") from None


def open_answer(owned: OwnedLink, padded_details: bytes, sealed: bytes) -> Answer:
    """Open an answer.

    Raises:
        SealBroken: it was not made with this link and for these details, or it is not an answer at all.
    """
    if len(sealed) > MAX_SEALED:
        raise SealBroken("answer")
    try:
        padded = _SUITE.decrypt(sealed, owned.private_key, _answer_info(owned.link, padded_details))
        return answer_from_json(padded)
    except (InvalidTag, ValueError, Malformed):
        raise SealBroken("answer") from None


def seal_verdict(reply_key: bytes, ticket: bytes, verdict: Verdict, random: RandomBytes) -> bytes:
    """Seal the verdict for the page that gave the answer. Each reply key is used once."""
    key = _hkdf(reply_key, ticket, b"unlatch/1 verdict")
    return _seal(key, b"unlatch/1 verdict" + ticket, pad(verdict_to_json(verdict)), random)


def open_verdict(reply_key: bytes, ticket: bytes, sealed: bytes) -> Verdict:
    """Open a verdict.

    Raises:
        SealBroken: it was not sealed with the reply key of this answer.
    """
    key = _hkdf(reply_key, ticket, b"unlatch/1 verdict")
    try:
        return verdict_from_json(_open(key, b"unlatch/1 verdict" + ticket, sealed, "verdict"))
    except Malformed:
        raise SealBroken("verdict") from None


def _answer_info(link: Link, padded_details: bytes) -> bytes:
    return b"unlatch/1 answer" + link.ticket + keys_of(link).answer + _sha256(padded_details)


def _sha256(data: bytes) -> bytes:
    # Not hashlib's: that would map a second libcrypto into every waiting asker, 4 MiB each.
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


def _hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)


def _seal(key: bytes, context: bytes, plaintext: bytes, random: RandomBytes) -> bytes:
    nonce = random(NONCE_SIZE)
    return nonce + AESGCM(key).encrypt(nonce, plaintext, context)


def _open(key: bytes, context: bytes, sealed: bytes, what: str) -> bytes:
    if not NONCE_SIZE + 16 <= len(sealed) <= MAX_SEALED:
        raise SealBroken(what)
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], context)
    except InvalidTag:
        raise SealBroken(what) from None
