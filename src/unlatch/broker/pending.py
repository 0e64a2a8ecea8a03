"""The pending table: every prompt that waits for a person, and everything that may happen to it. Pure.

``now`` is CLOCK_BOOTTIME in seconds. Each method first does what has become due, so a link is dead at its time even if
``tick`` comes late. Asker's methods return actions; page's methods return a reply and actions, to be performed first.
"""

from collections.abc import Hashable, Iterator
from typing import Any

from unlatch.broker.actions import Actions, Later, Peer, Reply, Visitor
from unlatch.broker.messages import Register
from unlatch.broker.policy import Policy
from unlatch.seal import RandomBytes


class Pending:
    """All open prompts of one broker."""

    def __init__(self, policy: Policy, random: RandomBytes) -> None: ...

    # The asker's side. ``conn`` is any hashable that names a connection.

    def register(self, now: float, peer: Peer, message: Register) -> Actions:
        """Open a prompt, follow one, put another link beside one, or go on after one. Or tell why not."""

    def taken(self, now: float, conn: Hashable, ticket: str) -> Actions:
        """The asker has opened the answer."""

    def spoiled(self, now: float, conn: Hashable, ticket: str) -> Actions:
        """The asker could not open the answer: the link is open again. The fifth time ends the prompt."""

    def verdict(self, now: float, conn: Hashable, ticket: str, outcome: str, sealed: str) -> Actions:
        """What became of the answer. The sealed text is kept for the page that answered, 30 s at most."""

    def withdraw(self, now: float, conn: Hashable, ticket: str, why: str) -> Actions:
        """The asker needs no answer any more."""

    def gone(self, now: float, conn: Hashable) -> Actions:
        """The connection closed: its prompts are withdrawn. Verdicts stay."""

    # The page's side, over HTTP or over the admin socket.

    def knows(self, ticket: str) -> bool:
        """Whether ``GET ticket`` gives the page: the ticket is open, or dead for less than an hour."""

    def hello(self, now: float, ticket: str) -> tuple[Reply, Actions]:
        """The nonce to prove the link with."""

    def view(self, now: float, ticket: str, page: str, proof: bytes, visitor: Visitor) -> tuple[Reply, Actions]:
        """Show the question to a page that proved the link."""

    def answer(
        self, now: float, ticket: str, page: str, proof: bytes, sealed: str, visitor: Visitor
    ) -> tuple[Reply, Actions]:
        """Hand a page's sealed answer to the asker."""

    def wait(
        self, now: float, ticket: str, page: str, proof: bytes, seen: int, visitor: Visitor
    ) -> tuple[Reply | Later, Actions]:
        """What has changed since turn ``seen``. With ``Later``, a Wake follows within 25 s.

        Perform the actions first: a Wake among them ends the older wait of the same page.
        """

    def left(self, now: float, ticket: str, page: str) -> Actions:
        """The waiting request of this page went away unanswered (its connection closed)."""

    # The shell's side.

    def reported(self, now: float, prompt_id: str, notifier: str, delivered: bool, why: str) -> Actions:
        """A notifier's result for the last Ring (or Remind) of this prompt; ``why`` is its one-line excuse."""

    def tick(self, now: float) -> Actions:
        """Do what is due by now."""

    def next_deadline(self) -> float | None:
        """When ``tick`` should be called next; None: nothing is waited for."""

    def prompts(self, uid: int) -> Iterator[dict[str, Any]]:
        """Rows of ``status`` for this uid's prompts (uid 0: all); no links in them. Made one by one, for pauses."""

    def links(self, uid: int) -> Iterator[dict[str, Any]]:
        """Rows of ``list`` for this uid's open prompts (uid 0: all), with ticket and fragment."""

    @property
    def open_prompts(self) -> int:
        """How many prompts are open, followers included: a broker with none may exit when ``wants_listening`` is False."""

    @property
    def wants_listening(self) -> bool:
        """Whether a page may have something to fetch: a prompt is open, or a verdict waits for its page."""
