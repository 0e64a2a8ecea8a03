"""Accounts of this host, as NSS knows them. Whether a home is there is seen by who reads it, as its user."""

import pwd
from typing import NamedTuple

from unlatch.pam.errors import Unfit

MAX_NAME = 256  # LOGIN_NAME_MAX of Linux


class Account(NamedTuple):
    """One account. ``name`` is the host's own spelling, which may differ from what was typed; ``home`` may be empty.

    An account without a home can have a key of record, and then challenges for it work like any other.
    """

    name: str
    uid: int
    gid: int
    home: str


def find(name: str) -> Account:
    """The account of this name.

    Raises:
        Unfit: there is none, or its name could not be a file's (NSS modules of other systems have such).
    """
    if not is_name(name):
        raise Unfit("this cannot be the name of an account")
    try:
        return _account(pwd.getpwnam(name))
    except (KeyError, OSError):
        raise Unfit("there is no such account") from None


def by_uid(uid: int) -> Account:
    """The account of this number.

    Raises:
        Unfit: there is none.
    """
    try:
        return _account(pwd.getpwuid(uid))
    except (KeyError, OSError, OverflowError):
        raise Unfit(f"uid {uid} has no account") from None


def is_name(name: str) -> bool:
    """Whether it can be a file below /etc/unlatch/pam: no path, nothing hidden, no blanks, nothing unprintable."""
    return 0 < len(name) <= MAX_NAME and name.isprintable() and name[0] not in ".-" and not set(name) & set("/: ")


def _account(row: pwd.struct_passwd) -> Account:
    if not is_name(row.pw_name):
        raise Unfit("this cannot be the name of an account")
    home = row.pw_dir if row.pw_dir.startswith("/") else ""
    return Account(row.pw_name, row.pw_uid, row.pw_gid, home)
