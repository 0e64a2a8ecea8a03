"""Our own keys: the device (an Olm account), and the three cross-signing keys. No input or output.

vodozemac has no bare Ed25519 signing key; the fingerprint key of an ``Account`` is one, so each cross-signing key is
an account of which nothing but ``sign`` and ``ed25519_key`` is ever used.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from vodozemac import Account, Curve25519PublicKey

from unlatch.errors import Malformed
from unlatch.matrix import canonical, fields

OLM = "m.olm.v1.curve25519-aes-sha2"
MEGOLM = "m.megolm.v1.aes-sha2"
ONE_TIME = "signed_curve25519"

Json = dict[str, Any]


def signer(account: Account) -> canonical.Signer:
    """The account's fingerprint key as a function."""
    return lambda data: account.sign(data).to_base64()


class OwnDevice:
    """The bot's device: what it publishes, and when.

    Attributes:
        account: Olm's keys.
        published: whether the server confirmed the device keys.
    """

    def __init__(self, user_id: str, device_id: str, account: Account, published: bool) -> None:
        self.user_id = user_id
        self.device_id = device_id
        self.account = account
        self.published = published
        self._on_server: int | None = None if published else 0  # one-time keys left; None: nobody told us yet
        self._fallback_due = not published
        self._healed = False
        # Keys made but not confirmed by the last process: nobody knows whether they arrived. To upload them again
        # could offer one for the second time; to keep them privately costs nothing.
        account.mark_keys_as_published()

    @property
    def ed25519(self) -> str:
        """The fingerprint key, base64."""
        return self.account.ed25519_key.to_base64()

    @property
    def curve25519(self) -> str:
        """The identity key, base64."""
        return self.account.curve25519_key.to_base64()

    def sign(self, thing: Mapping[str, Any]) -> Json:
        """A copy with the device's signature."""
        return canonical.sign(thing, self.user_id, f"ed25519:{self.device_id}", signer(self.account))

    def keys(self) -> Json:
        """The device keys, signed by the device."""
        return self.sign(
            {
                "user_id": self.user_id,
                "device_id": self.device_id,
                "algorithms": [OLM, MEGOLM],
                "keys": {
                    f"curve25519:{self.device_id}": self.curve25519,
                    f"ed25519:{self.device_id}": self.ed25519,
                },
            }
        )

    def take_counts(self, counts: Mapping[str, Any], unused_fallback: Collection[str] | None) -> None:
        """What the server still has of ours."""
        count = counts.get(ONE_TIME, 0)
        self._on_server = count if isinstance(count, int) and count >= 0 else 0
        if unused_fallback is not None and ONE_TIME not in unused_fallback:
            self._fallback_due = True

    def distrust_server_keys(self) -> None:
        """Somebody used a key that we do not have: this state is an old copy. Replace the fallback key, once a run.

        One-time keys on the server cannot be withdrawn; but a client answers in the newest Olm session it has, and
        that is the one our next message makes.
        """
        if not self._healed:
            self._healed = self._fallback_due = True

    def upload(self) -> Json | None:
        """The body of ``/keys/upload``, the same until :meth:`uploaded`; None if the server has enough."""
        body: Json = {} if self.published else {"device_keys": self.keys()}
        room = self.account.max_number_of_one_time_keys
        waiting = len(self.account.one_time_keys)
        if self._on_server is not None and not waiting and self._on_server < room // 2:
            self.account.generate_one_time_keys(room - self._on_server)
        if self._fallback_due and not self._fallback():
            self.account.generate_fallback_key()  # type: ignore[attr-defined]  # missing in vodozemac 0.10's stubs
        if one_time := self.account.one_time_keys:
            body["one_time_keys"] = dict(self._offer(key, {}) for key in one_time.values())
        if fallback := self._fallback():
            body["fallback_keys"] = dict(self._offer(key, {"fallback": True}) for key in fallback.values())
        return body or None

    def uploaded(self, response: Mapping[str, Any]) -> None:
        """The server has them.

        Raises:
            Malformed
        """
        count = fields.table(response, "one_time_key_counts", "answer to /keys/upload").get(ONE_TIME, 0)
        if not isinstance(count, int) or count < 0:
            raise Malformed("answer to /keys/upload")
        self.account.mark_keys_as_published()
        self._on_server, self.published, self._fallback_due = count, True, False

    def _fallback(self) -> dict[str, Curve25519PublicKey]:
        found: dict[str, Curve25519PublicKey] = self.account.fallback_key  # type: ignore[attr-defined]  # not in stubs
        return found

    def _offer(self, key: Curve25519PublicKey, more: Json) -> tuple[str, Json]:
        # vodozemac numbers its keys. A state restored from a copy would give a number out again, with another key;
        # servers refuse that for ever after. So the key itself makes its name.
        public = key.to_base64()
        return f"{ONE_TIME}:{hashlib.sha256(public.encode()).hexdigest()[:16]}", self.sign({"key": public, **more})


class CrossSigning:
    """The bot's identity: a master key, which signs the other two; one for its devices, one for other users."""

    USAGES = ("master", "self_signing", "user_signing")

    def __init__(self, user_id: str, accounts: Mapping[str, Account]) -> None:
        self.user_id = user_id
        self.accounts = {usage: accounts[usage] for usage in self.USAGES}

    @classmethod
    def create(cls, user_id: str) -> "CrossSigning":
        """A new identity."""
        return cls(user_id, {usage: Account() for usage in cls.USAGES})

    def public(self, usage: str) -> str:
        """The public key for a usage, base64."""
        return self.accounts[usage].ed25519_key.to_base64()

    def sign(self, usage: str, thing: Mapping[str, Any]) -> Json:
        """A copy with the signature of one of the keys."""
        return canonical.sign(thing, self.user_id, f"ed25519:{self.public(usage)}", signer(self.accounts[usage]))

    def upload(self, device: OwnDevice) -> Json:
        """The body of ``/keys/device_signing/upload``, without ``auth``."""
        return {
            "master_key": device.sign(self._object("master")),
            "self_signing_key": self.sign("master", self._object("self_signing")),
            "user_signing_key": self.sign("master", self._object("user_signing")),
        }

    def _object(self, usage: str) -> Json:
        key = self.public(usage)
        return {"user_id": self.user_id, "usage": [usage], "keys": {f"ed25519:{key}": key}}
