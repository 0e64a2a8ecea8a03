"""How long the agent keeps what it is given: checked before anybody is asked, seen to before the agent has it."""

import time
from collections.abc import Callable

from unlatch.ask import boottime
from unlatch.errors import UnlatchError
from unlatch.gnupg import ending, grant_end, keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.grants import LONGEST, Grant, Records, agent_life
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import HomeKey


class Capped(UnlatchError):
    """gpg-agent forgets sooner than it is wanted to keep. Both in seconds; ``wanted`` 0 is for as long as it lives."""

    def __init__(self, wanted: int, max_cache_ttl: int) -> None:
        super().__init__(f"capped by max-cache-ttl = {max_cache_ttl} s")
        self.wanted = wanted
        self.max_cache_ttl = max_cache_ttl


class Granting:
    """Grants for the keys of one unlocking.

    ``seconds`` is how long; 0 for as long as the agent lives; None for as long as its own configuration keeps them.
    """

    def __init__(
        self, home: Home, records: Records, seconds: int | None, *, user: str, clock: Callable[[], float] = boottime
    ) -> None:
        self._home = home
        self._records = records
        self._seconds = seconds
        self._user = user
        self._clock = clock

    def check(self, agent: Agent, limits: keys.Limits) -> None:
        """Whether these grants can be had, before anybody is asked.

        Raises:
            Capped: the agent's configuration would end them sooner.
            NoEnder: nobody could end them.
            NotAllowed, Forbidden: the agent keeps nothing for anybody.
            OSError, Untrusted: their end could not be written down.
        """
        keys.check_allowed(agent)
        if self._seconds is not None and limits.max_cache_ttl < (self._seconds or LONGEST):
            raise Capped(self._seconds, limits.max_cache_ttl)
        if self._seconds:
            self._ender(agent)
            self._records.prepare()

    def __call__(self, agent: Agent, fitting: list[HomeKey]) -> None:
        """Write down until when these keys are granted, and see to their end.

        Raises:
            NoEnder: nobody can end them, so the agent must not have them.
            OSError, Untrusted: a grant with an end cannot be written down.
        """
        before = [self._records.read(key.grip) for key in fitting]
        end = self._clock() + self._seconds if self._seconds else 0.0
        grants = [Grant(self._home.directory, key.grip, agent_life(agent.pid), end) for key in fitting]
        if self._seconds:
            who, arguments = self._ender(agent), grant_end.arguments_of(grants)
            wall = time.time() + self._seconds
            scheduled = ending.schedule(who, self._home, arguments, seconds=self._seconds, wall=wall)
            grants = [grant._replace(scheduled=scheduled) for grant in grants]
        for grant, old in zip(grants, before, strict=True):
            # Without an end there is something to write only if it takes the place of one with an end.
            if grant.end or old is not None:
                self._records.write(grant)
        for old in before:
            if old is not None and old.scheduled and not self._records.mention(old.scheduled):
                ending.cancel(self._home.uid, old.scheduled)

    def _ender(self, agent: Agent) -> str:
        if not agent_life(agent.pid):
            raise ending.NoEnder("agent", f"this gpg-agent (pid {agent.pid}) cannot be seen from here")
        return ending.choose(ending.look(self._home.uid, self._user, agent.pid))
