"""What the pending table shows of itself, what it writes down, and what it keeps."""

import json

import pytest
from counter import POLICY, QUESTION, Counter, dice, of, sealed_answer, trail

from unlatch import base64url
from unlatch.broker.actions import Audit, Ring
from unlatch.broker.pending import Pending
from unlatch.prompt import Key


@pytest.fixture
def counter() -> Counter:
    return Counter()


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
    assert bob.ticket not in repr(counter.rows())
    assert row["fragment"] not in repr(counter.rows())
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


def test_records_are_short(counter: Counter) -> None:
    """Whatever an asker writes, a record is one that ``unlatch log`` reads."""
    ada = counter.asker()
    long = "\U0001f512" * 4096
    asker = QUESTION.asker._replace(command=long, system_unit=long)
    ada.register(QUESTION._replace(key=Key(name=long), asker=asker))
    ada.withdraw()
    records = [json.dumps(action.record) for action in of(Audit, counter.done)]
    assert max(map(len, records)) < 8192


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
    assert not any((books.links, books.leaders, books.named, books.owed, books._held, books._of_conn))
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
