"""The pending table under anything that askers, pages, clocks and a dying broker may do, in any order.

A model beside it knows who asked what and what came back, and looks at every action that the table returns.
"""

from typing import Any

from counter import POLICY, Asker, Counter, Page, of
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from unlatch.broker.actions import Actions, Later, Ring, Tell, Visitor, Wake

LIBERAL = POLICY._replace(quota_open=1000, quota_rings=1000, remind_after=200)
OPEN, OUT, TAKEN, JUDGED, ENDED = "open", "out", "taken", "judged", "ended"


class Question:
    """What the model knows of one prompt."""

    def __init__(self, asker: Asker, coalesce: str, expires: float) -> None:
        self.asker = asker
        self.coalesce = coalesce
        self.expires = expires
        self.state = OPEN
        self.follows = False
        self.goes_on = True
        self.tickets = [asker.ticket]
        self.answered = ""
        self.told: set[str] = set()
        self.ends = 0


class Watched(Counter):
    """A counter whose every action is looked at."""

    def __init__(self) -> None:
        super().__init__(LIBERAL)
        self.questions: dict[str, Question] = {}  # by ticket
        self.posted: set[str] = set()  # answers that pages sent and askers have not seen
        self.waiting: dict[tuple[str, str], Page] = {}
        self.live: set[object] = set()  # connections

    def do(self, actions: Actions) -> Actions:
        for action in actions:
            match action:
                case Tell(conn=conn, event=event) if event["ticket"] in self.questions:
                    self.heard(conn, event)
                case Ring(notice=notice):
                    ticket = notice.link.removeprefix(LIBERAL.public_url).partition("#")[0]
                    assert self.pending.knows(ticket), "a ring without a live link"
                    question = self.questions.get(ticket)
                    assert question is None or question.state == OPEN, "a ring for a prompt that is over"
                    assert notice.remaining > 0
                case Wake(ticket=ticket, page=page):
                    assert self.waiting.pop((ticket, page), None), "a wake for a page that does not wait"
        return super().do(actions)

    def heard(self, conn: object, event: dict[str, Any]) -> None:
        question = self.questions[event["ticket"]]
        assert conn == question.asker.conn, "somebody else's event"
        match event["event"]:
            case "answer":
                assert question.state == OPEN, "an answer to a prompt that is not open"
                assert event["sealed"] in self.posted, "an answer delivered twice"
                assert self.now < question.expires, "an answer after the time"
                self.posted.remove(event["sealed"])
                question.state, question.answered = OUT, event["ticket"]
            case "ended":
                assert question.state in (OPEN, OUT, TAKEN), "an end after the end"
                question.ends += 1
                if question.ends == len(question.tickets):
                    question.state = ENDED
            case "released":
                assert question.follows, "released, and never followed"
                assert question.state == OPEN, "released after the end"
                question.state = ENDED
            case "delivered":
                question.told.add(event["notifier"])
            case "registered" | "following" | "viewed" | "crowded":
                assert question.state != ENDED, "news of a prompt that is over"
            case other:
                raise AssertionError(f"{other} was not expected")


picks = st.integers(0, 1000)


def when(*states: str, follows: bool = False) -> Any:
    """Only while there is a prompt in one of these states."""
    return precondition(lambda self: self.pick(0, *states, follows=follows))


has_pages = precondition(lambda self: self.pages)


