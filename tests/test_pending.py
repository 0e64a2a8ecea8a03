"""The pending table, rule by rule: who may do what, once, and until when."""

import pytest
from counter import POLICY, QUESTION, Counter, dice, of, refusal, sealed_answer, told, trail, woken

from unlatch import base64url, seal
from unlatch.broker.actions import Actions, Audit, End, Later, Remind, Ring, Tell, Visitor, Wake
from unlatch.broker.pending import Pending
from unlatch.broker.policy import Person
from unlatch.prompt import Key, details_to_json

QUIET = POLICY._replace(people=(), notifiers=(), loopback=True)  # nobody is rung
OWN_TERMINAL = Visitor("local", 1000)
ROOT = Visitor("local", 0)


@pytest.fixture
def counter() -> Counter:
    return Counter()


# The life of one prompt


def test_a_prompt_from_the_ring_to_the_verdict(counter: Counter) -> None:
    """Registered and rung, viewed, answered to the asker alone, judged, and told to the page that answered."""
    ada = counter.asker()
    actions = ada.register()
    assert told(actions) == ["registered"]
    (ring,) = of(Ring, actions)
    assert ring.notifiers == ("matrix", "mail")
    assert ring.notice.link == f"https://unlock.example.org/web03/{ada.ticket}#{ada.owned[ada.ticket].link.fragment}"
    assert (ring.notice.user, ring.notice.uid, ring.notice.person, ring.notice.unit) == (
        "ada",
        1000,
        "Ada",
        "backup.service",
    )
    assert (ring.notice.words, ring.notice.quiet, ring.notice.remaining) == (("amber", "canal"), False, 3600)

    page = ada.page()
    viewed = page.view()
    assert (viewed.status, viewed.body["state"], viewed.body["remaining"]) == (200, "open", 3600)
    assert page.question(viewed) == seal.pad(details_to_json(QUESTION))
    sealed = sealed_answer(page)
    assert page.answer(sealed).body == {"state": "sent"}
    (tell,) = of(Tell, page.actions)
    assert (tell.conn, tell.event) == (ada.conn, {"event": "answer", "ticket": ada.ticket, "sealed": sealed})

    ada.taken()
    actions = ada.verdict("accepted", sealed="dmVyZGljdA")
    assert page.wait().body == {"turn": 3, "state": "verdict", "sealed": "dmVyZGljdA"}
    assert counter.pending.open_prompts == 0
    assert not counter.pending.wants_listening
    assert trail(counter.done) == ["prompt", "view", "answer", "outcome"]


def test_the_stamp_is_the_kernels_word(counter: Counter) -> None:
    """Host, uid, user and account come from the broker, and the age from its clock."""
    ada = counter.asker()
    ada.register()
    counter.wait(7)
    page = ada.page()
    assert page.stamp(page.view()) == {
        "host": "web03",
        "uid": 1000,
        "user": "ada",
        "account": "ada@web03 0123456789ABCDEF",
        "age": 7,
        "person": "Ada",
        "followers": [],
    }


@pytest.mark.parametrize(
    ("key", "account"),
    [
        (None, "ada@web03"),
        (Key(name="Ada"), "ada@web03 Ada"),
        (Key(serial="0005 1234"), "ada@web03 0005 1234"),
        (Key(id="F" * 40), "ada@web03 " + "F" * 16),
        (Key(grip="B" * 40), "ada@web03 " + "B" * 16),
    ],
)
def test_the_account_tells_keys_apart(counter: Counter, key: Key | None, account: str) -> None:
    """A password manager files the answer under user, host and what is known of the key."""
    ada = counter.asker()
    ada.register(QUESTION._replace(key=key))
    page = ada.page()
    assert page.stamp(page.view())["account"] == account


@pytest.mark.parametrize(
    ("seconds", "lasts"), [(0, 3600), (60, 60), (999_999, 3600)], ids=["none", "the asker's", "the broker's"]
)
def test_a_prompt_lasts_as_long_as_both_allow(counter: Counter, seconds: int, lasts: int) -> None:
    """The asker may shorten the link's time, never lengthen it; at its end the link is dead to everybody."""
    ada = counter.asker()
    actions = ada.register(seconds=seconds)
    assert of(Tell, actions)[0].event["remaining"] == lasts
    page = ada.page()
    page.view()
    assert counter.wait(lasts - 0.001) == []
    actions = counter.wait(0.001)
    assert told(actions) == ["ended expired"]
    assert [end.outcome for end in of(End, actions)] == ["expired"]
    for reply in (page.view(), page.answer(), page.wait()):
        assert (reply.status, reply.body) == (410, {"state": "expired"})


