"""The arithmetic of m.sas.v1: commitment, key agreement, short string, MACs (specification, "SAS"). Pure."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, NamedTuple

from vodozemac import Curve25519PublicKey, EstablishedSas, Sas

from unlatch.errors import Malformed
from unlatch.matrix import canonical, fields
from unlatch.matrix.emoji import EMOJI, Emoji

METHOD = "m.sas.v1"
AGREEMENT = "curve25519-hkdf-sha256"
HASH = "sha256"
MAC = "hkdf-hmac-sha256.v2"
STRINGS = ("emoji", "decimal")
OFFER = {
    "method": METHOD,
    "key_agreement_protocols": [AGREEMENT],
    "hashes": [HASH],
    "message_authentication_codes": [MAC],
    "short_authentication_string": ["decimal", "emoji"],
}
MAX_MACED = 16  # keys in one MAC event; a device has two or three to vouch for


class End(NamedTuple):
    """One of the two devices."""

    user_id: str
    device_id: str


def commitment(public_key: str, start: Mapping[str, Any]) -> str:
    """What the accepting side promises: the hash of its key and of the start event's content.

    Raises:
        Malformed: the content has no canonical form.
    """
    return fields.to_base64(hashlib.sha256(public_key.encode() + canonical.encode(start)).digest())


def fits(start: Mapping[str, Any]) -> bool:
    """Whether a start event offers what we know."""
    lists = [start.get(name) for name in OFFER if name != "method"]
    return (
        start.get("method") == METHOD
        and all(isinstance(each, list) for each in lists)
        and AGREEMENT in start["key_agreement_protocols"]
        and HASH in start["hashes"]
        and MAC in start["message_authentication_codes"]
        and bool(shared_strings(start))
    )


def shared_strings(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The short strings that both sides can show."""
    theirs = content.get("short_authentication_string")
    return tuple(each for each in STRINGS if isinstance(theirs, list) and each in theirs)


class Agreement:
    """Our ephemeral key, and what it becomes with theirs. ``public_key``: base64, to send."""

    def __init__(self) -> None:
        self._sas = Sas()
        self.public_key: str = self._sas.public_key.to_base64()
        self._shared: EstablishedSas | None = None
        self._info = ""

    def take(self, their_key: str, ours: End, theirs: End, we_started: bool, transaction_id: str) -> None:
        """Their public key has come.

        Raises:
            Malformed: it is none, or ours thrown back.
        """
        try:
            key = Curve25519PublicKey.from_base64(their_key)
            if key.to_base64() != their_key or their_key == self.public_key:
                raise Malformed("key")
            self._shared = self._sas.diffie_hellman(key)
        except ValueError:  # malformed, or a point that would make the secret known
            raise Malformed("key") from None
        us, them = (*ours, self.public_key), (*theirs, their_key)
        parts = (*us, *them) if we_started else (*them, *us)
        self._info = "|".join(("MATRIX_KEY_VERIFICATION_SAS", *parts, transaction_id))

    def emoji(self) -> tuple[Emoji, ...]:
        """Seven of the 64."""
        return tuple(EMOJI[index] for index in self._established().bytes(self._info).emoji_indices)

    def decimals(self) -> tuple[int, int, int]:
        """Three numbers from 1000 to 9191."""
        return self._established().bytes(self._info).decimals

    def macs(self, keys: Mapping[str, str], sender: End, receiver: End, transaction_id: str) -> dict[str, Any]:
        """The content of our MAC event for ``keys`` (key id -> public key)."""
        base = _mac_info(sender, receiver, transaction_id)
        shared = self._established()
        return {
            "mac": {key_id: shared.calculate_mac(key, base + key_id) for key_id, key in keys.items()},
            "keys": shared.calculate_mac(",".join(sorted(keys)), base + "KEY_IDS"),
        }

    def check(
        self, content: Mapping[str, Any], keys: Mapping[str, str], sender: End, receiver: End, transaction_id: str
    ) -> bool:
        """Whether their MAC event vouches for every one of ``keys``. It may name others, which we ignore.

        Raises:
            Malformed
        """
        macs = fields.table(content, "mac", "MAC event")
        if len(macs) > MAX_MACED or not all(isinstance(mac, str) for mac in macs.values()):
            raise Malformed("MAC event")
        base = _mac_info(sender, receiver, transaction_id)
        wanted = [(",".join(sorted(macs)), "KEY_IDS", fields.text(content, "keys", "MAC event"))]
        if not set(keys) <= set(macs):
            return False
        wanted += [(key, key_id, macs[key_id]) for key_id, key in keys.items()]
        try:
            for value, name, mac in wanted:
                self._established().verify_mac(value, base + name, mac)
        except ValueError:
            return False
        return True

    def _established(self) -> EstablishedSas:
        if self._shared is None:
            raise RuntimeError("the keys were not exchanged yet")
        return self._shared


def _mac_info(sender: End, receiver: End, transaction_id: str) -> str:
    return "".join(("MATRIX_KEY_VERIFICATION_MAC", *sender, *receiver, transaction_id))


def same(one: str, other: str) -> bool:
    """Compare two texts in constant time."""
    return hmac.compare_digest(one.encode(), other.encode())
