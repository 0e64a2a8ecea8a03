"""What pcscd knows of its readers: their names, which hold a card, and who holds that; without touching any card.

scdaemon 2.2 tells of one reader only, says "No such device" for a missing reader, a missing pcscd and a card that
another program holds, and cannot be waited for. pcscd can: its clients' socket answers two questions that concern no
card (pcsc-lite, src/winscard_msg.h and src/eventhandler.h; one layout from protocol 4:3 to 4:5). Where there is no
pcscd, as on a host whose scdaemon drives the reader by itself, nothing is known, and that is no error.
"""

import os
import socket
import struct
from types import TracebackType
from typing import NamedTuple

SOCKET = "/run/pcscd/pcscd.comm"
_RUNNING = "pcscd.pid"  # beside it while pcscd runs
SECONDS = 2.0  # it answers in a tenth of a millisecond, and after a start by systemd in half a second
_HEADER = struct.Struct("=II")  # size of what follows, command
_VERSION = struct.Struct("=iiI")  # major, minor, result
_VERSIONS = ((4, 4), (4, 3))  # 4:5 of pcscd 2.3 takes clients of 4:4
_READER = struct.Struct("@128sIIi33sII")  # name, events, state, sharing, ATR, its length, protocol
_READERS = 16
_CMD_VERSION, _CMD_READERS, _CMD_WAIT = 0x11, 0x12, 0x13
_PRESENT = 0x4
_EXCLUSIVE = -1


class Reader(NamedTuple):
    """A reader. ``held``: some program has its card for itself alone, as scdaemon has while it uses one."""

    name: str
    present: bool
    held: bool


def readers() -> tuple[Reader, ...] | None:
    """The readers of this host in pcscd's order, or None when there is no pcscd that would say."""
    try:
        with Pcscd() as pcscd:
            return pcscd.readers()
    except OSError:
        return None


class Pcscd:
    """A connection to pcscd. After :meth:`watch` it becomes readable when a reader changed, and when pcscd ends."""

    def __init__(self, path: str = SOCKET) -> None:
        """Connect, if it runs: behind a socket of systemd's it would start, and take readers that scdaemon drives.

        Raises:
            OSError: it does not run, is not for us, or speaks another protocol.
        """
        os.stat(f"{os.path.dirname(path)}/{_RUNNING}")
        for version in _VERSIONS:
            self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._connection.settimeout(SECONDS)
            try:
                self._connection.connect(path)
                self._send(_CMD_VERSION, _VERSION.pack(*version, 0))
                if _VERSION.unpack(self._receive(_VERSION.size))[2] == 0:
                    return
                self._connection.close()
            except BaseException:
                self._connection.close()
                raise
        raise OSError(f"{path}: another protocol")

    def __enter__(self) -> "Pcscd":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def fileno(self) -> int:
        """What poll() takes."""
        return self._connection.fileno()

    def has_ended(self) -> bool:
        """Whether pcscd has hung up, on a connection that is readable."""
        try:
            return not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def readers(self) -> tuple[Reader, ...]:
        """The readers as they are now. Not on a connection that watches.

        Raises:
            OSError: pcscd went away, or takes too long.
        """
        self._send(_CMD_READERS)
        return parse(self._receive(_READER.size * _READERS))

    def watch(self) -> tuple[Reader, ...]:
        """Begin to watch; the readers as they are now. Once it became readable, take a new connection.

        Raises:
            OSError: as :meth:`readers`.
        """
        self._send(_CMD_WAIT)
        return parse(self._receive(_READER.size * _READERS))

    def _send(self, command: int, data: bytes = b"") -> None:
        self._connection.sendall(_HEADER.pack(len(data), command) + data)

    def _receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._connection.recv(size - len(data))
            if not more:
                raise ConnectionResetError("pcscd hung up")
            data += more
        return data


def parse(data: bytes) -> tuple[Reader, ...]:
    """The readers of a READER_STATE table; unused rows have no name."""
    found = []
    for name, _, state, sharing, _, _, _ in _READER.iter_unpack(data):
        text = name.partition(b"\0")[0].decode("utf-8", "replace")
        if text:
            found.append(Reader(text, bool(state & _PRESENT), sharing == _EXCLUSIVE))
    return tuple(found)
