"""What our events say, and what counts as an admin's "deny". Pure: times are texts, ids are given.

A message is two events. The first says everything but the link and makes the sound; the second, a replacement of it
(``m.replace``), brings the link. When the prompt is over, another replacement says how it ended, and whatever held a
link is redacted. Were the link in the first event, redacting it would take the whole message away in every client, and
nobody could read how it ended. So, too, a link never stands in a phone's list of notifications.
"""

from collections.abc import Collection, Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

from unlatch.broker.notice import Notice

Content = dict[str, Any]

MAX_TITLE = 150  # characters; a lock screen shows about this much
MAX_TEXT = 400
_OUTCOMES = {"accepted": "answered", "failed": "answered, but it was of no use"}


class Denial(NamedTuple):
    """The reply "deny": to which event, and what else it says (match words)."""

    event_id: str
    said: str


class _Line(NamedTuple):
    plain: str
    html: str


def ring(notice: Notice, expires: str, admins: Collection[str] = (), *, link: bool, calm: bool = False) -> Content:
    """A prompt's message, with its link or still without. ``admins`` are mentioned; ``calm`` ones make no sound."""
    waiting = 1 + sum(not also.outcome for also in notice.more)
    lines = [
        _title(notice.host, notice.title, f"{waiting} requests" if waiting > 1 else ""),
        _strong(_words(notice.words), f" · until {expires}"),
        _text(f"for {_who(notice.user, notice.command, notice.unit)}"),
        *_note(notice),
        _link(notice.link) if link else _text("Open this room for the link."),
        *_more(notice, link=link),
    ]
    return _message(lines, admins, calm=calm)


def reminder(notice: Notice, minutes: int, admins: Collection[str] = ()) -> Content:
    """Somebody still waits."""
    lines = [
        _strong(f"still waiting, {minutes} min left: ", _headline(notice.host, notice.title)),
        _strong(_words(notice.words)),
        *_note(notice),
        _link(notice.link),
        *_more(notice, link=True),
    ]
    return _message(lines, admins)


def ended(notice: Notice, outcome: str, at: str, by: str = "", *, calm: bool = False) -> Content:
    """How it ended, in the place of the question; ``calm`` where there is no question to take the place of."""
    how = f"{_OUTCOMES.get(outcome, _plain(outcome))} at {at}{f' by {_plain(by)}' if by else ''}"
    lines = [
        _strong(how, f" · {_words(notice.words)}"),
        _text(_headline(notice.host, notice.title)),
        *_more(notice, link=False),
    ]
    return _message(lines, (), calm=calm)


def said(text: str, admins: Collection[str] = (), *, calm: bool = False) -> Content:
    """A message that is not about a prompt."""
    return _message([_text(text)], admins, calm=calm)


def replacement(event_id: str, content: Content) -> Content:
    """The event that puts ``content`` in the place of an earlier one. Its mentions make no sound again."""
    return {
        **content,
        "body": f"* {content['body']}",
        "formatted_body": f"* {content['formatted_body']}",
        "m.mentions": {},
        "m.new_content": content,
        "m.relates_to": {"rel_type": "m.replace", "event_id": event_id},
    }


def in_thread(root: str, content: Content) -> Content:
    """The content as a reply in the thread of an event; a plain reply to clients that know no threads."""
    relation = {
        "rel_type": "m.thread",
        "event_id": root,
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": root},
    }
    return {**content, "m.relates_to": relation}


def denial(plain: Mapping[str, Any]) -> Denial | None:
    """What a decrypted event denies. Reactions, edits, other words and what answers nothing deny nothing."""
    content = plain.get("content")
    if plain.get("type") != "m.room.message" or not isinstance(content, Mapping) or content.get("msgtype") != "m.text":
        return None
    relation, body = content.get("m.relates_to"), content.get("body")
    if not isinstance(relation, Mapping) or not isinstance(body, str) or "m.new_content" in content:
        return None
    if relation.get("rel_type") not in (None, "m.thread"):
        return None
    first, _, rest = _without_quotation(body).strip().partition(" ")
    if first.rstrip(".,:!").casefold() != "deny" or len(rest) > MAX_TEXT:
        return None
    answered = relation.get("m.in_reply_to")
    if isinstance(answered, Mapping) and relation.get("is_falling_back") is not True:
        target = answered.get("event_id")
    else:  # just said in the thread: what it names is the thread's last event, whoever wrote that
        target = relation.get("event_id")
    return Denial(target, rest) if isinstance(target, str) and target else None


def _without_quotation(body: str) -> str:
    """A reply's own words: older clients put what they answer before them, each line after "> "."""
    lines = body.split("\n")
    while lines and lines[0].startswith("> "):
        del lines[0]
    return "\n".join(lines)


def _message(lines: list[_Line], admins: Collection[str], *, calm: bool = False) -> Content:
    return {
        "msgtype": "m.notice" if calm else "m.text",
        "body": "\n".join(line.plain for line in lines),
        "format": "org.matrix.custom.html",
        "formatted_body": "<br>".join(line.html for line in lines),
        "m.mentions": {"user_ids": sorted(admins)} if admins else {},
    }


def _title(host: str, title: str, instead: str) -> _Line:
    """One prompt's title stands in the first line; of several each has its own below."""
    plain = f"{_plain(host)}: {instead}, first: " if instead else f"{_plain(host)}: "
    return _strong(plain, _plain(title)[:MAX_TITLE])


def _headline(host: str, title: str) -> str:
    return f"{_plain(host)}: {_plain(title)[:MAX_TITLE]}"


def _note(notice: Notice) -> Iterator[_Line]:
    """What else there is to say before the link."""
    if notice.page_trouble:
        yield _text(
            f'page not reachable yet ({_plain(notice.page_trouble)}); until it is, log in and run "unlatch answer"'
        )
    for line in notice.text[:MAX_TEXT].split("\n"):
        if line.strip():
            yield _text(_plain(line))


def _more(notice: Notice, *, link: bool) -> Iterator[_Line]:
    """The other prompts of a burst."""
    for also in notice.more:
        who = _who(also.user, also.command, also.unit)
        yield _text(f"• {_plain(also.title)[:MAX_TITLE]}, for {who}: {also.outcome or _words(also.words)}")
        if link and also.link:
            yield _link(also.link)


def _link(link: str) -> _Line:
    return _Line(link, f'<a href="{escape(link)}">{escape(link)}</a>')


def _strong(text: str, rest: str = "") -> _Line:
    return _Line(text + rest, f"<strong>{escape(text)}</strong>{escape(rest)}")


def _text(text: str) -> _Line:
    return _Line(text, escape(text))


def _who(*named: str) -> str:
    return ", ".join(_plain(part) for part in named if part)


def _words(words: tuple[str, str]) -> str:
    return _plain(" ".join(words))


def _plain(text: str) -> str:
    """One line: no line breaks, escapes or reversed writing from an asker."""
    return "".join(character if character.isprintable() else "?" for character in text)
