"""The page's side of the pending table: prove the link, see the question, answer once, wait for news. Pure.

A page is whoever proves the link under an id that it made up. Over HTTP its views count; on the admin socket only the
prompt's own user and root get this far, and theirs do not.
"""

import hmac
import json

from unlatch import base64url, seal
from unlatch.broker.actions import LATER, NOT_FOUND, Actions, Later, Reply, Tell, Visitor, Wake
from unlatch.broker.bell import Bell
from unlatch.broker.policy import Policy
from unlatch.broker.records import MOST_LINKS, OpenLink, OpenPage, OpenPrompt, State
from unlatch.broker.table import Table
from unlatch.broker.trail import visited

WAIT_SECONDS = 25  # below the 30 s after which proxies cut silent requests
NONCE_SIZE = 16
MOST_TRUSTED = 16  # pages of the own user and root per link; the oldest must show the question again
MOST_LISTED = 32  # followers named on the page; the others are counted

# What a page that is not the answering one hears of a judged prompt (docs/protocol.md section 3.8).
WORDS = {
    "accepted": "used",
    "failed": "used",
    "unknown": "used",
    "wrong": "replaced",
    "next": "replaced",
    "denied": "denied",
}


class Pages:
    """All pages of all open links."""

    def __init__(self, policy: Policy, table: Table, bell: Bell, random: seal.RandomBytes) -> None:
        self._policy = policy
        self._table = table
        self._bell = bell
        self._random = random
        self._nonce_key = random(32)

    def hello(self, ticket: str) -> Reply:
        """The nonce of this ticket: the same for this broker's life, so that a stranger's hello costs no memory."""
        known = ticket in self._table.links or self._table.tombstones.find(ticket)
        return Reply(200, {"nonce": base64url.encode(self._nonce(ticket))}) if known else NOT_FOUND

    def view(self, now: float, ticket: str, page_id: str, proof: bytes, visitor: Visitor) -> tuple[Reply, Actions]:
        """Show the question, once per view that is left."""
        link = self._prove(ticket, page_id, proof, visitor)
        if isinstance(link, Reply):
            return link, []
        prompt = link.prompt
        if prompt.state is State.JUDGED:
            return _dead(prompt), []
        if prompt.state is not State.OPEN:
            return Reply(409, {"state": "answered"}), []
        actions: Actions = []
        page = link.page(page_id)
        if page is None and visitor.uid is None and link.views() >= self._policy.views:
            return Reply(409, {"state": "elsewhere"}), self._crowded(now, link, visitor)
        if page is None:
            page, actions = self._new_page(link, page_id, visitor)
        body = {
            "state": "open",
            "details": base64url.encode(link.details),
            "stamp": self._stamp(now, page),
            "remaining": prompt.remaining(now),
        }
        return Reply(200, body), actions

    def answer(
        self, now: float, ticket: str, page_id: str, proof: bytes, sealed: str, visitor: Visitor
    ) -> tuple[Reply, Actions]:
        """Hand the sealed answer to the asker, if nobody else's is there."""
        page = self._viewed(ticket, page_id, proof, visitor)
        if isinstance(page, Reply):
            return page, []
        prompt = page.link.prompt
        if prompt.state is State.JUDGED:
            return _dead(prompt), []
        if not prompt.move(now, "answer"):
            return Reply(409, {"state": "answered"}), []
        prompt.answered_by, prompt.listed = page, page.listed
        self._table.reschedule(prompt)
        tell = Tell(prompt.conn, {"event": "answer", "ticket": ticket, "sealed": sealed})
        return Reply(200, {"state": "sent"}), [tell, visited("answer", prompt, visitor), *self.changed(now, prompt)]

    def wait(
        self, now: float, ticket: str, page_id: str, proof: bytes, seen: int, visitor: Visitor
    ) -> tuple[Reply | Later, Actions]:
        """What is new since turn ``seen``; after a broker's restart turns begin anew, so any other number is news."""
        page = self._viewed(ticket, page_id, proof, visitor)
        if isinstance(page, Reply):
            return page, []
        actions = self._wake(page, self._news(now, page)) if page.waits else []
        if page.link.prompt.turn != seen:
            return self._news(now, page), actions
        page.waits = True
        self._table.deadlines.set(page, now + WAIT_SECONDS)
        return LATER, actions

    def left(self, ticket: str, page_id: str) -> None:
        """The page's held request went away."""
        link = self._table.links.get(ticket)
        page = link and link.page(page_id)
        if page:
            page.waits = False
            self._table.deadlines.drop(page)

    def waited(self, now: float, page: OpenPage) -> Actions:
        """Nothing happened for as long as a request may be held."""
        return self._wake(page, self._news(now, page))

    def changed(self, now: float, prompt: OpenPrompt) -> Actions:
        """Pages that wait hear of it now, others when they ask."""
        prompt.turn += 1
        waiting = [page for link in prompt.links for page in link.pages if page.waits]
        return [action for page in waiting for action in self._wake(page, self._news(now, page))]

    def close(self, now: float, link: OpenLink, word: str) -> Actions:
        """The link dies; its pages hear why."""
        reply = Reply(410, {"state": word})
        actions = [action for page in link.pages if page.waits for action in self._wake(page, reply)]
        self._table.bury(now, link, word)
        return actions

    # Who is it?

    def _nonce(self, ticket: str) -> bytes:
        return hmac.digest(self._nonce_key, ticket.encode("ascii"), "sha256")[:NONCE_SIZE]

    def _prove(self, ticket: str, page_id: str, proof: bytes, visitor: Visitor) -> OpenLink | Reply:
        """The link that the page has proven, or what it hears instead; reasons only after proof."""
        link = self._table.links.get(ticket)
        stone = self._table.tombstones.find(ticket)
        if link is not None:
            view_key = seal.keys_of(link.link()).view
        elif stone is not None:
            view_key = stone.view_key
        else:
            return NOT_FOUND
        expected = seal.view_proof(view_key, self._nonce(ticket), base64url.decode(page_id, "page"))
        if not hmac.compare_digest(expected, proof):
            return NOT_FOUND
        if link is None:
            return Reply(410, {"state": stone.word if stone else ""})
        if visitor.uid not in (None, 0, link.prompt.uid):
            return NOT_FOUND
        return link

    def _viewed(self, ticket: str, page_id: str, proof: bytes, visitor: Visitor) -> OpenPage | Reply:
        """The page, if it has proven the link and was shown the question."""
        link = self._prove(ticket, page_id, proof, visitor)
        if isinstance(link, Reply):
            return link
        page = link.page(page_id)
        if page is None:
            return _dead(link.prompt) if link.prompt.state is State.JUDGED else NOT_FOUND
        return page

    def _new_page(self, link: OpenLink, page_id: str, visitor: Visitor) -> tuple[OpenPage, Actions]:
        prompt = link.prompt
        page = OpenPage(page_id, link, trusted=visitor.uid is not None)
        link.pages += (page,)
        if prompt.ring_at is not None:
            prompt.ring_at = None
            self._table.reschedule(prompt)
        actions: Actions = [visited("view", prompt, visitor)]
        if not page.trusted:
            return page, [Tell(prompt.conn, {"event": "viewed", "ticket": link.ticket, "page": page_id}), *actions]
        trusted = [other for other in link.pages if other.trusted and other is not prompt.answered_by]
        if len(trusted) > MOST_TRUSTED:
            actions += self._wake(trusted[0], NOT_FOUND) if trusted[0].waits else []
            link.pages = tuple(other for other in link.pages if other is not trusted[0])
        return page, actions

    def _crowded(self, now: float, link: OpenLink, visitor: Visitor) -> Actions:
        """One page too many. Said once for each link: whoever has it could ask again all day."""
        if link.crowded:
            return []
        link.crowded = True
        prompt = link.prompt
        actions: Actions = [visited("refusal", prompt, visitor, why="views")]
        if len(prompt.links) < MOST_LINKS:
            return [*actions, Tell(prompt.conn, {"event": "crowded", "ticket": link.ticket})]
        return [*actions, *self._bell.remind(now, prompt, crowded=True)]

    # What is said

    def _stamp(self, now: float, page: OpenPage) -> str:
        """The broker's own word for this page. What it lists is what a denial from it means."""
        link, prompt = page.link, page.link.prompt
        names = [follower.who for follower in prompt.followers[:MOST_LISTED]]
        more = len(prompt.followers) - MOST_LISTED
        page.listed = prompt.follower_count
        stamp = {
            "host": self._policy.host,
            "uid": prompt.uid,
            "user": prompt.user,
            "login": prompt.whose.login,
            "account": prompt.account,
            "age": int(now - prompt.since),
            "person": prompt.person,
            "followers": [*names, f"and {more} more"] if more > 0 else names,
            "orphaned": prompt.orphaned,
        }
        return base64url.encode(seal.seal_stamp(link.link(), json.dumps(stamp).encode("ascii"), self._random))

    def _news(self, now: float, page: OpenPage) -> Reply:
        prompt = page.link.prompt
        if prompt.state is State.JUDGED:
            if page is not prompt.answered_by:
                return _dead(prompt)
            self._table.owed.discard(prompt)
            return Reply(200, {"turn": prompt.turn, "state": "verdict", "sealed": prompt.verdict})
        state = "open" if prompt.state is State.OPEN else "sent"
        if page.spoiled:
            state, page.spoiled = "spoiled", False
        remaining = prompt.remaining(now)
        return Reply(
            200, {"turn": prompt.turn, "state": state, "stamp": self._stamp(now, page), "remaining": remaining}
        )

    def _wake(self, page: OpenPage, reply: Reply) -> Actions:
        page.waits = False
        self._table.deadlines.drop(page)
        return [Wake(page.link.ticket, page.id, reply)]


def _dead(prompt: OpenPrompt) -> Reply:
    return Reply(410, {"state": WORDS[prompt.outcome]})
