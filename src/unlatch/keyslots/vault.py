"""What keeps a stored secret closed: the master key, the sealed content, the wrapped copies of the key. Pure.

The content is sealed under a key that comes from the master key, with the whole header as associated data: whoever
changes, swaps or removes anything in the file breaks it. Each slot wraps the master key under a key of its own (KEK),
bound to the secret, the generation and the slot's parameters, so that no slot opens in another's place.
AES-256-GCM (NIST SP 800-38D) with random 96-bit nonces; HKDF-SHA256 (RFC 5869).
"""

from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from unlatch.keyslots.errors import BadSecretFile, WrongKey
from unlatch.keyslots.header import (
    KEY_SIZE,
    MAX_SECRET,
    NONCE_SIZE,
    WRAPPED_SIZE,
    Header,
    SecretFile,
    Slot,
    canonical,
    canonical_slot,
)
from unlatch.secret import Secret

RandomBytes = Callable[[int], bytes]

_LENGTH = 4  # bytes, big-endian, before the content
PAD = 256  # bytes; the file does not tell how long a passphrase is


def new_master(random: RandomBytes) -> Secret:
    """A fresh master key."""
    return Secret(random(KEY_SIZE))


def seal_file(header: Header, master: Secret, content: Secret, random: RandomBytes) -> SecretFile:
    """The file for this header. ``content`` has at most ``MAX_SECRET`` bytes and may not be empty.

    Raises:
        BadSecretFile: the content has no or too many bytes.
    """
    if not 0 < len(content.reveal()) <= MAX_SECRET:
        raise BadSecretFile(f"a secret has 1 to {MAX_SECRET} bytes")
    nonce = random(NONCE_SIZE)
    plain = _padded(content)
    try:
        return SecretFile(header, nonce + AESGCM(_content_key(header, master)).encrypt(nonce, plain, _context(header)))
    finally:
        plain[:] = bytes(len(plain))


def open_file(file: SecretFile, master: Secret) -> Secret:
    """The content.

    Raises:
        BadSecretFile: header or content were changed after they were sealed, or the master key is of another time.
    """
    nonce, sealed = file.sealed[:NONCE_SIZE], file.sealed[NONCE_SIZE:]
    try:
        plain = AESGCM(_content_key(file.header, master)).decrypt(nonce, sealed, _context(file.header))
    except InvalidTag:
        raise BadSecretFile("its header or its content was changed since it was sealed") from None
    size = int.from_bytes(plain[:_LENGTH])
    if not 0 < size <= len(plain) - _LENGTH:
        raise BadSecretFile("its content has no length")
    return Secret(memoryview(plain)[_LENGTH : _LENGTH + size])


def wrap(header: Header, slot: Slot, kek: Secret, master: Secret, random: RandomBytes) -> Slot:
    """The slot with the master key wrapped for it."""
    nonce = random(NONCE_SIZE)
    sealed = AESGCM(bytes(kek.reveal())).encrypt(nonce, master.reveal(), _slot_context(header, slot))
    return slot._replace(wrapped=nonce + sealed)


def unwrap(header: Header, slot: Slot, kek: Secret) -> Secret:
    """The master key.

    Raises:
        WrongKey: this KEK does not open this slot, or the slot was changed or moved.
    """
    if len(slot.wrapped) != WRAPPED_SIZE or len(kek.reveal()) != KEY_SIZE:
        raise WrongKey
    try:
        cipher = AESGCM(bytes(kek.reveal()))
        return Secret(cipher.decrypt(slot.wrapped[:NONCE_SIZE], slot.wrapped[NONCE_SIZE:], _slot_context(header, slot)))
    except InvalidTag:
        raise WrongKey from None


def _content_key(header: Header, master: Secret) -> bytes:
    return HKDF(hashes.SHA256(), KEY_SIZE, header.id, b"unlatch/1 secret content").derive(bytes(master.reveal()))


def _context(header: Header) -> bytes:
    return b"unlatch/1 secret\n" + canonical(header)


def _slot_context(header: Header, slot: Slot) -> bytes:
    return b"unlatch/1 slot\n" + canonical_slot(header, slot)


def _padded(content: Secret) -> bytearray:
    data = content.reveal()
    plain = bytearray(len(data).to_bytes(_LENGTH))
    plain += data
    plain += bytes(-len(plain) % PAD)
    return plain
