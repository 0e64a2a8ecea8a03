"""How a prompt begins: it leads its key, follows another, stands beside a link, or goes on after an answer. Pure."""

from typing import NamedTuple

from unlatch import base64url, seal
from unlatch.broker.actions import Account, Actions, Peer, Tell
from unlatch.broker.bell import Bell
from unlatch.broker.messages import Register
from unlatch.broker.notice import key_id, unit_of, who_asks
from unlatch.broker.pages import Pages
from unlatch.broker.policy import Audience, Policy
from unlatch.broker.records import (
    DELIVERED,
    MOST_LINKS,
    Follower,
    OpenLink,
    OpenPage,
    OpenPrompt,
    State,
    Whose,
    prompt_id,
)
from unlatch.broker.table import Table
from unlatch.broker.trail import happened, refused
from unlatch.errors import Malformed, Refused, SealBroken
from unlatch.prompt import Prompt, details_from_json
from unlatch.words import WORDS

UNSEEN_SECONDS = 30  # a page that goes on by itself has viewed the next link by then

_WORDS = frozenset(WORDS)


class _New(NamedTuple):
    """A registration, read and found sound. ``fragment`` and ``details`` are bytes."""

    ticket: str
    id: str
    fragment: bytes
    details: bytes
    question: Prompt

    def __repr__(self) -> str:
        return "_New(redacted)"


