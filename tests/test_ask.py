"""The asker's side of docs/protocol.md section 4, against a broker that this file scripts line by line."""

import itertools
import os
import socket
import threading

import pytest

from unlatch import ask, base64url, runtime, seal
from unlatch.errors import Denied, Expired, NoBroker, Refused, Withdrawn
from unlatch.prompt import Answer, Prompt, Verdict
from unlatch.secret import Secret
from unlatch.wire import lines

PROMPT = Prompt("passphrase", "Unlock sql-root", ("amber", "otter"), 1)


class ScriptedBroker:
    """A listener whose connections a test reads and writes by hand. Reads are bounded in time."""

    def __init__(self, folder):
        (folder / "askers").mkdir(mode=0o700)
        self.place = runtime.own(os.getuid(), {"UNLATCH_RUNTIME_DIR": str(folder)}, "/nonexistent")
        self.listen()

    def listen(self):
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.place.askers)
        self.server.listen()
        self.server.settimeout(10)

    def accept(self):
        self.connection, _ = self.server.accept()
        self.connection.settimeout(10)
        self.reader = self.connection.makefile("rb")

    def read(self):
        return lines.decode(self.reader.readline())

    def send(self, **event):
        self.connection.sendall(lines.encode(event))

    def hang_up(self):
        self.reader.close()
        self.connection.close()

    def die(self):
        self.hang_up()
        self.server.close()
        os.unlink(self.place.askers)


@pytest.fixture
def broker(tmp_path):
    broker = ScriptedBroker(tmp_path)
    yield broker
    broker.server.close()


@pytest.fixture
def asker(broker):
    asker = ask.Asker([broker.place], uid=os.getuid(), environ={})
    asker.open()
    broker.accept()
    yield asker
    asker.close()
    broker.hang_up()


def put(asker, broker, prompt=PROMPT, **options):
    """Put a prompt and let the broker take it; the question and the link as a page would have it."""
    question = asker.put(prompt, **options)
    message = broker.read()
    broker.send(event="registered", ticket=ticket_of(message), remaining=60)
    return question, message, link_of(message)


def ticket_of(message):
    return base64url.encode(seal.ticket_of(base64url.decode(message["owner"], "owner", 32)))


def link_of(message):
    return seal.parse_link(ticket_of(message), message["fragment"])


def sealed_answer(message, answer):
    link = link_of(message)
    shown = seal.open_details(link, base64url.decode(message["details"], "details"))
    return base64url.encode(seal.seal_answer(link, shown, answer))


def secret(text, key=b"k" * 32):
    return Answer("secret", key, Secret(text))


def test_an_answer_comes_back_and_is_taken(asker, broker):
    """The asker opens the answer, says taken, and seals the verdict to the answer's reply key."""
    question, message, link = put(asker, broker, coalesce="GRIP", seconds=30)
    assert message["v"] == 1
    assert (message["op"], message["coalesce"], message["rung"]) == ("register", "GRIP", False)
    assert 29 <= message["seconds"] <= 30
    broker.send(event="answer", ticket=link.ticket_text, sealed=sealed_answer(message, secret(b"hunter2")))
    answer = asker.wait(question)
    assert bytes(answer.secret.reveal()) == b"hunter2"
    assert broker.read() == {"op": "taken", "ticket": link.ticket_text}
    asker.verdict(question, Verdict("accepted"))
    verdict = broker.read()
    sealed = base64url.decode(verdict["sealed"], "sealed")
    assert seal.open_verdict(b"k" * 32, link.ticket, sealed) == Verdict("accepted")
    assert verdict["outcome"] == "accepted"


def test_a_spoiled_answer_is_reported_and_the_wait_goes_on(asker, broker):
    """Garbage is spoiled, not fatal: the ticket stays open for the person's next try."""
    question, message, link = put(asker, broker)
    broker.send(event="answer", ticket=link.ticket_text, sealed=base64url.encode(os.urandom(300)))
    broker.send(event="answer", ticket=link.ticket_text, sealed="not base64url!")
    broker.send(event="answer", ticket=link.ticket_text, sealed=sealed_answer(message, secret(b"x")))
    assert bytes(asker.wait(question).secret.reveal()) == b"x"
    assert [broker.read()["op"] for _ in range(3)] == ["spoiled", "spoiled", "taken"]


