"""What can be waited for to learn that a card may have changed, and a look at how it is then.

scdaemon 2.2.40 has no DEVINFO --watch. What tells of a change (measured; docs/cards.md):

- pcscd tells its clients at once when a card comes or goes, without touching a card, and hangs up when it ends.
- gpg-agent and scdaemon are processes, and a pidfd tells of their end.
- Nobody tells of a reset by another program, nor of a card in a reader that scdaemon drives without pcscd. So the card
  is looked at now and then as well: 1 ms while it is unlocked, 4 ms while it is locked, on an emulated card. No look
  waits for a person, and one that meets an open pinentry gives up, so nobody is blocked by it.

What scdaemon offers instead was no use: it runs ``scd-event`` and writes ``reader_0.status`` half a second after a card
went, but does not notice one that comes back until somebody asks it for a card.
"""

import contextlib
import os
import select

from unlatch.errors import UnlatchError
from unlatch.gnupg import card_access
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card_errors import (
    Empty,
    HeldByAnother,
    NoDaemon,
    NoReader,
    NotOpenPGP,
    OtherCard,
    Restricted,
    SeveralCards,
    Unused,
)
from unlatch.gnupg.card_watch import ABSENT, UNKNOWN, Seen
from unlatch.gnupg.children import children_of
from unlatch.gnupg.errors import BrokenPipe, CardDaemonEnded
from unlatch.gnupg.readers import Pcscd

HOPELESS = (SeveralCards, Restricted)
_ABSENT = (NoReader, Empty, HeldByAnother, Unused, OtherCard, NotOpenPGP)


class Events:
    """The sources: readers from before a look on, so that nothing is missed; processes after it, as it starts one."""

    def __init__(self) -> None:
        self._pcscd: Pcscd | None = None
        self._pidfds: dict[str, int] = {}

    def aim_at_readers(self) -> None:
        """Begin to wait for cards that come and go, if there is a pcscd."""
        self.close()
        with contextlib.suppress(OSError):
            pcscd = Pcscd()
            try:
                pcscd.watch()
            except BaseException:
                pcscd.close()
                raise
            self._pcscd = pcscd

    def aim_at_processes(self, agent: int) -> None:
        """Begin to wait for the end of the agent with this pid, and of its scdaemon."""
        scdaemon = next((child.pid for child in children_of(agent) if child.name == "scdaemon"), 0)
        for name, pid in (("gpg-agent", agent), ("scdaemon", scdaemon)):
            if pid > 0:
                with contextlib.suppress(OSError):
                    self._pidfds[name] = os.pidfd_open(pid)

    @property
    def hears_readers(self) -> bool:
        """Whether somebody tells of cards that come."""
        return self._pcscd is not None

    def wait(self, seconds: float, child: int) -> list[str]:
        """Wait; the end of "gpg-agent", "scdaemon", "pcscd" or the pidfd ``child``; news of a "reader"; [] for time."""
        sources = dict(self._pidfds)
        if child >= 0:
            sources["child"] = child
        if self._pcscd is not None:
            sources["reader"] = self._pcscd.fileno()
        poller = select.poll()
        for descriptor in sources.values():
            poller.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poller.poll(int(seconds * 1000) + 1)}
        events = [name for name, descriptor in sources.items() if descriptor in ready]
        if "reader" in events and self._pcscd is not None and self._pcscd.has_ended():
            events[events.index("reader")] = "pcscd"
        return events

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._pcscd is not None:
            self._pcscd.close()
            self._pcscd = None
        for descriptor in self._pidfds.values():
            os.close(descriptor)
        self._pidfds.clear()


def look(agent: Agent, wanted: str, known: str) -> Seen:
    """Look at the card: nothing is spent, nobody asked, and nothing waited for that takes long.

    ``wanted`` is the serial number that somebody gave; without one it is the only card, or the one that was ``known``
    before there were several.

    Raises:
        SeveralCards, Restricted: no waiting mends that.
    """
    try:
        try:
            aid = card_access.select(agent, wanted, patient=False)
        except SeveralCards:
            if not known:
                raise
            aid = card_access.select(agent, known, patient=False)
        return Seen(card_access.state_of(agent, aid).state, aid)
    except HOPELESS:
        raise
    except _ABSENT as trouble:
        return Seen(ABSENT, why=str(trouble))
    except (BrokenPipe, CardDaemonEnded, NoDaemon):
        return Seen(UNKNOWN, why="gpg-agent has no scdaemon")
    except UnlatchError as trouble:
        return Seen(UNKNOWN, why=str(trouble))
