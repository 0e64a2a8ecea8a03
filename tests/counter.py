"""The pending table with askers behind it, pages before it, real links between them, and a clock by hand."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from unlatch import base64url, seal
from unlatch.broker.actions import Action, Actions, Audit, Later, Peer, Reply, Ring, Tell, Visitor, Wake
from unlatch.broker.messages import Register
from unlatch.broker.pending import Pending
from unlatch.broker.policy import Notifier, Person, Policy
from unlatch.prompt import Answer, AskerInfo, Key, Prompt, details_to_json

_A = TypeVar("_A", bound=Action)

QUESTION = Prompt(
    kind="passphrase",
    title="Unlock the key",
    words=("amber", "canoe"),
    asked=1_700_000_000,
    text="for sql-root",
    key=Key("Ada <ada@example.org>", "0123456789ABCDEF", "A" * 40),
    asker=AskerInfo(command="pass", system_unit="backup.service"),
)
MATRIX, MAIL = Notifier("matrix", True), Notifier("mail", False)
POLICY = Policy(
    host="web03",
    public_url="https://unlock.example.org/web03/",
    people=(Person("Ada", ("ada", "1001"), ("matrix", "mail")), Person("Bob", ("bob",), ("mail",))),
    notifiers=(MATRIX, MAIL),
    loopback=False,
)
PHONE = Visitor("192.0.2.7")


def dice(seed: int = 0) -> Callable[[int], bytes]:
    """Bytes that are different each time and the same in each run."""
    thrown = 0

    def throw(size: int) -> bytes:
        nonlocal thrown
        thrown += 1
        return hashlib.shake_256(f"{seed} {thrown}".encode()).digest(size)

    return throw


QUIET = POLICY._replace(people=(), notifiers=(), loopback=True)  # nobody is rung


class Counter:
    """A pending table, its time, and everything that it ever wanted done."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.policy = policy
        self.random = dice()
        self.now = 1000.0
        self.done: Actions = []
        self.conns = 0
        self.restart()

    def restart(self) -> None:
        """The broker dies, and another one knows nothing."""
        self.pending = Pending(self.policy, self.random)

    def do(self, actions: Actions) -> Actions:
        self.done += actions
        return actions

    def wait(self, seconds: float) -> Actions:
        """Time passes, and the broker's timer goes off once."""
        self.now += seconds
        return self.do(self.pending.tick(self.now))

    def asker(self, uid: int = 1000, user: str = "ada") -> "Asker":
        self.conns += 1
        return Asker(self, Peer(self.conns, uid, uid, user))

    def deliver(self, prompt_id: str, *notifiers: str) -> None:
        for notifier in notifiers:
            self.do(self.pending.reported(self.now, prompt_id, notifier, True, ""))

    def listed(self, uid: int = 0) -> list[dict[str, Any]]:
        return list(self.pending.links(self.now, uid))

    def rows(self, uid: int = 0) -> list[dict[str, Any]]:
        return list(self.pending.prompts(self.now, uid))


class Asker:
    """A connection, and the links that it made."""

    def __init__(self, counter: Counter, peer: Peer) -> None:
        self.counter = counter
        self.peer = peer
        self.conn = peer.conn
        self.owned: dict[str, seal.OwnedLink] = {}
        self.ticket = ""

    def link(self) -> seal.OwnedLink:
        owned = seal.new_link(self.counter.random)
        self.owned[owned.link.ticket_text] = owned
        return owned

    def message(self, owned: seal.OwnedLink, question: Prompt = QUESTION, **more: Any) -> Register:
        padded = seal.pad(details_to_json(question))
        return Register(
            owner=base64url.encode(owned.owner),
            fragment=owned.link.fragment,
            details=base64url.encode(seal.seal_details(owned.link, padded, self.counter.random)),
            **more,
        )

    def register(self, question: Prompt = QUESTION, owned: seal.OwnedLink | None = None, **more: Any) -> Actions:
        """Register a fresh link, or this one."""
        owned = owned or self.link()
        self.owned[owned.link.ticket_text] = owned
        self.ticket = owned.link.ticket_text
        message = self.message(owned, question, **more)
        return self.counter.do(self.counter.pending.register(self.counter.now, self.peer, message))

    def page(self, ticket: str = "", visitor: Visitor = PHONE) -> "Page":
        return Page(self.counter, self.owned[ticket or self.ticket].link, visitor)

    def taken(self, ticket: str = "") -> Actions:
        return self.counter.do(self.counter.pending.taken(self.counter.now, self.conn, ticket or self.ticket))

    def spoiled(self, ticket: str = "") -> Actions:
        return self.counter.do(self.counter.pending.spoiled(self.counter.now, self.conn, ticket or self.ticket))

    def verdict(self, outcome: str = "accepted", ticket: str = "", sealed: str = "c2VhbGVk") -> Actions:
        pending, ticket = self.counter.pending, ticket or self.ticket
        return self.counter.do(pending.verdict(self.counter.now, self.conn, ticket, outcome, sealed))

    def withdraw(self, ticket: str = "") -> Actions:
        pending = self.counter.pending
        return self.counter.do(pending.withdraw(self.counter.now, self.conn, ticket or self.ticket, "stopped"))

    def orphaned(self, ticket: str = "") -> Actions:
        return self.counter.do(self.counter.pending.orphaned(self.counter.now, self.conn, ticket or self.ticket))

    def gone(self) -> Actions:
        return self.counter.do(self.counter.pending.gone(self.counter.now, self.conn))


