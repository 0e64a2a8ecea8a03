"""Roll a keyslot after it opened: wrap the master key for the slot's next KEK, so that the one just used opens nothing
of tomorrow's file. docs/secrets-fido2.md says what that protects from, and what not.
"""

from unlatch.keyslots import vault
from unlatch.keyslots.errors import BadSecretFile, Busy, WrongKey
from unlatch.keyslots.header import SecretFile, Slot
from unlatch.keyslots.slots import Created, Helpers, Opened
from unlatch.keyslots.store import Store
from unlatch.secret import Secret


class _Overtaken(Exception):
    """Another process changed what we would roll; ``file`` is what we go on with."""

    def __init__(self, file: SecretFile) -> None:
        super().__init__()
        self.file = file


def roll(store: Store, file: SecretFile, slot: Slot, opened: Opened, helpers: Helpers) -> SecretFile:
    """Replace the slot in the file on the disk; the file as it stands now.

    Two processes may open at once. The first one rolls; the other finds that the slot is not what it opened, and leaves
    it: its KEK opens nothing any more either. The same holds if the slot was taken away, or the secret rotated.

    The old file stays until the new one opened with the next KEK, and for good when it cannot be written (a read-only
    or full disk): then the slot goes on with the old KEK, and that is told, because the secret itself was opened.

    Raises:
        NoSuchSecret: it was removed or renamed meanwhile.
        BadSecretFile: somebody without its key changed the file meanwhile, or the disk gives back something else than
            was written.
    """
    following = opened.roll
    assert following is not None

    def change(now: SecretFile) -> SecretFile:
        return _rolled(now, file, slot, opened.master, following, helpers)

    def check(written: SecretFile) -> None:
        new = written.header.slot(slot.id) or slot
        try:
            vault.open_file(written, vault.unwrap(written.header, new, following.kek)).wipe()
        except WrongKey:
            raise BadSecretFile("the disk gives back something else than was written") from None

    try:
        return store.edit(file.header.name, change, check)
    except _Overtaken as overtaken:
        return overtaken.file
    except (OSError, Busy) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        helpers.tell(
            f"the keyslot {slot.label} could not be rolled ({(why or 'unknown').lower()}): "
            "who recorded what the key said today can open this file until it is"
        )
        return file
    finally:
        following.kek.wipe()


def _rolled(
    now: SecretFile, before: SecretFile, slot: Slot, master: Secret, following: Created, helpers: Helpers
) -> SecretFile:
    """What the file on the disk, ``now``, becomes; the slot is as it was opened in ``before``."""
    if (now.header.id, now.header.generation) != (before.header.id, before.header.generation):
        raise _Overtaken(before)
    content = vault.open_file(now, master)  # or a change without the key would get our seal
    if now.header.slot(slot.id) != slot:
        raise _Overtaken(now)
    rolled = vault.wrap(now.header, slot._replace(params=following.params), following.kek, master, helpers.random)
    return vault.seal_file(now.header.with_slot(rolled), master, content, helpers.random)
