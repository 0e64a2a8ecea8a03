"""What happens in a directory, by inotify(7): one descriptor that becomes readable."""

import ctypes
import os
import struct

# The numbers are those of inotify(7).
CLOSE_WRITE, MOVED_FROM, MOVED_TO, DELETE = 0x8, 0x40, 0x80, 0x200
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # IN_NONBLOCK and IN_CLOEXEC have the same numbers
_HEAD = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_libc = ctypes.CDLL(None, use_errno=True)


class Inotify:
    """Watches one directory. ``descriptor`` is for poll."""

    def __init__(self, directory: str, mask: int) -> None:
        """Begin.

        Raises:
            OSError: no such directory, or no more watches (fs.inotify of sysctl(8)).
        """
        self.descriptor = _libc.inotify_init1(_FLAGS)
        if self.descriptor < 0 or _libc.inotify_add_watch(self.descriptor, os.fsencode(directory), mask) < 0:
            number = ctypes.get_errno()
            self.close()
            raise OSError(number, os.strerror(number), directory)

    def names(self) -> list[str]:
        """The names of the files to which something happened since the last call; "" for the directory itself."""
        try:
            data = os.read(self.descriptor, 65536)
        except BlockingIOError:
            return []
        found, place = [], 0
        while place + _HEAD.size <= len(data):
            length = _HEAD.unpack_from(data, place)[3]
            place += _HEAD.size
            found.append(os.fsdecode(data[place : place + length].rstrip(b"\0")))
            place += length
        return found

    def close(self) -> None:
        """End it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
