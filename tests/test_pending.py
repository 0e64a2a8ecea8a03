"""The pending table, rule by rule: who may do what to a prompt, once, and until when."""

import pytest
from counter import POLICY, QUESTION, Counter, of, refusal, sealed_answer, told, trail, woken

from unlatch import base64url, seal
from unlatch.broker.actions import Actions, Audit, End, Later, Ring, Tell
from unlatch.broker.policy import Person
from unlatch.prompt import Key, details_to_json


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
    assert (ring.notice.words, ring.notice.quiet, ring.notice.remaining) == (("amber", "canoe"), False, 3600)

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
        "login": "",
        "account": "ada@web03 0123456789ABCDEF",
        "age": 7,
        "person": "Ada",
        "followers": [],
        "orphaned": False,
    }


@pytest.mark.parametrize(
    ("key", "account"),
    [
        (None, "ada@web03"),
        (Key(name="Ada"), "ada@web03 Ada"),
        (Key(serial="0005 1234"), "ada@web03 0005 1234"),
        (Key(id="F" * 40), "ada@web03 " + "F" * 16),
        (Key(name="x" * 65), "ada@web03 " + "x" * 64),
        (Key(name="Ada\u202e\n\x1b[2J root@db01"), "ada@web03 Ada [2J root@db01"),
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


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("how", ["hangs", "gone", "withdraw"])
def test_an_asker_that_ends_with_an_answer_in_its_hands_may_have_used_it(
    counter: Counter, taken: bool, how: str
) -> None:
    """The page must not say that nothing was released: it hears "used", whether the asker hangs, dies or gives up."""
    ada = counter.asker()
    ada.register(seconds=60)
    page = ada.page()
    page.view()
    page.answer()
    if taken:
        ada.taken()
    if how == "hangs":
        assert told(counter.wait(120)) == ["ended expired"]
    else:
        getattr(ada, how)()
    assert page.wait() == (410, {"state": "used"})


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
    [
        ("accepted", "used"),
        ("failed", "used"),
        ("unknown", "used"),
        ("denied", "denied"),
        ("wrong", "replaced"),
        ("next", "replaced"),
    ],
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


def test_no_more_views_come_back_than_there_are(counter: Counter) -> None:
    """Whatever an asker says was viewed: each page may hold a request."""
    ada = counter.asker()
    pages = [base64url.encode(bytes([n]) * 16) for n in range(64)]
    ada.register(rung=True, views=pages)
    assert counter.rows()[0]["views"] == counter.policy.views


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
