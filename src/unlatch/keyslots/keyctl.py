"""The kernel's keyrings, by libkeyutils (keyctl(2), add_key(2); Debian's libkeyutils1): the few calls that we need.

A key's payload is memory of the kernel, which is never swapped out. Every function raises OSError with the kernel's own
number, and NotImplementedError where the library is missing.
"""

import ctypes
import os

PROCESS_KEYRING, USER_KEYRING = -2, -4  # keyrings(7)
# The user's own processes may find, read and remove it without possessing it (keyctl_setperm(3)): a service has a
# session keyring of its own, which does not lead to the user's.
POSSESSOR_ALL = 0x3F000000
USER_VIEW, USER_READ, USER_WRITE, USER_SEARCH, USER_LINK = 0x010000, 0x020000, 0x040000, 0x080000, 0x100000
PERMISSIONS = POSSESSOR_ALL | USER_VIEW | USER_READ | USER_WRITE | USER_SEARCH | USER_LINK

MAX_PAYLOAD = 32767  # bytes of a key of the type "user"
_MAX_DESCRIPTION = 8192  # the kernel's 4095 and the fields before them

_library: list[ctypes.CDLL] = []


def add(description: str, payload: memoryview, keyring: int) -> int:
    """A new key of the type "user"; its serial number."""
    buffer = (ctypes.c_char * len(payload)).from_buffer_copy(payload)
    try:
        return _call("add_key", b"user", description.encode(), buffer, ctypes.c_size_t(len(payload)), keyring)
    finally:
        ctypes.memset(buffer, 0, len(payload))


def set_permissions(key: int, permissions: int) -> None:
    """Who may do what with a key."""
    _call("keyctl_setperm", key, ctypes.c_uint32(permissions))


def set_timeout(key: int, seconds: int) -> None:
    """When the kernel forgets it."""
    _call("keyctl_set_timeout", key, ctypes.c_uint(seconds))


def link(key: int, keyring: int) -> None:
    """Make it reachable from there too."""
    _call("keyctl_link", key, keyring)


def unlink(key: int, keyring: int) -> None:
    """Take it out of there."""
    _call("keyctl_unlink", key, keyring)


def revoke(key: int) -> None:
    """Make it unusable for everybody at once."""
    _call("keyctl_revoke", key)


def members(keyring: int) -> list[int]:
    """The serial numbers of the keys in a keyring."""
    room = 256
    while True:
        buffer = (ctypes.c_int32 * room)()
        count = _call("keyctl_read", keyring, buffer, ctypes.c_size_t(ctypes.sizeof(buffer))) // 4
        if count <= room:  # else nothing was filled in (keyctl_read(3))
            return list(buffer[:count])
        room = 2 * count


def describe(key: int) -> str:
    """The description that it was added with. Raises OSError for a key that ended."""
    buffer = ctypes.create_string_buffer(_MAX_DESCRIPTION)
    _call("keyctl_describe", key, buffer, ctypes.c_size_t(_MAX_DESCRIPTION))
    # "type;uid;gid;permissions;description" (keyctl_describe(3)); only the last may hold anything.
    return buffer.value.decode("utf-8", "replace").split(";", 4)[4]


def read(key: int) -> bytearray:
    """The payload, for the caller to wipe."""
    buffer = (ctypes.c_char * MAX_PAYLOAD)()
    try:
        size = _call("keyctl_read", key, buffer, ctypes.c_size_t(MAX_PAYLOAD))
        return bytearray(memoryview(buffer)[:size])
    finally:
        ctypes.memset(buffer, 0, MAX_PAYLOAD)


def _call(name: str, *arguments: object) -> int:
    if not _library:
        try:
            _library.append(ctypes.CDLL("libkeyutils.so.1", use_errno=True))
        except OSError:
            raise NotImplementedError("libkeyutils is not installed") from None
    function = getattr(_library[0], name)
    function.restype = ctypes.c_long
    ctypes.set_errno(0)
    result = int(function(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
