"""Roll a keyslot after it opened: wrap the master key for the slot's next KEK, so that the one just used opens nothing
of tomorrow's file. docs/secrets.md says what that protects from, and what not.
"""

import errno

from unlatch.keyslots import vault
from unlatch.keyslots.header import SecretFile, Slot
from unlatch.keyslots.slots import Helpers, Opened
from unlatch.keyslots.store import Store
from unlatch.secret import Secret


def roll(store: Store, file: SecretFile, slot: Slot, opened: Opened, content: Secret, helpers: Helpers) -> SecretFile:
    """Replace the slot in the file on the disk; the file as it stands now.

    Another process may have rolled this slot meanwhile: then its KEK is the newest, and ours opens nothing any more.
    The old file stays until the new one opened with the next KEK, and for good when the disk is read-only: then the
    slot goes on with the old KEK, which is told.
    """
    roll_to = opened.roll
    assert roll_to is not None

    def change(now: SecretFile) -> SecretFile:
        if now.header.slot(slot.id) != slot:
            return now
        vault.open_file(now, opened.master)  # another change of the file may not ride on ours unless it is genuine
        rolled = slot._replace(params=roll_to.params)
        rolled = vault.wrap(now.header, rolled, roll_to.kek, opened.master, helpers.random)
        return vault.seal_file(now.header.with_slot(rolled), opened.master, content, helpers.random)

    def check(written: SecretFile) -> None:
        new = written.header.slot(slot.id)
        if new is not None and new.params == roll_to.params:
            vault.open_file(written, vault.unwrap(written.header, new, roll_to.kek))
        else:
            vault.open_file(written, opened.master)

    try:
        return store.edit(file.header.name, change, check)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT):
            raise
        helpers.tell(
            f"the keyslot {slot.label} could not be rolled ({(error.strerror or '').lower()}): "
            "who recorded what the key said today can open this file until it is"
        )
        return file
