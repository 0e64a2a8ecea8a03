"""End a broker that was started on demand, so that the next prompt starts one that reads the new settings."""

import contextlib
import os
import signal

from unlatch.cli import admin
from unlatch.errors import UnlatchError
from unlatch.setup.steps import Effect


def effects() -> tuple[Effect, ...]:
    """What ends this user's own broker, if one runs now."""
    if not _pid():
        return ()
    return (
        Effect("the running broker ends; the next prompt starts one that reads it, open ones go on", lambda _: _end()),
    )


def _pid() -> int:
    """The pid of this user's running broker, by its own word; 0 without one."""
    with contextlib.suppress(OSError, UnlatchError):
        found = admin.find_admin()
        if found is not None and not found.place.host:
            with contextlib.closing(found):
                broker = found.ask({"op": "status"}).get("broker")
            pid = broker.get("pid") if isinstance(broker, dict) else 0
            return pid if isinstance(pid, int) and pid > 1 else 0
    return 0


def _end() -> None:
    if pid := _pid():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)