class Page:
    """A page with the link in its address."""

    def __init__(self, counter: Counter, link: seal.Link, visitor: Visitor = PHONE) -> None:
        self.counter = counter
        self.link = link
        self.ticket = link.ticket_text
        self.visitor = visitor
        self.id = base64url.encode(counter.random(16))
        self.actions: Actions = []
        self._broker: Pending | None = None
        self._proof = b""

    def proof(self) -> bytes:
        """As a page does, it asks for the nonce once, and again only of a broker that was restarted."""
        if self._broker is self.counter.pending:
            return self._proof
        reply, actions = self.counter.pending.hello(self.counter.now, self.ticket)
        self.counter.do(actions)
        if reply.status != 200:
            return bytes(32)
        nonce = base64url.decode(reply.body["nonce"], "nonce", 16)
        self._broker = self.counter.pending
        self._proof = seal.view_proof(seal.keys_of(self.link).view, nonce, base64url.decode(self.id, "page"))
        return self._proof

    def view(self, proof: bytes | None = None) -> Reply:
        proof = self.proof() if proof is None else proof
        return self._did(self.counter.pending.view(self.counter.now, self.ticket, self.id, proof, self.visitor))

    def answer(self, sealed: str = "YW5zd2Vy") -> Reply:
        pending, now = self.counter.pending, self.counter.now
        return self._did(pending.answer(now, self.ticket, self.id, self.proof(), sealed, self.visitor))

    def wait(self, seen: int = 0) -> Reply | Later:
        pending, now = self.counter.pending, self.counter.now
        return self._did(pending.wait(now, self.ticket, self.id, self.proof(), seen, self.visitor))

    def stamp(self, reply: Reply) -> dict[str, Any]:
        sealed = base64url.decode(reply.body["stamp"], "stamp")
        stamp: dict[str, Any] = json.loads(seal.open_stamp(self.link, sealed))
        return stamp

    def question(self, reply: Reply) -> bytes:
        return seal.open_details(self.link, base64url.decode(reply.body["details"], "details"))

    def _did(self, result: tuple[Any, Actions]) -> Any:
        reply, self.actions = result
        self.counter.do(self.actions)
        return reply


def of(kind: type[_A], actions: Actions) -> list[_A]:
    """The actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def told(actions: Actions, conn: object = None) -> list[str]:
    """The events that askers hear (or one of them), in order; an end or release with its outcome."""
    events = [tell.event for tell in of(Tell, actions) if conn in (None, tell.conn)]
    return [" ".join((event["event"], *([event["outcome"]] if "outcome" in event else []))) for event in events]


def refusal(actions: Actions) -> str:
    """Why a registration was refused, or nothing."""
    return next((tell.event["why"] for tell in of(Tell, actions) if tell.event["event"] == "refused"), "")


def woken(actions: Actions) -> list[tuple[str, int, str]]:
    """The pages whose held request is finished: page, status, state."""
    return [(wake.page, wake.reply.status, wake.reply.body.get("state", "")) for wake in of(Wake, actions)]


def trail(actions: Actions) -> list[str]:
    """The events of the audit trail."""
    return [audit.record["event"] for audit in of(Audit, actions)]


def sealed_answer(page: Page, question: Prompt = QUESTION) -> str:
    """A real answer, sealed to the asker."""
    answer = Answer("yes", page.counter.random(32))
    return base64url.encode(seal.seal_answer(page.link, seal.pad(details_to_json(question)), answer))


def wrong_answer(counter: Counter, coalesce: str = "") -> tuple[Asker, str]:
    """A prompt whose answer was opened and not yet judged, and its message's id."""
    ada = counter.asker()
    prompt = of(Ring, ada.register(coalesce=coalesce))[0].prompt_id
    counter.deliver(prompt, "matrix")
    page = ada.page()
    page.view()
    page.answer()
    ada.taken()
    return ada, prompt
