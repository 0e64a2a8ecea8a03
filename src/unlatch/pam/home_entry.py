"""``~/.auth_gpg``, and the TLS files that it names: opened with the rights of the account (:mod:`unlatch.pam.as_user`).

Home and ``~/.gnupg`` must be such that nobody else can put another file there; OpenSSH asks the same of
``authorized_keys`` (sshd_config(5), StrictModes).
"""

import os

from unlatch.pam import as_user, entry, files
from unlatch.pam.accounts import Account
from unlatch.pam.entry import Entry
from unlatch.pam.errors import Unfit
from unlatch.secret import Secret

FILE = ".auth_gpg"
SECONDS = 5.0


def read(account: Account, *, seconds: float = SECONDS) -> Entry:
    """The account's own entry.

    Raises:
        Unfit: there is none, it cannot be trusted, or it has a mistake.
    """
    text = as_user.call(account, lambda: _entry_text(account), seconds=seconds, most=entry.MAX_FILE)
    return entry.from_bytes(text, f"{account.home}/{FILE}")


def read_tls(account: Account, found: Entry, *, seconds: float = SECONDS) -> tuple[Secret, bytes]:
    """The TLS key and the certificate that an entry names, by absolute paths or from the home on.

    Raises:
        Unfit: one cannot be read or trusted.
    """
    return (
        Secret(_tls_file(account, found.tls_key, seconds)),
        _tls_file(account, found.tls_certificate, seconds),
    )


def _tls_file(account: Account, path: str, seconds: float) -> bytes:
    whole = os.path.join(account.home or "/", path.removeprefix("~/"))
    most = entry.MAX_TLS
    return as_user.call(account, lambda: files.read(whole, _owners(account), most), seconds=seconds, most=most)


def _entry_text(account: Account) -> bytes:
    if not account.home:
        raise Unfit(f"{account.name} has no home")
    files.check_directory(account.home, _owners(account))
    return files.read(os.path.join(account.home, FILE), _owners(account), entry.MAX_FILE)


def _owners(account: Account) -> tuple[int, int]:
    return account.uid, 0
