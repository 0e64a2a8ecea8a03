"""What the commands of stored secrets share: where they are, who helps, and what their errors mean to people."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator

from unlatch import runtime
from unlatch.ask import Asker, Released
from unlatch.cli import admin, persons, voice
from unlatch.keyslots import grant
from unlatch.keyslots.errors import (
    BadSecretFile,
    Busy,
    Changed,
    NoSuchSecret,
    NotForThisUnit,
    SecretError,
    SecretExists,
    SlotFailed,
    Unsafe,
)
from unlatch.keyslots.opening import Opening, Uses, open_secret
from unlatch.keyslots.slots import Helpers
from unlatch.keyslots.store import Store, account_home, directory
from unlatch.secret import Secret


def store() -> Store:
    """The stored secrets of this user."""
    return Store(directory(os.environ, account_home(os.geteuid(), os.environ)))


def helpers(choice: persons.Choice, command: str) -> Helpers:
    """What keyslots may use; ``command`` is what the page calls the command."""
    return Helpers(
        lambda: persons.person(choice, command),
        lambda text: voice.tell(voice.clean(text)),
        os.urandom,
        os.environ,
        choice.timeout,
    )


def open_named(
    name: str, choice: persons.Choice, command: str, slot: str = "", keep: Callable[[Secret], object] = lambda _: None
) -> Opening:
    """Open a stored secret; the opening stands in the audit trail, and ``keep`` was called, before this returns.

    Raises:
        Problem, and what :func:`unlatch.keyslots.opening.open_secret` raises.
    """
    with told(name):
        return open_secret(store(), name, helpers(choice, command), Uses(record, keep), slot=slot)


def open_to_edit(name: str, choice: persons.Choice, command: str) -> Opening:
    """Open a stored secret for a change of it. A change has no use for what another process opened: it asks anew.

    Raises:
        Problem, and what :func:`unlatch.keyslots.opening.open_secret` raises, but for Released.
    """
    while True:
        with contextlib.suppress(Released):
            return open_named(name, choice, command)


def record(secret: str, by: str, unit: str) -> None:
    """Write an opening into the broker's audit trail.

    Raises:
        NoBroker, Refused: nothing is handed out then.
    """
    uid = os.geteuid()
    # The broker that rings for this process, so $HOME counts here as it does for every asker.
    asker = Asker(runtime.candidates(uid, os.environ, admin.home(uid)), uid=uid, environ=os.environ)
    asker.open()
    try:
        asker.record(secret, by, unit)
    finally:
        asker.close()


def check_talk() -> None:
    """New words are shown on standard error, which must be neither a log nor a file that others can read.

    Raises:
        Problem
    """
    found = os.fstat(2)
    where = f"{found.st_dev}:{found.st_ino}"
    if os.environ.get("JOURNAL_STREAM") == where or (stat.S_ISREG(found.st_mode) and found.st_mode & 0o077):
        voice.fail("the new words would be shown in a file or log that others can read", "run it at a terminal")


def end_grants(name: str) -> None:
    """What the kernel keeps under this name is not its secret any more, and must not be handed out as such.

    Raises:
        Problem: the kernel does not let us.
    """
    try:
        grant.end_of(name)
    except grant.NoGrants as error:
        voice.fail(f"it is done, but a grant of {name} holds the old secret: {voice.clean(str(error))}", "unlatch lock")


@contextlib.contextmanager
def told(name: str) -> Iterator[None]:
    """Turn the errors of stored secrets into words with the next command to type."""
    try:
        yield
    except SecretError as error:
        voice.fail(voice.clean(str(error)), *map(voice.clean, _hints(error, name)))


def _hints(error: SecretError, name: str) -> list[str]:
    match error:
        case NoSuchSecret():
            return ["unlatch secret list", f"unlatch secret add {name}"]
        case SecretExists():
            return [f"unlatch secret show {name}"]
        case SlotFailed():
            return [error.hint] if error.hint else [f"unlatch secret show {name}"]
        case Unsafe():
            return [f"ls -ld {error.path}"]
        case BadSecretFile():
            return ["restore the file from a backup; nothing was changed"]
        case Changed() | Busy():
            return ["run the command again"]
        case NotForThisUnit():
            return [f"unlatch secret show {name} lists the units"]
        case _:
            return []
