"""Root asks about a login: only the account's own people are rung, and it is counted for the account."""

from typing import Any

import pytest
from counter import MAIL, MATRIX, POLICY, QUESTION, Asker, Counter, of, refusal, told

from unlatch.broker.actions import Account, Actions, Audit, Peer, Ring, Tell, Visitor
from unlatch.broker.policy import Person, Policy
from unlatch.broker.records import Whose
from unlatch.prompt import Prompt

ADA, BOB, EVE = Account(1000, "ada"), Account(1002, "bob"), Account(1003, "eve")
LOGIN = QUESTION._replace(kind="confirm", title="Login of ada by sshd, from 192.0.2.7", key=None, digits=True)
HOUSE = POLICY._replace(
    people=(
        Person("everybody", ("*",), ("mail",)),
        Person("Ada", ("ada",), ("matrix",)),
        Person("Bob", ("1002",), ("mail",)),
    )
)


def root(counter: Counter, account: Account | None = ADA) -> Asker:
    """A connection of root's, and what the shell found of the account that it names."""
    counter.conns += 1
    return Asker(counter, Peer(counter.conns, 0, 0, "root", account))


def ask(counter: Counter, account: Account = ADA, question: Prompt = LOGIN, *, silent: bool = False) -> Actions:
    return root(counter, account).register(question, account=account.name, silent=silent)


@pytest.mark.parametrize(("account", "person", "notifiers"), [(ADA, "Ada", ("matrix",)), (BOB, "Bob", ("mail",))])
def test_only_the_accounts_own_person_is_rung(account: Account, person: str, notifiers: tuple[str, ...]) -> None:
    """Named by login name or by uid; neither root's people nor those of everybody hear of it."""
    counter = Counter(HOUSE)
    actions = ask(counter, account)
    (ring,) = of(Ring, actions)
    assert (ring.notifiers, ring.notice.person) == (notifiers, person)
    (registered,) = of(Tell, actions)
    assert registered.event["person"] == person


@pytest.mark.parametrize("policy", [HOUSE, POLICY._replace(people=(), notifiers=(MAIL, MATRIX), loopback=True)])
def test_whoever_answers_for_everybody_is_not_rung_about_a_login(policy: Policy) -> None:
    """Nobody is named for this account itself: nobody is rung, and the asker hears why."""
    counter = Counter(policy)
    actions = ask(counter, EVE)
    assert refusal(actions) == "people"
    assert of(Ring, actions) == []


def test_an_account_is_heard_from_root_only() -> None:
    """Nobody else can have others rung, whatever the shell has found."""
    counter = Counter(HOUSE)
    for uid in (1000, 1002):
        stranger = Asker(counter, Peer(uid, uid, uid, "ada", ADA))
        actions = stranger.register(LOGIN, account="ada")
        assert refusal(actions) == "account"
        assert of(Ring, actions) == []
    assert refusal(root(counter, None).register(LOGIN, account="nobody-at-all")) == "account"


def test_an_ordinary_uid_is_counted_for_itself() -> None:
    """A peer with an account but without root's uid is never counted as that account."""
    counter = Counter(HOUSE._replace(quota_open=1))
    stranger = Asker(counter, Peer("x", 1000, 1000, "ada", BOB))
    assert told(stranger.register(QUESTION)) == ["registered"]
    assert refusal(Asker(counter, Peer("y", 1000, 1000, "ada", BOB)).register(QUESTION)) == "quota"
    assert told(ask(counter, BOB)) == ["registered"]


def test_who_may_ask_is_asked_of_the_account() -> None:
    """``allow_users`` names those about whose logins root may ask."""
    counter = Counter(HOUSE._replace(allow_users=("ada",)))
    assert told(ask(counter, ADA)) == ["registered"]
    assert refusal(ask(counter, BOB)) == "user"


def test_the_prompt_stays_roots() -> None:
    """The account itself neither sees the prompt on the admin socket nor answers it there; page and trail name both."""
    counter = Counter(HOUSE)
    asker = root(counter)
    actions = asker.register(LOGIN, account="ada")
    assert counter.listed(1000) == [] == counter.rows(1000)
    (row,) = counter.listed(0)
    assert row["account"] == "ada@web03"
    (row,) = counter.rows(0)
    assert (row["user"], row["uid"], row["login"]) == ("root", 0, "ada")
    assert asker.page(visitor=Visitor("local", 1000)).view().status == 404
    page = asker.page(visitor=Visitor("local", 0))
    viewed = page.view()
    assert viewed.status == 200
    stamp = page.stamp(viewed)
    assert (stamp["uid"], stamp["user"], stamp["login"]) == (0, "root", "ada")
    (record,) = of(Audit, actions)
    assert (record.record["uid"], record.record["account"], record.record["person"]) == (0, "ada", "Ada")


