"""One probe that several checks of one run judge: the first that asks makes it, the others wait for what it finds."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from unlatch.doctor.check import Situation

F = TypeVar("F")


class Shared(Generic[F]):
    """Call it as the probe itself."""

    def __init__(self, probe: Callable[[Situation], F]) -> None:
        self._probe = probe
        self._lock = threading.Lock()
        self._found: tuple[Situation, F] | None = None

    def __call__(self, situation: Situation) -> F:
        with self._lock:
            if self._found is None or self._found[0] is not situation:
                self._found = (situation, self._probe(situation))
            return self._found[1]