def test_a_late_tick_prolongs_nothing(counter: Counter) -> None:
    """Whoever comes after the time finds the link dead, also when the timer has not gone off yet."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    counter.now += 3600
    assert page.answer().status == 410
    assert told(counter.done) == ["registered", "viewed", "ended expired"]


def test_a_clock_that_jumps_back_harms_nothing(counter: Counter) -> None:
    """CLOCK_BOOTTIME does not go back; if it did, prompts would last longer and nothing else."""
    ada = counter.asker()
    ada.register()
    counter.wait(-500)
    page = ada.page()
    assert page.view().status == 200


def test_the_deadline_is_the_next_thing_due(counter: Counter) -> None:
    """The shell sleeps until then; without prompts, for ever."""
    assert counter.pending.next_deadline() is None
    ada, bob = counter.asker(), counter.asker()
    ada.register(seconds=100)
    bob.register(seconds=50)
    assert counter.pending.next_deadline() == 1050
    bob.gone()
    assert counter.pending.next_deadline() == 1100
    page = ada.page()
    page.view()
    page.wait(seen=0)
    assert counter.pending.next_deadline() == 1025


# One answer, once


def test_an_answer_is_delivered_once(counter: Counter) -> None:
    """While one answer is with the asker, and after it was taken, every other is refused."""
    ada = counter.asker()
    ada.register()
    first, second = ada.page(), ada.page()
    first.view()
    second.view()
    assert first.answer().status == 200
    assert [page.answer() for page in (first, second)] == [(409, {"state": "answered"})] * 2
    ada.taken()
    assert second.answer() == (409, {"state": "answered"})
    assert first.view() == (409, {"state": "answered"})
    ada.verdict()
    assert second.answer() == (410, {"state": "used"})
    assert told(counter.done).count("answer") == 1


def test_a_page_that_has_not_viewed_cannot_answer_or_wait(counter: Counter) -> None:
    """A proof alone shows that one has the link, not that one has seen the question."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    assert page.answer().status == 404
    assert page.wait().status == 404
    assert told(counter.done) == ["registered"]


def test_a_spoiled_answer_opens_the_link_again(counter: Counter) -> None:
    """What the asker cannot open is no answer: the page hears so and may try again."""
    ada = counter.asker()
    ada.register()
    page, other = ada.page(), ada.page()
    page.view()
    other.view()
    page.answer()
    assert isinstance(page.wait(seen=1), Later)
    assert woken(ada.spoiled()) == [(page.id, 200, "spoiled")]
    assert other.wait(seen=0).body["state"] == "open"
    assert page.wait(seen=0).body["state"] == "open"
    assert page.answer().status == 200


def test_five_spoiled_answers_end_the_prompt(counter: Counter) -> None:
    """Somebody with the link sends rubbish: the asker is not kept busy with it."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    for _ in range(4):
        page.answer()
        assert told(ada.spoiled()) == []
    page.answer()
    assert told(ada.spoiled()) == ["ended withdrawn"]
    assert page.answer() == (410, {"state": "withdrawn"})


def test_an_answer_in_time_is_not_lost_to_the_clock(counter: Counter) -> None:
    """The asker has two minutes to try what came in the last second."""
    ada = counter.asker()
    ada.register(seconds=60)
    page = ada.page()
    page.view()
    counter.wait(59)
    page.answer()
    assert counter.wait(60) == []
    ada.taken()
    assert counter.wait(119) == []
    assert told(ada.verdict()) == []
    assert page.wait().body["state"] == "verdict"


def test_a_spoiled_answer_after_the_time_ends_the_prompt(counter: Counter) -> None:
    """The grace belongs to that answer, not to another one."""
    ada = counter.asker()
    ada.register(seconds=60)
    page = ada.page()
    page.view()
    page.answer()
    counter.wait(61)
    assert told(ada.spoiled()) == ["ended expired"]


@pytest.mark.parametrize(("taken", "word"), [(False, "expired"), (True, "used")])
def test_an_asker_that_hangs_with_an_answer_is_given_up(counter: Counter, taken: bool, word: str) -> None:
    """An answer without a word from its asker does not keep the page waiting for ever."""
    ada = counter.asker()
    ada.register(seconds=60)
    page = ada.page()
    page.view()
    page.answer()
    if taken:
        ada.taken()
    assert told(counter.wait(120)) == ["ended expired"]
    assert page.wait() == (410, {"state": word})


@pytest.mark.parametrize("step", ["taken", "spoiled", "verdict"])
@pytest.mark.parametrize("state", ["open", "viewed", "judged", "expired"])
def test_an_asker_cannot_skip_a_step(counter: Counter, step: str, state: str) -> None:
    """Taken, spoiled and verdict are words about an answer; without one they are refused and change nothing."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    if state != "open":
        page.view()
    if state == "judged":
        page.answer()
        ada.taken()
        ada.verdict()
    if state == "expired":
        counter.wait(3600)
    before = counter.rows()
    assert refusal(getattr(ada, step)()) == "ticket"
    assert counter.rows() == before


