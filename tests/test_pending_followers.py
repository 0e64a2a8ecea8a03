"""Prompts that belong together: those that go on after an answer, and those that follow the same key."""

import pytest
from counter import QUESTION, QUIET, Counter, of, refusal, told, wrong_answer

from unlatch.broker.actions import Audit, End, Ring, Wake


@pytest.fixture
def counter() -> Counter:
    return Counter()


# Going on after an answer


def test_after_a_wrong_answer_the_page_goes_on_and_nobody_is_rung(counter: Counter) -> None:
    """The next link is viewed within 30 s: the same message, no sound."""
    ada, prompt = wrong_answer(counter)
    old = ada.ticket
    actions = ada.register(after=old)
    assert (told(actions), of(Ring, actions)) == (["registered"], [])
    assert of(Audit, actions)[0].record["id"] == prompt
    actions = ada.verdict("wrong", old)
    assert of(End, actions) == []
    assert ada.page().view().status == 200
    assert of(Ring, counter.wait(100)) == []
    assert ada.page(old).view() == (410, {"state": "replaced"})
    actions = ada.gone()
    assert [(end.prompt_id, end.notifiers) for end in of(End, actions)] == [(prompt, ("matrix",))]


def test_a_link_that_goes_on_unseen_is_rung_after_30_seconds(counter: Counter) -> None:
    """The page was closed meanwhile: people get the new link, once, under the same message."""
    ada, prompt = wrong_answer(counter)
    old = ada.ticket
    ada.register(after=old)
    ada.verdict("wrong", old)
    assert of(Ring, counter.wait(29.9)) == []
    (ring,) = of(Ring, counter.wait(0.1))
    assert (ring.prompt_id, ring.notice.quiet, ring.notifiers) == (prompt, False, ("matrix", "mail"))
    assert ada.ticket in ring.notice.link
    assert of(Ring, counter.wait(1000)) == []


@pytest.mark.parametrize("first", ["verdict", "register"])
def test_verdict_and_next_link_may_come_in_any_order(counter: Counter, first: str) -> None:
    """Whichever line comes first, the message stays one and the followers stay with it."""
    ada, _ = wrong_answer(counter, coalesce="key")
    bob = counter.asker()
    assert told(bob.register(coalesce="key")) == ["following"]
    old = ada.ticket
    if first == "verdict":
        ada.verdict("wrong", old)
    ada.register(after=old, coalesce="key")
    new = ada.ticket
    if first == "register":
        ada.verdict("wrong", old)
    page = ada.page(new)
    assert page.stamp(page.view())["followers"] == ["pass, backup.service"]
    page.answer()
    ada.taken(new)
    assert told(ada.verdict("accepted", new)) == ["released accepted"]
    assert "released wrong" not in told(counter.done)


def test_a_wrong_answer_without_a_next_link_ends_the_story(counter: Counter) -> None:
    """The asker gave up: after 30 s message and followers hear it."""
    ada, _ = wrong_answer(counter, coalesce="key")
    bob = counter.asker()
    bob.register(coalesce="key")
    assert told(ada.verdict("wrong")) == []
    assert told(counter.wait(29)) == []
    actions = counter.wait(1)
    assert told(actions) == ["released wrong"]
    assert [end.outcome for end in of(End, actions)] == ["wrong"]


def test_an_asker_that_goes_after_a_wrong_answer_ends_the_story_at_once(counter: Counter) -> None:
    """Its verdict still waits for the page."""
    ada, _ = wrong_answer(counter, coalesce="key")
    ada.verdict("wrong")
    assert [end.outcome for end in of(End, ada.gone())] == ["wrong"]
    assert counter.pending.wants_listening
    assert told(counter.asker().register(coalesce="key")) == ["registered"]


def test_nothing_goes_on_twice_or_before_an_answer(counter: Counter) -> None:
    """One question follows an answer; an open link has no successor."""
    ada, _ = wrong_answer(counter)
    old = ada.ticket
    ada.register(after=old)
    assert refusal(ada.register(after=old)) == "ticket"
    bob = counter.asker()
    bob.register()
    assert refusal(bob.register(after=bob.ticket)) == "ticket"


def test_a_question_after_a_forgotten_one_rings(counter: Counter) -> None:
    """The broker that took the answer is gone, so no page goes on by itself."""
    ada, _ = wrong_answer(counter)
    counter.restart()
    actions = ada.register(after=ada.ticket)
    assert told(actions) == ["registered"]
    assert len(of(Ring, actions)) == 1


# Leader and followers


