"""The Secret type: bytes that do not show up in a repr, a log, a pickle or a core file.

Python copies bytes freely, so wiping is best effort: what this type owns is locked into memory and overwritten when it
is wiped or collected. Copies made by a library on the way (a decrypted ``bytes``) live until the process ends, which
for an asker is moments later. docs/threat-model.md says so to users.
"""

import ctypes
import resource

# What hmac.compare_digest is where there is no OpenSSL. Importing hmac would map a second libcrypto (4 MiB) into every
# waiting asker.
from _operator import _compare_digest
from typing import NoReturn

_PR_SET_DUMPABLE = 4  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


def forbid_core_dumps() -> None:
    """Make this process leave no core file and refuse ptrace by its own uid (prctl(2) PR_SET_DUMPABLE).

    The resource limit alone is not enough: a kernel that pipes core files to a program ignores a limit of zero.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class Secret:
    """Bytes that only :meth:`reveal` shows. Compares in constant time; cannot be hashed or pickled."""

    __slots__ = ("_data",)
    __hash__ = None  # type: ignore[assignment]  # a hash would be a fingerprint of the secret

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = bytearray()  # for __del__, when the next line refuses what it was given
        self._data = bytearray(memoryview(data))  # bytearray() alone would take a number for a length
        if self._data:
            _lock(self._data)

    def reveal(self) -> memoryview:
        """A view of the bytes. It must not outlive the secret."""
        return memoryview(self._data).toreadonly()

    def wipe(self) -> None:
        """Overwrite the bytes with zeros. Afterwards the secret has the same length and no content."""
        for i in range(len(self._data)):
            self._data[i] = 0

    def __bool__(self) -> bool:
        return len(self._data) > 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and _compare_digest(self._data, other._data)

    def __repr__(self) -> str:
        return "Secret(redacted)"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")

    def __del__(self) -> None:
        self.wipe()


def _lock(data: bytearray) -> None:
    # It may fail (RLIMIT_MEMLOCK is zero in some containers): then the secret is wiped, but not kept out of swap.
    # Never unlocked: mlock(2) counts pages, not calls, and the page may hold another secret.
    address = ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data))
    _libc.mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(data)))
