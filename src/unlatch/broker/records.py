"""What the table remembers of open prompts. Kept small, because ten thousand may be open at once.

What a message or a listing says is opened again from the sealed details when it is needed: a few dozen microseconds in
place of half a kilobyte per prompt.
"""

import hashlib
from collections.abc import Hashable
from enum import Enum
from typing import NamedTuple

import msgspec

from unlatch import base64url, seal
from unlatch.prompt import Prompt, details_from_json

VERDICT_SECONDS = 30  # how long a verdict waits for its page, and a "wrong" for the link that goes on
GRACE_SECONDS = 120  # an answer that came in time is not lost while the asker tries it
MOST_LINKS = 3  # per prompt
RINGING, DELIVERED = "ringing", "delivered"  # what became of a ring
FAILED = "failed: "  # or this, and why


class State(Enum):
    """Where a prompt is, in the word that ``unlatch status`` prints."""

    OPEN = "open"
    ANSWERING = "answering"
    TAKEN = "taken"
    JUDGED = "judged"
    ENDED = "ended"


# What moves a prompt. Anything else leaves it where it is and is refused.
STEPS = {
    (State.OPEN, "answer"): State.ANSWERING,  # an answer is on its way to the asker
    (State.ANSWERING, "spoiled"): State.OPEN,  # it could not be opened; the fifth time ends the prompt
    (State.ANSWERING, "taken"): State.TAKEN,  # it was opened
    (State.TAKEN, "verdict"): State.JUDGED,  # its page may fetch the verdict, 30 s at most
    (State.OPEN, "end"): State.ENDED,  # expired, withdrawn, or denied in the chat
    (State.ANSWERING, "end"): State.ENDED,
    (State.TAKEN, "end"): State.ENDED,
}


class Whose(NamedTuple):
    """Who is counted for a prompt: the user, and for root's question about a login that account.

    Whoever knows an account's name can have silent prompts made by trying to log in. So these are counted apart: they
    cost the account neither its rings nor the room for a prompt that rings.
    """

    uid: int
    login: str = ""
    silent: bool = False


class Record(msgspec.Struct, eq=False):
    """One remembered thing; equal only to itself, so it can be a key."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(redacted)"


class OpenPage(Record, eq=False):
    """A page that proved the link and was shown the question.

    ``trusted``: the asker's own user or root, on the admin socket. ``listed``: the last follower that it was told of.
    ``spoiled``: its answer could not be opened, and it has not heard so yet. ``waits``: a request of it is held.
    """

    id: str
    link: "OpenLink"
    trusted: bool = False
    listed: int = 0
    spoiled: bool = False
    waits: bool = False


class OpenLink(Record, eq=False):
    """One way to a prompt's page. ``fragment`` and ``details`` are bytes."""

    ticket: str
    fragment: bytes
    details: bytes
    prompt: "OpenPrompt"
    pages: tuple[OpenPage, ...] = ()
    crowded: bool = False

    def link(self) -> seal.Link:
        """The link in the form that seals and opens."""
        key, secret = self.fragment[: seal.KEY_SIZE], self.fragment[seal.KEY_SIZE :]
        return seal.Link(base64url.decode(self.ticket, "ticket"), key, secret)

    def question(self) -> Prompt:
        """The details, opened again."""
        return details_from_json(seal.open_details(self.link(), self.details))

    def page(self, page_id: str) -> OpenPage | None:
        """The page with this id, if it was shown the question."""
        return next((page for page in self.pages if page.id == page_id), None)

    def views(self) -> int:
        """How many pages have seen the question, without those of the asker's own user and root."""
        return sum(not page.trusted for page in self.pages)


class OpenPrompt(Record, eq=False):
    """One question to a person. Times are CLOCK_BOOTTIME seconds.

    ``id`` names the message to people, so a prompt that goes on after a wrong answer keeps it. ``delivery`` says what
    became of the last ring of each notifier, ``delivered_at`` when it arrived; ``reached`` are those that delivered any
    link, and so have a message to edit. ``listed``: the last follower that the answering page was told of.
    ``settled``: message and followers have heard how it ended, or went over to the prompt that goes on. ``orphaned``:
    the program that asked has ended.
    """

    id: str
    conn: Hashable
    uid: int
    user: str
    whose: Whose
    account: str
    person: str
    notifiers: tuple[str, ...]
    coalesce: str
    since: float
    expires: float
    links: list[OpenLink] = []
    state: State = State.OPEN
    delivery: dict[str, str] = {}
    delivered_at: dict[str, float] = {}
    reached: tuple[str, ...] = ()
    followers: "tuple[Follower, ...]" = ()
    follower_count: int = 0  # ever, so that each has a number
    turn: int = 0
    ring_at: float | None = None  # nobody viewed the link that goes on after an answer
    remind_at: float | None = None
    answered_by: OpenPage | None = None
    moved_at: float = 0.0  # when the state last changed
    spoils: int = 0
    listed: int = 0
    outcome: str = ""
    verdict: str = ""
    settled: bool = False
    orphaned: bool = False

    def move(self, now: float, event: str) -> bool:
        """Take the step that belongs to the event, if there is one here."""
        step = STEPS.get((self.state, event))
        if step is not None:
            self.state, self.moved_at = step, now
        return step is not None

    def due(self) -> float:
        """When the clock has something to do here."""
        if self.state is State.OPEN:
            times = (self.expires, self.ring_at, self.remind_at)
            return min(when for when in times if when is not None)
        if self.state is State.JUDGED:
            return self.moved_at + VERDICT_SECONDS
        return max(self.expires, self.moved_at + GRACE_SECONDS)

    def remaining(self, now: float) -> int:
        """Whole seconds until it expires."""
        return max(0, int(self.expires - now))


class Follower(Record, eq=False):
    """Another asker of the same user and key: it gets no answer from the page, but hears when there was one."""

    ticket: str
    id: str
    conn: Hashable
    uid: int
    user: str
    whose: Whose
    who: str
    since: float
    expires: float
    leader: OpenPrompt
    number: int


Waiting = OpenPrompt | Follower


def prompt_id(ticket: bytes) -> str:
    """A name for logs and messages that cannot be turned back into the ticket.

    48 bits: among ten thousand open prompts, two share a name once in five million times.
    """
    return hashlib.sha256(b"unlatch/1 id" + ticket).hexdigest()[:12]
