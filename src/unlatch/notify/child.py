"""A program that is run for one message: what it is fed, what it may know, and how it is ended with all it started."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from typing import NamedTuple

from unlatch.notify import NotDelivered

PATH = "/usr/local/bin:/usr/bin:/bin"
# What a program needs to find itself and its credentials, and nothing of whoever started the broker.
KEPT = ("HOME", "USER", "LOGNAME", "LANG", "CREDENTIALS_DIRECTORY", "XDG_RUNTIME_DIR")
MAX_SAID = 256  # bytes of what it says that are read


class Ended(NamedTuple):
    """How it went: the exit status as subprocess gives it, and the first bytes of its standard output if wanted."""

    status: int
    said: bytes


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: a fixed path, and of ours only :data:`KEPT`."""
    return {"PATH": PATH} | {key: environ[key] for key in KEPT if key in environ}


async def run(command: Sequence[str], fed: bytes, environ: Mapping[str, str], *, listen: bool = False) -> Ended:
    """Run a program to its end. Cancelled, it ends with everything that it started.

    Raises:
        NotDelivered: it cannot be started.
    """
    # Not pipes but files that exist in memory only: nothing to feed, and nobody to wait for who does not read.
    with _memory(fed) as stdin, _memory(b"") as heard:
        try:
            # What a program prints is thrown away: it may quote the link, and the broker's output ends in a log.
            process = subprocess.Popen(
                command, stdin=stdin, stdout=heard if listen else subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=environ, cwd="/", start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise NotDelivered(f"cannot be started: {getattr(error, 'strerror', None) or 'bad command'}") from None
        try:
            await _end_of(process)
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await _end_of(process)
                process.wait()
        return Ended(process.returncode, os.pread(heard.fileno(), MAX_SAID, 0))


@contextlib.contextmanager
def _memory(content: bytes) -> Iterator[FileIO]:
    with FileIO(os.memfd_create("unlatch"), "w+b") as file:
        file.write(content)
        file.seek(0)
        yield file


async def _end_of(process: "subprocess.Popen[bytes]") -> None:
    """Wait until a child has ended (pidfd_open(2)); it is still to be reaped."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
