"""Which of the security keys that are plugged in is the one: for an existing credential, and for a new one."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from unlatch.keyslots import key_troubles
from unlatch.keyslots.errors import SlotFailed
from unlatch.keyslots.hidraw import Port
from unlatch.keyslots.key_troubles import NotPlugged
from unlatch.keyslots.security_key import SecurityKey

Ports = Callable[[], Sequence[Port]]
Clock = Callable[[], float]
Visit = Callable[[], "AbstractContextManager[SecurityKey]"]

PLUG_SECONDS = 60  # for changing one key for another
_LOOK_SECONDS = 0.5


def require_library() -> None:
    """Import python-fido2, and keep its log shut: it would hold all that is said to a key.

    Raises:
        SlotFailed: it is not installed.
    """
    import logging

    try:
        import fido2.ctap2  # noqa: F401
    except ImportError:
        hint = f"{sys.prefix}/bin/pip install 'unlatch[fido2]'"
        raise SlotFailed("security keys need python-fido2, which is not installed", hint) from None
    logging.getLogger("fido2").setLevel(logging.CRITICAL + 1)


@contextlib.contextmanager
def key_of(credential: bytes, ports: Ports, clock: Clock = time.monotonic) -> Iterator[SecurityKey]:
    """The plugged-in key that made this credential, for one visit. Looking for it costs no touch and no PIN try.

    Raises:
        SlotFailed: there is none; or why one that is there could not be asked.
    """
    found = ports()
    failures: list[SlotFailed] = []
    for port in found:
        try:
            key = _open(port, clock)
        except SlotFailed as failure:
            failures.append(failure)
            continue
        with contextlib.closing(key):
            if _made(key, credential, failures):
                yield key
                return
    raise failures[0] if failures else key_troubles.other_keys(len(found)) if found else key_troubles.none_plugged()


@contextlib.contextmanager
def new_key(enrolled: Sequence[bytes], ports: Ports, clock: Clock = time.monotonic) -> Iterator[SecurityKey]:
    """The one plugged-in key that made none of these credentials, for one visit.

    Raises:
        SlotFailed: there is none, there are several, or it cannot be used.
    """
    found = ports()
    new = [port for port in found if not _is_enrolled(port, enrolled, clock)]
    if not new:
        raise key_troubles.all_enrolled(len(found)) if found else key_troubles.none_plugged()
    if len(new) > 1:
        names = ", ".join(port.name for port in new)
        raise SlotFailed(f"{len(new)} security keys are plugged in: {names}", "leave only the one in that you mean")
    with contextlib.closing(_open(new[0], clock)) as key:
        yield key


@contextlib.contextmanager
def awaited(
    visit: Visit, ask: Callable[[], None], clock: Clock = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Iterator[SecurityKey]:
    """The key that ``visit`` finds, once it is plugged in: :data:`PLUG_SECONDS` for a person who was asked to.

    Raises:
        SlotFailed: as ``visit``.
    """
    until, asked = clock() + PLUG_SECONDS, False
    while True:
        with contextlib.ExitStack() as stack:
            try:
                key = stack.enter_context(visit())
            except NotPlugged:
                if clock() >= until:
                    raise
            else:
                yield key
                return
        if not asked:
            ask()
            asked = True
        sleep(_LOOK_SECONDS)


def _is_enrolled(port: Port, enrolled: Sequence[bytes], clock: Clock) -> bool:
    if not enrolled:
        return False
    try:
        with contextlib.closing(_open(port, clock)) as key:
            return any(key.knows(credential) for credential in enrolled)
    except SlotFailed:
        return False  # why, is told when it is to be enrolled


def _open(port: Port, clock: Clock) -> SecurityKey:
    with key_troubles.translated(port.path), contextlib.ExitStack() as undo:
        device = port.open()
        undo.callback(device.close)
        key = SecurityKey(device, port.name, port.path, clock)
        undo.pop_all()
        return key


def _made(key: SecurityKey, credential: bytes, failures: list[SlotFailed]) -> bool:
    try:
        return key.knows(credential)
    except SlotFailed as failure:
        failures.append(failure)
        return False