class PendingMachine(RuleBasedStateMachine):
    """Askers, pages, time, and a broker that may die."""

    @initialize()
    def start(self) -> None:
        self.counter = Watched()
        self.all: list[Question] = []
        self.pages: list[Page] = []
        self.answers = 0
        self.answered_by: dict[str, str] = {}

    def pick(self, pick: int, *states: str, follows: bool = False) -> Question | None:
        """One of the prompts in these states; the newest for 0, which hypothesis likes best."""
        chosen = [q for q in self.all if q.state in states and q.follows is follows]
        return chosen[-1 - pick % len(chosen)] if chosen else None

    # Askers

    @rule(uid=st.sampled_from([1000, 1001]), coalesce=st.sampled_from(["", "key"]), seconds=st.sampled_from([0, 50]))
    def open(self, uid: int, coalesce: str, seconds: int) -> None:
        asker = self.counter.asker(uid, "ada" if uid == 1000 else "bob")
        self.remember(asker, asker.register(coalesce=coalesce, seconds=seconds), coalesce, seconds)

    def remember(self, asker: Asker, actions: Actions, coalesce: str, seconds: int) -> Question:
        self.counter.live.add(asker.conn)
        question = Question(asker, coalesce, self.counter.now + (seconds or 3600))
        events = [tell.event["event"] for tell in of(Tell, actions) if tell.event["ticket"] == asker.ticket]
        assert events in (["registered"], ["following"])
        question.follows = events == ["following"]
        leads = [q for q in self.all if q.coalesce == coalesce != "" and q.asker.peer.uid == asker.peer.uid]
        assert not question.follows or leads
        self.all.append(question)
        self.counter.questions[asker.ticket] = question
        return question

    @when(OUT)
    @rule(pick=picks)
    def taken(self, pick: int) -> None:
        self.counter.wait(0)
        if question := self.pick(pick, OUT):
            self.answered_opened(question)

    def answered_opened(self, question: Question) -> None:
        question.state = TAKEN
        question.asker.taken(question.answered)

    @when(OUT)
    @rule(pick=picks)
    def spoiled(self, pick: int) -> None:
        if question := self.pick(pick, OUT):
            question.state = OPEN
            question.asker.spoiled(question.answered)

    @when(TAKEN)
    @rule(pick=picks, outcome=st.sampled_from(["accepted", "wrong", "next", "denied", "failed", "unknown"]))
    def verdict(self, pick: int, outcome: str) -> None:
        self.counter.wait(0)
        if question := self.pick(pick, TAKEN):
            self.judge(question, outcome)

    def judge(self, question: Question, outcome: str) -> None:
        question.state = JUDGED
        question.goes_on = question.goes_on and outcome in ("wrong", "next")
        question.asker.verdict(outcome, question.answered)

    @when(TAKEN, JUDGED)
    @rule(pick=picks, judged=st.booleans())
    def go_on(self, pick: int, judged: bool) -> None:
        """The next question of the same asker, before or after the verdict on the last."""
        self.counter.wait(0)
        question = self.pick(pick, JUDGED if judged else TAKEN)
        if question and question.goes_on and question.asker.conn in self.counter.live:
            self.next_question(question)

    def next_question(self, question: Question) -> None:
        question.goes_on = False
        actions = question.asker.register(after=question.answered, coalesce=question.coalesce)
        self.remember(question.asker, actions, question.coalesce, 0)

    @when(OPEN)
    @rule(pick=picks)
    def beside(self, pick: int) -> None:
        self.counter.wait(0)
        question = self.pick(pick, OPEN)
        if question and len(question.tickets) < 3:
            question.asker.register(beside=question.tickets[0])
            question.tickets.append(question.asker.ticket)
            self.counter.questions[question.asker.ticket] = question

    @when(OPEN, OUT, TAKEN)
    @rule(pick=picks, follows=st.booleans())
    def withdraw(self, pick: int, follows: bool) -> None:
        if question := self.pick(pick, OPEN, OUT, TAKEN, follows=follows):
            question.asker.withdraw(question.tickets[-1])
            assert question.state == ENDED

    @when(OPEN, OUT, TAKEN, JUDGED)
    @rule(pick=picks, follows=st.booleans())
    def orphaned(self, pick: int, follows: bool) -> None:
        """Its program has ended. What becomes of it then, the broker tells."""
        if question := self.pick(pick, OPEN, OUT, TAKEN, JUDGED, follows=follows):
            question.asker.orphaned(question.tickets[-1])

    @when(OPEN, OUT, TAKEN, JUDGED)
    @rule(pick=picks, follows=st.booleans())
    def gone(self, pick: int, follows: bool) -> None:
        self.counter.wait(0)
        if question := self.pick(pick, OPEN, OUT, TAKEN, JUDGED, follows=follows):
            self.close(question.asker.conn)
            question.asker.gone()

    def close(self, conn: object) -> None:
        self.counter.live.discard(conn)
        for question in self.all:
            if question.asker.conn == conn and question.state != JUDGED:
                question.state = ENDED

    @when(OPEN, OUT, TAKEN, JUDGED)
    @rule(pick=picks, root=st.booleans())
    def meddle(self, pick: int, root: bool) -> None:
        """Another connection, of whatever uid, tries everything on somebody's ticket."""
        self.counter.wait(0)
        question = self.pick(pick, OPEN, OUT, TAKEN, JUDGED)
        if not question:
            return
        before = (self.counter.pending.open_prompts, self.counter.rows())
        eve = Counter.asker(self.counter, 0 if root else question.asker.peer.uid, "ada")
        for ticket in question.tickets:
            pending, now = self.counter.pending, self.counter.now
            owner = question.asker.owned[ticket]
            actions = [
                *pending.taken(now, eve.conn, ticket),
                *pending.spoiled(now, eve.conn, ticket),
                *pending.verdict(now, eve.conn, ticket, "accepted", ""),
                *pending.withdraw(now, eve.conn, ticket, ""),
                *pending.orphaned(now, eve.conn, ticket),
                *(pending.register(now, eve.peer, eve.message(owner, rung=True)) if pending.knows(ticket) else ()),
                *pending.gone(now, eve.conn),
            ]
            assert {tell.event["event"] for tell in of(Tell, actions)} <= {"refused"}
            assert {tell.conn for tell in of(Tell, actions)} <= {eve.conn}
        assert before == (self.counter.pending.open_prompts, self.counter.rows())

    # Pages

    @when(OPEN, OUT, TAKEN, JUDGED, ENDED)
    @rule(pick=picks, own=st.booleans(), follows=st.booleans())
    def view(self, pick: int, own: bool, follows: bool) -> None:
        if question := self.pick(pick, OPEN, OUT, TAKEN, JUDGED, ENDED, follows=follows):
            self.look(question, pick, Visitor("local", question.asker.peer.uid) if own else Visitor("192.0.2.7"))

    def look(self, question: Question, pick: int, visitor: Visitor) -> Page:
        page = question.asker.page(question.tickets[pick % len(question.tickets)], visitor)
        if page.view().status == 200:
            self.shown(page, question)
        return page

    def shown(self, page: Page, question: Question) -> None:
        assert question.state == OPEN, "a dead link alive"
        assert not question.follows, "a follower's page"
        assert self.counter.now < question.expires
        if page.visitor.uid is None and page not in self.pages:
            seen = [p for p in self.pages if p.ticket == page.ticket and p.visitor.uid is None]
            assert len(seen) < LIBERAL.views, "one view too many"
        if page not in self.pages:
            self.pages.append(page)

    @has_pages
    @rule(pick=picks)
    def reload(self, pick: int) -> None:
        page = self.pages[-1 - pick % len(self.pages)]
        if page.view().status == 200:
            self.shown(page, self.counter.questions[page.ticket])

    @has_pages
    @rule(pick=picks)
    def answer(self, pick: int) -> None:
        self.send(self.pages[-1 - pick % len(self.pages)])

    @when(OPEN)
    @rule(
        pick=picks, then=st.sampled_from(["", "taken", "accepted", "denied", "wrong", "next", "go on", "go on wrong"])
    )
    def look_and_answer(self, pick: int, then: str) -> None:
        """What people and askers mostly do, as far as it gets."""
        self.counter.wait(0)
        question = self.pick(pick, OPEN)
        if not question:
            return
        self.send(self.look(question, pick, Visitor("192.0.2.7")))
        if question.state != OUT or not then:
            return
        self.answered_opened(question)
        if then.startswith("go on"):
            self.next_question(question)
        if then not in ("taken", "go on"):
            self.judge(question, then.rsplit(maxsplit=1)[-1])

    def send(self, page: Page) -> None:
        self.answers += 1
        sealed = f"answer{self.answers}"
        self.counter.posted.add(sealed)
        delivered = page.answer(sealed).status == 200
        assert delivered is (sealed not in self.counter.posted), "a page was told what is not so"
        self.counter.posted.discard(sealed)
        if delivered:
            self.answered_by[page.ticket] = page.id

    @has_pages
    @rule(pick=picks, behind=st.booleans())
    def wait(self, pick: int, behind: bool) -> None:
        """A page that has heard everything waits; one that is behind hears at once."""
        self.counter.wait(0)
        page = self.pages[-1 - pick % len(self.pages)]
        question = self.counter.questions[page.ticket]
        link = self.counter.pending._table.links.get(page.ticket)
        turn = link.prompt.turn if link else 0
        reply = page.wait(turn + behind)
        if isinstance(reply, Later):
            assert not behind
            self.counter.waiting[page.ticket, page.id] = page
        elif reply.body.get("state") == "verdict":
            assert question.state == JUDGED
            assert question.answered == page.ticket
            assert page.id == self.answered_by[page.ticket], "another page's verdict"

    @precondition(lambda self: self.counter.waiting)
    @rule(pick=picks)
    def leave(self, pick: int) -> None:
        self.counter.wait(0)
        if self.counter.waiting:
            ticket, page = list(self.counter.waiting)[pick % len(self.counter.waiting)]
            del self.counter.waiting[ticket, page]
            self.counter.do(self.counter.pending.left(self.counter.now, ticket, page))

    # Notifiers, time, and the broker

    @when(OPEN)
    @rule(pick=picks, delivered=st.booleans())
    def report(self, pick: int, delivered: bool) -> None:
        if rings := of(Ring, self.counter.done):
            ring = rings[-1 - pick % len(rings)]
            pending, now = self.counter.pending, self.counter.now
            self.counter.do(pending.reported(now, ring.prompt_id, ring.notifiers[0], delivered, ""))

    @when(OPEN, OUT, TAKEN, JUDGED)
    @rule(seconds=st.sampled_from([0.5, 1, 5, 24, 25, 29, 30, 31, 49, 120, 200]))
    def time_passes(self, seconds: float) -> None:
        self.counter.wait(seconds)
        assert (self.counter.pending.next_deadline() or 1e9) > self.counter.now

    @when(OPEN, OUT, TAKEN, JUDGED)
    @rule(seconds=st.sampled_from([-10.0, 0.5, 5.0, 25.0, 30.0, 50.0, 120.0, 600.0, 3600.0]))
    def clock_jumps(self, seconds: float) -> None:
        """The machine slept, and whatever comes next comes before the timer."""
        self.counter.now += seconds

    @when(OPEN)
    @rule(luck=st.integers(0, 3))
    def broker_dies(self, luck: int) -> None:
        """Askers connect again and register what was not answered, with what they know of it."""
        if luck:
            return
        self.counter.wait(0)
        waiting = [question for question in self.all if question.state == OPEN]
        for question in self.all:
            question.state = ENDED  # for this broker's successor; answered tickets are never brought back
        viewed = {t: tuple(p.id for p in self.pages if p.ticket == t) for q in waiting for t in q.tickets}
        self.pages = [page for page in self.pages if page.ticket in viewed]
        self.counter.waiting.clear()
        self.counter.live.clear()
        self.counter.restart()
        for question in waiting:
            old, tickets = question.asker, question.tickets
            again = self.counter.asker(old.peer.uid, old.peer.user)
            self.counter.live.add(again.conn)
            left = max(1, round(question.expires - self.counter.now))
            question.asker, question.state, question.expires = again, OPEN, self.counter.now + left
            for ticket in tickets:
                again.register(
                    owned=old.owned[ticket],
                    coalesce=question.coalesce,
                    seconds=left,
                    rung=not question.follows,
                    views=viewed[ticket],
                    told=tuple(question.told),
                    beside=tickets[0] if ticket != tickets[0] else "",
                )
            question.follows = again.ticket in self.counter.pending._table.followers

    # What always holds

    @invariant()
    def the_books_agree(self) -> None:
        if not hasattr(self, "all"):
            return
        self.counter.wait(0)
        open_ = [question for question in self.all if question.state in (OPEN, OUT, TAKEN)]
        assert self.counter.pending.open_prompts == len(open_)
        if open_:
            assert self.counter.pending.wants_listening
            assert self.counter.pending.next_deadline() is not None
        listed = {row["ticket"] for row in self.counter.listed()}
        assert listed == {q.tickets[-1] for q in open_ if q.state == OPEN and not q.follows}

    @invariant()
    def no_dead_link_is_alive(self) -> None:
        if not hasattr(self, "all"):
            return
        for page in self.pages:
            question = self.counter.questions[page.ticket]
            if question.state in (JUDGED, ENDED):
                assert page.view().status in (404, 410)
                assert page.answer("late").status in (404, 410)

    def teardown(self) -> None:
        """Long after, each prompt has had its verdict or its end, once, and nothing is left of any."""
        if not hasattr(self, "all"):
            return
        for _ in range(3):
            self.counter.wait(4000)
        assert {question.state for question in self.all} <= {JUDGED, ENDED}
        for question in self.all:
            assert question.ends in (0, len(question.tickets))
        pending = self.counter.pending
        assert not self.counter.waiting
        assert (pending.open_prompts, pending.wants_listening, pending.next_deadline()) == (0, False, None)
        books = pending._table
        assert not any((books.links, books.followers, books.leaders, books.named, books.owed, books._held))
        assert not any(pending.knows(ticket) for ticket in self.counter.questions)


PendingMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestPendingMachine = PendingMachine.TestCase
