"""Pages before the pending table: proofs, views, fresh links, and waiting for news."""

import pytest
from counter import Counter, of, refusal, told, woken

from unlatch.broker.actions import Audit, Later, Remind, Ring, Visitor, Wake

OWN_TERMINAL = Visitor("local", 1000)
ROOT = Visitor("local", 0)


@pytest.fixture
def counter() -> Counter:
    return Counter()


# Pages, views and fresh links


def test_a_reload_is_the_same_view(counter: Counter) -> None:
    """The same page id shows the question as often as it likes."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    for _ in range(5):
        assert page.view().status == 200
    assert told(counter.done) == ["registered", "viewed"]
    assert counter.rows()[0]["views"] == 1


def test_hello_and_known_tickets_spend_nothing(counter: Counter) -> None:
    """Link previews are harmless: without a proof there is no view."""
    ada = counter.asker()
    ada.register()
    for _ in range(10):
        assert counter.pending.knows(ada.ticket)
        assert counter.pending.hello(counter.now, ada.ticket)[0].status == 200
    assert counter.rows()[0]["views"] == 0
    assert ada.page().view().status == 200


def test_the_third_page_is_refused_and_a_fresh_link_is_rung(counter: Counter) -> None:
    """Two pages see the question; a third is told so, the people hear of it, and pages already proven go on."""
    ada = counter.asker()
    prompt = of(Ring, ada.register())[0].prompt_id
    old = ada.ticket
    first, second, third = (ada.page() for _ in range(3))
    assert [page.view().status for page in (first, second)] == [200, 200]
    assert third.view() == (409, {"state": "elsewhere"})
    assert told(third.actions) == ["crowded"]
    assert of(Audit, third.actions)[0].record["why"] == "views"
    assert third.view().status == 409
    assert third.actions == []  # said once
    assert third.answer().status == 404

    actions = ada.register(beside=old)
    (ring,) = of(Ring, actions)
    assert (ring.prompt_id, ring.notice.quiet) == (prompt, False)
    assert "fresh" in ring.notice.text
    fresh = ada.page()
    assert fresh.view().status == 200
    assert counter.pending.open_prompts == 1
    assert first.answer().status == 200
    assert fresh.answer() == (409, {"state": "answered"})
    ada.taken(old)
    ada.verdict("accepted", old)
    assert fresh.wait() == (410, {"state": "used"})


def test_there_are_three_links_to_a_prompt(counter: Counter) -> None:
    """Whoever opens links faster than the admin gets no fourth ring; the admins are told."""
    ada = counter.asker()
    prompt = of(Ring, ada.register())[0].prompt_id
    tickets = [ada.ticket]
    for links in range(1, 4):
        counter.deliver(prompt, "matrix")
        pages = [ada.page() for _ in range(3)]
        assert [page.view().status for page in pages] == [200, 200, 409]
        if links < 3:
            assert told(pages[2].actions) == ["crowded"]
            assert told(ada.register(beside=tickets[0])) == ["registered"]
            tickets.append(ada.ticket)
        else:
            assert told(pages[2].actions) == []
            assert [remind.notifiers for remind in of(Remind, pages[2].actions)] == [("matrix",)]
    assert refusal(ada.register(beside=tickets[0])) == "ticket"
    actions = ada.withdraw(tickets[1])
    assert told(actions) == ["ended withdrawn"] * 3


def test_a_link_beside_a_dead_prompt_is_refused(counter: Counter) -> None:
    """The prompt ended while the asker made another link: that rings nobody."""
    ada = counter.asker()
    ada.register()
    ticket = ada.ticket
    ada.withdraw()
    actions = ada.register(beside=ticket)
    assert (refusal(actions), of(Ring, actions)) == ("ticket", [])


@pytest.mark.parametrize("visitor", [OWN_TERMINAL, ROOT])
def test_the_own_terminals_view_does_not_count(counter: Counter, visitor: Visitor) -> None:
    """The admin socket shows the prompt to its own user and to root without spending a view."""
    ada = counter.asker()
    ada.register()
    terminals = [ada.page(visitor=visitor) for _ in range(20)]
    assert {page.view().status for page in terminals} == {200}
    assert [ada.page().view().status for _ in range(3)] == [200, 200, 409]
    assert terminals[0].answer().status == 404  # the oldest must look again
    assert terminals[-1].answer().status == 200
    assert of(Audit, terminals[-1].actions)[0].record["by_uid"] == visitor.uid


def test_another_uid_at_the_admin_socket_finds_nothing(counter: Counter) -> None:
    """Even with the link: on that socket a user answers his own prompts only."""
    ada = counter.asker()
    ada.register()
    page = ada.page(visitor=Visitor("local", 1002))
    assert (page.view().status, page.answer().status, page.wait().status) == (404, 404, 404)


@pytest.mark.parametrize("verb", ["view", "answer", "wait"])
def test_a_wrong_proof_finds_nothing(counter: Counter, verb: str) -> None:
    """Not one bit may differ, no other page's proof will do, and nothing is said about why."""
    ada = counter.asker()
    ada.register()
    page, other = ada.page(), ada.page()
    page.view()
    right = page.proof()
    wrong = [bytes([right[0] ^ 1]) + right[1:], other.proof(), b"", bytes(32), right + b"\0"]
    for proof in wrong:
        page.proof = lambda proof=proof: proof  # type: ignore[method-assign]
        assert getattr(page, verb)().status == 404
        assert page.actions == []


