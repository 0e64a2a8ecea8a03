"""Looks at the page while nobody is rung: what came here of a request that an admin sent through the public address.

``unlatch doctor`` makes up a ticket, has the broker serve the page for it, and asks for it as a phone would. The broker
tells what it saw: the path and the client's address as the proxy passed them on. Pure.
"""

from collections.abc import Callable
from typing import NamedTuple

LOOK_SECONDS = 30.0  # for a whole look; the admin hangs up earlier
MOST_LOOKS = 8  # at the same time


class Arrival(NamedTuple):
    """A request that has the ticket in its path. ``client`` is who asks by the proxy's word, if that counts here;
    ``refused``: ``allow_from`` does not name the peer.
    """

    target: str
    client: str
    refused: bool


Hear = Callable[[Arrival], None]


class Looks:
    """The tickets of the looks that go on."""

    def __init__(self) -> None:
        self._hear: dict[str, Hear] = {}

    def __len__(self) -> int:
        return len(self._hear)

    def begin(self, ticket: str, hear: Hear) -> bool:
        """Serve the page for this ticket and tell of its requests; False: there are too many, or it is taken."""
        if ticket in self._hear or len(self._hear) >= MOST_LOOKS:
            return False
        self._hear[ticket] = hear
        return True

    def end(self, ticket: str) -> None:
        """Look no more."""
        self._hear.pop(ticket, None)

    def knows(self, ticket: str) -> bool:
        """Whether somebody looks for this ticket's page."""
        return ticket in self._hear

    def arrived(self, arrival: Arrival) -> None:
        """A request is here, under whatever path a proxy made of it."""
        for ticket, hear in list(self._hear.items()):
            if ticket in arrival.target:
                hear(arrival)
