"""Who may ask, who is rung for whom, how often, and what people hear."""

import pytest
from counter import POLICY, QUESTION, QUIET, Counter, of, refusal, told, trail, wrong_answer

from unlatch import base64url
from unlatch.broker.actions import End, Remind, Ring, Tell


@pytest.fixture
def counter() -> Counter:
    return Counter()


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


def test_what_rings_nobody_has_a_quota_too(counter: Counter) -> None:
    """Ten times as many: an asker's word that its people were told already rings nobody, but its end edits messages."""
    counter = Counter(POLICY._replace(quota_rings=2))
    for _ in range(30):
        ada = counter.asker()
        actions = ada.register(rung=True, told=("matrix", "mail"))
        assert (refusal(actions), of(Ring, actions)) == ("", [])
        assert len(of(End, ada.gone())) == 1
    assert refusal(counter.asker().register(rung=True, told=("matrix", "mail"))) == "quota"


def test_only_a_prompt_that_was_rung_has_told_anybody(counter: Counter) -> None:
    """A fresh registration that names who was told rings them all the same, and ends nothing that was not rung."""
    ada = counter.asker()
    assert [ring.notifiers for ring in of(Ring, ada.register(told=("matrix", "mail")))] == [("matrix", "mail")]
    assert [end.notifiers for end in of(End, ada.gone())] == [()]


def test_followers_have_a_quota(counter: Counter) -> None:
    """They ring nobody, but each changes the page of their leader."""
    counter = Counter(POLICY._replace(quota_rings=1))
    counter.asker().register(coalesce="key")
    for _ in range(10):
        follower = counter.asker()
        assert refusal(follower.register(coalesce="key")) == ""
        follower.gone()
    assert refusal(counter.asker().register(coalesce="key")) == "quota"


def test_judged_prompts_count_until_they_are_forgotten(counter: Counter) -> None:
    """Their verdicts are kept for 30 s; a chain of questions after answers is bounded too."""
    counter = Counter(QUIET._replace(quota_open=2))
    ada = counter.asker()
    ada.register()
    for _ in range(3):
        page = ada.page()
        page.view()
        page.answer()
        ada.taken()
        answered = ada.ticket
        refused = refusal(ada.register(after=answered))
        ada.verdict("wrong", answered)
    assert refused == "quota"
    assert counter.pending.open_prompts == 0
    assert refusal(ada.register()) == "quota"
    counter.wait(31)
    assert refusal(ada.register()) == ""


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


@pytest.mark.parametrize("words", [("amber", "urgent"), ("root", "canoe"), ("amber", "")])
def test_match_words_say_nothing(counter: Counter, words: tuple[str, str]) -> None:
    """They stand where people look first, so only those of our list are taken."""
    assert refusal(counter.asker().register(QUESTION._replace(words=words))) == "details"


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


@pytest.mark.parametrize(
    ("outcome", "quiet"), [("accepted", False), ("failed", False), ("unknown", False), ("denied", True)]
)
def test_an_answer_closes_the_matter(counter: Counter, outcome: str, quiet: bool) -> None:
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


def test_a_fresh_links_delivery_is_told_too(counter: Counter) -> None:
    """The second link may not arrive where the first one did; at the end, the first message is edited all the same."""
    ada = counter.asker()
    prompt = of(Ring, ada.register())[0].prompt_id
    counter.deliver(prompt, "matrix")
    ada.register(beside=ada.ticket)
    assert counter.rows()[0]["delivery"] == {"matrix": "ringing", "mail": "ringing"}
    counter.do(counter.pending.reported(counter.now, prompt, "matrix", False, "timed out"))
    assert counter.rows()[0]["delivery"]["matrix"] == "failed: timed out"
    actions = counter.pending.reported(counter.now, prompt, "mail", True, "")
    assert of(Tell, actions)[0].event["ticket"] == ada.ticket
    assert [end.notifiers for end in of(End, ada.gone())] == [("matrix", "mail")]
