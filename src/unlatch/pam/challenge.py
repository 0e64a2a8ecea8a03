"""A challenge: a response that is drawn now, encrypted to the keys of one account, with what it is good for beside it.

Two steps, by two users. Which keys they are is seen with the rights of the account, where its own entry counts. The
message is made by a system user of our own (:mod:`unlatch.pam.worker`): whatever the account's other processes may one
day find out about a gpg with the account's rights, there is no response in it to pass sudo with.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from unlatch.pam import as_user, entry, files, gpg, home_entry, log, record, response, worker
from unlatch.pam.accounts import Account
from unlatch.pam.entry import Entry
from unlatch.pam.errors import Unfit
from unlatch.pam.worker import Keys, Places
from unlatch.secret import Secret
from unlatch.settings import Settings

__all__ = ["Challenge", "Facts", "Found", "Places", "challenge", "find", "keys_of", "text"]

FIND_SECONDS = 10.0  # a keyring of thousands takes gpg 2 s
MAX_WORD = 80  # characters of each fact in a message, which shall still fit into a QR code


class Facts(NamedTuple):
    """What a challenge is good for, as it stands inside the encryption.

    ``source`` is the remote host, or the terminal and the calling user; ``at`` seconds since 1970.
    """

    user: str
    host: str
    service: str
    source: str
    at: int


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
    places: Places,
    random: Callable[[int], bytes],
) -> Challenge:
    """Challenge an account that logs in to a PAM service. It takes two processes and some 60 ms, never over a minute.

    Raises:
        Unfit: it cannot be challenged: it must not be let in this way.
    """
    found = find(account, hello_service, settings, places)
    tls = _tls(account, found)
    # Drawn after the account's rights were used for the last time: no process of its uid has ever had it in memory.
    expected = response.draw(random)
    plain = text(facts, expected)
    armour, openers = worker.encrypt(account, plain, found.keys, found.entry.sign_as, places, random(16).hex())
    return Challenge(armour, expected, found.entry, openers, tls, found.source)


def find(account: Account, service: str, settings: Settings, places: Places) -> Found:
    """The entry that counts: root's record for every service, or the account's own where the administrator lists it.

    Raises:
        Unfit: there is none, it is bad, or its keys are.
    """
    kept = record.read(places.records, account.name)
    if kept is not None:
        return Found(kept.entry, kept.keys, "record")
    if service not in settings.pam_auth_gpg:
        unlisted = f"[pam] auth_gpg lists no {log.value(service)}"
        raise Unfit(f"no key of record (unlatch pam enrol {account.name} KEY), and {unlisted}")
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
        return worker.keys_to_bytes([gpg.find(homedir, word, trust=trust) for word in words])

    most = len(words) * gpg.MAX_BLOCK * 3 // 2
    return worker.keys_from_bytes(as_user.call(account, look, seconds=FIND_SECONDS, most=most), len(words))


def text(facts: Facts, expected: Secret) -> bytearray:
    """What the encryption holds: whose login where, from where and when, so that a challenge that somebody passed on
    does not look like another's; then the response. Short, for all of it goes into a QR code.
    """
    user, host, service, source = (as_user.printable(fact)[:MAX_WORD] for fact in facts[:4])
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(facts.at))
    said = f"{user}@{host} {service}\nfrom {source or 'here'}\nat {at}\n"
    return bytearray(said.encode("utf-8", "replace")) + expected.reveal() + b"\n"


def _tls(account: Account, found: Found) -> tuple[Secret, bytes] | None:
    if not entry.WEB.get(found.entry.web, (False, False))[1]:
        return None
    return record.read_tls(found.entry) if found.source == "record" else home_entry.read_tls(account, found.entry)


def _check_home(account: Account, homedir: str) -> None:
    if not account.home:
        raise Unfit(f"{account.name} has no home")
    for directory in (account.home, homedir):
        files.check_directory(directory, (account.uid, 0))
