"""Wait for the outside world with a bound, never for a fixed time."""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")

INTERVAL = 0.01  # seconds between two looks
PATIENCE = 20.0  # seconds; far beyond what anything here takes on a loaded machine


def until(look: Callable[[], _T], what: str, seconds: float = PATIENCE) -> _T:
    """Look until there is something to see, and give it back.

    Raises:
        AssertionError: nothing within ``seconds``; ``what`` says what was missed.
    """
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(INTERVAL)


def listens(path: str | Path) -> bool:
    """Whether somebody listens at this Unix socket. That it is there says less: between bind and listen it refuses."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        holder = os.open(os.path.dirname(path), os.O_PATH)  # unix(7): a path has room for 107 bytes
        try:
            client.connect(f"/proc/self/fd/{holder}/{os.path.basename(path)}")
        finally:
            os.close(holder)
        return True
    return False
