"""Prompts whose program has ended, and which wait on because their answer may be kept."""

import pytest
from counter import Counter, of, told, trail, woken

from unlatch.broker.actions import End, Ring


@pytest.fixture
def counter() -> Counter:
    return Counter()


def test_an_orphan_can_be_answered(counter: Counter) -> None:
    """Its link works on, its pages hear that the program has given up, and nobody is told to forget it."""
    ada = counter.asker()
    ada.register(coalesce="key")
    page = ada.page()
    reply = page.view()
    assert page.stamp(reply)["orphaned"] is False
    page.wait(0)
    actions = ada.orphaned()
    assert told(actions) == []
    assert [state for _, _, state in woken(actions)] == ["open"]
    assert trail(actions) == ["orphaned"]
    assert page.stamp(page.view())["orphaned"] is True
    assert page.answer().status == 200
    assert told(page.actions) == ["answer"]
    ada.taken()
    assert [end.outcome for end in of(End, ada.verdict("accepted"))] == ["accepted"]
    assert counter.pending.open_prompts == 0


def test_whoever_asks_anew_takes_its_place(counter: Counter) -> None:
    """The newcomer leads and takes over the message without a sound; the old link is dead."""
    ada, bob = counter.asker(), counter.asker()
    first = of(Ring, ada.register(coalesce="key"))[0]
    counter.deliver(first.prompt_id, "matrix")
    page = ada.page()
    page.view()
    ada.orphaned()
    actions = bob.register(coalesce="key")
    assert told(actions, ada.conn) == ["ended withdrawn"]
    assert told(actions, bob.conn) == ["registered"]
    (ring,) = of(Ring, actions)
    assert (ring.prompt_id, ring.notice.quiet) == (first.prompt_id, True)
    assert bob.ticket in ring.notice.link
    assert page.answer() == (410, {"state": "withdrawn"})
    assert bob.page().view().status == 200


def test_who_follows_asks_anew_at_once(counter: Counter) -> None:
    """They are alive: the orphan makes way for the first of them."""
    ada, bob = counter.asker(), counter.asker()
    ada.register(coalesce="key")
    assert told(bob.register(coalesce="key")) == ["following"]
    actions = ada.orphaned()
    assert told(actions, ada.conn) == ["ended withdrawn"]
    assert told(actions, bob.conn) == ["released withdrawn"]
    assert told(bob.register(coalesce="key")) == ["registered"]


def test_an_orphan_whose_answer_is_being_tried_keeps_its_place(counter: Counter) -> None:
    """Who comes now follows: a moment later the key may be unlocked."""
    ada, bob = counter.asker(), counter.asker()
    ada.register(coalesce="key")
    page = ada.page()
    page.view()
    page.answer()
    ada.orphaned()
    assert told(bob.register(coalesce="key")) == ["following"]
    ada.taken()
    assert told(ada.verdict("accepted"), bob.conn) == ["released accepted"]


@pytest.mark.parametrize("how", ["another key", "another user", "its own connection", "no key"])
def test_others_leave_it_alone(counter: Counter, how: str) -> None:
    """Only the same user and key take its place; the next question of the same asker is its own."""
    ada = counter.asker()
    ada.register(coalesce="" if how == "no key" else "key")
    ada.orphaned()
    orphan = ada.ticket
    other = {"another user": lambda: counter.asker(1001, "ada"), "its own connection": lambda: ada}
    asker = other.get(how, counter.asker)()
    asker.register(coalesce={"another key": "other", "no key": ""}.get(how, "key"))
    assert ada.page(orphan).view().status == 200


def test_a_link_that_was_sent_before_the_broker_died_takes_no_place(counter: Counter) -> None:
    """Both come back after a restart, in whatever order; neither ends the other."""
    ada, bob = counter.asker(), counter.asker()
    ada.register(coalesce="key")
    ada.orphaned()
    owned = bob.link()
    bob.register(coalesce="key", owned=owned, rung=True)
    assert ada.page().view().status == 200
    assert bob.page().view().status == 200


def test_only_its_own_connection_can_say_so(counter: Counter) -> None:
    """Nor does it mean anything for a follower, or for what is over."""
    ada, bob, eve = counter.asker(), counter.asker(), counter.asker()
    ada.register(coalesce="key")
    bob.register(coalesce="key")
    assert eve.orphaned(ada.ticket) == []
    assert bob.orphaned() == []
    page = ada.page()
    assert page.stamp(page.view())["orphaned"] is False
    ada.withdraw()
    assert ada.orphaned() == []
