"""The terminal answerer as a page: the messages of docs/protocol.md section 3, without a browser.

It trusts the link's fragment and nothing else: details and stamp must open with it, the answer is sealed to its key
and bound to the details that were shown, and the verdict must open with the reply key that only this answer carried.
How the messages travel is a :class:`Door`'s business.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from unlatch import base64url, seal
from unlatch.errors import LinkOver, Malformed, Unreachable
from unlatch.prompt import Answer, Prompt, Verdict, details_from_json
from unlatch.secret import Secret

PAGE_SIZE = 16
UNREACHABLE_SECONDS = 20.0  # a restarted broker hears of the ticket again within that time (section 3, rule 9)
RETRY_SECONDS = 0.5
VERDICT_SECONDS = 120.0  # from the taken answer to the verdict: a card takes seconds, a key derivation too
MAX_FOLLOWERS = 256


class Reply(NamedTuple):
    """What the broker said to one message of a page."""

    status: int
    body: Mapping[str, Any]


class Door(Protocol):
    """A way to a broker's pages."""

    def post(self, ticket: str, verb: str, body: Mapping[str, Any]) -> Reply:
        """Send one message and return the reply.

        Raises:
            Unreachable: nobody answered in time.
            Malformed: what answered is no broker.
        """


class Stamp(NamedTuple):
    """The broker's own word about the asker: what the kernel said, and who else waits."""

    host: str
    uid: int
    user: str
    login: str
    account: str
    age: float
    person: str
    followers: tuple[str, ...]
    orphaned: bool


class Clock(NamedTuple):
    """Time as it passes: ``now()`` in seconds, ``sleep(seconds)``."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


class Page:
    """One link, opened: the question, and the way to answer it once."""

    def __init__(self, door: Door, link: seal.Link, random: seal.RandomBytes, clock: Clock) -> None:
        """Open the link.

        Raises:
            LinkOver, Unreachable, Malformed
            SealBroken: what the broker sent was not made with this link.
        """
        self._door = door
        self._link = link
        self._random = random
        self._clock = clock
        self._id = base64url.encode(random(PAGE_SIZE))
        self._proof = ""
        self._padded = b""
        self._interrupted = False
        self.prompt, self.stamp, self.remaining = self._view()

    def answer(self, answer: str, secret: Secret | None = None, digits: str = "", *, keep: bool = False) -> Verdict:
        """Seal an answer ("secret", "yes" or "no"), send it, and wait for its verdict. ``keep``: agree to the offer.

        Raises:
            LinkOver: the prompt ended first. With state "unknown" the broker forgot it, and with it the verdict.
            Unreachable: the broker stayed away too long, or no verdict came.
            Malformed, SealBroken: the other side lied.
        """
        reply_key = self._random(seal.KEY_SIZE)
        sealed = seal.seal_answer(self._link, self._padded, Answer(answer, reply_key, secret, digits, keep))
        box = {"sealed": base64url.encode(sealed)}
        self._send(box)
        seen, proof, until = 0, self._proof, self._clock.now() + VERDICT_SECONDS
        while self._clock.now() < until:
            reply = self._patiently("wait", {"seen": seen})
            if proof != self._proof:  # another broker, to which the asker may have returned without our answer
                self._send(box)
                seen, proof = 0, self._proof
                continue
            seen = _count(reply.body.get("turn"), "turn")
            state = reply.body.get("state")
            if state == "verdict":
                verdict = base64url.decode(reply.body.get("sealed"), "sealed")
                return seal.open_verdict(reply_key, self._link.ticket, verdict)
            if state == "spoiled":
                raise Malformed("answer: the asker could not open it")
        raise Unreachable("no verdict came, although the answer was taken")

    def follow(self, verdict: Verdict) -> "Page":
        """The page where this one goes on after a verdict with a next link; raises as the constructor does."""
        if verdict.next_link is None:
            raise Malformed("next")
        return Page(self._door, seal.parse_link(*verdict.next_link), self._random, self._clock)

    def _view(self) -> tuple[Prompt, Stamp, float]:
        hello = _expect(self._door.post(self._link.ticket_text, "hello", {}))
        nonce = base64url.decode(hello.body.get("nonce"), "nonce")
        page = base64url.decode(self._id, "page")
        self._proof = base64url.encode(seal.view_proof(seal.keys_of(self._link).view, nonce, page))
        reply = self._proven("view", {})
        self._padded = seal.open_details(self._link, base64url.decode(reply.body.get("details"), "details"))
        stamp = seal.open_stamp(self._link, base64url.decode(reply.body.get("stamp"), "stamp"))
        return details_from_json(self._padded), _stamp(stamp), _number(reply.body.get("remaining"), "remaining")

    def _send(self, box: Mapping[str, str]) -> None:
        try:
            self._patiently("answer", box)
        except LinkOver as over:
            # After a reply that got lost, "answered" most likely means by us; else the verdict will not open.
            if over.state != "answered" or not self._interrupted:
                raise

    def _patiently(self, verb: str, fields: Mapping[str, Any]) -> Reply:
        """Send a message, again if need be, while the broker may just be starting anew."""
        until = self._clock.now() + UNREACHABLE_SECONDS
        while True:
            try:
                return self._proven(verb, fields)
            except (LinkOver, Unreachable) as error:
                forgotten = isinstance(error, LinkOver)
                if (isinstance(error, LinkOver) and error.state != "unknown") or self._clock.now() > until:
                    raise
            self._interrupted = True
            self._clock.sleep(RETRY_SECONDS)
            if forgotten:  # a new broker does not know our nonce: say hello again, as the same page
                with contextlib.suppress(LinkOver, Unreachable):
                    self._view()

    def _proven(self, verb: str, fields: Mapping[str, Any]) -> Reply:
        body = {"page": self._id, "proof": self._proof, **fields}
        return _expect(self._door.post(self._link.ticket_text, verb, body))


def _expect(reply: Reply) -> Reply:
    """The reply of a link that is alive.

    Raises:
        LinkOver
        Malformed: a status or state that the protocol does not have.
    """
    if reply.status == 200:
        return reply
    if reply.status == 404:
        raise LinkOver("unknown")
    state = reply.body.get("state")
    if reply.status not in (409, 410) or state not in _OVER:
        raise Malformed(f"reply with status {reply.status}")
    raise LinkOver(str(state))


_OVER = ("used", "expired", "withdrawn", "denied", "replaced", "elsewhere", "answered")


def _stamp(data: bytes) -> Stamp:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("stamp") from None
    if not isinstance(fields, dict) or fields.keys() != set(Stamp._fields):
        raise Malformed("stamp")
    texts = {name: _text(fields[name], name) for name in ("host", "user", "login", "account", "person")}
    followers = fields["followers"]
    if not isinstance(followers, list) or len(followers) > MAX_FOLLOWERS:
        raise Malformed("followers")
    return Stamp(
        uid=_count(fields["uid"], "uid"),
        age=_number(fields["age"], "age"),
        followers=tuple(_text(line, "followers") for line in followers),
        orphaned=_flag(fields["orphaned"], "orphaned"),
        **texts,
    )


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise Malformed(what)
    return value


def _flag(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise Malformed(what)
    return value


def _count(value: object, what: str) -> int:
    if type(value) is not int or value < 0:
        raise Malformed(what)
    return value


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise Malformed(what)
    return float(value)