class Registrar:
    """Takes registrations into the table, or says why not."""

    def __init__(self, policy: Policy, table: Table, bell: Bell, pages: Pages) -> None:
        self._policy = policy
        self._table = table
        self._bell = bell
        self._pages = pages

    def register(self, now: float, peer: Peer, message: Register) -> Actions:
        """Open a prompt, follow one, put another link beside one, or go on after one. Or tell why not."""
        ticket = ""
        try:
            owner = base64url.decode(message.owner, "owner", seal.TOKEN_SIZE)
            ticket = base64url.encode(seal.ticket_of(owner))
            self._admit(peer, message, ticket)
            return self._register(now, peer, _read(owner, message), message)
        except Malformed:
            return refused(peer, ticket, Refused("line", "the owner token cannot be read"))
        except Refused as refusal:
            return refused(peer, ticket, refusal)

    def _admit(self, peer: Peer, message: Register, ticket: str) -> None:
        """What can be said before anything is opened."""
        self._policy.admit(*_for_whom(peer, message))
        if message.silent and message.coalesce:
            raise Refused("line", "a silent prompt leads nobody: who followed it would not be rung")
        if self._table.known(ticket):
            # Also when it is dead: whoever registers an answered ticket again would have it answered twice.
            raise Refused("ticket", "this ticket was registered before")

    def _register(self, now: float, peer: Peer, new: _New, message: Register) -> Actions:
        audience = self._audience(peer, new.question, message)
        beside, after = self._own(peer, message, message.beside), self._own(peer, message, message.after)
        if message.beside:
            return self._put_beside(now, beside, new, audience, message)
        if after is not None:
            return self._go_on(now, peer, after, new, audience, message)
        self._check_room(whose(peer, message))
        leader = self._table.leaders.get((whose(peer, message), message.coalesce))
        # A link that was already sent goes on working, even if somebody else leads since the broker died.
        if leader is not None and leader.conn != peer.conn and not message.rung:
            return self._follow(now, peer, leader, new, message)
        return self._lead(now, peer, new, audience, message)

    def _audience(self, peer: Peer, question: Prompt, message: Register) -> Audience:
        """Who is rung. A login is its own person's business, not that of whoever answers for everybody's jobs."""
        if message.account and message.silent:  # its link is shown where somebody logs in, so nobody needs to be named
            return Audience("", ())
        audience = self._policy.audience(*_for_whom(peer, message), question, own=bool(message.account))
        return audience._replace(notifiers=()) if message.silent else audience

    def _check_room(self, who: Whose, *, going: int = 0) -> None:
        """``going``: how many of this user's prompts make room for the new one.

        Raises:
            Refused: "quota"
        """
        if self._table.held_of(who) - going >= self._policy.quota_open:
            raise Refused("quota", "this user has too many open prompts")

    def _lead(self, now: float, peer: Peer, new: _New, audience: Audience, message: Register) -> Actions:
        """The first, or only, asker of its key: ring, or edit the message of a moment ago."""
        earlier = "" if message.rung else self._bell.earlier(now, whose(peer, message), message.coalesce)
        untold = _untold(audience, message)
        self._bell.charge(now, whose(peer, message), quiet=bool(earlier) or not untold)
        prompt = self._prompt(now, peer, new, audience, message)
        if earlier:
            prompt.id = earlier
        # An asker's word about who was told holds only for those who may be told.
        prompt.reached = tuple(name for name in audience.notifiers if name not in untold)
        prompt.delivery = dict.fromkeys(prompt.reached, DELIVERED)
        link = self._open(prompt, new, message)
        actions = self._registered(now, link, new, "again" if message.rung else "quiet" if earlier else "new")
        actions += self._bell.resume(now, link)
        actions += self._bell.ring(now, link, untold, quiet=bool(earlier))
        self._table.reschedule(prompt)
        return actions

    def _go_on(
        self, now: float, peer: Peer, after: OpenPrompt, new: _New, audience: Audience, message: Register
    ) -> Actions:
        """The page that answered goes on here by itself: take over message and followers, and ring only if it fails."""
        if after.settled or after.state not in (State.TAKEN, State.JUDGED):
            raise Refused("ticket", "nothing goes on after this ticket")
        self._check_room(whose(peer, message), going=1)
        self._bell.charge(now, whose(peer, message), quiet=True)
        prompt = self._prompt(now, peer, new, audience, message)
        prompt.id, prompt.coalesce = after.id, after.coalesce
        prompt.delivery, after.delivery = after.delivery, {}
        prompt.reached = after.reached
        prompt.followers, after.followers = after.followers, ()
        prompt.follower_count = after.follower_count
        for follower in prompt.followers:
            follower.leader = prompt
        after.settled = True
        self._table.stop_leading(after)
        if audience.notifiers:
            prompt.ring_at = now + UNSEEN_SECONDS
        return self._registered(now, self._open(prompt, new, message), new, "after")

    def _put_beside(
        self, now: float, prompt: OpenPrompt | None, new: _New, audience: Audience, message: Register
    ) -> Actions:
        """Another link to the same prompt, because the last one has no views left."""
        if prompt is None or prompt.state not in (State.OPEN, State.ANSWERING) or len(prompt.links) >= MOST_LINKS:
            raise Refused("ticket", "no further link can stand beside this ticket")
        untold = _untold(audience, message)
        self._bell.charge(now, prompt.whose, quiet=not untold)
        link = self._add_link(prompt, new, message)
        actions = self._registered(now, link, new, "beside")
        actions += self._bell.ring_fresh(now, link, untold)
        self._table.reschedule(prompt)
        return actions

    def _follow(self, now: float, peer: Peer, leader: OpenPrompt, new: _New, message: Register) -> Actions:
        """Somebody of the same user asks for the same key already: wait for what becomes of that."""
        self._bell.charge(now, whose(peer, message), quiet=True)
        leader.follower_count += 1
        follower = Follower(
            ticket=new.ticket,
            id=new.id,
            conn=peer.conn,
            uid=peer.uid,
            user=peer.user,
            whose=leader.whose,
            who=who_asks(new.question.asker),
            since=now,
            expires=now + self._seconds(message),
            leader=leader,
            number=leader.follower_count,
        )
        self._table.add(follower)
        told = Tell(peer.conn, {"event": "following", "ticket": new.ticket})
        return [told, happened("prompt", follower, how="follows", leader=leader.id), *self._pages.changed(now, leader)]

    def _prompt(self, now: float, peer: Peer, new: _New, audience: Audience, message: Register) -> OpenPrompt:
        _, user = _for_whom(peer, message)
        return OpenPrompt(
            id=new.id,
            conn=peer.conn,
            uid=peer.uid,
            user=peer.user,
            whose=whose(peer, message),
            account=" ".join(text for text in (f"{user}@{self._policy.host}", key_id(new.question)) if text),
            person=audience.person,
            notifiers=audience.notifiers,
            coalesce=message.coalesce,
            since=now,
            expires=now + self._seconds(message),
        )

    def _open(self, prompt: OpenPrompt, new: _New, message: Register) -> OpenLink:
        self._table.add(prompt)
        return self._add_link(prompt, new, message)

    def _add_link(self, prompt: OpenPrompt, new: _New, message: Register) -> OpenLink:
        link = OpenLink(new.ticket, new.fragment, new.details, prompt)
        viewed = [*dict.fromkeys(message.views)][: self._policy.views]
        link.pages = tuple(OpenPage(page, link) for page in viewed)
        self._table.add_link(link)
        return link

    def _registered(self, now: float, link: OpenLink, new: _New, how: str) -> Actions:
        prompt, asker = link.prompt, new.question.asker
        record = happened(
            "prompt",
            prompt,
            how=how,
            kind=new.question.kind,
            key=key_id(new.question),
            command=asker.command,
            unit=unit_of(asker),
            person=prompt.person,
            notifiers=prompt.notifiers,
        )
        told = {"event": "registered", "ticket": link.ticket, "remaining": prompt.remaining(now)}
        if prompt.whose.login:
            told["person"] = prompt.person  # for root's own log of logins
        return [Tell(prompt.conn, told), record]

    def _seconds(self, message: Register) -> int:
        return min(message.seconds or self._policy.link_seconds, self._policy.link_seconds)

    def _own(self, peer: Peer, message: Register, ticket: str) -> OpenPrompt | None:
        """The connection's own prompt with this ticket, if that is still known.

        Raises:
            Refused: it is somebody else's, or about another login.
        """
        link = self._table.links.get(ticket)
        if link is not None and (link.prompt.conn != peer.conn or link.prompt.whose != whose(peer, message)):
            raise Refused("ticket", "this ticket is not one of this connection")
        return None if link is None else link.prompt


