"""What goes in and out of the pending table: who speaks, what shall be done about it, what a page is told.

The table decides and returns actions; the shell (``server.py``) performs them in the order given, before it sends the
reply that came with them. None of these may be logged: they carry tickets and links.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

from unlatch.broker.notice import Notice


class Account(NamedTuple):
    """Whose login root asks about: what the user database says of the name."""

    uid: int
    name: str


class Peer(NamedTuple):
    """An asker's connection and the kernel's word (SO_PEERCRED) about who holds it.

    ``account`` is the one that its registration names, if there is such an account.
    """

    conn: Hashable
    uid: int
    gid: int
    user: str
    account: Account | None = None


class Visitor(NamedTuple):
    """Who sends a page's request. ``uid`` is the kernel's word on the admin socket, None over HTTP."""

    remote: str
    uid: int | None = None


class Reply(NamedTuple):
    """A page's answer: HTTP status and JSON body. 404 carries no body: the shell sends its one static page."""

    status: int
    body: dict[str, Any] = {}  # noqa: RUF012 (nobody changes a reply)


class Later(NamedTuple):
    """No reply yet: keep the request open; a :class:`Wake` for the same ticket and page will finish it."""


NOT_FOUND = Reply(404)
LATER = Later()


class Tell(NamedTuple):
    """Send one line (a JSON object) to an asker's connection."""

    conn: Hashable
    event: dict[str, Any]


class Ring(NamedTuple):
    """Send the link to people. ``notice.quiet``: replace the earlier message with this id, without a sound."""

    prompt_id: str
    notice: Notice
    notifiers: tuple[str, ...]


class Remind(NamedTuple):
    """Call attention to a link that was sent earlier."""

    prompt_id: str
    notice: Notice
    notifiers: tuple[str, ...]


class Resume(NamedTuple):
    """An earlier broker sent this link, and the prompt is open again: say nothing, but hear replies."""

    notice: Notice
    notifiers: tuple[str, ...]


class End(NamedTuple):
    """Edit the message that was sent: the prompt is over and the link is dead."""

    prompt_id: str
    notice: Notice
    notifiers: tuple[str, ...]
    outcome: str


class Wake(NamedTuple):
    """Finish the waiting request of this page. Nobody waiting there any more: do nothing."""

    ticket: str
    page: str
    reply: Reply


class Audit(NamedTuple):
    """Write one line of the audit trail; the shell adds the wall clock's time. No ticket, fragment or secret in it."""

    record: dict[str, Any]


class Record(NamedTuple):
    """As :class:`Audit`, and tell the asker's connection whether it stands there: it hands nothing out before."""

    conn: Hashable
    record: dict[str, Any]


class Hangup(NamedTuple):
    """Close an asker's connection once what was told to it is written."""

    conn: Hashable


Action = Tell | Ring | Remind | Resume | End | Wake | Audit | Record | Hangup
Actions = list[Action]
