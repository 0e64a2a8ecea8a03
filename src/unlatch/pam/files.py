"""Read a file that somebody else may have laid out: nothing that blocks, leads elsewhere, or that others can change."""

import errno
import os
import stat
from collections.abc import Collection

from unlatch.pam.as_user import reason
from unlatch.pam.errors import Unfit

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Missing(Unfit):
    """There is no such file."""


def read(path: str, owners: Collection[int], most: int, *, within: int | None = None, name: str = "") -> bytes:
    """The content of a file, ``most`` bytes at most. ``within`` is an open directory, ``name`` what messages call it.

    Raises:
        Missing: there is none.
        Unfit: it is no regular file, belongs to none of ``owners``, others may write it, it is too large.
    """
    name = name or path
    try:
        descriptor = os.open(path, _FLAGS, dir_fd=within)
    except OSError as error:
        raise _not_opened(name, error) from None
    try:
        _check(os.fstat(descriptor), owners, name, stat.S_IFREG)
        content = bytearray()
        while len(content) <= most and (more := os.read(descriptor, most + 1 - len(content))):
            content += more
    except OSError as error:
        raise Unfit(f"{name}: {reason(error)}") from None
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise Unfit(f"{name}: larger than {most} bytes")
    return bytes(content)


def open_directory(path: str, owners: Collection[int]) -> int:
    """An open directory that only ``owners`` can change.

    Raises:
        Missing: there is none.
        Unfit: it is no directory, belongs to none of ``owners``, or others may write to it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _not_opened(path, error) from None
    try:
        _check(os.fstat(descriptor), owners, path, stat.S_IFDIR)
    except Unfit:
        os.close(descriptor)
        raise
    return descriptor


def check_directory(path: str, owners: Collection[int]) -> None:
    """Only ``owners`` can change what is in it. It may be a symbolic link: its target counts.

    Raises:
        Missing, Unfit: as :func:`open_directory`.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise _not_opened(path, error) from None
    _check(found, owners, path, stat.S_IFDIR)


def _check(found: os.stat_result, owners: Collection[int], name: str, kind: int) -> None:
    if stat.S_IFMT(found.st_mode) != kind:
        raise Unfit(f"{name}: not a {'directory' if kind == stat.S_IFDIR else 'regular file'}")
    if found.st_uid not in owners:
        raise Unfit(f"{name}: belongs to uid {found.st_uid}")
    if found.st_mode & 0o022:
        raise Unfit(f"{name}: others may write to it (chmod go-w)")


def _not_opened(name: str, error: OSError) -> Unfit:
    if error.errno == errno.ENOENT:
        return Missing(f"{name}: no such file")
    if error.errno == errno.ELOOP:
        return Unfit(f"{name}: a symbolic link, which is not followed")
    if error.errno == errno.ENXIO:  # a socket, or a device without a driver
        return Unfit(f"{name}: not a regular file")
    return Unfit(f"{name}: {reason(error)}")