def whose(peer: Peer, message: Register) -> Whose:
    """Who is counted for a registration. Nobody but root makes others count (:func:`_for_whom`)."""
    if peer.uid or peer.account is None:
        return Whose(peer.uid)
    return Whose(peer.uid, peer.account.name, message.silent)


def _for_whom(peer: Peer, message: Register) -> Account:
    """Whose people are rung: the account's whose login root asks about, else the asker's own.

    Raises:
        Refused: "account"
    """
    if not message.account:
        return Account(peer.uid, peer.user)
    if peer.uid:
        raise Refused("account", "only root asks about the logins of others")
    if peer.account is None:
        raise Refused("account", "there is no such account")
    return peer.account


def _read(owner: bytes, message: Register) -> _New:
    """Check what an asker says about its prompt.

    Raises:
        Refused: with the field's name as its code.
    """
    ticket = seal.ticket_of(owner)
    try:
        ticket_text = base64url.encode(ticket)
        link = seal.parse_link(ticket_text, message.fragment)
        details = base64url.decode(message.details, "details")
        question = details_from_json(seal.open_details(link, details))
    except Malformed as error:
        why = "fragment" if error.what == "fragment" else "details"
        raise Refused(why, f"the {why} cannot be read") from None
    except SealBroken:
        raise Refused("details", "the details do not open with the fragment") from None
    if not _WORDS.issuperset(question.words):
        raise Refused("details", "the match words are not from the list")  # else they could say something
    return _New(ticket_text, prompt_id(ticket), link.public_key + link.secret, details, question)


def _untold(audience: Audience, message: Register) -> tuple[str, ...]:
    """Who must be rung. Only for a prompt that was rung by an earlier broker the asker can know who was told."""
    told = message.told if message.rung else ()
    return tuple(name for name in audience.notifiers if name not in told)