def test_a_verdict_needs_an_opened_answer(counter: Counter) -> None:
    """The asker says first whether it could open the answer."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    page.answer()
    assert refusal(ada.verdict()) == "ticket"
    ada.taken()
    assert refusal(ada.spoiled()) == "ticket"
    assert refusal(ada.verdict()) == ""


# Verdicts


@pytest.mark.parametrize(
    ("outcome", "word"),
    [("accepted", "used"), ("failed", "used"), ("denied", "denied"), ("wrong", "replaced"), ("next", "replaced")],
)
def test_only_the_answering_page_hears_the_verdict(counter: Counter, outcome: str, word: str) -> None:
    """The other pages learn in one word why the link is dead."""
    ada = counter.asker()
    ada.register()
    page, other = ada.page(), ada.page()
    page.view()
    other.view()
    page.answer()
    ada.taken()
    assert isinstance(page.wait(seen=2), Later)
    assert isinstance(other.wait(seen=2), Later)
    actions = ada.verdict(outcome)
    assert sorted(woken(actions)) == sorted([(page.id, 200, "verdict"), (other.id, 410, word)])
    assert not counter.pending.wants_listening
    assert other.view() == (410, {"state": word})
    assert page.view() == (410, {"state": word})


def test_a_verdict_is_kept_for_thirty_seconds(counter: Counter) -> None:
    """It waits for its page, and the port with it, but not for long."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    page.answer()
    ada.taken()
    ada.verdict()
    ada.gone()
    counter.wait(29)
    assert counter.pending.wants_listening
    assert page.wait().body["state"] == "verdict"
    assert not counter.pending.wants_listening
    assert page.wait().body["state"] == "verdict"  # the first reply may have been lost on its way
    counter.wait(1)
    assert page.wait() == (410, {"state": "used"})


def test_nobody_fetches_the_verdict(counter: Counter) -> None:
    """The page was closed: after 30 s the broker wants to listen no more."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    page.answer()
    ada.taken()
    ada.verdict()
    assert counter.pending.wants_listening
    counter.wait(30)
    assert not counter.pending.wants_listening
    assert counter.pending.next_deadline() is None


def test_a_verdict_that_could_not_be_sealed_is_a_word(counter: Counter) -> None:
    """Without a sealed text the answering page hears what every other page hears."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    page.answer()
    ada.taken()
    ada.verdict("accepted", sealed="")
    assert page.wait() == (410, {"state": "used"})
    assert not counter.pending.wants_listening


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
    counter.deliver(prompt, "matrix")
    tickets = [ada.ticket]
    for links in range(1, 4):
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


# Going on after an answer


def wrong_answer(counter: Counter, coalesce: str = "") -> "tuple[object, str]":
    ada = counter.asker()
    prompt = of(Ring, ada.register(coalesce=coalesce))[0].prompt_id
    counter.deliver(prompt, "matrix")
    page = ada.page()
    page.view()
    page.answer()
    ada.taken()
    return ada, prompt


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
    ada, prompt = wrong_answer(counter, coalesce="key")
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


# Whose ticket is it?


def test_another_connection_can_do_nothing_to_a_ticket(counter: Counter) -> None:
    """Not another user, not root, not the same user: only the connection that registered it."""
    for uid in (0, 1000, 1002):
        ada, eve = counter.asker(), counter.asker(uid, "eve" if uid else "ada")
        ada.register()
        page = ada.page()
        page.view()
        page.answer()
        before = counter.rows()
        for step in (eve.taken, eve.spoiled, eve.verdict):
            assert refusal(step(ada.ticket)) == "ticket"
        assert eve.withdraw(ada.ticket) == []
        eve.gone()
        for reference in ({"beside": ada.ticket}, {"after": ada.ticket}):
            assert refusal(eve.register(**reference)) in ("ticket", "people")
        assert counter.rows() == before
        assert told(ada.taken()) == []


def test_a_ticket_cannot_be_registered_without_its_owner_token(counter: Counter) -> None:
    """The ticket is a hash of the token: any other token is another ticket."""
    ada, eve = counter.asker(), counter.asker()
    ada.register()
    stolen = ada.owned[ada.ticket]
    forged = stolen._replace(owner=bytes(32))
    actions = eve.register(owned=forged)
    assert refusal(actions) == "details"
    assert of(Tell, actions)[0].event["ticket"] != ada.ticket


