"""The broker's one shell: performs what the pending table decides, and tells it what time it is.

Small while it is idle: what a prompt needs (the table, the cryptography, the page, the notifiers) is loaded when the
first connection comes. From then on nothing is imported any more, so the package may be replaced while a prompt is
open.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from unlatch import __version__
from unlatch.broker import http, trail
from unlatch.broker.actions import (
    NOT_FOUND,
    Actions,
    Audit,
    End,
    Hangup,
    Later,
    Record,
    Remind,
    Reply,
    Resume,
    Ring,
    Tell,
    Visitor,
    Wake,
)
from unlatch.broker.audit import Audit as AuditTrail
from unlatch.broker.connections import Connection, overflow_uid
from unlatch.broker.listen import PageListener
from unlatch.broker.looks import Arrival, Hear, Looks
from unlatch.broker.remote import parse_networks
from unlatch.broker.setup import Terminal
from unlatch.errors import Malformed
from unlatch.settings import Settings

if TYPE_CHECKING:
    from unlatch.broker.pending import Pending
    from unlatch.broker.ringing import Ringer

# The event loop's clock stops while the machine sleeps, the prompts' does not: with a prompt open, look this often.
MAX_SLEEP = 60.0
LAST_WORDS_SECONDS = 3.0  # for notifiers that are sending when the broker ends


class Surroundings(NamedTuple):
    """What the broker is given. ``refusal``: why every prompt is refused, or nothing. ``trouble``: for the status."""

    settings: Settings
    environ: Mapping[str, str]
    host: str
    audit: AuditTrail
    page_listeners: list[PageListener]
    terminal: Terminal | None = None
    loopback: bool = True
    refusal: str = ""
    trouble: tuple[str, ...] = ()
    random: Callable[[int], bytes] = os.urandom


class Broker:
    """Everything that askers, admins and pages share."""

    def __init__(self, given: Surroundings) -> None:
        self.settings = given.settings
        self.refusal = given.refusal
        self.audit = given.audit
        self.overflow_uid = overflow_uid()
        self.on_settled: Callable[[], None] = lambda: None
        self._given = given
        self._loop = asyncio.get_running_loop()
        self._started = self.now()
        self._table: Pending | None = None
        self._ringer: Ringer | None = None
        self._pages: http.Server | None = None
        self._looks = Looks()
        self._waiting: dict[tuple[str, str], Callable[[Reply], None]] = {}
        self._page_fingerprint = ""
        self._listening = False
        self._listen_trouble = ""
        self._timer: asyncio.TimerHandle | None = None
        self._settling = False

    def now(self) -> float:
        """Seconds that go on while the machine sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def prepare(self) -> None:
        """Somebody connected: load what prompts need, unless it is loaded."""
        self.settle()
        if self._table is not None:
            return
        from unlatch.broker import messages  # noqa: F401 (the sides of the sockets use it without importing anew)
        from unlatch.broker.pending import Pending
        from unlatch.broker.ringing import Ringer
        from unlatch.broker.setup import add_notifiers, make_policy, watch_page

        given = self._given
        self._ringer = Ringer(self._reported, self.now)
        self._ringer.page = watch_page(self.settings, self._ringer, self._page_changed)
        rung = add_notifiers(
            self._ringer, self.settings, given.environ, given.terminal, self.deny, loopback=given.loopback
        )
        policy = make_policy(
            self.settings, given.host, loopback=given.loopback, overflow_uid=self.overflow_uid, rung=rung
        )
        self._table = Pending(policy, given.random)
        self._page_server()

    @property
    def pending(self) -> "Pending":
        """The table, once :meth:`prepare` was called."""
        assert self._table is not None
        return self._table

    @property
    def is_idle(self) -> bool:
        """Whether nothing is open, nothing is waited for and nothing is still to be said."""
        if self._table is None or self._ringer is None:
            return True
        return not (self._table.open_prompts or self._wants_listening or self._ringer.busy)

    def serve_standing_pages(self) -> None:
        """Open the page's sockets that are never shut."""
        for listener in self._given.page_listeners:
            listener.stand(self._page_connection)

    async def close(self) -> None:
        """End without a word to the pages: askers register again with the next broker, and links go on working."""
        if self._timer is not None:
            self._timer.cancel()
        for listener in self._given.page_listeners:
            listener.close()
        if self._pages is not None:
            self._pages.hang_up()
        if self._ringer is not None:
            await self._ringer.close(LAST_WORDS_SECONDS)
        self.audit.close()

    # Actions

    def perform(self, actions: Actions) -> None:
        """Do what the table decided, in its order."""
        if self._wants_listening:
            self._listen()  # before anybody hears of the link
        for action in actions:
            self._perform(action)
        self.settle()

    def settle(self) -> None:
        """After something happened: soon, when replies are on their way, see whether the page is still wanted."""
        if not self._settling:
            self._settling = True
            self._loop.call_soon(self._settle)

    def asker_gone(self, connection: Connection) -> None:
        """An asker's connection is closed."""
        self.perform(self.pending.gone(self.now(), connection))

    def _perform(self, action: object) -> None:
        assert self._ringer is not None
        match action:
            case Tell(conn=Connection() as connection, event=event):
                connection.send(event)
            case Hangup(conn=Connection() as connection):
                connection.close()
            case Audit(record=record):
                self.audit.write(record)
            case Record(conn=Connection() as connection, record=record):
                connection.send(trail.recorded(self.audit.write(record)))
            case Ring(prompt_id=prompt_id, notice=notice, notifiers=notifiers):
                self._ringer.ring(prompt_id, notice, notifiers)
            case Remind(prompt_id=prompt_id, notice=notice, notifiers=notifiers):
                self._ringer.remind(prompt_id, notice, notifiers)
            case Resume(notice=notice, notifiers=notifiers):
                self._ringer.resume(notice, notifiers)
            case End(prompt_id=prompt_id, notice=notice, notifiers=notifiers, outcome=outcome):
                self._ringer.end(prompt_id, notice, notifiers, outcome)
            case Wake(ticket=ticket, page=page, reply=answer):
                reply = self._waiting.pop((ticket, page), None)
                if reply is not None:
                    reply(answer)
            case _:
                raise TypeError(type(action).__name__)

    def _reported(self, prompt_id: str, notifier: str, delivered: bool, why: str) -> None:
        self.perform(self.pending.reported(self.now(), prompt_id, notifier, delivered, why))

    def deny(self, notifier: str, notice_id: str, by: str, said: str = "") -> int:
        """A person denied from a chat, by a reply to a message; ``by`` is who, proven. How many prompts that ended.

        ``said`` is what stands behind the "deny". A message about several prompts needs the two match words there;
        0 means that it is not clear which is meant, or that it is too late.
        """
        assert self._ringer is not None
        ended = 0
        for prompt_id in self._ringer.meant(notifier, notice_id, said):
            actions = self.pending.deny(self.now(), prompt_id, by, notifier)
            ended += any(isinstance(action, Audit) and action.record["event"] == "denial" for action in actions)
            self.perform(actions)
        return ended

    def _page_changed(self) -> None:
        assert self._ringer is not None
        trouble = self._ringer.page.trouble if self._ringer.page is not None else ""
        self.audit.write({"event": "page", "reachable": not trouble, "why": trouble})
        self._ringer.correct()

    # Pages: over HTTP, and over the admin's socket

    def knows(self, ticket: str) -> bool:
        """See :class:`unlatch.broker.web.Desk`."""
        return self._looks.knows(ticket) or (self._table is not None and self._table.knows(ticket))

    def arrived(self, arrival: Arrival) -> None:
        """See :class:`unlatch.broker.web.Desk`."""
        self._looks.arrived(arrival)

    def page(
        self, ticket: str, verb: str, body: bytes, visitor: Visitor, reply: Callable[[Reply], None]
    ) -> http.Held | None:
        """See :class:`unlatch.broker.web.Desk`."""
        from unlatch.broker import messages

        if not self.knows(ticket):
            reply(NOT_FOUND)
            return None
        try:
            said = messages.decode_body(verb, body)
        except Malformed:
            reply(NOT_FOUND)
            return None
        now = self.now()
        answer: Reply | Later
        match verb:
            case "hello":
                answer, actions = self.pending.hello(now, ticket)
            case "view":
                answer, actions = self.pending.view(now, ticket, said.page, said.proof, visitor)
            case "answer":
                answer, actions = self.pending.answer(now, ticket, said.page, said.proof, said.sealed, visitor)
            case _:
                answer, actions = self.pending.wait(now, ticket, said.page, said.proof, said.seen, visitor)
        self.perform(actions)
        if isinstance(answer, Reply):
            reply(answer)
            return None
        self._waiting[ticket, said.page] = reply
        return http.Held(self.pending.owner(ticket), lambda: self._page_gone(ticket, said.page, reply))

    def _page_gone(self, ticket: str, page: str, reply: Callable[[Reply], None]) -> None:
        if self._waiting.get((ticket, page)) is reply:
            del self._waiting[ticket, page]
            self.perform(self.pending.left(self.now(), ticket, page))

    # Looks at the page, without a prompt

    def look(self, ticket: str, hear: Hear) -> bool:
        """Serve the page for this ticket too; see :meth:`Looks.begin`. Now it can be reached, if it can be at all."""
        begun = self._looks.begin(ticket, hear)
        if begun:
            self._listen()
        return begun

    @property
    def listening(self) -> bool:
        """Whether the page can be connected to."""
        return self._listening

    def look_away(self, ticket: str) -> None:
        """A look is over."""
        self._looks.end(ticket)
        self.settle()

    # The page's sockets

    @property
    def _wants_listening(self) -> bool:
        return bool(self._looks) or self.pending.wants_listening

    def _page_server(self) -> http.Server:
        if self._pages is None:
            from unlatch.broker.page import fingerprint
            from unlatch.broker.web import PageSite

            self._page_fingerprint = fingerprint()
            site = PageSite(self.settings.public_url, self)
            self._pages = http.Server(site, parse_networks(self.settings.allow_from))
        return self._pages

    def _page_connection(self) -> http.Connection:
        return self._page_server().connection()

    def _listen(self) -> None:
        if self._listening:
            return
        self._listening, self._listen_trouble = True, ""
        for listener in self._given.page_listeners:
            try:
                listener.open(self._page_connection)
            except OSError as error:
                self._listening, self._listen_trouble = False, f"cannot listen for the page: {error.strerror}"

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            for listener in self._given.page_listeners:
                listener.shut()
            self._page_server().hang_up()

    # Time

    def _settle(self) -> None:
        self._settling = False
        if self._table is not None:
            if self._wants_listening:
                self._listen()
            else:
                self._stop_listening()
            self._set_timer(self._table.next_deadline())
        self.on_settled()

    def _set_timer(self, deadline: float | None) -> None:
        if deadline is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        when = self._loop.time() + min(max(0.0, deadline - self.now()), MAX_SLEEP)
        if self._timer is not None:
            if self._timer.when() <= when:
                return  # a tick that comes too early is harmless
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.perform(self.pending.tick(self.now()))

    # Status

    def status(self, *, whole: bool) -> dict[str, Any]:
        """How the broker does. Not ``whole``: without what tells of other users' prompts, their notifiers and files."""
        assert self._ringer is not None
        page = self._ringer.page.trouble if self._ringer.page is not None else ""
        unreachable = f"page not reachable yet: {page}" if page else ""
        troubles = (self.refusal, *self._given.trouble, self._listen_trouble, unreachable, self.audit.trouble)
        broker = {
            "version": __version__,
            "pid": os.getpid(),
            "uptime": round(self.now() - self._started),
            "address": self.settings.public_url,
            "listening": self._listening,
            "listens": [listener.address for listener in self._given.page_listeners],
            "open": self.pending.open_prompts,
            "page": self._page_fingerprint,
            "trouble": "; ".join(trouble for trouble in troubles if trouble),
        }
        if not whole:
            shown = {name: broker[name] for name in ("version", "pid", "uptime", "address", "page")}
            return {"event": "status", "broker": shown, "notifiers": []}
        return {"event": "status", "broker": broker, "notifiers": list(self._ringer.status())}
