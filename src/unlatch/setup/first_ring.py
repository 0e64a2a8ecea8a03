"""The first ring: ``unlatch ring`` as the user whose GnuPG was set up, and meanwhile what becomes of the message."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from unlatch.cli import admin, voice
from unlatch.doctor.check import Situation
from unlatch.errors import UnlatchError
from unlatch.setup import own_commands

SECONDS = 300  # for a person who has never seen such a message
_PAUSE = 0.5
_START_SECONDS = 20.0  # a broker listens after 0.2 s


def ring(situation: Situation, *, here: bool = False, silent: bool = False) -> int:
    """Ring, and wait for the OK; the exit code of ``unlatch ring``.

    ``here``: a broker runs at this terminal meanwhile, and shows the link. ``silent``: no notifier rings anybody.
    """
    voice.tell("the first ring: a test question goes the way of a real one")
    if silent:
        voice.tell_plainly('  Nobody is rung: type "unlatch answer" in another terminal. Nothing is unlocked by it.')
    else:
        voice.tell_plainly("  Compare the two words, open the link, press OK. Nothing is unlocked by it.")
    with _broker_here(situation) if here else contextlib.nullcontext():
        return _ring(situation)


@contextlib.contextmanager
def _broker_here(situation: Situation) -> Iterator[None]:
    """A broker at this terminal, where none runs yet."""
    if _is_served():
        yield
        return
    broker = own_commands.start(situation, "serve")
    try:
        until = time.monotonic() + _START_SECONDS
        while not _is_served() and time.monotonic() < until:
            time.sleep(_PAUSE / 10)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(broker, signal.SIGTERM)
        own_commands.finish(broker)


def _is_served() -> bool:
    with contextlib.suppress(OSError, UnlatchError):
        found = admin.find_admin()
        if found is not None:
            found.close()
            return True
    return False


def _ring(situation: Situation) -> int:
    child = own_commands.start(situation, "ring", "--timeout", str(SECONDS))
    told: set[str] = set()
    try:
        while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            for line in _news(situation):
                if line not in told:
                    voice.tell_plainly(f"  {line}")
                    told.add(line)
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        pass  # it was interrupted too, and takes its prompt back
    return own_commands.finish(child)


def _news(situation: Situation) -> list[str]:
    """What the broker says about the ring's message: delivered, or why not."""
    said: dict[str, Any] = {}
    with contextlib.suppress(OSError, UnlatchError):
        found = admin.find_admin()
        if found is not None:
            with contextlib.closing(found):
                said = found.ask({"op": "status"})
    prompts = said.get("prompts")
    rows = [row for row in prompts if isinstance(row, dict)] if isinstance(prompts, list) else []
    mine = [row for row in rows if row.get("uid") == situation.uid and row.get("command") == "unlatch ring"]
    news = []
    for row in mine:
        delivery = row.get("delivery")
        for name, how in delivery.items() if isinstance(delivery, dict) else ():
            if how != "ringing":
                news.append(voice.clean(f"{name}: {how}"))
    return news