def test_an_answer_for_another_question_is_spoiled(asker, broker):
    """An answer that was made for other details, with the right link, does not open."""
    question, _, link = put(asker, broker)
    other = base64url.encode(seal.seal_answer(link, seal.pad(b'{"kind":"other"}'), secret(b"x")))
    broker.send(event="answer", ticket=link.ticket_text, sealed=other)
    broker.send(event="ended", ticket=link.ticket_text, outcome="expired")
    with pytest.raises(Expired):
        asker.wait(question)
    assert broker.read() == {"op": "spoiled", "ticket": link.ticket_text}


def test_the_page_goes_on_after_a_wrong_passphrase(asker, broker):
    """The next ticket is registered first, then the verdict carries it, sealed to the page."""
    question, message, link = put(asker, broker)
    broker.send(event="answer", ticket=link.ticket_text, sealed=sealed_answer(message, secret(b"bad")))
    asker.wait(question)
    assert broker.read()["op"] == "taken"
    seen = []

    def serve():
        seen.append(broker.read())
        broker.send(event="registered", ticket=ticket_of(seen[0]), remaining=60)
        seen.append(broker.read())

    thread = threading.Thread(target=serve)
    thread.start()
    again = PROMPT._replace(error="wrong passphrase", attempt=(2, 3))
    asker.put(again, after=question, outcome="wrong")
    thread.join(10)
    register, verdict = seen
    assert register["after"] == link.ticket_text
    assert (verdict["op"], verdict["ticket"], verdict["outcome"]) == ("verdict", link.ticket_text, "wrong")
    opened = seal.open_verdict(b"k" * 32, link.ticket, base64url.decode(verdict["sealed"], "sealed"))
    assert opened.next_link == (ticket_of(register), register["fragment"])
    assert opened.text == "wrong passphrase"


def test_a_crowded_ticket_gets_fresh_links_three_at_most(asker, broker):
    """Every fresh link has its own keys; the fourth is never made; any of them may bring the answer."""
    question, first, link = put(asker, broker)
    broker.send(event="crowded", ticket=link.ticket_text)
    assert asker_reads(asker, question, broker) is None
    second = broker.read()
    assert second["beside"] == link.ticket_text
    assert second["fragment"] != first["fragment"]
    broker.send(event="registered", ticket=ticket_of(second), remaining=60)
    broker.send(event="crowded", ticket=ticket_of(second))
    asker_reads(asker, question, broker)
    third = broker.read()
    broker.send(event="registered", ticket=ticket_of(third), remaining=60)
    broker.send(event="crowded", ticket=ticket_of(third))
    broker.send(event="answer", ticket=ticket_of(second), sealed=sealed_answer(second, secret(b"ok")))
    assert asker.wait(question).answer == "secret"
    assert broker.read() == {"op": "taken", "ticket": ticket_of(second)}


def asker_reads(asker, question, broker):
    """Let the asker handle what was sent: wait until a pipe that is ready at once interrupts it."""
    reader, writer = os.pipe()
    try:
        # The connection is looked at first, so everything sent before is handled before the pipe is.
        os.write(writer, b"x")
        return None if asker.wait(question, watch=(reader,)) == reader else "answered"
    finally:
        os.close(reader)
        os.close(writer)


def test_open_tickets_are_registered_again_when_the_broker_comes_back(asker, broker):
    """The same ticket and link, marked as rung, with the views used and who was told."""
    question, first, link = put(asker, broker, coalesce="GRIP")
    broker.send(event="viewed", ticket=link.ticket_text, page="page-one")
    broker.send(event="delivered", ticket=link.ticket_text, notifier="phone")
    asker_reads(asker, question, broker)
    broker.die()
    broker.listen()
    result = []
    thread = threading.Thread(target=lambda: result.append(asker.wait(question)))
    thread.start()
    broker.accept()
    again = broker.read()
    assert again["v"] == 1
    assert (again["owner"], again["fragment"]) == (first["owner"], first["fragment"])
    assert (again["rung"], again["views"], again["told"]) == (True, ["page-one"], ["phone"])
    assert again["seconds"] > 0
    broker.send(event="registered", ticket=link.ticket_text, remaining=60)
    broker.send(event="answer", ticket=link.ticket_text, sealed=sealed_answer(again, secret(b"late")))
    thread.join(10)
    assert bytes(result[0].secret.reveal()) == b"late"