@pytest.mark.parametrize("uid", [1000, 1001])
def test_an_open_ticket_cannot_be_registered_again(counter: Counter, uid: int) -> None:
    """Not even with its owner token, as long as its own connection lives."""
    ada, eve = counter.asker(), counter.asker(uid, "ada")
    ada.register()
    assert refusal(eve.register(owned=ada.owned[ada.ticket], rung=True)) == "ticket"
    bob = counter.asker()
    bob.register(coalesce="key")
    follower = counter.asker()
    follower.register(coalesce="key")
    assert refusal(eve.register(owned=follower.owned[follower.ticket])) == "ticket"


@pytest.mark.parametrize("end", ["verdict", "withdraw", "gone"])
def test_a_dead_ticket_is_never_registered_again(counter: Counter, end: str) -> None:
    """An answered ticket above all: its answer would be given twice."""
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    page.answer()
    ada.taken()
    getattr(ada, end)()
    again = counter.asker()
    assert refusal(again.register(owned=ada.owned[ada.ticket], rung=True)) == "ticket"
    counter.wait(30)
    assert refusal(again.register(owned=ada.owned[ada.ticket], rung=True)) == "ticket"


# After a broker's death


def test_a_link_goes_on_working_after_the_brokers_death(counter: Counter) -> None:
    """Registered again, with the views and notifiers that it carries: nobody is rung, nothing is spent."""
    ada = counter.asker()
    prompt = of(Ring, ada.register())[0].prompt_id
    pages = [ada.page(), ada.page()]
    for page in pages:
        page.view()
    old_proof = pages[0].proof()
    counter.restart()
    again = counter.asker()
    assert pages[0].view().status == 404
    actions = again.register(
        owned=ada.owned[ada.ticket], rung=True, views=tuple(page.id for page in pages), told=("matrix", "mail")
    )
    assert (told(actions), of(Ring, actions)) == (["registered"], [])
    assert pages[0].view(old_proof).status == 404  # another life, another nonce
    assert pages[0].wait(seen=5).body["turn"] == 0
    assert again.page(ada.ticket).view().status == 409
    assert pages[1].answer().status == 200
    assert [(end.prompt_id, end.notifiers) for end in of(End, again.gone())] == [(prompt, ("matrix", "mail"))]


def test_who_was_not_told_before_the_death_is_rung_after_it(counter: Counter) -> None:
    """A delivery that nobody confirmed may not have happened."""
    ada = counter.asker()
    ada.register()
    counter.restart()
    actions = counter.asker().register(owned=ada.owned[ada.ticket], rung=True, told=("matrix",))
    assert [ring.notifiers for ring in of(Ring, actions)] == [("mail",)]


def test_told_names_only_those_who_may_be_told(counter: Counter) -> None:
    """An asker cannot have a message edited through somebody else's notifier."""
    ada = counter.asker(1001, "bob")
    counter.policy = POLICY._replace(people=(Person("Bob", ("bob",), ("mail",)),))
    counter.restart()
    ada.register(rung=True, told=("matrix", "mail", "nonsense"))
    assert [end.notifiers for end in of(End, ada.gone())] == [("mail",)]


def test_a_sent_link_lives_on_beside_a_new_leader(counter: Counter) -> None:
    """After the restart a follower was faster: the link in people's hands still works."""
    ada, bob = counter.asker(), counter.asker()
    ada.register(coalesce="key")
    counter.restart()
    assert told(bob.register(coalesce="key")) == ["registered"]
    assert told(ada.register(owned=ada.owned[ada.ticket], coalesce="key", rung=True)) == ["registered"]
    assert ada.page().view().status == 200


def test_both_links_of_a_crowded_prompt_come_back(counter: Counter) -> None:
    """The second one is registered again beside the first."""
    ada = counter.asker()
    ada.register()
    first = ada.ticket
    ada.register(beside=first)
    second = ada.ticket
    counter.restart()
    ada.register(owned=ada.owned[first], rung=True, told=("matrix", "mail"))
    actions = ada.register(owned=ada.owned[second], beside=first, rung=True, told=("matrix", "mail"))
    assert (told(actions), of(Ring, actions)) == (["registered"], [])
    assert counter.pending.open_prompts == 1


# Who may ask, and how much


