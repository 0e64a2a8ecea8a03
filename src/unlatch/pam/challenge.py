"""A challenge: a response that is drawn now, encrypted to the keys of one account, with what it is good for beside it.

Two steps, by two users. Which keys they are is seen with the rights of the account, where its own entry counts. The
message is made by a system user of our own, for any other process of the account could trace (ptrace(2)) a gpg that
runs with the account's rights, read the response from it, and pass sudo with it.
"""

import base64
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from unlatch.pam import accounts, as_user, entry, files, gpg, home_entry, record, response
from unlatch.pam.accounts import Account
from unlatch.pam.entry import Entry
from unlatch.pam.errors import Unfit
from unlatch.secret import Secret
from unlatch.settings import Settings

FIND_SECONDS = 10.0  # a keyring of thousands takes gpg 2 s
ENCRYPT_SECONDS = 15.0  # starting an agent for the signature included
MAX_WORD = 100  # characters of each fact in a message; more would not fit into a QR code beside it

Keys = Sequence[tuple[str, bytes]]  # fingerprint, armoured block


class Facts(NamedTuple):
    """What a challenge is good for, as it stands inside the encryption. ``source`` is the remote host, or terminal and
    calling user; ``at`` seconds since 1970.
    """

    user: str
    host: str
    service: str
    source: str
    at: int


class Places(NamedTuple):
    """``work`` is a directory in memory that belongs to the user ``worker``; ``signing`` the home of the server's key,
    that user's as well.
    """

    records: str = "/etc/unlatch/pam"
    work: str = "/run/unlatch-pam-work"
    signing: str = "/var/lib/unlatch-pam/gnupg"
    worker: str = "unlatch-pam"


class Challenge(NamedTuple):
    """``armour`` is what to show, ``response`` what to expect; ``fingerprints`` are those of all keys that can open it.

    ``tls`` is key and certificate in PEM, if the entry wants a page with TLS.
    """

    armour: str
    response: Secret
    entry: Entry
    fingerprints: tuple[str, ...]
    tls: tuple[Secret, bytes] | None
    source: Literal["record", "home"]


class Found(NamedTuple):
    """The entry that counts for an account and a service, and its keys."""

    entry: Entry
    keys: Keys
    source: Literal["record", "home"]


def challenge(
    account: Account,
    hello_service: str,
    facts: Facts,
    settings: Settings,
    *,
    places: Places = Places(),  # noqa: B008  # immutable
    random: Callable[[int], bytes],
) -> Challenge:
    """Challenge an account that logs in to a PAM service.

    Raises:
        Unfit: it cannot be challenged: it must not be let in this way.
    """
    found = find(account, hello_service, settings, places)
    tls = _tls(account, found)
    # Drawn after the account's rights were used for the last time: no process of its uid has ever had it in memory.
    expected = response.draw(random)
    armour = _encrypt(found, text(facts, expected), places, random(8).hex())
    return Challenge(armour, expected, found.entry, tuple(key for key, _ in found.keys), tls, found.source)


def find(account: Account, service: str, settings: Settings, places: Places) -> Found:
    """The entry that counts: root's record for every service, or the account's own where the administrator lists it.

    Raises:
        Unfit: there is none, it is bad, or its keys are.
    """
    kept = record.read(places.records, account.name)
    if kept is not None:
        return Found(kept.entry, tuple(zip(kept.entry.keys, kept.blocks, strict=True)), "record")
    if service not in settings.pam_auth_gpg:
        raise Unfit(f"no key of record, and [pam] auth_gpg does not list {service}: unlatch pam enrol {account.name}")
    own = home_entry.read(account)
    return Found(own, keys_of(account, own.keys, trust=own.trust), "home")


def keys_of(account: Account, words: Sequence[str], *, trust: bool) -> Keys:
    """The keys that these words name in the account's own keyring, looked up with its rights.

    Raises:
        Unfit: a word names none or several, or one that cannot be used.
    """
    homedir = os.path.join(account.home, ".gnupg")

    def look() -> bytes:
        _check_home(account, homedir)
        found = [gpg.find(homedir, word, trust=trust) for word in words]
        return json.dumps([[key, base64.b64encode(block).decode()] for key, block in found]).encode()

    most = len(words) * gpg.MAX_BLOCK * 3 // 2
    return _keys(as_user.call(account, look, seconds=FIND_SECONDS, most=most), len(words))


def text(facts: Facts, expected: Secret) -> bytearray:
    """What the encryption holds. Short, for all of it goes into a QR code; whole, so that a challenge that somebody
    passed on does not look like another's.
    """
    user, host, service, source = (_word(fact) for fact in facts[:4])
    lines = [f"{user}@{host} {service}", f"from {source or 'here'}", f"at {_utc(facts.at)}", ""]
    return bytearray("\n".join(lines).encode()) + expected.reveal() + b"\n"


def _encrypt(found: Found, plain: bytearray, places: Places, name: str) -> str:
    try:
        worker = accounts.find(places.worker)
    except Unfit:
        raise Unfit(f"the system user {places.worker} is missing: systemd-sysusers") from None
    work = os.path.join(places.work, name)
    sign_as = found.entry.sign_as
    try:
        made = as_user.call(
            worker,
            lambda: gpg.encrypt(work, bytes(plain), found.keys, places.signing, sign_as).encode(),
            seconds=ENCRYPT_SECONDS,
            most=gpg.MAX_MESSAGE,
        )
    except Unfit:
        as_user.call(worker, lambda: gpg.clear(work))  # which a killed process did not do
        raise
    finally:
        plain[:] = bytes(len(plain))
    return made.decode("ascii")


def _tls(account: Account, found: Found) -> tuple[Secret, bytes] | None:
    if not entry.WEB.get(found.entry.web, (False, False))[1]:
        return None
    return record.read_tls(found.entry) if found.source == "record" else home_entry.read_tls(account, found.entry)


def _check_home(account: Account, homedir: str) -> None:
    if not account.home:
        raise Unfit(f"{account.name} has no home")
    for directory in (account.home, homedir):
        files.check_directory(directory, (account.uid, 0))


def _keys(said: bytes, count: int) -> Keys:
    """What a process of the account said; a malformed word of it is refused like no word."""
    try:
        rows = json.loads(said)
        keys = tuple((fingerprint, base64.b64decode(block, validate=True)) for fingerprint, block in rows)
    except (ValueError, TypeError, RecursionError):
        raise Unfit("the account's keys could not be read") from None
    if len(keys) != count or not all(isinstance(key, str) and entry.is_fingerprint(key) for key, _ in keys):
        raise Unfit("the account's keys could not be read")
    return keys


def _word(fact: str) -> str:
    return as_user.printable(fact)[:MAX_WORD]


def _utc(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
