"""The terminal answerer as a page: what it accepts as shown, what it sends, and what it makes of every reply."""

import os
from collections.abc import Mapping
from typing import Any

import pytest
from fake_broker import PROMPT, Broker, Time

from unlatch import seal
from unlatch.answering import UNREACHABLE_SECONDS, VERDICT_SECONDS, Page, Reply
from unlatch.errors import LinkOver, Malformed, SealBroken, Unreachable
from unlatch.prompt import Verdict
from unlatch.secret import Secret


def open_page(broker: Broker, time: Time | None = None) -> Page:
    return Page(broker, broker.link, os.urandom, (time or Time()).clock())


def test_a_page_shows_details_and_stamp_and_its_answer_is_judged() -> None:
    """The way of a prompt from hello to its verdict."""
    broker = Broker()
    page = open_page(broker)
    assert page.prompt == PROMPT
    assert (page.stamp.host, page.stamp.uid, page.remaining) == ("web03", 1000, 3600)
    assert page.answer("secret", Secret(b"correct horse")) == Verdict("accepted")
    assert broker.posts == ["hello", "view", "answer", "wait"]
    assert broker.answers[0].secret == Secret(b"correct horse")


def test_the_secret_travels_byte_for_byte() -> None:
    """Newlines, NULs and what is no UTF-8 belong to the secret."""
    broker = Broker()
    broker.right = bytes(range(256)) + b"\n"
    assert open_page(broker).answer("secret", Secret(broker.right)).outcome == "accepted"


def test_yes_and_no_travel_with_digits_and_without() -> None:
    """Answers that are no secret."""
    broker = Broker(PROMPT._replace(kind="confirm", digits=True))
    assert open_page(broker).answer("yes", digits="42").outcome == "accepted"
    broker.start()
    assert open_page(broker).answer("no").outcome == "denied"
    assert [(answer.answer, answer.digits, answer.secret) for answer in broker.answers] == [
        ("yes", "42", None),
        ("no", "", None),
    ]


def test_after_a_wrong_passphrase_the_page_goes_on_by_itself() -> None:
    """The next link comes inside the sealed verdict, and a second page opens there."""
    broker = Broker()
    page = open_page(broker)
    verdict = page.answer("secret", Secret(b"wrong"))
    assert verdict.outcome == "wrong"
    assert page.follow(verdict).answer("secret", Secret(b"correct horse")).outcome == "accepted"
    with pytest.raises(Malformed):
        page.follow(Verdict("accepted"))


@pytest.mark.parametrize(
    ("status", "state"),
    [(409, "elsewhere"), (409, "answered"), (410, "used"), (410, "expired"), (410, "withdrawn"), (410, "denied")],
)
def test_a_link_that_is_over_says_why(status: int, state: str) -> None:
    """Each reason of the protocol arrives as itself, on opening and on answering, without a second try."""
    broker = Broker()
    broker.faults = [Reply(status, {"state": state})]
    with pytest.raises(LinkOver) as caught:
        open_page(broker)
    assert caught.value.state == state
    page = open_page(broker)
    broker.faults = [Reply(status, {"state": state})]
    with pytest.raises(LinkOver):
        page.answer("no")


def test_an_unknown_link_is_not_tried_again() -> None:
    """Before anything was shown, a 404 is final."""
    broker = Broker()
    broker.faults = [Reply(404, {})]
    with pytest.raises(LinkOver) as caught:
        open_page(broker)
    assert caught.value.state == "unknown"
    assert broker.posts == ["hello"]


@pytest.mark.parametrize("moment", ["answer", "wait"])
def test_a_restarted_broker_costs_no_answer(moment: str) -> None:
    """The page says hello again as the same page, and sends the same answer again where it got lost."""
    broker = Broker()
    time = Time()
    page = open_page(broker, time)
    if moment == "answer":
        broker.forget()
    else:
        taken = broker._answer

        def answer_into_the_void(body: Mapping[str, Any]) -> dict[str, Any]:
            broker.forget()
            broker._answer = taken  # type: ignore[method-assign]
            return {"state": "sent"}

        broker._answer = answer_into_the_void  # type: ignore[method-assign]
    assert page.answer("secret", Secret(b"correct horse")).outcome == "accepted"
    assert len(broker.answers) == 1
    assert time.passed < 2


