"""The ``command`` notifier: a program that gets one JSON object on its standard input (docs/protocol.md section 6)."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from unlatch.broker.notice import Notice
from unlatch.notify import NotDelivered

# What a program needs to find itself and its credentials, and nothing of whoever started the broker.
_KEPT = ("HOME", "USER", "LOGNAME", "LANG", "CREDENTIALS_DIRECTORY", "XDG_RUNTIME_DIR")
_PATH = "/usr/local/bin:/usr/bin:/bin"


class CommandNotifier:
    """Runs a program for each message. Success is exit status 0 within the caller's time limit."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        end_to_end: bool = False,
        environ: Mapping[str, str],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.end_to_end = end_to_end
        self._command = tuple(command)
        self._environ = {"PATH": _PATH} | {key: environ[key] for key in _KEPT if key in environ}
        self._wall_clock = wall_clock

    async def ring(self, notice: Notice) -> None:
        await self._run("ring", notice)

    async def remind(self, notice: Notice) -> None:
        await self._run("remind", notice)

    async def end(self, notice: Notice, outcome: str) -> None:
        await self._run("end", notice, outcome)

    async def _run(self, event: str, notice: Notice, outcome: str = "") -> None:
        process = self._start(message(event, notice, outcome, self._wall_clock()))
        try:
            await _end_of(process)
        finally:
            if process.poll() is None:  # cancelled: it ends with everything that it started
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await _end_of(process)
                process.wait()
        if process.returncode < 0:
            raise NotDelivered(f"was killed by signal {-process.returncode}")
        if process.returncode > 0:
            raise NotDelivered(f"failed with exit status {process.returncode}")

    def _start(self, said: bytes) -> "subprocess.Popen[bytes]":
        # Not a pipe but a file that exists in memory only: nothing to feed, and nobody to wait for who does not read.
        with open(os.memfd_create("unlatch"), "w+b", buffering=0) as stdin:
            stdin.write(said)
            stdin.seek(0)
            try:
                # What the program prints is thrown away: it may quote the link, and the broker's output ends in a log.
                return subprocess.Popen(
                    self._command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    env=self._environ, cwd="/", start_new_session=True,
                )  # fmt: skip
            except (OSError, ValueError) as error:
                raise NotDelivered(f"cannot be started: {getattr(error, 'strerror', None) or 'bad command'}") from None


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


def message(event: str, notice: Notice, outcome: str, now: float) -> bytes:
    """The JSON object for the program; ``now`` is the wall clock's time."""
    fields = notice._asdict()
    expires = time.gmtime(now + fields.pop("remaining"))
    fields |= {"event": event, "expires": time.strftime("%Y-%m-%dT%H:%M:%SZ", expires), "outcome": outcome}
    return json.dumps(fields).encode("ascii") + b"\n"
