"""The pending table: every prompt that waits for a person, and everything that may happen to it. Pure.

``now`` is CLOCK_BOOTTIME in seconds. Each method first does what has become due, so a link is dead at its time even if
``tick`` comes late. Askers' methods return actions; pages' methods return a reply and actions, to be performed first.

The rules that hold here:
- Only the connection that registered a ticket may do anything to it. What a page may do depends on proof alone.
- An answer is handed over once, to that connection, and is not kept.
- Each prompt ends exactly once: with a verdict from its asker, or with ``ended`` to it.
"""

from collections.abc import Hashable, Iterator
from typing import Any

from unlatch.broker import rows
from unlatch.broker.actions import Actions, Later, Peer, Reply, Tell, Visitor
from unlatch.broker.bell import Bell
from unlatch.broker.messages import Register
from unlatch.broker.pages import WORDS, Pages
from unlatch.broker.policy import Policy
from unlatch.broker.records import DELIVERED, FAILED, Follower, OpenPage, OpenPrompt, State, Waiting
from unlatch.broker.registrar import Registrar, whose
from unlatch.broker.table import Table
from unlatch.broker.trail import happened
from unlatch.seal import RandomBytes

MOST_SPOILED = 5  # answers that did not open, before the prompt ends


class Pending:
    """All open prompts of one broker."""

    def __init__(self, policy: Policy, random: RandomBytes) -> None:
        self._policy = policy
        self._table = Table()
        self._bell = Bell(policy)
        self._pages = Pages(policy, self._table, self._bell, random)
        self._registrar = Registrar(policy, self._table, self._bell, self._pages)

    # The asker's side. ``conn`` is any hashable that names a connection.

    def register(self, now: float, peer: Peer, message: Register) -> Actions:
        """Open a prompt, follow one, put another link beside one, or go on after one. Or tell why not."""
        actions = self.tick(now)
        if not (message.beside or message.after or message.rung):
            actions += self._make_way(now, peer, message)
        return actions + self._registrar.register(now, peer, message)

    def taken(self, now: float, conn: Hashable, ticket: str) -> Actions:
        """The asker has opened the answer."""
        actions = self.tick(now)
        prompt = self._answered(conn, ticket)
        if prompt is None or not prompt.move(now, "taken"):
            return [*actions, _not_yours(conn, ticket)]
        self._table.reschedule(prompt)
        return actions + self._pages.changed(now, prompt)

    def spoiled(self, now: float, conn: Hashable, ticket: str) -> Actions:
        """The asker could not open the answer: the link is open again. The fifth time ends the prompt."""
        actions = self.tick(now)
        prompt = self._answered(conn, ticket)
        if prompt is None or not prompt.move(now, "spoiled"):
            return [*actions, _not_yours(conn, ticket)]
        assert prompt.answered_by is not None
        prompt.answered_by.spoiled = True
        prompt.answered_by = None
        prompt.spoils += 1
        actions.append(happened("spoiled", prompt))
        if prompt.spoils == MOST_SPOILED:
            return actions + self._end(now, prompt, "withdrawn", why="no answer could be opened")
        self._table.reschedule(prompt)
        # Its time may have passed while the asker tried.
        return actions + self._pages.changed(now, prompt) + self.tick(now)

    def verdict(self, now: float, conn: Hashable, ticket: str, outcome: str, sealed: str) -> Actions:
        """What became of the answer. The sealed text is kept for the page that answered, 30 s at most."""
        actions = self.tick(now)
        prompt = self._answered(conn, ticket)
        if prompt is None or not prompt.move(now, "verdict"):
            return [*actions, _not_yours(conn, ticket)]
        prompt.outcome, prompt.verdict = outcome, sealed
        self._table.stop_counting()
        self._table.reschedule(prompt)
        page = prompt.answered_by
        if sealed and page is not None and not page.trusted:
            self._table.owed.add(prompt)
        actions.append(happened("outcome", prompt, outcome=outcome))
        for link in prompt.links:
            if not (sealed and page is not None and link is page.link):
                actions += self._pages.close(now, link, WORDS[outcome])
        actions += self._pages.changed(now, prompt)
        if outcome in ("wrong", "next"):  # message and followers wait for the prompt that goes on
            return actions
        return actions + self._settle(now, prompt)

    def withdraw(self, now: float, conn: Hashable, ticket: str, why: str) -> Actions:
        """The asker needs no answer any more. What is not its own, or not open, stays as it is."""
        actions = self.tick(now)
        link, follower = self._table.links.get(ticket), self._table.followers.get(ticket)
        thing = link.prompt if link is not None else follower
        if thing is None or thing.conn != conn:
            return actions
        return actions + self._abandon(now, thing, why)

    def orphaned(self, now: float, conn: Hashable, ticket: str) -> Actions:
        """The program that asked has ended, and the asker waits on. Whoever follows is alive, and asks anew."""
        actions = self.tick(now)
        link = self._table.links.get(ticket)
        if link is None or link.prompt.conn != conn or link.prompt.state is State.JUDGED:
            return actions
        prompt = link.prompt
        prompt.orphaned = True
        actions.append(happened("orphaned", prompt))
        if prompt.followers and prompt.state is State.OPEN:
            return actions + self._end(now, prompt, "withdrawn", "others ask for the same")
        return actions + self._pages.changed(now, prompt)

    def _make_way(self, now: float, peer: Peer, message: Register) -> Actions:
        """Somebody alive asks for the key for which an orphan waits: that one ends, and its message goes over."""
        leader = self._table.leaders.get((whose(peer, message), message.coalesce))
        if leader is None or not leader.orphaned or leader.state is not State.OPEN or leader.conn == peer.conn:
            return []
        return self._end(now, leader, "withdrawn", "others ask for the same")

    def gone(self, now: float, conn: Hashable) -> Actions:
        """The connection closed: its prompts are withdrawn. Verdicts stay."""
        actions = self.tick(now)
        for thing in self._table.of_conn(conn):
            actions += self._abandon(now, thing, "the asker is gone")
        self._table.leave(conn)
        return [action for action in actions if not (isinstance(action, Tell) and action.conn == conn)]

    # The page's side, over HTTP or over the admin socket.

    def knows(self, ticket: str) -> bool:
        """Whether ``GET ticket`` gives the page: the ticket is open, or dead for less than an hour."""
        return ticket in self._table.links or self._table.tombstones.find(ticket) is not None

    def owner(self, ticket: str) -> int | None:
        """The uid that asks behind an open ticket."""
        link = self._table.links.get(ticket)
        return None if link is None else link.prompt.uid

    def hello(self, now: float, ticket: str) -> tuple[Reply, Actions]:
        """The nonce to prove the link with."""
        actions = self.tick(now)
        return self._pages.hello(ticket), actions

    def view(self, now: float, ticket: str, page: str, proof: bytes, visitor: Visitor) -> tuple[Reply, Actions]:
        """Show the question to a page that proved the link."""
        actions = self.tick(now)
        reply, more = self._pages.view(now, ticket, page, proof, visitor)
        return reply, actions + more

    def answer(
        self, now: float, ticket: str, page: str, proof: bytes, sealed: str, visitor: Visitor
    ) -> tuple[Reply, Actions]:
        """Hand a page's sealed answer to the asker."""
        actions = self.tick(now)
        reply, more = self._pages.answer(now, ticket, page, proof, sealed, visitor)
        return reply, actions + more

    def wait(
        self, now: float, ticket: str, page: str, proof: bytes, seen: int, visitor: Visitor
    ) -> tuple[Reply | Later, Actions]:
        """What has changed since turn ``seen``. With ``Later``, a Wake follows within 25 s.

        Perform the actions first: a Wake among them ends the older wait of the same page.
        """
        actions = self.tick(now)
        reply, more = self._pages.wait(now, ticket, page, proof, seen, visitor)
        return reply, actions + more

    def left(self, now: float, ticket: str, page: str) -> Actions:
        """The waiting request of this page went away unanswered (its connection closed)."""
        actions = self.tick(now)
        self._pages.left(ticket, page)
        return actions

    # The shell's side.

    def reported(self, now: float, prompt_id: str, notifier: str, delivered: bool, why: str) -> Actions:
        """A notifier's result for the last Ring of this prompt; ``why`` is its one-line excuse."""
        actions = self.tick(now)
        prompt = self._table.named.get(prompt_id)
        what = DELIVERED if delivered else f"{FAILED}{why}"
        if prompt is None or prompt.delivery.get(notifier) in (None, what):
            return actions
        prompt.delivery[notifier] = what
        if delivered and notifier not in prompt.reached:
            prompt.reached += (notifier,)
        actions.append(happened("delivery", prompt, notifier=notifier, delivered=delivered, why=why))
        if delivered:
            prompt.delivered_at = {**prompt.delivered_at, notifier: now}
        elif all(result.startswith(FAILED) for result in prompt.delivery.values()):
            # For the journal: people will not come by themselves. The notifiers go on trying.
            actions.append(happened("unreached", prompt, notifiers=tuple(prompt.delivery)))
        if delivered and prompt.state is not State.JUDGED:
            ticket = prompt.links[-1].ticket
            actions.append(Tell(prompt.conn, {"event": "delivered", "ticket": ticket, "notifier": notifier}))
        return actions

    def deny(self, now: float, prompt_id: str, by: str, notifier: str) -> Actions:
        """A person said no in the chat: this prompt ends, nothing else. With an answer on its way it is too late.

        The message lists no followers, so they were not denied: each asks for himself. ``by`` is who, as the notifier
        has proven it.
        """
        actions = self.tick(now)
        prompt = self._table.named.get(prompt_id)
        if prompt is None or prompt.state is not State.OPEN or notifier not in prompt.notifiers:
            return actions
        prompt.listed = 0
        actions.append(happened("denial", prompt, by=by, notifier=notifier))
        return actions + self._end(now, prompt, "denied", why="denied in the chat")

    def tick(self, now: float) -> Actions:
        """Do what is due by now."""
        self._table.tombstones.forget(now)
        actions: Actions = []
        for thing in self._table.deadlines.due(now):
            if isinstance(thing, OpenPage):
                actions += self._pages.waited(now, thing)
            elif isinstance(thing, Follower):
                actions += self._leave(now, thing, "expired")
            elif thing.state is State.JUDGED:
                actions += self._put_away(now, thing)
            elif thing.state is not State.OPEN or now >= thing.expires:
                actions += self._end(now, thing, "expired")
            else:
                actions += self._call(now, thing)
        return actions

    def next_deadline(self) -> float | None:
        """When ``tick`` should be called next; None: nothing is waited for."""
        return self._table.deadlines.next()

    def prompts(self, now: float, uid: int) -> Iterator[dict[str, Any]]:
        """Rows of ``status`` for this uid's prompts (uid 0: all); no links in them. Made one by one, for pauses."""
        return (rows.status(now, prompt) for prompt in self._visible(uid))

    def links(self, now: float, uid: int) -> Iterator[dict[str, Any]]:
        """Rows of ``list`` for this uid's open prompts (uid 0: all), with ticket and fragment."""
        return (rows.link(now, prompt) for prompt in self._visible(uid) if prompt.state is State.OPEN)

    @property
    def open_prompts(self) -> int:
        """How many prompts are open, followers included."""
        return self._table.open_total

    @property
    def wants_listening(self) -> bool:
        """Whether a page may have something to fetch: a prompt is open, or a verdict waits for its page."""
        return bool(self._table.open_total or self._table.owed)

    # How it ends

    def _end(self, now: float, prompt: OpenPrompt, outcome: str, why: str = "") -> Actions:
        """Nobody will answer any more: ``outcome`` is "expired", "withdrawn" or "denied"."""
        # Whoever holds an answer may have used it, whatever it says: a page must not hear that nothing was released.
        word = "used" if prompt.state in (State.ANSWERING, State.TAKEN) else outcome
        prompt.move(now, "end")
        prompt.outcome = outcome
        self._table.stop_counting()
        actions: Actions = [happened("outcome", prompt, outcome=outcome, why=why)]
        for link in prompt.links:
            actions.append(Tell(prompt.conn, {"event": "ended", "ticket": link.ticket, "outcome": outcome}))
            actions += self._pages.close(now, link, word)
        self._table.forget(prompt)
        return actions + self._settle(now, prompt)

    def _abandon(self, now: float, thing: Waiting, why: str) -> Actions:
        """The asker wants no answer any more."""
        if isinstance(thing, Follower):
            return self._leave(now, thing, "withdrawn")
        if thing.state is State.JUDGED:
            return self._settle(now, thing)
        return self._end(now, thing, "withdrawn", why)

    def _put_away(self, now: float, prompt: OpenPrompt) -> Actions:
        """The verdict was kept long enough, and no prompt went on after a wrong answer."""
        self._table.forget(prompt)
        open_links = [link for link in prompt.links if link.ticket in self._table.links]
        closing = [action for link in open_links for action in self._pages.close(now, link, WORDS[prompt.outcome])]
        return closing + self._settle(now, prompt)

    def _settle(self, now: float, prompt: OpenPrompt) -> Actions:
        """Message and followers hear how it ended, unless another prompt took them over."""
        if prompt.settled:
            return []
        prompt.settled = True
        self._table.stop_leading(prompt)
        actions = self._bell.end(now, prompt, prompt.outcome)
        if prompt.outcome not in ("expired", "withdrawn", "denied"):
            self._bell.forget(prompt)
        followers, prompt.followers = prompt.followers, ()
        for follower in followers:
            # Whoever said no had these before his eyes; who came later asks for himself.
            denied = prompt.outcome == "denied" and follower.number <= prompt.listed
            event = {"event": "ended" if denied else "released", "ticket": follower.ticket, "outcome": prompt.outcome}
            self._table.forget(follower)
            actions += [
                Tell(follower.conn, event),
                happened("outcome", follower, outcome="denied" if denied else "released"),
            ]
        return actions

    def _leave(self, now: float, follower: Follower, outcome: str) -> Actions:
        """A follower waits no more."""
        self._table.forget(follower)
        told = Tell(follower.conn, {"event": "ended", "ticket": follower.ticket, "outcome": outcome})
        return [told, happened("outcome", follower, outcome=outcome), *self._pages.changed(now, follower.leader)]

    def _call(self, now: float, prompt: OpenPrompt) -> Actions:
        """Nobody has answered yet: ring for a link that no page went on to, or remind."""
        if prompt.ring_at is not None and now >= prompt.ring_at:
            prompt.ring_at = None
            actions = self._bell.ring_again(now, prompt)
        else:
            prompt.remind_at = None
            actions = self._bell.remind(now, prompt)
        self._table.reschedule(prompt)
        return actions

    # Whose is it?

    def _answered(self, conn: Hashable, ticket: str) -> OpenPrompt | None:
        """The connection's own prompt, if this is the ticket that was answered."""
        link = self._table.links.get(ticket)
        if link is None or link.prompt.conn != conn:
            return None
        page = link.prompt.answered_by
        return link.prompt if page is not None and page.link is link else None

    def _visible(self, uid: int) -> Iterator[OpenPrompt]:
        for prompt in [link.prompt for link in self._table.links.values() if link is link.prompt.links[-1]]:
            if prompt.state in (State.OPEN, State.ANSWERING, State.TAKEN) and uid in (0, prompt.uid):
                yield prompt


def _not_yours(conn: Hashable, ticket: str) -> Tell:
    text = "this connection has no answer to this ticket"
    return Tell(conn, {"event": "refused", "ticket": ticket, "why": "ticket", "text": text})