@pytest.mark.parametrize("uid", [65534, -1, 2**32 - 1])
def test_a_uid_without_identity_is_refused(counter: Counter, uid: int) -> None:
    """Under the overflow uid many users would look alike."""
    actions = counter.asker(uid, "nobody").register()
    assert refusal(actions) == "uid"
    assert trail(actions) == ["refusal"]
    assert counter.pending.open_prompts == 0


@pytest.mark.parametrize(("allowed", "why"), [(("ada",), ""), (("1000",), ""), (("*",), ""), (("bob", "1001"), "user")])
def test_allow_users_bounds_who_asks(allowed: tuple[str, ...], why: str) -> None:
    """By name, by uid, or everybody."""
    counter = Counter(POLICY._replace(allow_users=allowed))
    assert refusal(counter.asker().register()) == why


@pytest.mark.parametrize(
    ("uid", "user", "person", "notifiers"),
    [
        (1000, "ada", "Ada", ("matrix", "mail")),
        (1001, "somebody", "Ada", ("matrix", "mail")),
        (1002, "bob", "Bob", ("mail",)),
        (1001, "bob", "Ada, Bob", ("matrix", "mail")),
    ],
)
def test_each_user_has_people(uid: int, user: str, person: str, notifiers: tuple[str, ...]) -> None:
    """Who is rung for whom stands in the configuration, by name or uid; several may be."""
    (ring,) = of(Ring, Counter().asker(uid, user).register())
    assert (ring.notice.person, ring.notifiers) == (person, notifiers)


def test_a_user_without_people_is_refused(counter: Counter) -> None:
    """No match is a refusal, not a silence."""
    assert refusal(counter.asker(1003, "eve").register()) == "people"


def test_loopback_accepts_everybody_and_rings_nobody() -> None:
    """Without people and notifiers, whoever may connect may ask."""
    counter = Counter(QUIET)
    actions = counter.asker(1003, "eve").register()
    assert (told(actions), of(Ring, actions)) == (["registered"], [])


@pytest.mark.parametrize(
    ("kind", "digits", "by_link", "users", "rung"),
    [
        ("passphrase", False, False, "ada", ("matrix", "mail")),
        ("confirm", True, False, "ada", ("matrix", "mail")),
        ("confirm", False, True, "ada", ("matrix", "mail")),
        ("confirm", False, False, "ada", ("matrix",)),
        ("enrolment", False, False, "ada", ("matrix",)),
        ("confirm", False, False, "bob", None),
    ],
)
def test_a_yes_without_digits_goes_end_to_end(
    kind: str, digits: bool, by_link: bool, users: str, rung: tuple[str, ...] | None
) -> None:
    """A link alone would be enough to say yes, so only end-to-end notifiers carry it, or nobody."""
    counter = Counter(POLICY._replace(confirm_by_link=by_link))
    actions = counter.asker(1000, users).register(QUESTION._replace(kind=kind, digits=digits))
    if rung is None:
        assert refusal(actions) == "end-to-end"
    else:
        assert [ring.notifiers for ring in of(Ring, actions)] == [rung]


def test_a_link_beside_is_held_to_the_same_rule(counter: Counter) -> None:
    """A passphrase prompt is no way to ring a yes through a mail."""
    bob = counter.asker(1002, "bob")
    bob.register()
    assert refusal(bob.register(QUESTION._replace(kind="confirm"), beside=bob.ticket)) == "end-to-end"


def test_open_prompts_have_a_quota(counter: Counter) -> None:
    """Followers count too; what ended makes room."""
    counter = Counter(QUIET._replace(quota_open=3))
    askers = [counter.asker() for _ in range(4)]
    assert [refusal(asker.register(coalesce="key")) for asker in askers] == ["", "", "", "quota"]
    assert refusal(counter.asker(1001, "bob").register()) == ""
    askers[1].gone()
    assert refusal(askers[3].register()) == ""


def test_a_question_after_an_answer_needs_no_room(counter: Counter) -> None:
    """The quota does not come between a person and the second try."""
    counter = Counter(QUIET._replace(quota_open=1))
    ada = counter.asker()
    ada.register()
    page = ada.page()
    page.view()
    page.answer()
    ada.taken()
    assert refusal(ada.register(after=ada.ticket)) == ""


def test_rings_have_a_quota(counter: Counter) -> None:
    """So many an hour for each uid; then one comes back each minute."""
    counter = Counter(POLICY._replace(quota_rings=60))
    for _ in range(60):
        ada = counter.asker()
        assert refusal(ada.register()) == ""
        ada.gone()
    assert refusal(counter.asker().register()) == "quota"
    assert refusal(counter.asker(1001, "bob").register()) == ""
    counter.wait(60)
    assert refusal(counter.asker().register()) == ""
    assert refusal(counter.asker().register()) == "quota"


