"""Grants of stored and typed secrets: kept by the kernel, in the user's keyring, with a time limit that it enforces.

A grant serves every process of its uid. The limit is in the key's description too, so that it can be shown without
reading the secret. The name in there is percent-encoded, so that every name is found again, whatever is in it.
"""

import contextlib
import errno
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, unquote

from unlatch.keyslots import keyctl
from unlatch.keyslots.errors import SecretError
from unlatch.secret import Secret

MAX_NAME = 3900  # bytes of an encoded name; the kernel takes 4095 of a description (KEY_MAX_DESC_SIZE, add_key(2))
_DESCRIPTION = re.compile(r"unlatch:([^\s]{1,3900}):([0-9]{1,12})\Z")
# EKEYEXPIRED, EKEYREVOKED, ENOKEY: it ended between two looks.
_ENDED = {errno.ENOKEY, errno.EKEYEXPIRED, errno.EKEYREVOKED, errno.ENOENT}


class Grant(NamedTuple):
    """An open secret: its name, until when (seconds since 1970), and the kernel's number of the key."""

    name: str
    until: int
    key: int


class NoGrants(SecretError):
    """The kernel's keyring cannot be used here. ``why`` is for people."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the kernel keeps no grants here: {why}")
        self.why = why


def keep(name: str, secret: Secret, seconds: int, now: int) -> Grant:
    """Keep a secret for ``seconds`` from ``now`` (seconds since 1970), in the place of an earlier grant of it.

    Raises:
        NoGrants: no library, forbidden (as in some containers), or larger than the kernel allows this user.
    """
    until = now + seconds
    encoded = quote(name, safe="/:@+", errors="surrogateescape")
    if len(encoded) > MAX_NAME:
        raise NoGrants("the name is too long")
    if len(secret.reveal()) > keyctl.MAX_PAYLOAD:
        raise NoGrants(f"the secret has more than {keyctl.MAX_PAYLOAD} bytes")
    earlier = [grant for grant in grants() if grant.name == name]
    try:
        # Made where this process possesses it, or it could not say who may read it.
        key = keyctl.add(f"unlatch:{encoded}:{until}", secret.reveal(), keyctl.PROCESS_KEYRING)
        keyctl.set_permissions(key, keyctl.PERMISSIONS)
        keyctl.set_timeout(key, seconds)
        keyctl.link(key, keyctl.USER_KEYRING)
        keyctl.unlink(key, keyctl.PROCESS_KEYRING)
    except NotImplementedError:
        raise NoGrants("libkeyutils1 is not installed") from None
    except OSError as error:
        raise NoGrants(_why(error)) from None
    for grant in earlier:
        end(grant)
    return Grant(name, until, key)


def find(name: str) -> Secret | None:
    """The secret of this grant, or None when there is none."""
    for grant in grants():
        if grant.name == name:
            with contextlib.suppress(OSError):
                data = keyctl.read(grant.key)
                try:
                    return Secret(data)
                finally:
                    data[:] = bytes(len(data))
    return None


def grants() -> Iterator[Grant]:
    """What is open, in no order. Nothing where the kernel keeps no grants."""
    try:
        keys = keyctl.members(keyctl.USER_KEYRING)
    except (OSError, NotImplementedError):
        return
    for key in keys:
        try:
            found = _DESCRIPTION.match(keyctl.describe(key))
        except OSError:
            continue
        if found is not None:
            yield Grant(unquote(found[1], errors="surrogateescape"), int(found[2]), key)


def end_of(name: str) -> None:
    """End the grants of a name, because what they hold is not the secret of this name any more.

    Raises:
        NoGrants: the kernel does not let us.
    """
    for grant in list(grants()):
        if grant.name == name:
            end(grant)


def end(grant: Grant) -> None:
    """End a grant; one that ended by itself meanwhile has ended.

    Raises:
        NoGrants: the kernel does not let us.
    """
    try:
        keyctl.revoke(grant.key)
    except OSError as error:
        if error.errno not in _ENDED:
            raise NoGrants(_why(error)) from None
    with contextlib.suppress(OSError):  # revoked is what counts; the kernel collects it later anyway
        keyctl.unlink(grant.key, keyctl.USER_KEYRING)


def _why(error: OSError) -> str:
    if error.errno == errno.EDQUOT:
        return "the secret is larger than this user's quota (kernel.keys.maxbytes of sysctl(8))"
    return (error.strerror or "unknown").lower()
