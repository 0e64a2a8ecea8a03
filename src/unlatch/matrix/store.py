"""The state on disk: one directory (0700) with ``state.json``, ``pickle.key`` and ``lock`` (0600 each).

How it is used, by the broker as by ``unlatch matrix setup``:

    with store.locked():            # short: no network inside, except between "keys are made" and "keys are sent"
        state = store.load()        # another process may have changed it since
        ...
        store.save(state)           # before anything that depends on it leaves the process
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Store:
    """A directory of ours. Nothing is read or made before the first call."""

    def __init__(self, path: str) -> None:
        self.path = path

    def create(self, random: Callable[[int], bytes]) -> None:
        """Make the directory and the pickle key, if they are not there. Setup calls it; it may be repeated.

        Raises:
            StoreBroken: the directory or a file in it is not ours alone.
            OSError: it cannot be made.
        """
        raise NotImplementedError

    def exists(self) -> bool:
        """Whether there is a saved state (readable or not)."""
        raise NotImplementedError

    @contextmanager
    def locked(self, seconds: float = 10.0) -> Iterator[None]:
        """Keep every other process (and thread) out. Not reentrant. Blocks: use a thread in an event loop.

        Raises:
            StoreMissing, StoreBroken
            StoreBusy: somebody held the lock for ``seconds``.
        """
        raise NotImplementedError
        yield

    def pickle_key(self) -> bytes:
        """The 32 bytes for Machine.dump and Machine.load; apart from the state, so that a copy of that alone is dead.

        Raises:
            StoreMissing, StoreBroken
        """
        raise NotImplementedError

    def load(self) -> dict[str, Any]:
        """The last saved state, checked.

        Raises:
            StoreMissing: nothing was ever saved here.
            StoreBroken: deleted, truncated, changed, foreign or open to others.
        """
        raise NotImplementedError

    def changed(self) -> bool:
        """Whether another process saved since our last load or save: then load again. One stat(2)."""
        raise NotImplementedError

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state in one step: after a power cut it is the old or the new one. Only while locked.

        Raises:
            StoreBroken: the directory is no longer ours alone.
            OSError: it cannot be written; the old state is still there.
        """
        raise NotImplementedError