def test_fresh_links_and_late_rings_count(counter: Counter) -> None:
    """A ring beside is refused when there is none left; a link that goes on unseen is sent without a sound."""
    counter = Counter(POLICY._replace(quota_rings=1))
    ada, _ = wrong_answer(counter)
    old = ada.ticket
    ada.register(after=old)
    ada.verdict("wrong", old)
    (ring,) = of(Ring, counter.wait(30))
    assert ring.notice.quiet
    assert refusal(ada.register(beside=ada.ticket)) == "quota"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"owner": "short"}, "line"),
        ({"fragment": "short"}, "fragment"),
        ({"fragment": base64url.encode(bytes(64))}, "details"),
        ({"details": ""}, "details"),
        ({"details": base64url.encode(bytes(300))}, "details"),
    ],
)
def test_what_cannot_be_read_is_refused(counter: Counter, change: dict[str, str], why: str) -> None:
    """The broker opens the details itself: message and page say the same, or nothing is said."""
    import msgspec

    ada = counter.asker()
    message = msgspec.structs.replace(ada.message(ada.link()), **change)
    assert refusal(counter.pending.register(counter.now, ada.peer, message)) == why
    assert counter.pending.open_prompts == 0


def test_details_that_are_no_question_are_refused(counter: Counter) -> None:
    """Well sealed, but not what the protocol calls details."""
    ada = counter.asker()
    assert refusal(ada.register(QUESTION._replace(kind="order"))) == "details"


# What people hear


def test_the_same_key_within_ten_minutes_edits_the_message(counter: Counter) -> None:
    """The asker died and asks again: the same message, no sound. Later, it rings."""
    ada, bob = counter.asker(), counter.asker()
    prompt = of(Ring, ada.register(coalesce="key"))[0].prompt_id
    ada.gone()
    counter.wait(300)
    (ring,) = of(Ring, bob.register(coalesce="key"))
    assert (ring.prompt_id, ring.notice.id, ring.notice.quiet) == (prompt, prompt, True)
    bob.gone()
    counter.wait(300)
    (ring,) = of(Ring, counter.asker().register(coalesce="key"))
    assert not ring.notice.quiet  # ten minutes after the last sound, not after the last edit
    assert ring.prompt_id != prompt


@pytest.mark.parametrize(("uid", "user", "key"), [(1001, "bob", "key"), (1000, "ada", "other"), (1000, "ada", "")])
def test_another_user_or_key_rings(counter: Counter, uid: int, user: str, key: str) -> None:
    """The message is edited only for what it was about."""
    for coalesce in ("key", ""):
        ada = counter.asker()
        ada.register(coalesce=coalesce)
        ada.gone()
    (ring,) = of(Ring, counter.asker(uid, user).register(coalesce=key))
    assert not ring.notice.quiet


@pytest.mark.parametrize(("outcome", "quiet"), [("accepted", False), ("denied", True), ("failed", True)])
def test_an_accepted_answer_closes_the_matter(counter: Counter, outcome: str, quiet: bool) -> None:
    """What is asked after it is a new question, and rings; after a denial it does not nag."""
    ada = counter.asker()
    ada.register(coalesce="key")
    page = ada.page()
    page.view()
    page.answer()
    ada.taken()
    ada.verdict(outcome)
    (ring,) = of(Ring, counter.asker().register(coalesce="key"))
    assert ring.notice.quiet is quiet


def test_delivery_is_told_once(counter: Counter) -> None:
    """Failures stand in the status with their reason; the asker hears of each delivery."""
    ada = counter.asker()
    prompt = of(Ring, ada.register())[0].prompt_id
    report = counter.pending.reported
    assert trail(report(counter.now, prompt, "mail", False, "timed out")) == ["delivery"]
    assert report(counter.now, prompt, "mail", False, "timed out") == []
    assert counter.rows()[0]["delivery"] == {"matrix": "ringing", "mail": "failed: timed out"}
    actions = report(counter.now, prompt, "mail", True, "")
    assert [tell.event for tell in of(Tell, actions)] == [
        {"event": "delivered", "ticket": ada.ticket, "notifier": "mail"}
    ]
    assert report(counter.now, prompt, "mail", True, "") == []
    assert report(counter.now, prompt, "pigeon", True, "") == []
    assert report(counter.now, "unknown", "mail", True, "") == []


def test_the_end_is_told_where_the_ring_was_heard(counter: Counter) -> None:
    """The message says how it ended and has no link any more."""
    ada = counter.asker()
    prompt = of(Ring, ada.register())[0].prompt_id
    counter.deliver(prompt, "mail")
    (end,) = of(End, ada.gone())
    assert (end.prompt_id, end.notifiers, end.outcome, end.notice.link) == (prompt, ("mail",), "withdrawn", "")


