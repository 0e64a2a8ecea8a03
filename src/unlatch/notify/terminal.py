"""The ``terminal`` notifier: prints the link where the broker runs in the foreground."""

import io
import time
from collections.abc import Callable
from typing import NamedTuple, TextIO
from urllib.parse import urlsplit

import segno

from unlatch.broker.notice import Notice
from unlatch.notify import NotDelivered
from unlatch.settings import is_loopback

_ASKS = {
    "passphrase": "asks for a passphrase",
    "new-passphrase": "asks for a new passphrase",
    "pin": "asks for a PIN",
    "confirm": "asks for a yes or no",
    "notice": "has something to tell",
    "challenge": "asks for the answer to a challenge",
    "enrolment": "asks for an enrolment",
}


class Login(NamedTuple):
    """How the person at this terminal came here: ``user`` and ``host`` for ssh(1) to come again."""

    user: str
    host: str
    over_ssh: bool


class TerminalNotifier:
    """Prints each prompt and how it ended. A terminal that is stopped (Ctrl-S) stops the broker, as it would any."""

    end_to_end = True

    def __init__(
        self, stream: TextIO, login: Login, *, name: str = "terminal", wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.name = name
        self._stream = stream
        self._login = login
        self._wall_clock = wall_clock

    async def ring(self, notice: Notice) -> None:
        self._print(self._ringing(notice))

    async def remind(self, notice: Notice) -> None:
        minutes = max(1, round(notice.remaining / 60))
        self._print([f"still waiting: {_who(notice)}; {minutes} min left", f"  {notice.link}", *_more(notice)])

    async def end(self, notice: Notice, outcome: str) -> None:
        self._print([f"{outcome}: {_who(notice)}", *_more(notice)])

    def _ringing(self, notice: Notice) -> list[str]:
        clock = time.strftime("%H:%M:%S", time.localtime(self._wall_clock() + notice.remaining))
        lines = [
            "",
            _who(notice),
            f"  {_plain(notice.title)}",
            f"  match words: {_plain(' '.join(notice.words))}",
            *([f"  page not reachable yet: {_plain(notice.page_trouble)}"] if notice.page_trouble else []),
            f"  until {clock}:",
            "",
            f"  {notice.link}",
            "",
            *_more(notice),
        ]
        address = urlsplit(notice.link)
        if not is_loopback(_host(address.netloc)):
            return lines + _qr(notice.link)
        if self._login.over_ssh:
            port = address.port or 80
            lines += [
                "  from your own machine, first:",
                f"  ssh -L {port}:localhost:{port} {self._login.user}@{self._login.host}",
                "",
            ]
        return lines

    def _print(self, lines: list[str]) -> None:
        try:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: closed, or letters that this terminal's encoding lacks
            raise NotDelivered("cannot write to the terminal") from None


def _who(notice: Notice) -> str:
    command = f", {_plain(notice.command)}" if notice.command else ""
    return f"{_plain(notice.user)}@{_plain(notice.host)}{command}: {_ASKS.get(notice.kind, 'asks')}"


def _more(notice: Notice) -> list[str]:
    """The other prompts of the same burst."""
    lines = []
    for also in notice.more:
        words = _plain(" ".join(also.words))
        lines += [f"  {_plain(also.user)}: {_plain(also.title)}: {also.outcome or f'match words: {words}'}"]
        lines += [f"  {also.link}"] if also.link else []
    return [*lines, ""] if lines else []


def _plain(text: str) -> str:
    """What an asker wrote must not steer the terminal: no escapes, no second line, no reversed writing."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _host(netloc: str) -> str:
    host, colon, port = netloc.rpartition(":")
    return host if colon and port.isdigit() else netloc


def _qr(link: str) -> list[str]:
    drawing = io.StringIO()
    segno.make_qr(link, error="l").terminal(drawing, border=2, compact=True)
    return drawing.getvalue().splitlines()
