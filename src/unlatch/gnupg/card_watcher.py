"""The loop of ``card watch``: look, decide, have a child process ask, wait until something happens.

The child alone ever holds a PIN. It ends when its parent does: it holds one end of a pipe, the parent the other.
"""

import os
from collections.abc import Callable

from unlatch.errors import UnlatchError
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card import UNLOCKED, number_of
from unlatch.gnupg.card_events import HOPELESS, Events, look
from unlatch.gnupg.card_watch import ABSENT, DONE, NOBODY, OVER, UNKNOWN, Seen, Watch

# Seconds; what nobody knows, and nobody will tell of, is looked at again after that, then more and more seldom.
SOON, LATER = 1.0, 30.0


class Watcher:
    """Watches until something is raised from outside, such as by a signal.

    Args:
        open_agent: connects to the agent.
        wanted: the serial number of the card, as people write it; "" for the only one.
        every: seconds between two looks when nothing happens.
        refusal: why the rules of unlatch.toml refuse to ring now; "" if they do not.
        ask: unlocks the card with this id, for this reason, unless this descriptor becomes readable: an outcome of
            card_watch. It is called in a child process.
        tell: writes a line for people.
        clock: seconds that go on.
    """

    def __init__(
        self,
        open_agent: Callable[[], Agent],
        wanted: str,
        *,
        every: float,
        refusal: Callable[[], str],
        ask: Callable[[str, str, int], int],
        tell: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._open_agent = open_agent
        self._wanted = wanted
        self._every = every
        self._refusal = refusal
        self._ask = ask
        self._tell = tell
        self._clock = clock
        self._watch = Watch()
        self._events = Events()
        self._child = _Child()
        self._known = ""  # the card that was seen last
        self._agent = 0  # its pid
        self._told = ""
        self._meanwhile: list[str] = []  # what happened since the card was last seen unlocked
        self._soon = SOON

    def run(self, ready: Callable[[], None]) -> None:
        """Watch; ``ready`` is called after the first look.

        Raises:
            SeveralCards: nobody said which one, and none is known from before.
            Restricted: the agent lets nobody use cards.
        """
        try:
            seen = self._look()
            ready()
            while True:
                self._act(seen)
                for event in self._events.wait(self._patience(seen), self._child.pidfd):
                    self._take_note(event)
                seen = self._look()
        finally:
            self._events.close()
            self._child.withdraw()

    def _look(self) -> Seen:
        self._events.aim_at_readers()
        try:
            with self._open_agent() as agent:
                seen = look(agent, self._wanted, self._known)
                self._events.aim_at_processes(agent.pid)
                if agent.pid != self._agent and self._agent:
                    self._remember("gpg-agent ended")  # its scdaemon ends first, and is the one that is heard
                self._agent = agent.pid
        except HOPELESS:
            raise
        except UnlatchError as trouble:
            seen = Seen(UNKNOWN, why=str(trouble))
        self._known = seen.aid or self._known
        if seen.state == ABSENT:
            self._remember(seen.why)
        return seen

    def _take_note(self, event: str) -> None:
        if event == "child":
            self._watch.ended(self._child.reap(), self._clock())
        elif event != "reader":  # what that means, the look will tell
            self._remember(f"{event} ended")

    def _act(self, seen: Seen) -> None:
        if self._watch.is_moot(seen):
            self._child.withdraw()
        elif seen.state == UNLOCKED:
            self._meanwhile.clear()
        refusal = ""
        if self._watch.wants(seen, self._clock()):
            refusal = self._refusal()
            if not refusal:
                self._start(seen.aid)
        self._say(seen, refusal)

    def _start(self, aid: str) -> None:
        self._watch.asking = aid
        reason = f"It was unlocked before. {'; '.join(self._meanwhile) or 'Another program reset it'}."

        def ask(moot: int) -> int:
            self._events.close()
            return self._ask(aid, reason, moot)

        self._child.start(ask)

    def _say(self, seen: Seen, refusal: str) -> None:
        """A line when something changed, not one for each look."""
        text = f"the card {number_of(seen.aid)} is {seen.state}" if seen.aid else seen.why
        text += f"; nobody is rung: {refusal}" if refusal else ""
        if text != self._told:
            self._told = text
            self._tell(text)

    def _remember(self, text: str) -> None:
        if text not in self._meanwhile:
            self._meanwhile.append(text)

    def _patience(self, seen: Seen) -> float:
        """Seconds until the next look if nothing happens."""
        patience = min(self._every, self._watch.delay(self._clock()) or self._every)
        if seen.state != UNKNOWN and (seen.state != ABSENT or self._events.hears_readers):
            self._soon = SOON
            return patience
        soon, self._soon = self._soon, min(self._soon * 2, LATER)
        return min(soon, patience)


class _Child:
    """The process that asks. ``pidfd`` is -1 while there is none."""

    def __init__(self) -> None:
        self.pidfd = -1
        self._pid = 0
        self._leash = -1  # our end of the pipe

    def start(self, ask: Callable[[int], int]) -> None:
        """Run ``ask`` in a child, with the other end of the pipe, which becomes readable when it is to end."""
        moot, self._leash = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            code = NOBODY
            try:
                os.close(self._leash)
                code = ask(moot)
            finally:
                os._exit(code)  # what is the parent's is not to be unwound here
        os.close(moot)
        self.pidfd = os.pidfd_open(self._pid)

    def withdraw(self) -> None:
        """Have it withdraw its prompt and end; it is still to be reaped."""
        if self._leash >= 0:
            os.close(self._leash)
            self._leash = -1

    def reap(self) -> int:
        """How it ended."""
        self.withdraw()
        os.close(self.pidfd)
        self.pidfd = -1
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return code if code in (DONE, OVER) else NOBODY