def test_a_reminder_comes_once(counter: Counter) -> None:
    """After ``remind_after`` seconds without an answer, where the ring was delivered."""
    counter = Counter(POLICY._replace(remind_after=300))
    ada = counter.asker()
    prompt = of(Ring, ada.register())[0].prompt_id
    counter.deliver(prompt, "matrix")
    assert counter.wait(299) == []
    (remind,) = of(Remind, counter.wait(1))
    assert (remind.prompt_id, remind.notifiers, remind.notice.remaining) == (prompt, ("matrix",), 3300)
    assert counter.wait(3000) == []


def test_no_reminder_while_an_answer_is_tried(counter: Counter) -> None:
    """Somebody is at it."""
    counter = Counter(POLICY._replace(remind_after=60))
    ada = counter.asker()
    counter.deliver(of(Ring, ada.register())[0].prompt_id, "matrix")
    page = ada.page()
    page.view()
    page.answer()
    assert of(Remind, counter.wait(61)) == []


# What is shown of it all


def test_lists_show_ones_own(counter: Counter) -> None:
    """A uid sees its prompts, root sees all; links stand in ``list`` and not in ``status``."""
    ada, bob = counter.asker(), counter.asker(1001, "bob")
    ada.register()
    bob.register()
    assert [row["user"] for row in counter.rows(1000)] == ["ada"]
    assert [row["user"] for row in counter.rows(0)] == ["ada", "bob"]
    assert counter.rows(1002) == counter.listed(1002) == []
    (row,) = counter.listed(1001)
    assert (row["ticket"], row["fragment"]) == (bob.ticket, bob.owned[bob.ticket].link.fragment)
    assert (row["title"], row["account"], row["words"]) == (
        QUESTION.title,
        "bob@web03 0123456789ABCDEF",
        QUESTION.words,
    )
    assert bob.ticket not in repr(counter.rows()) and row["fragment"] not in repr(counter.rows())
    page = bob.page()
    page.view()
    page.answer()
    assert counter.listed(1001) == []
    assert counter.rows(1001)[0]["state"] == "answering"


def test_the_trail_holds_no_link_and_no_secret(counter: Counter) -> None:
    """Whatever happens, no record has a ticket, a fragment, an owner token or a sealed text in it."""
    ada, bob = counter.asker(), counter.asker()
    ada.register(coalesce="key")
    bob.register(coalesce="key")
    page = ada.page()
    page.view()
    sealed = sealed_answer(page)
    page.answer(sealed)
    ada.taken()
    ada.verdict()
    bob.register(coalesce="key")
    bob.page().view(bytes(32))
    bob.gone()
    counter.asker(65534, "nobody").register()
    written = repr(of(Audit, counter.done))
    for asker in (ada, bob):
        for ticket, owned in asker.owned.items():
            for secret in (ticket, owned.link.fragment, base64url.encode(owned.owner)):
                assert secret not in written
    assert sealed not in written
    assert {"prompt", "view", "answer", "outcome", "refusal"} <= set(trail(counter.done))


def test_reprs_hold_no_link(counter: Counter) -> None:
    """A notice, a record or a message in a traceback keeps the link to itself."""
    ada = counter.asker()
    (ring,) = of(Ring, ada.register())
    prompt = counter.pending._table.links[ada.ticket].prompt
    shown = repr((ring, prompt, prompt.links, counter.pending._table.tombstones))
    assert ada.ticket not in shown
    assert ada.owned[ada.ticket].link.fragment not in shown


