"""The ``apprise`` notifier: whatever Apprise reaches. Its Matrix plugin is refused (``settings.APPRISE_MATRIX``).

Apprise runs in a process of its own for each message (``apprise_send.py``), because a plugin may hang for longer than
we like and a thread cannot be ended; because what it logs may hold links and credentials; and because 50 MiB of it
would stay in the broker. That costs about a second. The URL, too, is read in that process: the broker never holds a
secret one.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping

from unlatch.broker.notice import Notice
from unlatch.credentials import Source
from unlatch.notify import NotDelivered, NotYet, child, words
from unlatch.settings import NotifierSettings

BREATHER_SECONDS = 60.0  # between two messages about one prompt that keeps on asking quietly
MOST_REMEMBERED = 256  # messages; who is forgotten hears of a quiet ring once more
_SEND = "import sys; sys.path[:] = sys.argv.pop(1).split(':'); from unlatch.notify.apprise_send import main; main()"
_INLINE = "inline"


def source_of(settings: NotifierSettings) -> Source:
    """Where the URL is: in the settings themselves ("inline"), or where they point."""
    value = settings.options[settings.kind]
    kind = settings.kind.partition("_")[2] or _INLINE
    return Source(kind, (value,) if isinstance(value, str) else tuple(value))


class AppriseNotifier:
    """Sends every message anew, since most services cannot edit: so it says nothing quietly that was said before."""

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        end_to_end: bool = False,
        environ: Mapping[str, str],
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.end_to_end = end_to_end
        self._source = source
        self._environ = child.environment(environ)
        self._wall_clock = wall_clock
        self._clock = clock
        self._sent: dict[str, tuple[float, frozenset[str]]] = {}  # when, and which links; by notice.id

    async def ring(self, notice: Notice) -> None:
        now, links = self._clock(), frozenset({notice.link, *(also.link for also in notice.more)} - {""})
        at, sent = self._sent.get(notice.id, (None, frozenset[str]()))
        if notice.quiet and links <= sent:
            return
        if notice.quiet and at is not None and not sent & links and now - at < BREATHER_SECONDS:
            # A service that fails and asks again at once has a new link each time. Only the one that stays is sent.
            raise NotYet("waits a minute, because a message about the same question was sent just now")
        await self._send(words.ring(notice, self._wall_clock()))
        self._sent.pop(notice.id, None)
        self._sent[notice.id] = (now, links)
        if len(self._sent) > MOST_REMEMBERED:
            del self._sent[next(iter(self._sent))]

    async def remind(self, notice: Notice) -> None:
        await self._send(words.ring(notice, self._wall_clock(), again=True))

    async def end(self, notice: Notice, outcome: str) -> None:
        await self._send(words.end(notice, outcome))

    async def _send(self, text: words.Text) -> None:
        task = {"kind": self._source.kind, "where": self._source.where, "title": text.title, "body": text.body}
        # -I and -S: nothing of the environment or of a site decides what is imported, but our own path list does.
        paths = ":".join(path for path in sys.path if path)
        command = [sys.executable, "-ISB", "-c", _SEND, paths]
        ended = await child.run(command, json.dumps(task).encode("ascii"), self._environ, listen=True)
        if ended.status:
            said = ended.said.decode("ascii", "replace").strip()
            raise NotDelivered(words.one_line(said) or f"the sending process ended with {ended.status}")
