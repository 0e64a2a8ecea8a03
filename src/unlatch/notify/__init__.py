"""Notifiers tell people that somebody waits for them. One file for each kind, one small interface for all.

What every notifier keeps (``tests/notifier_contract.py`` holds each to it; ``template.py`` is one to start from):
- The link goes to the people and nowhere else: not into an argument list, a log, an exception or the reason of a
  failure.
- Any method may be cancelled at any moment (its time is over, or the prompt is); nothing of it goes on afterwards.
- Messages about one prompt, and about the prompts that quietly follow it, have the same ``notice.id``. A notifier that
  can edit its messages edits. One that cannot sends a new one only where that helps: for a quiet ring only when it
  carries a link that was not sent before, and not many in a row.
- A message may be about several prompts (``notice.more``). It shows them all; those with an outcome are over.
- When the page cannot be reached (``notice.page_trouble``), the message says so, and why.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from unlatch.broker.notice import Notice
from unlatch.errors import UnlatchError


class NotDelivered(UnlatchError):
    """The message did not get out. ``why`` is for the status and must not hold anything of the notice."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class NotYet(NotDelivered):
    """Nothing failed: the notifier chooses to say it later, and wants to be asked again, as the broker does anyway."""


# What a notifier that hears replies calls for a "deny": its own name, the message's ``notice.id``, who said it (proven
# by the notifier), and what else was said, because a message about several prompts needs the match words. Returns how
# many prompts that ended: 0 means too late, or that it is not clear which is meant.
Deny = Callable[[str, str, str, str], int]


@runtime_checkable
class Lasting(Protocol):
    """What a notifier has besides, if it holds something open or has more to tell than its last result."""

    @property
    def note(self) -> str:
        """What the status shows, whatever the last result was; may be empty."""

    def resume(self, notice: Notice) -> None:
        """An earlier process sent this link, and the prompt is open again: hear replies to its message."""

    async def close(self) -> None:
        """Let go of everything; the broker ends."""


class Notifier(Protocol):
    """One way to reach people. Made once, when the broker hears of its first prompt."""

    @property
    def name(self) -> str:
        """What the configuration calls it, or the kind where there is none."""

    @property
    def end_to_end(self) -> bool:
        """Whether nobody between the broker and the person can read the link, or forge one."""

    async def ring(self, notice: Notice) -> None:
        """Send the link. With ``notice.quiet``: in the place of the earlier message, without a sound.

        Raises:
            NotDelivered: it will be tried again while the prompt is open.
        """

    async def remind(self, notice: Notice) -> None:
        """Call attention to a link that was sent and is still open.

        Raises:
            NotDelivered
        """

    async def end(self, notice: Notice, outcome: str) -> None:
        """Say how it ended and take the link away. ``notice.link`` is empty.

        Raises:
            NotDelivered: it will be tried a few times.
        """