def test_a_refusal_about_a_login_names_the_account() -> None:
    """In the trail, so that an administrator sees whose person is missing."""
    (audit,) = of(Audit, ask(Counter(HOUSE), EVE))
    assert audit.record == {"event": "refusal", "uid": 0, "user": "root", "account": "eve", "why": "people"}


def test_rings_are_counted_for_each_account() -> None:
    """Logins of one account use up neither root's rings nor another account's."""
    counter = Counter(HOUSE._replace(quota_rings=2))
    for _ in range(2):
        assert told(ask(counter)) == ["registered"]
    assert refusal(ask(counter)) == "quota"
    assert told(ask(counter, BOB)) == ["registered"]
    assert told(root(counter, None).register(QUESTION)) == ["registered"]


def test_open_prompts_are_counted_for_each_account() -> None:
    """The same for the room that there is."""
    counter = Counter(HOUSE._replace(quota_open=2))
    for _ in range(2):
        assert told(ask(counter)) == ["registered"]
    assert refusal(ask(counter)) == "quota"
    assert told(ask(counter, BOB)) == ["registered"]
    assert told(root(counter, None).register(QUESTION)) == ["registered"]


def test_a_silent_prompt_rings_nobody() -> None:
    """Its link is shown elsewhere; so nobody needs to be named for the account either."""
    counter = Counter(HOUSE)
    asker = root(counter, EVE)
    actions = asker.register(LOGIN, account="eve", silent=True)
    assert told(actions) == ["registered"]
    page = asker.page()
    assert page.view().status == 200
    asker.withdraw()
    assert [action for action in counter.done if not isinstance(action, Tell | Audit)] == []


def test_a_silent_prompt_is_not_reminded_of_nor_rung_when_crowded() -> None:
    """Neither later nor for a page too many."""
    counter = Counter(HOUSE._replace(remind_after=60, views=1))
    asker = root(counter)
    asker.register(LOGIN, account="ada", silent=True)
    assert asker.page().view().status == 200
    assert asker.page().view().status == 409
    asker.register(LOGIN, account="ada", silent=True, beside=asker.ticket)
    counter.wait(120)
    assert [action for action in counter.done if not isinstance(action, Tell | Audit)] == []


def test_strangers_at_the_door_cannot_use_up_the_rings_of_an_account() -> None:
    """Silent prompts, which anybody can cause by trying to log in, have room and rings of their own."""
    counter = Counter(HOUSE._replace(quota_open=3, quota_rings=1))
    answers = [ask(counter, silent=True) for _ in range(30)]
    assert [refusal(actions) for actions in answers][:4] == ["", "", "", "quota"]
    assert told(ask(counter)) == ["registered"]


def test_a_silent_prompt_of_an_ordinary_uid_counts_as_any_other() -> None:
    """Silence is no way around the limit of open prompts, and no way in for whom nobody is named."""
    policy = POLICY._replace(quota_open=1)
    counter = Counter(policy)
    assert of(Ring, counter.asker().register(silent=True)) == []
    assert refusal(counter.asker().register()) == "quota"
    assert refusal(counter.asker(1004, "mallory").register(silent=True)) == "people"


def test_a_silent_prompt_leads_nobody() -> None:
    """Who followed it would never be rung, so it cannot be shared."""
    counter = Counter(HOUSE)
    assert refusal(counter.asker().register(coalesce="key", silent=True)) == "line"
    assert told(counter.asker().register(coalesce="key")) == ["registered"]


def test_a_login_does_not_follow_roots_own_prompt() -> None:
    """The same coalesce key of root and of an account are two questions."""
    counter = Counter(HOUSE)
    assert told(root(counter, None).register(QUESTION, coalesce="key")) == ["registered"]
    assert told(root(counter).register(LOGIN, account="ada", coalesce="key")) == ["registered"]


@pytest.mark.parametrize("more", [{}, {"account": "bob"}, {"account": "ada", "silent": True}])
def test_another_link_is_about_the_same_login(more: dict[str, Any]) -> None:
    """Nothing beside a prompt about one account's login rings the people of another, or root's."""
    counter = Counter(HOUSE)
    asker = root(counter)
    asker.register(LOGIN, account="ada")
    first = asker.ticket
    asker.peer = asker.peer._replace(account={"bob": BOB, "ada": ADA}.get(str(more.get("account"))))
    assert refusal(asker.register(LOGIN, beside=first, **more)) == "ticket"


def test_what_is_counted_is_counted_down_again() -> None:
    """Nothing is left of an account once its prompts are over."""
    counter = Counter(HOUSE)
    asker = root(counter)
    asker.register(LOGIN, account="ada")
    books = counter.pending._table
    assert books.held_of(Whose(0, "ada")) == 1
    assert books.held_of(Whose(0)) == 0
    asker.gone()
    assert books._held == {}