def test_an_answered_ticket_is_never_registered_again(asker, broker):
    """When the broker dies between answer and verdict, the answer counts and the verdict is lost."""
    question, message, link = put(asker, broker)
    broker.send(event="answer", ticket=link.ticket_text, sealed=sealed_answer(message, secret(b"x")))
    assert asker.wait(question).answer == "secret"
    broker.die()
    broker.listen()
    asker.verdict(question, Verdict("accepted"))
    asker.verdict(question, Verdict("accepted"))
    broker.server.settimeout(0.2)
    with pytest.raises(TimeoutError):
        broker.accept()


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"event": "ended", "outcome": "expired"}, Expired),
        ({"event": "ended", "outcome": "denied"}, Denied),
        ({"event": "ended", "outcome": "withdrawn"}, Withdrawn),
        ({"event": "refused", "why": "quota", "text": "too many"}, Refused),
        ({"event": "released", "outcome": "accepted"}, ask.Released),
    ],
)
def test_each_end_is_its_own_error(asker, broker, event, error):
    """How a prompt ended is what the front end hears."""
    question, _, link = put(asker, broker)
    broker.send(ticket=link.ticket_text, **event)
    with pytest.raises(error):
        asker.wait(question)


def test_a_watched_descriptor_interrupts_the_wait(asker, broker):
    """A front end hears of its caller while the prompt stays open."""
    question, _, link = put(asker, broker)
    reader, writer = os.pipe()
    os.close(writer)
    assert asker.wait(question, watch=(reader,)) == reader
    os.close(reader)
    asker.withdraw(question, "gpg is gone")
    assert broker.read() == {"op": "withdraw", "ticket": link.ticket_text, "why": "gpg is gone"}


def test_events_about_other_tickets_and_unknown_events_change_nothing(asker, broker):
    """A broker that speaks of what the asker does not know is not believed."""
    question, _, link = put(asker, broker)
    broker.send(event="ended", ticket="x" * 22, outcome="denied")
    broker.send(event="party", ticket=link.ticket_text)
    broker.send(event="ended", ticket=link.ticket_text, outcome="expired")
    with pytest.raises(Expired):
        asker.wait(question)


def test_a_hung_broker_does_not_hold_a_prompt_beyond_its_time(broker):
    """The asker's own clock ends the wait shortly after the prompt's time."""
    now = itertools.count(0.0, 4.0)
    asker = ask.Asker([broker.place], uid=os.getuid(), environ={}, clock=lambda: next(now))
    asker.open()
    broker.accept()
    question = asker.put(PROMPT, seconds=1)
    with pytest.raises(Expired):
        asker.wait(question)
    asker.close()
    broker.hang_up()


def test_a_broker_that_ends_at_once_is_not_started_for_ever(tmp_path, monkeypatch):
    """A broken installation ends in an error that names the socket, after a few tries."""
    monkeypatch.setattr(ask, "BACKOFF", (0.0, 0.0, 0.0))
    broker = ScriptedBroker(tmp_path)
    asker = ask.Asker([broker.place], uid=os.getuid(), environ={})

    def refuse_all():
        for _ in range(4):
            connection, _ = broker.server.accept()
            connection.close()

    thread = threading.Thread(target=refuse_all)
    thread.start()
    asker.open()
    question = asker.put(PROMPT)
    with pytest.raises(NoBroker) as caught:
        asker.wait(question)
    assert "broker.sock" in caught.value.why[0]
    thread.join(10)
    broker.server.close()
    asker.close()


def test_a_line_without_end_from_the_broker_is_a_broken_connection(asker, broker):
    """Reads are bounded: 64 KiB without a newline and the asker hangs up and connects again."""
    question, _, link = put(asker, broker)
    thread = threading.Thread(target=lambda: broker.connection.sendall(b"x" * (lines.MAX_LINE * 3)))
    thread.start()
    result = []
    waiter = threading.Thread(target=lambda: result.append(asker.wait(question)))
    waiter.start()
    old = broker.connection, broker.reader
    broker.accept()
    message = broker.read()
    assert message["rung"] is True
    broker.send(event="answer", ticket=link.ticket_text, sealed=sealed_answer(message, Answer("no", b"k" * 32)))
    waiter.join(10)
    thread.join(10)
    assert result[0].answer == "no"
    for item in old:
        item.close()
