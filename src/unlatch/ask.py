"""Put a prompt to the broker and wait for the answer: the one door that every front end uses.

The asker alone can open an answer: the private keys live in this process and nowhere else. It survives its broker: when
the connection breaks, it connects again and registers its open tickets with their owner tokens, so a link that was
already sent goes on working. A ticket that was answered is never registered again.

Order matters for speed: connect first (the broker may have to start), import the cryptography while it does, register,
and only then warm up what the answer will need. Nothing is imported after that, so the package may be exchanged while a
prompt is open.
"""

import os
import select
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from unlatch import base64url, runtime, start
from unlatch.errors import Denied, Expired, Malformed, NoBroker, Refused, SealBroken, UnlatchError, Withdrawn
from unlatch.prompt import Answer, Prompt, Verdict, details_to_json
from unlatch.wire import lines

MAX_SHORT = 256  # characters of a short text on a line (docs/protocol.md section 4)
MAX_LINKS = 3  # for one prompt; a fourth would ring for whoever opens links faster than the admin
SEND_SECONDS = 10.0
HANG_UP_SECONDS = 0.5  # a broker that reads at all has read our last line by then
GRACE_SECONDS = 5.0  # the broker ends a prompt; this is how long a hung one may be late
HOST_BROKER_SECONDS = 10.0  # how long the host's broker may take to come back before the first register
BACKOFF = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Released(UnlatchError):
    """The leader of this key is done: look where the answer is kept, else ask anew. ``outcome`` is the leader's."""

    def __init__(self, outcome: str) -> None:
        super().__init__(f"released: {outcome}")
        self.outcome = outcome


class _Ticket(NamedTuple):
    owned: Any  # seal.OwnedLink; seal is imported late
    views: list[str]


class Question:
    """One prompt that was put, with all its links. Made by :meth:`Asker.put`."""

    def __init__(self, prompt: Prompt, padded: bytes, coalesce: str, deadline: float | None) -> None:
        self.prompt = prompt
        self.padded = padded
        self.coalesce = coalesce
        self.deadline = deadline
        self.tickets: dict[str, _Ticket] = {}
        self.told: list[str] = []
        self.after = ""
        self.registered = False
        self.answer: Answer | None = None
        self.answered_ticket = ""
        self.judged = False
        self.orphaned = False
        self.account = ""
        self.silent = False
        self.person = ""  # who is rung about a login, by the broker's word


