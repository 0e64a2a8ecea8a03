"""A notifier to start from: it works as it stands, on a list in memory. docs/notifiers/writing.md has the steps.

The first lines of yours say where it sends to, and what one has to know about that place.
"""

import time
from collections.abc import Awaitable, Callable

from unlatch.broker.notice import Notice
from unlatch.notify import NotDelivered, words

# What goes out: the message's id, the text, and whether it shall be heard. Yours is a client of some service.
Post = Callable[[str, words.Text, bool], Awaitable[None]]


class TemplateNotifier:
    """Says in one sentence what it does with a message."""

    # True only if nobody between this process and the person can read the link, or forge one. It is not a setting of
    # yours when your service decides it; then it is a constant.
    end_to_end = False

    def __init__(self, name: str, post: Post, *, wall_clock: Callable[[], float] = time.time) -> None:
        # Made once, when the broker hears of its first prompt: nothing is contacted here, and nothing can fail. What
        # can go wrong goes wrong in ring(), where it is tried again.
        self.name = name
        self._post = post
        self._wall_clock = wall_clock

    async def ring(self, notice: Notice) -> None:
        # A service that can edit: look up what was sent under notice.id (keep that bounded), and replace it. One that
        # cannot: return when notice.quiet and the link was sent before.
        await self._send(notice, words.ring(notice, self._wall_clock()), loud=not notice.quiet)

    async def remind(self, notice: Notice) -> None:
        # It was heard once; make it heard again. Where there are threads, answer to the first message.
        await self._send(notice, words.ring(notice, self._wall_clock(), again=True), loud=True)

    async def end(self, notice: Notice, outcome: str) -> None:
        # notice.link is empty. Take the link out of what was sent, if the service lets you; nobody has to hear it.
        await self._send(notice, words.end(notice, outcome), loud=False)

    async def _send(self, notice: Notice, text: words.Text, *, loud: bool) -> None:
        # No time limit and no second try here: the broker has both. It cancels; so use only what ends when cancelled.
        try:
            await self._post(notice.id, text, loud)
        except OSError as error:
            # In our own words, and "from None": the original may quote the link.
            raise NotDelivered(f"cannot be sent: {(error.strerror or 'no connection').lower()}") from None
