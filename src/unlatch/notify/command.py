"""The ``command`` notifier: a program that gets one JSON object on its standard input (docs/protocol.md section 6)."""

import json
import time
from collections.abc import Callable, Mapping, Sequence

from unlatch.broker.notice import Notice
from unlatch.notify import NotDelivered, child


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
        self._environ = child.environment(environ)
        self._wall_clock = wall_clock

    async def ring(self, notice: Notice) -> None:
        await self._run("ring", notice)

    async def remind(self, notice: Notice) -> None:
        await self._run("remind", notice)

    async def end(self, notice: Notice, outcome: str) -> None:
        await self._run("end", notice, outcome)

    async def _run(self, event: str, notice: Notice, outcome: str = "") -> None:
        said = message(event, notice, outcome, self._wall_clock())
        status = (await child.run(self._command, said, self._environ)).status
        if status < 0:
            raise NotDelivered(f"was killed by signal {-status}")
        if status > 0:
            raise NotDelivered(f"failed with exit status {status}")


def message(event: str, notice: Notice, outcome: str, now: float) -> bytes:
    """The JSON object for the program; ``now`` is the wall clock's time."""
    fields = notice._asdict()
    expires = time.gmtime(now + fields.pop("remaining"))
    fields["more"] = [also._asdict() for also in notice.more]
    fields |= {"event": event, "expires": time.strftime("%Y-%m-%dT%H:%M:%SZ", expires), "outcome": outcome}
    return json.dumps(fields).encode("ascii") + b"\n"
