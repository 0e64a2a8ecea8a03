"""Wait until keys are unlocked, by whomever: the gate for services. It never stands in gpg-agent's queue.

gpg-agent tells nobody when its cache changes, so a thread looks once a second, over a connection that it keeps. That is
one line each way, a tenth of a millisecond of the agent's time; whoever waits for the same prompt hears from the broker
at once besides. What the cache says is proved once by a signature or decryption: a wrong passphrase may be in it.
"""

import os
import select
import threading
import time
from collections.abc import Callable

from unlatch.errors import UnlatchError
from unlatch.gnupg import keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.keyring import HomeKey

INTERVAL = 1.0  # seconds


class Watch:
    """Looks at some keys until all are unlocked. ``descriptor`` is readable from then on.

    Use it in ``with``. An agent that is not there, or goes away, is one in which nothing is unlocked.
    """

    def __init__(self, open_agent: Callable[[], Agent], grips: list[str], *, interval: float = INTERVAL) -> None:
        self._open_agent = open_agent
        self._left = list(grips)
        self._interval = interval
        self._refuted: set[str] = set()
        self._agent: Agent | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.descriptor, self._done = os.pipe()

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def wait(self, seconds: float) -> bool:
        """Whether they are all unlocked within so many seconds, which may be infinite."""
        # poll(2) takes an int of milliseconds, so a day at a time.
        until = time.monotonic() + seconds
        poller = select.poll()
        poller.register(self.descriptor, select.POLLIN)
        while True:
            left = min(max(0.0, until - time.monotonic()), 86_400.0)
            if poller.poll(left * 1000):
                return True
            if time.monotonic() >= until:
                return False

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        os.close(self.descriptor)

    def _look(self) -> None:
        try:
            while not self._over.is_set() and not self._all_unlocked():
                self._over.wait(self._interval)
            os.close(self._done)  # which makes the other end readable; whatever else ends this thread must not
        finally:
            self._hang_up()

    def _all_unlocked(self) -> bool:
        try:
            if self._agent is None:
                self._agent = self._open_agent()
            # From the last to the first that is locked; what was unlocked may be locked again by then.
            return all(self._is_unlocked(self._agent, grip) for grip in self._left)
        except (UnlatchError, OSError):  # OSError: too many open files, on a host where everything starts at once
            self._hang_up()
            return False

    def _hang_up(self) -> None:
        if self._agent is not None:
            self._agent.close()
        self._agent = None

    def _is_unlocked(self, agent: Agent, grip: str) -> bool:
        known = keys.agent_key(agent, grip)
        if known is None or not HomeKey(known).usable:
            self._refuted.discard(grip)
            return False
        if grip in self._refuted:
            return False
        if not keys.works_unasked(agent, grip):
            self._refuted.add(grip)
            return False
        return True
