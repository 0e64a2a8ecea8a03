"""What the system user ``unlatch-pam`` does: it makes messages, and nobody who logs in runs anything under its uid.

Each function starts one process of it (:mod:`unlatch.pam.as_user`), which starts gpg.
"""

import base64
import json
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from unlatch.pam import accounts, as_user, entry, gpg
from unlatch.pam.accounts import Account
from unlatch.pam.errors import Unfit

ENCRYPT_SECONDS = 15.0  # starting an agent for the signature included
MAKE_SECONDS = 60.0

Keys = Sequence[tuple[str, bytes]]  # fingerprint, armoured block


class Places(NamedTuple):
    """Where things are on this host.

    ``work`` is a directory in memory that belongs to the user ``worker``; ``signing`` the home of the server's key,
    that user's as well. ``web`` is the user that serves pages: it talks with strangers and reads TLS files of accounts,
    so it must be another, which can reach no message that is being made, and no key that signs.
    """

    records: str = "/etc/unlatch/pam"
    work: str = "/run/unlatch-pam-work"
    signing: str = "/var/lib/unlatch-pam/gnupg"
    worker: str = "unlatch-pam"
    web: str = "unlatch-pam-web"


class Signer(NamedTuple):
    """The server's own key."""

    fingerprint: str
    block: bytes


def find(places: Places, not_for: Account | None = None) -> Account:
    """The account that makes messages.

    Raises:
        Unfit: there is none, or it is root's, or the very one that the message is for.
    """
    worker = _system_user(places.worker)
    if worker.uid == 0 or (not_for is not None and worker.uid == not_for.uid):
        raise Unfit(f"{places.worker} cannot make a message for itself, nor as root")
    return worker


def server(places: Places) -> Account:
    """The account that serves pages.

    Raises:
        Unfit: there is none, or it is root's, or the one that makes messages.
    """
    web = _system_user(places.web)
    if web.uid in (0, find(places).uid):
        raise Unfit(f"{places.web} cannot serve a page as {places.worker}, nor as root")
    return web


def encrypt(
    account: Account, plain: bytearray, keys: Keys, sign_as: str, places: Places, name: str
) -> tuple[str, tuple[str, ...]]:
    """The armoured message for these keys, and the fingerprints of those that can open it; ``plain`` is wiped.

    ``name`` is for a directory that nobody else uses.

    Raises:
        Unfit: see :func:`unlatch.pam.gpg.encrypt`; or the account is the worker's own.
    """
    try:
        made = _in_work(
            places,
            name,
            lambda work: gpg.encrypt(work, bytes(plain), keys, places.signing, sign_as).encode(),
            gpg.MAX_MESSAGE,
            not_for=account,
        )
    finally:
        plain[:] = bytes(len(plain))
    openers, _, message = made.decode("ascii").partition("\n")
    return message, tuple(openers.split())


def check(keys: Keys, sign_as: str, places: Places, name: str) -> None:
    """Whether a message could be made now: no key has expired since it was stored, and the signing key is there.

    Raises:
        Unfit: it could not; which key, and why.
    """
    _in_work(places, name, lambda work: gpg.check(work, keys), 0)
    if sign_as and signer(sign_as, places) is None:
        raise Unfit(f"{places.signing}: no key {sign_as} to sign with (unlatch pam sign-key)")


def key_in(content: bytes, word: str, places: Places, name: str) -> tuple[str, bytes]:
    """The one key in a file, which must be the one that ``word`` stands for.

    Raises:
        Unfit: see :func:`unlatch.pam.gpg.pick`.
    """
    said = _in_work(places, name, lambda work: keys_to_bytes([gpg.pick(work, content, word)]), 2 * gpg.MAX_BLOCK)
    return keys_from_bytes(said, 1)[0]


def signer(sign_as: str, places: Places) -> Signer | None:
    """The server's key of this fingerprint or address; None if there is none.

    Raises:
        Unfit: there are several, or it cannot sign.
    """
    if not os.path.isdir(places.signing):
        return None

    def look() -> bytes:
        found = gpg.find_signing_key(places.signing, sign_as)
        return keys_to_bytes([found] if found else [])

    said = as_user.call(find(places), look, seconds=ENCRYPT_SECONDS, most=2 * gpg.MAX_BLOCK)
    return Signer(*keys_from_bytes(said, 1)[0]) if said != keys_to_bytes([]) else None


def make_signer(address: str, name: str, places: Places) -> Signer:
    """Make a key that signs, for ``name <address>``. The caller must be root.

    Raises:
        Unfit
    """
    worker = find(places)
    above = os.path.dirname(places.signing)
    try:
        if not os.path.isdir(above):
            os.mkdir(above, 0o700)
            os.chown(above, worker.uid, worker.gid)
    except OSError as error:
        raise Unfit(f"{above}: {as_user.reason(error)}") from None
    as_user.call(worker, lambda: gpg.make_signing_key(places.signing, f"{name} <{address}>"), seconds=MAKE_SECONDS)
    made = signer(address, places)
    if made is None:
        raise Unfit(f"{places.signing}: the new key is not there")
    return made


def keys_to_bytes(keys: Keys) -> bytes:
    """Keys, as a task says them."""
    return json.dumps([[key, base64.b64encode(block).decode()] for key, block in keys]).encode()


def keys_from_bytes(said: bytes, count: int) -> Keys:
    """What a task said. It may be a process of the account, so it is read strictly.

    Raises:
        Unfit: these are not ``count`` keys.
    """
    try:
        keys = [(fingerprint, base64.b64decode(block, validate=True)) for fingerprint, block in json.loads(said)]
    except (ValueError, TypeError, RecursionError):
        raise Unfit("the keys that were looked up cannot be read") from None
    if len(keys) != count or not all(isinstance(key, str) and entry.is_fingerprint(key) for key, _ in keys):
        raise Unfit("the keys that were looked up cannot be read")
    return keys


def _system_user(name: str) -> Account:
    try:
        return accounts.find(name)
    except Unfit:
        raise Unfit(f"the system user {name} is missing (systemd-sysusers makes it)") from None


def _in_work(
    places: Places, name: str, task: Callable[[str], bytes], most: int, *, not_for: Account | None = None
) -> bytes:
    """Run a task that may use a directory of its own, which is gone afterwards, whatever happens."""
    own = find(places, not_for)
    work = os.path.join(places.work, name)
    try:
        return as_user.call(own, lambda: task(work), seconds=ENCRYPT_SECONDS, most=most)
    except Unfit:
        as_user.call(own, lambda: gpg.clear(work))  # which a killed process did not do
        raise
