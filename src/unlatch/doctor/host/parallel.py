"""Wait for several slow things side by side, and for none of them too long."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def side_by_side(work: Callable[[A], B], things: Sequence[A], seconds: float) -> list[B | None]:
    """What ``work`` makes of each, in their order; None for what takes longer. What it raises is raised.

    In daemon threads: what hangs (a resolver may, for half a minute) goes on without us.
    """
    done: queue.SimpleQueue[tuple[int, B | BaseException]] = queue.SimpleQueue()

    def run(number: int) -> None:
        try:
            done.put((number, work(things[number])))
        except BaseException as error:
            done.put((number, error))

    until = time.monotonic() + seconds
    for number in range(len(things)):
        threading.Thread(target=run, args=(number,), daemon=True).start()
    found: list[B | None] = [None] * len(things)
    for _ in things:
        try:
            number, result = done.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        if isinstance(result, BaseException):
            raise result
        found[number] = result
    return found
