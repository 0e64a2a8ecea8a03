"""The keyslot ``fido2``: what a security key, plugged into this host, says to a salt that is used once.

Parameters: ``credential`` and ``salt`` (base64url), ``touch`` and ``pin``, which say how the key is asked: with the PIN
it says something else than without. The KEK is the key's output for the salt (hmac-secret, CTAP 2.1 section 12.5).

One touch gives two outputs: that of the salt in the file opens the slot, and that of a fresh one is the KEK from now
on (:mod:`unlatch.keyslots.rolling`). So what was recorded when the slot was opened opens nothing after the next time.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar

from unlatch import base64url
from unlatch.errors import Malformed
from unlatch.keyslots import hidraw, key_pin, plugged
from unlatch.keyslots.errors import SlotFailed, WrongKey
from unlatch.keyslots.header import Params
from unlatch.keyslots.key_troubles import TOUCH_SECONDS, NeedsTouch
from unlatch.keyslots.security_key import SALT_SIZE, SecurityKey
from unlatch.keyslots.slots import Created, Helpers, Opened, Subject
from unlatch.secret import Secret

MAX_CREDENTIAL = 1024  # bytes; those of known keys have 48 to 300

_T = TypeVar("_T")


class Fido2:
    """See :class:`unlatch.keyslots.slots.SlotKind`. The wishes: ``no-touch``, ``pin``.

    ``ports`` lists the security keys that are plugged in; ``clock`` gives seconds, and ``sleep`` lets some pass.
    """

    def __init__(
        self,
        ports: plugged.Ports = hidraw.ports,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ports = ports
        self._clock = clock
        self._sleep = sleep

    def check(self, params: Params) -> None:
        """See the protocol."""
        if params.keys() != {"credential", "salt", "touch", "pin"}:
            raise Malformed("fido2 slot")
        if not isinstance(params["touch"], bool) or not isinstance(params["pin"], bool):
            raise Malformed("fido2 slot")
        if not 0 < len(base64url.decode(params["credential"], "fido2 slot")) <= MAX_CREDENTIAL:
            raise Malformed("fido2 slot")
        _salt(params)

    def create(self, subject: Subject, wishes: Mapping[str, str], helpers: Helpers) -> Created:
        """See the protocol. Two touches: one makes the credential, one gives the first output.

        A key that has a slot of this secret is not taken for a second one; whoever has one USB port may change them.
        """
        plugged.require_library()
        touch, pin = "no-touch" not in wishes, "pin" in wishes
        visit = self._new_key(subject, helpers)
        with visit() as key:
            if key.always_wants_pin and not pin:
                helpers.tell(f"{key.name} gives nothing without its PIN, so the keyslot will ask for it")
                pin = True
            pin_to_make = pin or key.wants_pin_to_make

        def make(key: SecurityKey, given: Secret | None) -> Created:
            credential = key.make(subject.secret, given, _touch(key, helpers, "to enrol it"))
            params: Params = {"credential": base64url.encode(credential), "salt": "", "touch": touch, "pin": pin}
            made = _fresh(key, params, given if pin else None, helpers, "once more")
            if touch and not pin and _answers_untouched(key, credential, helpers):
                helpers.tell(
                    f"{key.name} also answers programs that leave the touch out, and then nobody need be there; "
                    "a keyslot with --pin needs a person"
                )
            return made

        title = f"PIN of a security key, to enrol it for {subject.secret}"
        purpose = key_pin.Purpose(subject, title, touch=True, enrol=True)
        return self._asked(visit, pin_to_make, purpose, helpers, make)

    def renew(self, subject: Subject, params: Params, helpers: Helpers) -> Created:
        """See the protocol. With several keys and one USB port, each is asked for in turn."""
        plugged.require_library()
        purpose = key_pin.Purpose(subject, f"PIN of the security key, to renew {subject.secret}", touch=params["touch"])
        visit = self._awaited(lambda: self._key_of(params), f"the security key of the keyslot {subject.label}", helpers)
        return self._asked(visit, params["pin"], purpose, helpers, lambda key, pin: _renewed(key, params, pin, helpers))

    def open(self, subject: Subject, params: Params, unwrap: Callable[[Secret], Secret], helpers: Helpers) -> Opened:
        """See the protocol. The opened slot wants to be rolled."""
        plugged.require_library()
        purpose = key_pin.Purpose(
            subject,
            f"PIN of the security key, to open {subject.secret}",
            touch=params["touch"],
            coalesce=f"secret:{subject.secret}",
        )

        def use(key: SecurityKey, pin: Secret | None) -> Opened:
            salt = helpers.random(SALT_SIZE)
            current, following = _outputs(key, params, [_salt(params), salt], pin, helpers)
            try:
                return Opened(unwrap(current), Created(params | {"salt": base64url.encode(salt)}, following))
            except WrongKey:
                raise SlotFailed(f"{key.name} does not open the keyslot {subject.label}, which was changed") from None
            finally:
                current.wipe()

        return self._asked(lambda: self._key_of(params), params["pin"], purpose, helpers, use)

    def _asked(
        self,
        visit: plugged.Visit,
        pin: bool,
        purpose: key_pin.Purpose,
        helpers: Helpers,
        work: Callable[[SecurityKey, Secret | None], _T],
    ) -> _T:
        """Do something with the key, once a person gave its PIN if that is needed."""
        if not pin:
            with visit() as key:
                return work(key, None)
        with key_pin.proven(visit, purpose, helpers) as (key, given):
            return work(key, given)

    def _new_key(self, subject: Subject, helpers: Helpers) -> plugged.Visit:
        enrolled = [_credential(params) for params in subject.siblings]

        def visit() -> "AbstractContextManager[SecurityKey]":
            return plugged.new_key(enrolled, self._ports, self._clock)

        # With the first key of a secret there is nothing to change: it is there or it is not.
        return self._awaited(visit, "the security key that is to be enrolled", helpers) if enrolled else visit

    def _awaited(self, visit: plugged.Visit, what: str, helpers: Helpers) -> plugged.Visit:
        def ask() -> None:
            helpers.tell(f"plug in {what}, within {plugged.PLUG_SECONDS} seconds")

        return lambda: plugged.awaited(visit, ask, self._clock, self._sleep)

    def _key_of(self, params: Params) -> "AbstractContextManager[SecurityKey]":
        return plugged.key_of(_credential(params), self._ports, self._clock)


def _fresh(key: SecurityKey, params: Params, pin: Secret | None, helpers: Helpers, why: str) -> Created:
    """The slot with a new salt, and what the key says to it."""
    salt = helpers.random(SALT_SIZE)
    waiting = _touch(key, helpers, why)
    (kek,) = key.outputs(_credential(params), [salt], pin, touch=params["touch"], waiting=waiting)
    return Created(params | {"salt": base64url.encode(salt)}, kek)


def _renewed(key: SecurityKey, params: Params, pin: Secret | None, helpers: Helpers) -> Created:
    try:
        return _fresh(key, params, pin, helpers, "to renew its keyslot")
    except NeedsTouch:
        helpers.tell(_insists(key))
        return _fresh(key, params | {"touch": True}, pin, helpers, "to renew its keyslot")


def _outputs(
    key: SecurityKey, params: Params, salts: list[bytes], pin: Secret | None, helpers: Helpers
) -> list[Secret]:
    waiting = _touch(key, helpers, "to open its keyslot")
    try:
        return key.outputs(_credential(params), salts, pin, touch=params["touch"], waiting=waiting)
    except NeedsTouch:
        # A newer firmware may insist, as Nitrokey's 1.8.2 does. The outputs stay the same, so nothing is lost.
        helpers.tell(_insists(key))
        return key.outputs(_credential(params), salts, pin, touch=True, waiting=waiting)


def _answers_untouched(key: SecurityKey, credential: bytes, helpers: Helpers) -> bool:
    try:
        key.outputs(credential, [helpers.random(SALT_SIZE)], None, touch=False, waiting=lambda: None)
    except SlotFailed:
        return False
    return True


def _insists(key: SecurityKey) -> str:
    return f"{key.name} insists on a touch, although the keyslot was made without"


def _credential(params: Params) -> bytes:
    return base64url.decode(params["credential"], "fido2 slot")


def _salt(params: Params) -> bytes:
    return base64url.decode(params["salt"], "fido2 slot", SALT_SIZE)


def _touch(key: SecurityKey, helpers: Helpers, why: str) -> Callable[[], None]:
    return lambda: helpers.tell(f"touch {key.name} within {TOUCH_SECONDS} seconds {why}")


kind = Fido2()
