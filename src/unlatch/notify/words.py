"""What a message to a person says, for notifiers that send plain text: a title, and a few lines for a lock screen."""

import time
from typing import NamedTuple

from unlatch.broker.notice import Notice


class Text(NamedTuple):
    """A message without markup. The body's last lines hold the link, if there is one."""

    title: str
    body: str

    def __repr__(self) -> str:
        return "Text(redacted)"


def ring(notice: Notice, now: float, *, again: bool = False) -> Text:
    """The text for a ring, or, ``again``, for a reminder. ``now`` is the wall clock's time."""
    until = time.strftime("%H:%M UTC", time.gmtime(now + notice.remaining))
    lines = [
        f"{one_line(notice.user)}: {one_line(notice.title)}",
        *_asker(notice.command, notice.unit),
        f"words: {_words(notice.words)}; until {until}",
        *_trouble(notice),
        notice.link,
        *_more(notice),
    ]
    waiting = 1 + sum(not also.outcome for also in notice.more)
    what = f"{waiting} requests" if waiting > 1 else one_line(notice.title)
    return Text(f"{'still waiting: ' if again else ''}{one_line(notice.host)}: {what}", "\n".join(lines))


def end(notice: Notice, outcome: str) -> Text:
    """The text that says how it ended."""
    lines = [f"{one_line(notice.user)}: {one_line(notice.title)}: {outcome} ({_words(notice.words)})", *_more(notice)]
    return Text(f"{one_line(notice.host)}: over", "\n".join(lines))


def one_line(text: str) -> str:
    """What an asker wrote must not make lines, or look like them: no control characters, no reversed writing."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _words(words: tuple[str, str]) -> str:
    return one_line(" ".join(words))


def _asker(command: str, unit: str) -> list[str]:
    named = ", ".join(text for text in (command, unit) if text)
    return [f"asked by {one_line(named)}"] if named else []


def _trouble(notice: Notice) -> list[str]:
    if not notice.page_trouble:
        return []
    why = one_line(notice.page_trouble)
    return [f'page not reachable yet ({why}); until it is, log in and run "unlatch answer"']


def _more(notice: Notice) -> list[str]:
    lines = []
    for also in notice.more:
        how = also.outcome or f"words: {_words(also.words)}"
        lines += ["", f"{one_line(also.user)}: {one_line(also.title)}; {how}", *_asker(also.command, also.unit)]
        lines += [also.link] if also.link else []
    return lines
