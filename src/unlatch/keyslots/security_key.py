"""One security key, by python-fido2: its credential, hmac-secret with one or two salts, the PIN and its tries.

This is CTAP below WebAuthn: python-fido2's Fido2Client can neither leave out the touch nor promise that a PIN is given
once. Numbers in parentheses are sections of "Client to Authenticator Protocol (CTAP)" 2.1 of June 15, 2021.

Nothing here asks a person, and no PIN goes to the key again that it refused. All errors are SlotFailed.
"""

import contextlib
import os
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unlatch.keyslots import key_troubles
from unlatch.keyslots.errors import SlotFailed
from unlatch.keyslots.key_troubles import TOUCH_SECONDS, NeedsTouch, WrongPin, translated
from unlatch.secret import Secret

if TYPE_CHECKING:
    from fido2.hid import CtapHidDevice

RP_ID = "unlatch:"  # no domain, so no web page can have a browser ask for it; OpenSSH has "ssh:"
SALT_SIZE = OUTPUT_SIZE = 32  # bytes (12.5)
MAX_PIN = 63  # bytes (6.5.1)
LOW = 2  # tries left, below which no PIN is given to the key; as with cards
_ES256: list[Mapping[str, Any]] = [{"type": "public-key", "alg": -7}]


class SecurityKey:
    """An open key. Its ``name`` is what it calls itself, ``path`` its device file. Methods raise SlotFailed."""

    def __init__(self, device: "CtapHidDevice", name: str, path: str, clock: Callable[[], float]) -> None:
        from fido2.ctap2.base import Ctap2
        from fido2.ctap2.pin import ClientPin

        self.name = name
        self.path = path
        self._clock = clock
        self._device = device
        self._ctap = Ctap2(device)
        self._info = self._ctap.info
        self._options = self._info.options
        if "hmac-secret" not in self._info.extensions or not self._info.pin_uv_protocols:
            raise SlotFailed(f"{name} cannot hold a keyslot: it has no hmac-secret", "use another security key")
        self._pin = ClientPin(self._ctap)
        self._proven: tuple[bool, bytes] | None = None
        self._protocol = self._pin.protocol

    def close(self) -> None:
        """End the visit."""
        with contextlib.suppress(OSError):
            self._device.close()

    @property
    def always_wants_pin(self) -> bool:
        """Whether it gives nothing without a PIN (option alwaysUv, 6.4)."""
        return self._options.get("alwaysUv") is True

    @property
    def wants_pin_to_make(self) -> bool:
        """Whether a credential cannot be made without the PIN (makeCredUvNotRqd, 6.4)."""
        free = self._options.get("makeCredUvNotRqd") is True and not self.always_wants_pin
        return self.always_wants_pin or (self._options.get("clientPin") is True and not free)

    def knows(self, credential: bytes) -> bool:
        """Whether this key made the credential: an assertion without touch and PIN, which every key gives (6.2.2)."""
        from fido2.ctap import CtapError

        if 0 < self._info.max_cred_id_length < len(credential):
            return False
        unknown = (CtapError.ERR.NO_CREDENTIALS, CtapError.ERR.INVALID_CREDENTIAL, CtapError.ERR.LIMIT_EXCEEDED)
        with translated():
            try:
                self._ctap.get_assertion(
                    RP_ID, os.urandom(32), [_descriptor(credential)], options={"up": False}, event=self._limit()
                )
            except CtapError as error:
                if error.code in unknown:
                    return False
                raise
        return True

    def tries(self) -> int:
        """How many PINs it takes before it locks for good; a right one gives all of them back.

        Raises:
            SlotFailed: it has no PIN; it is locked, for good or until it is plugged in again; it has one try left,
                which is not ours to spend.
        """
        if self._options.get("clientPin") is not True:
            raise SlotFailed("this security key has no PIN", f"fido2-token -S {self.path} sets one")
        with translated():
            tries, wants_power_cycle = self._pin.get_pin_retries()
        if wants_power_cycle:
            raise key_troubles.paused(tries)
        if tries == 0:
            raise key_troubles.locked()
        if tries < LOW:
            raise key_troubles.last_try(tries, self.path)
        return tries

    def objection(self, pin: Secret) -> str:
        """Why this cannot be a PIN of this key, so that it is not given to it; "" when it can (6.5.1)."""
        try:
            text = _text(pin)
        except UnicodeDecodeError:
            return "a PIN is text; this one was not tried and cost nothing"
        if len(text) < self._info.min_pin_length:
            return f"a PIN of this key has at least {self._info.min_pin_length} characters; this one cost nothing"
        if len(text.encode()) > MAX_PIN:
            return f"a PIN has at most {MAX_PIN} bytes; this one cost nothing"
        return ""

    def prove(self, pin: Secret, *, making: bool) -> None:
        """Give the PIN to the key, once: for :meth:`make`, or else for :meth:`outputs`.

        Raises:
            WrongPin: it cost a try.
            SlotFailed: as :meth:`tries`, which is looked at just before.
        """
        from fido2.ctap import CtapError

        before = self.tries()
        with translated():
            try:
                self._proven = making, self._token(pin, making=making)
            except CtapError as error:
                if error.code not in (CtapError.ERR.PIN_INVALID, CtapError.ERR.PIN_AUTH_BLOCKED):
                    raise
                tries, _ = self._pin.get_pin_retries()
                if tries == before:  # keys of CTAP 2.0 do not say before that they take none for now
                    raise key_troubles.paused(tries) from None
                raise WrongPin(tries, replug=error.code == CtapError.ERR.PIN_AUTH_BLOCKED) from None

    def make(self, secret: str, pin: Secret | None, waiting: Callable[[], None]) -> bytes:
        """Make a credential for hmac-secret, which the key itself need not remember; its id (6.1, 12.5).

        ``waiting`` is called when the key waits for a touch.
        """
        challenge = os.urandom(32)
        with translated():
            token = None if pin is None else self._token(pin, making=True)
            made = self._ctap.make_credential(
                challenge,
                {"id": RP_ID, "name": "Unlatch"},
                {"id": os.urandom(16), "name": secret, "displayName": secret},
                _ES256,
                extensions={"hmac-secret": True},
                event=self._limit(),
                on_keepalive=_on_waiting(waiting),
                **self._proof(token, challenge),
            )
            credential = made.auth_data.credential_data
            if credential is None or (made.auth_data.extensions or {}).get("hmac-secret") is not True:
                raise SlotFailed("the security key made a credential without hmac-secret", "use another security key")
            return bytes(credential.credential_id)

    def outputs(
        self, credential: bytes, salts: Sequence[bytes], pin: Secret | None, *, touch: bool, waiting: Callable[[], None]
    ) -> list[Secret]:
        """The key's outputs for one or two salts, by one touch: HMAC-SHA-256 of each under a secret of the credential.

        With the PIN it is another secret than without (12.5).

        Raises:
            NeedsTouch: ``touch`` is not wanted, and the key insists, as CTAP 2.1 has it.
        """
        from fido2.ctap import CtapError

        challenge = os.urandom(32)
        with translated():
            token = None if pin is None else self._token(pin, making=False)
            shared, extension = self._sealed_salts(b"".join(salts))
            try:
                assertion = self._ctap.get_assertion(
                    RP_ID,
                    challenge,
                    [_descriptor(credential)],
                    {"hmac-secret": extension},
                    None if touch else {"up": False},
                    event=self._limit(),
                    on_keepalive=_on_waiting(waiting),
                    **self._proof(token, challenge),
                )
            except CtapError as error:
                refusals = (CtapError.ERR.UNSUPPORTED_OPTION, CtapError.ERR.INVALID_OPTION, CtapError.ERR.UP_REQUIRED)
                if not touch and error.code in refusals:
                    raise NeedsTouch from None
                raise
            sealed = (assertion.auth_data.extensions or {})["hmac-secret"]
            opened = Secret(self._protocol.decrypt(shared, sealed))
        if len(opened.reveal()) != OUTPUT_SIZE * len(salts):
            raise SlotFailed("the security key gave an output of another size")
        return [Secret(opened.reveal()[start : start + OUTPUT_SIZE]) for start in range(0, len(salts) * 32, 32)]

    def _sealed_salts(self, salts: bytes) -> tuple[bytes, dict[int, Any]]:
        """The salts under a key that is shared with this security key, and that key (12.5)."""
        from fido2.ctap2.pin import ClientPin

        reply = self._ctap.client_pin(self._protocol.VERSION, ClientPin.CMD.GET_KEY_AGREEMENT)
        agreement, shared = self._protocol.encapsulate(reply[ClientPin.RESULT.KEY_AGREEMENT])
        sealed = self._protocol.encrypt(shared, salts)
        seal = self._protocol.authenticate(shared, sealed)
        return shared, {1: agreement, 2: sealed, 3: seal, 4: self._protocol.VERSION}

    def _token(self, pin: Secret, *, making: bool) -> bytes:
        """What stands for the PIN in one operation; a touch uses it up (6.5.2.1). The first is that of the proof."""
        from fido2.ctap2.pin import ClientPin

        proven, self._proven = self._proven, None
        if proven is not None and proven[0] == making:
            return proven[1]
        wanted = ClientPin.PERMISSION.MAKE_CREDENTIAL if making else ClientPin.PERMISSION.GET_ASSERTION
        return self._pin.get_pin_token(_text(pin), wanted, RP_ID)

    def _proof(self, token: bytes | None, challenge: bytes) -> dict[str, Any]:
        if token is None:
            return {}
        proof = self._protocol.authenticate(token, challenge)
        return {"pin_uv_param": proof, "pin_uv_protocol": self._protocol.VERSION}

    def _limit(self) -> Any:
        return _TimeLimit(self._clock)


class _TimeLimit:
    """What python-fido2 takes for a threading.Event that cancels: it is set when the time is over."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until = clock() + TOUCH_SECONDS

    def is_set(self) -> bool:
        return self._clock() >= self._until

    def wait(self, seconds: float) -> bool:
        time.sleep(max(0.0, min(seconds, self._until - self._clock())))
        return self.is_set()


def _descriptor(credential: bytes) -> dict[str, Any]:
    return {"type": "public-key", "id": credential}


def _on_waiting(waiting: Callable[[], None]) -> Callable[[int], None]:
    from fido2.ctap import STATUS

    return lambda status: waiting() if status == STATUS.UPNEEDED else None


def _text(pin: Secret) -> str:
    """The PIN as keys count it: NFC (6.5.1)."""
    return unicodedata.normalize("NFC", str(pin.reveal(), "utf-8"))