def test_little_is_kept_of_a_prompt() -> None:
    """At most 2.5 KiB each, so that 6 KiB hold it and its socket; and nothing is left of it in the books afterwards."""
    import tracemalloc

    counter = Counter(POLICY._replace(quota_open=10_000, quota_rings=10_000))
    pending = Pending(counter.policy, dice())
    askers = [counter.asker() for _ in range(500)]
    messages = [asker.message(asker.link(), coalesce=f"{n:040}") for n, asker in enumerate(askers)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for asker, message in zip(askers, messages, strict=True):
            pending.register(counter.now, asker.peer, message)
        kept = (tracemalloc.get_traced_memory()[0] - before) / len(askers)
    finally:
        tracemalloc.stop()
    assert kept < 2560
    for asker in askers:
        pending.gone(counter.now, asker.conn)
    books = pending._table
    assert not any((books.links, books.leaders, books.named, books.owed, books._open, books._of_conn))
    assert pending.next_deadline() is None


def test_the_memory_of_dead_links_is_bounded() -> None:
    """Ten thousand, the oldest go first."""
    from unlatch.broker.tombstones import MOST, Tombstones

    stones = Tombstones()
    for n in range(MOST + 5):
        stones.bury(float(n), str(n), b"", "used")
    assert stones.find("4") is None
    assert stones.find("5") is not None


def test_moved_deadlines_do_not_pile_up() -> None:
    """A heap with lazy deletion: leftovers never outnumber what lives by more than a bound."""
    from unlatch.broker.deadlines import Deadlines

    deadlines: Deadlines[str] = Deadlines()
    for when in range(10_000):
        deadlines.set("a", 10_000.0 - when)
        deadlines.set("b", 20_000.0 + when)
    assert len(deadlines._heap) < 100
    assert list(deadlines.due(1.0)) == ["a"]
    assert deadlines.next() == 29_999.0
    deadlines.drop("b")
    assert deadlines.next() is None


# No, from the chat


def deny(counter: Counter, prompt_id: str, notifier: str = "matrix") -> Actions:
    return counter.do(counter.pending.deny(counter.now, prompt_id, "@ada:example.org", notifier))


def test_a_denial_in_the_chat_ends_this_prompt_only(counter: Counter) -> None:
    """The asker and its page hear of it, the message is edited, who said so is written down; other prompts wait on."""
    ada, other = counter.asker(), counter.asker()
    prompt = of(Ring, ada.register())[0].prompt_id
    other.register()
    counter.deliver(prompt, "matrix", "mail")
    page = ada.page()
    page.view()
    actions = deny(counter, prompt)
    assert told(actions) == ["ended denied"]
    assert [(end.outcome, end.notifiers) for end in of(End, actions)] == [("denied", ("matrix", "mail"))]
    records = [audit.record for audit in of(Audit, actions)]
    assert [(record["event"], record.get("by"), record.get("outcome")) for record in records] == [
        ("denial", "@ada:example.org", None),
        ("outcome", None, "denied"),
    ]
    assert (page.answer().status, page.answer().body) == (410, {"state": "denied"})
    assert [row["id"] for row in counter.rows()] == [of(Ring, counter.done)[1].prompt_id]
    assert deny(counter, prompt) == []


def test_a_denial_in_the_chat_comes_too_late_once_there_is_an_answer(counter: Counter) -> None:
    """What was answered may have been used already: it is not called denied."""
    ada = counter.asker()
    prompt = of(Ring, ada.register())[0].prompt_id
    page = ada.page()
    page.view()
    page.answer()
    assert deny(counter, prompt) == []
    ada.taken()
    assert deny(counter, prompt) == []
    ada.verdict()
    assert deny(counter, prompt) == []


@pytest.mark.parametrize(("prompt", "notifier"), [("unknown", "matrix"), ("", "pigeon")])
def test_only_who_is_rung_can_deny_in_a_chat(counter: Counter, prompt: str, notifier: str) -> None:
    """Another notifier's chat has no say, and a name that nobody knows ends nothing."""
    known = of(Ring, counter.asker().register())[0].prompt_id
    assert deny(counter, prompt or known, notifier) == []
    assert counter.pending.open_prompts == 1


def test_followers_are_not_denied_in_the_chat(counter: Counter) -> None:
    """The message does not list them: each asks for himself."""
    ada, follower = counter.asker(), counter.asker()
    prompt = of(Ring, ada.register(coalesce="key"))[0].prompt_id
    follower.register(coalesce="key")
    page = ada.page()
    page.view()
    page.answer()
    ada.spoiled()
    assert told(deny(counter, prompt)) == ["ended denied", "released denied"]
    (ring,) = of(Ring, follower.register(coalesce="key"))
    assert ring.notice.quiet


def test_nobody_reached_is_said(counter: Counter) -> None:
    """When every notifier has failed, the audit trail says so; nothing is released, and the prompt waits on."""
    prompt = of(Ring, counter.asker().register())[0].prompt_id
    report = counter.pending.reported
    assert trail(report(counter.now, prompt, "mail", False, "timed out")) == ["delivery"]
    actions = report(counter.now, prompt, "matrix", False, "no network")
    assert trail(actions) == ["delivery", "unreached"]
    assert of(Audit, actions)[1].record["notifiers"] == ("matrix", "mail")
    assert told(actions) == []
    assert report(counter.now, prompt, "matrix", False, "no network") == []
    assert counter.pending.open_prompts == 1
    counter.deliver(prompt, "mail")
    counter.wait(5)
    assert counter.rows()[0]["delivered_ago"] == {"mail": 5}