def boottime() -> float:
    """Seconds that go on while the machine sleeps (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Asker:
    """A connection to the broker, and the questions put through it. One thread, blocking, no signals of its own."""

    def __init__(
        self,
        places: list[runtime.Runtime],
        *,
        uid: int,
        environ: Mapping[str, str],
        random: Callable[[int], bytes] = os.urandom,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._places = places
        self._uid = uid
        self._environ = environ
        self._random = random
        self._clock = clock
        self._connection: socket.socket | None = None
        self._buffer = lines.LineBuffer()
        self._spoken = False
        self._failures = 0
        self._warm = False

    def open(self) -> None:
        """Connect, starting the user's own broker if there is none, and import what the answer will need.

        Raises:
            NoBroker: with a line for each place that was tried.
        """
        until = self._clock() + HOST_BROKER_SECONDS
        why: list[str] = []
        while not self._try_connect(why):
            if not self._places[0].host or self._clock() > until:
                raise NoBroker(why)
            why.clear()
            select.select([], [], [], 0.2)
        from unlatch import seal

        self._seal = seal

    def put(
        self,
        prompt: Prompt,
        *,
        coalesce: str = "",
        seconds: int = 0,
        after: Question | None = None,
        outcome: str = "wrong",
        account: str = "",
        silent: bool = False,
    ) -> Question:
        """Register a prompt. With ``after``, the page that answered that question goes on here by itself.

        ``coalesce`` is a keygrip or secret name (empty: never shared); ``seconds`` the caller's own limit, 0 for none;
        ``outcome`` ("wrong" or "next") is what the page is told about the answer of ``after``. ``account`` is of root
        only: whose login this is about, so that this account's own people are rung; ``silent``: nobody is rung.

        Raises:
            NoBroker, Refused: as in :meth:`wait`.
        """
        padded = self._seal.pad(details_to_json(prompt))
        question = Question(prompt, padded, _short(coalesce), self._clock() + seconds if seconds else None)
        question.account, question.silent = account, silent
        link = self._new_ticket(question)
        if after is not None and after.answer is not None and not after.judged and self._connection is not None:
            question.after = after.answered_ticket
        self._register(question, link)
        if question.after and after is not None:
            self.settle(question)
            self.verdict(after, Verdict(outcome, prompt.error, (link, question.tickets[link].owned.link.fragment)))
        self._warm_up(question)
        return question

    def settle(self, question: Question) -> None:
        """Wait until the broker took this registration (``question.registered``), ten seconds at most: a page is never
        sent to a dead ticket, and nobody is told that a phone rings which does not.

        Raises:
            Refused
        """
        until = self._clock() + SEND_SECONDS
        while not question.registered and self._connection is not None and self._clock() < until:
            if _poll((self._connection.fileno(),), until - self._clock()) is not None:
                self._receive(question)

    def wait(self, question: Question, watch: tuple[int, ...] = ()) -> Answer | int:
        """Wait for the answer, or for one of the descriptors in ``watch`` to become readable or hang up.

        Returns the answer ("no" is one), or the descriptor; call again to go on waiting.

        Raises:
            Refused, Expired, Withdrawn, Denied (a follower whose leader was denied), Released, NoBroker.
        """
        while question.answer is None:
            timeout = self._patience(question)
            if self._connection is None:
                ready = _poll(watch, min(timeout, BACKOFF[min(self._failures, len(BACKOFF) - 1)]))
                if ready is None:
                    self._reconnect(question)
            else:
                ready = _poll((self._connection.fileno(), *watch), timeout)
                if ready == self._connection.fileno():
                    self._receive(question)
                    continue
            if ready is not None:
                return ready
            if self._patience(question) <= 0:
                self.withdraw(question, "expired")
                raise Expired
        return question.answer

    def verdict(self, question: Question, verdict: Verdict) -> None:
        """Tell the page what became of its answer. A page that cannot be told is not worth failing for."""
        if question.answer is None or question.judged:
            return
        question.judged = True
        ticket = base64url.decode(question.answered_ticket, "ticket")
        sealed = self._seal.seal_verdict(question.answer.reply_key, ticket, verdict, self._random)
        self._send(
            {
                "op": "verdict",
                "ticket": question.answered_ticket,
                "outcome": verdict.outcome,
                "sealed": base64url.encode(sealed),
            }
        )

    def withdraw(self, question: Question, why: str) -> None:
        """End the prompt: its links die, its messages say so. ``why`` is shown to people."""
        for ticket in question.tickets:
            self._send({"op": "withdraw", "ticket": ticket, "why": why})

    def record(self, secret: str, by: str, unit: str) -> None:
        """Have it written into the audit trail that a stored secret was opened, and wait until it is.

        Raises:
            NoBroker: it went away, or says nothing.
            Refused: it does not hear this uid.
        """
        self._send({"op": "opened", "secret": _short(secret), "by": _short(by), "unit": _short(unit)})
        until = self._clock() + SEND_SECONDS
        while self._connection is not None and _poll((self._connection.fileno(),), until - self._clock()) is not None:
            for event in self._events():
                if event.get("event") == "recorded":
                    return
                if event.get("event") == "refused":
                    raise Refused(str(event.get("why")), str(event.get("text")))
        raise NoBroker([f"{self._places[0].askers}: it does not say that the opening was recorded"])

    def orphan(self, question: Question) -> None:
        """The program that asked has ended; whoever asks for the same key from now on takes this one's place."""
        question.orphaned = True
        for ticket in question.tickets:
            self._send({"op": "orphaned", "ticket": ticket})

    def close(self) -> None:
        """Close the connection; what is still open is thereby withdrawn."""
        if self._connection is not None:
            _hang_up(self._connection)
            self._connection = None

    # Tickets

    def _new_ticket(self, question: Question) -> str:
        owned = self._seal.new_link(self._random)
        question.tickets[owned.link.ticket_text] = _Ticket(owned, [])
        return str(owned.link.ticket_text)

    def _register(self, question: Question, ticket: str, *, beside: str = "", again: bool = False) -> None:
        owned, views = question.tickets[ticket]
        left = 0 if question.deadline is None else max(1, round(question.deadline - self._clock()))
        about = {"account": question.account, "silent": question.silent}
        self._send(
            {
                "op": "register",
                "owner": base64url.encode(owned.owner),
                "fragment": owned.link.fragment,
                "details": base64url.encode(self._seal.seal_details(owned.link, question.padded, self._random)),
                "coalesce": question.coalesce,
                "seconds": left,
                "beside": beside,
                "after": "" if again or beside else question.after,
                "rung": again and question.registered,
                "views": views,
                "told": question.told if again else [],  # nobody was told of a fresh link
                **{name: value for name, value in about.items() if value},
            }
        )

    def _warm_up(self, question: Question) -> None:
        """Seal and open once, so that the real answer finds every code path loaded (measured: 2 ms instead of 25)."""
        if not self._warm:
            self._warm = True
            owned = self._seal.new_link(self._random)
            trial = self._seal.seal_answer(owned.link, question.padded, Answer("no", bytes(32)))
            reply = self._seal.open_answer(owned, question.padded, trial).reply_key
            self._seal.seal_verdict(reply, owned.link.ticket, Verdict("denied"), self._random)

    # Events

    def _receive(self, question: Question) -> None:
        for event in self._events():
            self._handle(question, event)

    def _events(self) -> list[dict[str, Any]]:
        """What the broker said; nothing, and a closed connection, when it is gone."""
        assert self._connection is not None
        try:
            data = self._connection.recv(lines.MAX_LINE)
            complete = self._buffer.feed(data) if data else []
            events = [lines.decode(line) for line in complete]
        except (OSError, Malformed):
            data, events = b"", []
        if not data:
            self.close()
            return []
        self._failures = 0
        return events

    def _handle(self, question: Question, event: dict[str, Any]) -> None:
        name, ticket = event.get("event"), event.get("ticket")
        if ticket not in question.tickets:
            if name == "refused" and not ticket:
                raise Refused(str(event.get("why")), str(event.get("text")))
            return  # about a question that is over
        match name:
            case "registered":
                self._registered(question, event)
            case "viewed":
                question.tickets[ticket].views.append(str(event.get("page")))
            case "delivered":
                question.told.append(str(event.get("notifier")))
            case "crowded":
                if len(question.tickets) < MAX_LINKS:
                    self._register(question, self._new_ticket(question), beside=ticket)
            case "answer":
                self._open_answer(question, ticket, event.get("sealed"))
            case "released":
                raise Released(str(event.get("outcome")))
            case "refused":
                self._refused(question, ticket, event)
            case "ended":
                self._ended(question, ticket, str(event.get("outcome")))

    def _registered(self, question: Question, event: dict[str, Any]) -> None:
        question.registered = True
        question.person = str(event.get("person", ""))
        remaining = event.get("remaining")
        if question.deadline is None and isinstance(remaining, int | float):
            question.deadline = self._clock() + remaining

    def _open_answer(self, question: Question, ticket: str, sealed: object) -> None:
        try:
            data = base64url.decode(sealed, "sealed")
            answer = self._seal.open_answer(question.tickets[ticket].owned, question.padded, data)
        except (Malformed, SealBroken):
            self._send({"op": "spoiled", "ticket": ticket})
            return
        if question.answer is None:
            question.answer, question.answered_ticket = answer, ticket
            self._send({"op": "taken", "ticket": ticket})

    def _refused(self, question: Question, ticket: str, event: dict[str, Any]) -> None:
        del question.tickets[ticket]
        if not question.tickets:
            raise Refused(str(event.get("why")), str(event.get("text")))

    def _ended(self, question: Question, ticket: str, outcome: str) -> None:
        if outcome == "replaced" or question.answer is not None:
            return
        del question.tickets[ticket]
        if outcome == "denied":
            raise Denied
        if outcome == "expired":
            raise Expired
        if not question.tickets:
            raise Withdrawn

    # The connection

    def _patience(self, question: Question) -> float:
        if question.deadline is None:
            return float("inf")
        return question.deadline + GRACE_SECONDS - self._clock()

    def _reconnect(self, question: Question) -> None:
        self._failures += 1
        why = [f"{self._places[0].askers}: the broker ends as soon as it is asked"]
        connected = self._try_connect(why)
        # A broker that never takes the prompt (a bad installation) must not be started for ever.
        if not question.registered and self._failures >= len(BACKOFF):
            raise NoBroker(why)
        if not connected:
            return
        question.after = ""
        first = ""
        for ticket in question.tickets:
            self._register(question, ticket, beside=first, again=True)
            first = first or ticket
        if question.orphaned:
            self.orphan(question)

    def _try_connect(self, why: list[str]) -> bool:
        place = self._places[0]  # the host's broker if there is one: never quietly another
        try:
            if place.host:
                self._connection = runtime.connect(place.askers, self._uid, host=True)
            else:
                self._connection = start.connect(place, self._uid, self._environ)
        except (OSError, runtime.Untrusted) as error:
            why.append(f"{place.askers}: {error.strerror if isinstance(error, OSError) and error.strerror else error}")
            return False
        self._connection.settimeout(SEND_SECONDS)
        self._buffer = lines.LineBuffer()
        self._spoken = False
        return True

    def _send(self, message: dict[str, Any]) -> None:
        if self._connection is None:
            return
        if not self._spoken:
            message = {"v": lines.VERSION} | message
            self._spoken = True
        try:
            self._connection.sendall(lines.encode(message))
        except OSError:
            self.close()


def _short(text: str) -> str:
    """A text as the broker takes it: a name from a command line may be longer, and need not be UTF-8."""
    return text[:MAX_SHORT].encode("utf-8", "replace").decode()


def _hang_up(connection: socket.socket) -> None:
    """Let the broker close first: if it wrote to a closed socket, it would not read what we said last (a verdict)."""
    until = time.monotonic() + HANG_UP_SECONDS
    try:
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(HANG_UP_SECONDS)
        while connection.recv(lines.MAX_LINE) and time.monotonic() < until:
            pass
    except OSError:
        pass  # it is gone already, or hangs
    connection.close()


def _poll(descriptors: tuple[int, ...], seconds: float) -> int | None:
    """The first descriptor that is readable or hung up, or None when the time is over. No wake-ups in between."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    # poll(2) takes an int of milliseconds: cap at a day and round up, so that a wait never spins.
    milliseconds = None if seconds == float("inf") else int(min(max(seconds, 0.0), 86400.0) * 1000) + 1
    ready = dict(poller.poll(milliseconds))
    return next((descriptor for descriptor in descriptors if descriptor in ready), None)