def test_an_unknown_ticket_finds_nothing(counter: Counter) -> None:
    """Nor does a ticket that nobody registered."""
    ada = counter.asker()
    ada.owned[link.link.ticket_text] = (link := ada.link())
    page = ada.page(link.link.ticket_text)
    assert not counter.pending.knows(page.ticket)
    assert counter.pending.hello(counter.now, page.ticket)[0].status == 404
    assert page.view().status == 404


def test_dead_links_say_why_after_a_proof_for_an_hour(counter: Counter) -> None:
    """Reasons only after proof; later, nothing is known of the link at all."""
    ada = counter.asker()
    ada.register()
    ada.withdraw()
    page = ada.page()
    assert page.view(bytes(32)).status == 404
    counter.wait(3599)
    assert counter.pending.knows(page.ticket)
    assert page.view() == (410, {"state": "withdrawn"})
    counter.wait(1)
    assert not counter.pending.knows(page.ticket)
    assert page.view().status == 404


# Waiting


def test_a_wait_is_answered_after_25_seconds(counter: Counter) -> None:
    """Nothing happened: the page hears that, with a new stamp, and asks again."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    assert isinstance(page.wait(seen=0), Later)
    assert counter.wait(24.9) == []
    (wake,) = of(Wake, counter.wait(0.1))
    assert (wake.ticket, wake.page, wake.reply.status) == (page.ticket, page.id, 200)
    assert (wake.reply.body["turn"], wake.reply.body["state"], wake.reply.body["remaining"]) == (0, "open", 3575)
    assert page.stamp(wake.reply)["age"] == 25


def test_a_newer_wait_ends_the_older(counter: Counter) -> None:
    """One page holds one request; a reload takes it over."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    assert isinstance(page.wait(seen=0), Later)
    assert isinstance(page.wait(seen=0), Later)
    assert woken(page.actions) == [(page.id, 200, "open")]


def test_a_page_that_left_is_not_woken(counter: Counter) -> None:
    """Its connection closed, so it did not hear the verdict either: that is kept."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    page.answer()
    ada.taken()
    assert isinstance(page.wait(seen=2), Later)
    counter.do(counter.pending.left(counter.now, page.ticket, page.id))
    assert woken(ada.verdict()) == []
    assert counter.pending.wants_listening
    assert page.wait(seen=2).body["state"] == "verdict"


def test_every_change_is_a_turn(counter: Counter) -> None:
    """Answer, taken and verdict each wake the page; a page that missed one hears at once."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    page.wait(seen=0)
    page.answer()
    assert woken(page.actions) == [(page.id, 200, "sent")]
    assert page.wait(seen=0).body["turn"] == 1
    page.wait(seen=1)
    assert [wake.reply.body["turn"] for wake in of(Wake, ada.taken())] == [2]


def test_a_dead_prompt_ends_every_wait(counter: Counter) -> None:
    """Pages that wait hear at once that the asker is gone."""
    ada = counter.asker()
    ada.register()
    pages = [ada.page(), ada.page(), ada.page(visitor=ROOT)]
    for page in pages:
        page.view()
        page.wait(seen=0)
    assert sorted(woken(ada.gone())) == sorted((page.id, 410, "withdrawn") for page in pages)
    assert not counter.pending.wants_listening
