"""What one of GnuPG's own programs says, within bounds of time and size.

Not by subprocess: importing that costs as much as gpg needs for its whole answer, and ``key check`` has no time for it.
"""

import os
import select
import signal
import time

from unlatch.errors import UnlatchError
from unlatch.gnupg.homes import Home

MAX_OUTPUT = 8 << 20  # bytes; a keyring of ten thousand keys
SECONDS = 20.0
_CHUNK = 65536
_NOT_STARTED = 127  # what a shell and posix_spawnp's child say of a program that is not there


class Unreadable(UnlatchError):
    """A program of GnuPG's cannot be asked: not installed, too slow, or too talkative. The text says which and why."""


def output_of(home: Home, *command: str, seconds: float = SECONDS) -> tuple[int, bytes]:
    """Exit code and standard output of a program that works with this home; what it complains of goes nowhere.

    Raises:
        Unreadable
    """
    reader, writer = os.pipe()
    try:
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        actions = [
            (os.POSIX_SPAWN_DUP2, nowhere, 0),
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_DUP2, nowhere, 2),
        ]
        try:
            child = os.posix_spawnp(command[0], command, home.environment(), file_actions=actions)
        except OSError as error:
            raise Unreadable(f"{command[0]}: {(error.strerror or 'cannot be run').lower()}") from None
        finally:
            os.close(nowhere)
            os.close(writer)
        try:
            said = _read_all(reader, command[0], seconds)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(reader)
    if code == _NOT_STARTED and not said:
        raise Unreadable(f"{command[0]}: cannot be run")
    return code, said


def _read_all(reader: int, name: str, seconds: float) -> bytes:
    until = time.monotonic() + seconds
    said = bytearray()
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    while True:
        if not poller.poll(max(0.0, until - time.monotonic()) * 1000):
            raise Unreadable(f"{name}: no answer within {seconds:g} s")
        data = os.read(reader, _CHUNK)
        if not data:
            return bytes(said)
        said += data
        if len(said) > MAX_OUTPUT:
            raise Unreadable(f"{name}: says more than {MAX_OUTPUT} bytes")