def test_the_same_key_rings_once(counter: Counter) -> None:
    """The first asker leads; the others follow and stand on the page before the tap."""
    ada, bob, eve = counter.asker(), counter.asker(), counter.asker()
    ada.register(coalesce="key")
    page = ada.page()
    page.view()
    page.wait(seen=0)
    actions = bob.register(QUESTION._replace(asker=QUESTION.asker._replace(command="borg")), coalesce="key")
    assert (told(actions), of(Ring, actions)) == (["following"], [])
    (wake,) = of(Wake, actions)
    assert page.stamp(wake.reply)["followers"] == ["borg, backup.service"]
    assert told(eve.register(coalesce="another key")) == ["registered"]
    assert [row["followers"] for row in counter.rows()] == [["borg, backup.service"], []]
    assert counter.pending.open_prompts == 3


def test_another_uid_does_not_follow(counter: Counter) -> None:
    """The key of coalescing is the kernel's uid with it: nobody joins another user's prompt."""
    ada, bob = counter.asker(), counter.asker(1001, "bob")
    ada.register(coalesce="key")
    assert told(bob.register(coalesce="key")) == ["registered"]


def test_a_follower_has_no_page(counter: Counter) -> None:
    """Its ticket is no link and cannot be answered or judged."""
    ada, bob = counter.asker(), counter.asker()
    ada.register(coalesce="key")
    bob.register(coalesce="key")
    assert not counter.pending.knows(bob.ticket)
    assert bob.page().view().status == 404
    assert refusal(bob.taken()) == "ticket"


@pytest.mark.parametrize("outcome", ["accepted", "failed"])
def test_a_verdict_releases_the_followers(counter: Counter, outcome: str) -> None:
    """They look where the answer is kept, else they ask anew."""
    ada, bob = counter.asker(), counter.asker()
    ada.register(coalesce="key")
    bob.register(coalesce="key")
    page = ada.page()
    page.view()
    page.answer()
    ada.taken()
    assert told(ada.verdict(outcome), bob.conn) == [f"released {outcome}"]
    assert counter.pending.open_prompts == 0
    assert told(bob.register(coalesce="key")) == ["registered"]


def test_a_denial_means_those_that_were_listed(counter: Counter) -> None:
    """Whoever came after the page was last told asks for himself."""
    ada, seen, unseen = counter.asker(), counter.asker(), counter.asker()
    ada.register(coalesce="key")
    seen.register(coalesce="key")
    page = ada.page()
    page.view()
    unseen.register(coalesce="key")
    page.answer()
    ada.taken()
    page.wait(seen=0)  # a stamp that came after the tap lists nobody into the denial
    actions = ada.verdict("denied")
    assert told(actions, seen.conn) == ["ended denied"]
    assert told(actions, unseen.conn) == ["released denied"]
    assert page.view() == (410, {"state": "denied"})


@pytest.mark.parametrize("how", ["gone", "withdraw", "expired"])
def test_a_leader_that_ends_releases_the_followers(counter: Counter, how: str) -> None:
    """They register anew, and the first of them leads."""
    ada, bob, eve = counter.asker(), counter.asker(), counter.asker()
    ada.register(coalesce="key", seconds=60)
    bob.register(coalesce="key")
    eve.register(coalesce="key")
    actions = counter.wait(60) if how == "expired" else getattr(ada, how)()
    outcome = "expired" if how == "expired" else "withdrawn"
    assert told(actions, bob.conn) == told(actions, eve.conn) == [f"released {outcome}"]
    assert told(bob.register(coalesce="key")) == ["registered"]
    assert told(eve.register(coalesce="key")) == ["following"]


@pytest.mark.parametrize(
    ("how", "event"), [("gone", []), ("withdraw", ["ended withdrawn"]), ("wait", ["ended expired"])]
)
def test_a_follower_may_leave(counter: Counter, how: str, event: list[str]) -> None:
    """It goes, is withdrawn, or its own time is over: the leader's page lists it no more."""
    ada, bob = counter.asker(), counter.asker()
    ada.register(coalesce="key")
    bob.register(coalesce="key", seconds=60)
    actions = counter.wait(60) if how == "wait" else getattr(bob, how)()
    assert told(actions) == event
    page = ada.page()
    assert page.stamp(page.view())["followers"] == []
    assert counter.pending.open_prompts == 1


def test_a_connection_does_not_follow_itself(counter: Counter) -> None:
    """It would wait for itself."""
    ada = counter.asker()
    ada.register(coalesce="key")
    assert told(ada.register(coalesce="key")) == ["registered"]


def test_many_followers_are_counted(counter: Counter) -> None:
    """The page names 32 and says how many more; the stamp stays within its bound."""
    crowd = Counter(QUIET._replace(quota_open=100))
    leader = crowd.asker()
    leader.register(coalesce="key")
    for _ in range(40):
        crowd.asker().register(QUESTION._replace(asker=QUESTION.asker._replace(command="x" * 4000)), coalesce="key")
    page = leader.page()
    followers = page.stamp(page.view())["followers"]
    assert (len(followers), followers[-1]) == (33, "and 8 more")