def test_a_broken_connection_is_tried_again_for_a_while() -> None:
    """Twenty seconds of silence are borne, forty are not."""
    broker = Broker()
    page = open_page(broker)
    broker.faults = [Unreachable("gone")] * 5
    assert page.answer("no").outcome == "denied"
    broker.start()
    time = Time()
    page = open_page(broker, time)
    broker.faults = [Unreachable("gone")] * 1000
    with pytest.raises(Unreachable):
        page.answer("no")
    assert UNREACHABLE_SECONDS <= time.passed < 2 * UNREACHABLE_SECONDS


def test_an_answer_whose_reply_got_lost_is_not_given_up() -> None:
    """After a lost reply, "answered" means by us; the verdict settles it."""
    broker = Broker()
    page = open_page(broker)
    taken = broker._answer

    def lose_the_reply(body: Mapping[str, Any]) -> dict[str, Any]:
        taken(body)
        broker.faults = [Reply(409, {"state": "answered"})]
        raise Unreachable("gone")

    broker._answer = lose_the_reply  # type: ignore[method-assign]
    assert page.answer("no").outcome == "denied"


def test_a_verdict_that_never_comes_ends_the_waiting() -> None:
    """An asker that hangs after it took the answer does not hang the person."""
    broker = Broker()
    time = Time()
    page = open_page(broker, time)

    def nothing_yet(body: Mapping[str, Any]) -> dict[str, Any]:
        time.passed += 25
        return {"turn": 1, "state": "sent"}

    broker._wait = nothing_yet  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        page.answer("no")
    assert VERDICT_SECONDS <= time.passed < VERDICT_SECONDS + 50


def test_a_verdict_made_by_somebody_with_the_link_does_not_open() -> None:
    """Only the reply key that this very answer carried seals its verdict."""
    broker = Broker()
    page = open_page(broker)
    taken = broker._answer

    def forge(body: Mapping[str, Any]) -> dict[str, Any]:
        taken(body)
        broker.verdict = seal.seal_verdict(broker.link.secret, broker.link.ticket, Verdict("accepted"), os.urandom)
        return {"state": "sent"}

    broker._answer = forge  # type: ignore[method-assign]
    with pytest.raises(SealBroken):
        page.answer("no")


def test_another_fragment_opens_nothing() -> None:
    """Without the link's secret there is no proof, so no question."""
    broker = Broker()
    stranger = seal.new_link(os.urandom).link._replace(ticket=broker.link.ticket)
    with pytest.raises(LinkOver):
        Page(broker, stranger, os.urandom, Time().clock())


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {}),
        Reply(200, {"nonce": 1}),
        Reply(500, {"state": "used"}),
        Reply(410, {"state": "whatever"}),
        Reply(409, {}),
        Reply(302, {}),
    ],
)
def test_replies_that_the_protocol_does_not_have_are_refused(reply: Reply) -> None:
    """The other end may be anybody's."""
    broker = Broker()
    broker.faults = [reply]
    with pytest.raises(Malformed):
        open_page(broker)


@pytest.mark.parametrize(
    "change",
    [
        {"uid": "0"}, {"uid": True}, {"age": -1}, {"age": True}, {"host": None}, {"followers": "x"}, {"followers": [1]},
        {"followers": ["x"] * 257}, {"more": 1},
    ],
)  # fmt: skip
def test_a_stamp_of_another_form_is_refused(change: dict[str, Any]) -> None:
    """What the person is shown as the kernel's word has exactly the protocol's fields and types."""
    broker = Broker()
    broker.stamp |= change
    with pytest.raises(Malformed):
        open_page(broker)


def test_an_answer_that_the_asker_cannot_open_is_told() -> None:
    """Spoiled on the way: the ticket is open again, and the person hears of it."""
    broker = Broker()
    page = open_page(broker)
    broker._wait = lambda body: {"turn": 1, "state": "spoiled"}  # type: ignore[method-assign]
    with pytest.raises(Malformed):
        page.answer("no")
