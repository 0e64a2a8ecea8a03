"""The ``command`` notifier: a program that gets one JSON object on its standard input (docs/protocol.md section 6)."""

import asyncio
import contextlib
import json
import os
import signal
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
        # What the program prints is thrown away: it may quote the link, and the broker's output ends in a journal.
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL, env=self._environ, cwd="/", start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise NotDelivered(f"cannot be started: {getattr(error, 'strerror', None) or 'bad command'}") from None
        try:
            await process.communicate(message(event, notice, outcome, self._wall_clock()))
        finally:
            if process.returncode is None:  # cancelled: with everything that it started
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        status = process.returncode or 0
        if status < 0:
            raise NotDelivered(f"was killed by signal {-status}")
        if status > 0:
            raise NotDelivered(f"failed with exit status {status}")


def message(event: str, notice: Notice, outcome: str, now: float) -> bytes:
    """The JSON object for the program; ``now`` is the wall clock's time."""
    fields = notice._asdict()
    expires = time.gmtime(now + fields.pop("remaining"))
    fields |= {"event": event, "expires": time.strftime("%Y-%m-%dT%H:%M:%SZ", expires), "outcome": outcome}
    return json.dumps(fields).encode("ascii") + b"\n"
