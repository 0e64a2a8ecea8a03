"""Bursts: which prompts share a message, what it says while they end one by one, and how the ringer sends it."""

import asyncio
from typing import Any

import pytest
from notifier_contract import NOTICE, run

from unlatch.broker import ringing
from unlatch.broker.folding import BURST_SECONDS, LONGEST_SECONDS, MOST, Folding, Message
from unlatch.broker.notice import Notice
from unlatch.broker.ringing import Ringer
from unlatch.notify import NotDelivered


def notice(name: str, **changes: Any) -> Notice:
    return NOTICE._replace(id=name, title=f"Unlock {name}", link=f"http://x/{name}#F", words=(name, "owl"), **changes)


def over(name: str) -> Notice:
    return notice(name)._replace(link="", remaining=0.0)


class Burst:
    """A folding with one notifier, and a clock."""

    def __init__(self) -> None:
        self.folding = Folding()
        self.now = 100.0

    def ring(self, name: str, after: float = 0.0, *, phone: str = "phone", **changes: Any) -> Message:
        self.now += after
        message = self.folding.ring(self.now, phone, name, notice(name, **changes)).message
        message.entries[name].tried = True
        return message

    def end(self, name: str, outcome: str = "accepted", *, told: bool = True) -> Message | None:
        return self.folding.end(self.now, "phone", name, over(name), outcome, told=told)

    def says(self, message: Message) -> list[tuple[str, str]]:
        """What the message says: title and link (or outcome) of each prompt, the one it shows large first."""
        said = message.notice(self.now)
        return [(said.title[7:], said.link)] + [(also.title[7:], also.link or also.outcome) for also in said.more]


def link(name: str) -> str:
    return f"http://x/{name}#F"


def test_a_burst_is_one_message() -> None:
    """Within seconds, for the same person through the same notifier; oldest first, under the first one's name."""
    burst = Burst()
    message = burst.ring("a")
    assert burst.ring("b", 1) is message
    assert burst.ring("c", BURST_SECONDS) is message
    assert message.notice(burst.now).id == "a"
    assert burst.says(message) == [("a", link("a")), ("b", link("b")), ("c", link("c"))]


@pytest.mark.parametrize(
    ("after", "changes"),
    [
        (BURST_SECONDS + 0.1, {}),
        (0, {"person": "ada"}),
        (0, {"phone": "mail"}),
        (0, {"quiet": True}),
    ],
    ids=["late", "another person", "another notifier", "an edit"],
)
def test_what_is_no_burst(after: float, changes: dict[str, Any]) -> None:
    """Each of these has its own message."""
    burst = Burst()
    message = burst.ring("a")
    assert burst.ring("b", after, **changes) is not message


def test_a_burst_ends() -> None:
    """A message takes no more after half a minute, nor more than people read."""
    burst = Burst()
    message = burst.ring("0")
    later = [burst.ring(str(number + 1), BURST_SECONDS) for number in range(7)]
    assert later.index(next(other for other in later if other is not message)) == LONGEST_SECONDS // BURST_SECONDS
    burst = Burst()
    assert len({id(burst.ring(str(number))) for number in range(MOST + 1)}) == 2


def test_prompts_end_one_by_one() -> None:
    """The message shows the oldest that is open, keeps its name, and is over when all are."""
    burst = Burst()
    message = burst.ring("a")
    for name in "bc":
        burst.ring(name)
    assert burst.end("a") is message
    assert burst.says(message) == [("b", link("b")), ("a", "accepted"), ("c", link("c"))]
    assert message.notice(burst.now).id == "a"
    assert burst.end("c", "denied") is message
    assert message.open()
    assert burst.end("b", "expired") is message
    assert not message.open()
    assert message.outcome() == "accepted"
    assert burst.says(message) == [("a", ""), ("b", "expired"), ("c", "denied")]
    assert list(burst.folding.messages()) == []
    assert burst.ring("d") is not message


def test_one_of_a_list_asks_again() -> None:
    """Its entry is replaced, in its place; a fresh link too."""
    burst = Burst()
    message = burst.ring("a")
    burst.ring("b")
    burst.end("a", "withdrawn")
    assert burst.ring("a", 60, quiet=True) is message
    assert burst.says(message) == [("a", link("a")), ("b", link("b"))]


def test_what_nobody_heard_of_ends_without_a_word() -> None:
    """The list is said without it; a message of which nothing was said needs nothing."""
    burst = Burst()
    message = burst.ring("a")
    burst.ring("b").entries["b"].tried = False
    assert burst.end("b", "withdrawn", told=False) is message
    assert burst.says(message) == [("a", link("a"))]
    burst = Burst()
    burst.ring("a").entries["a"].tried = False
    ended = burst.end("a", told=False)
    assert ended is not None
    assert not ended.entries
    assert burst.end("never", told=False) is None


def test_the_end_of_an_earlier_brokers_prompt_is_told() -> None:
    """The message was delivered before we were there."""
    burst = Burst()
    message = burst.end("a", "withdrawn")
    assert message is not None
    assert message.notice(burst.now).link == ""
    assert message.outcome() == "withdrawn"


def test_time_goes_on_in_a_list() -> None:
    """What is left is what is left when it is said."""
    burst = Burst()
    message = burst.ring("a")
    assert message.notice(burst.now + 20).remaining == NOTICE.remaining - 20
    assert message.notice(burst.now + 1000).remaining == 0


def test_a_list_is_reminded_of_once() -> None:
    """Its prompts are due within seconds of each other."""
    burst = Burst()
    message = burst.ring("a")
    burst.ring("b")
    burst.now += 600
    assert burst.folding.remind(burst.now, "phone", "a", notice("a")) is message
    assert burst.folding.remind(burst.now + 3, "phone", "b", notice("b")) is None
    assert burst.folding.remind(burst.now + 600, "phone", "b", notice("b")) is message


@pytest.mark.parametrize(
    ("said", "meant"),
    [("", ()), ("a owl", ("a",)), ("  OWL  B ", ("b",)), ("owl", ()), ("a b owl", ()), ("nonsense", ())],
)
def test_a_reply_to_a_list_must_tell_which(said: str, meant: tuple[str, ...]) -> None:
    """Two match words; anything that could mean several means none."""
    burst = Burst()
    burst.ring("a")
    burst.ring("b")
    assert burst.folding.meant("phone", "a", said) == meant


def test_a_reply_to_one_means_that_one() -> None:
    """Without words, or with the right ones; of a list also the only one that is left."""
    burst = Burst()
    burst.ring("a")
    assert burst.folding.meant("phone", "a", "") == ("a",)
    assert burst.folding.meant("phone", "a", "b owl") == ()
    burst.ring("b")
    burst.end("a")
    assert burst.folding.meant("phone", "a", "") == ("b",)
    assert burst.folding.meant("phone", "before-the-restart", "") == ("before-the-restart",)
    assert burst.folding.meant("mail", "a", "a owl") == ()


# With the ringer


class Phone:
    """Notes what it was told: loud or quiet, and the prompts; can be out of reach."""

    name = "phone"
    end_to_end = True

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        self.reachable = True

    async def ring(self, notice: Notice) -> None:
        self._say("quiet" if notice.quiet else "loud", notice)

    async def remind(self, notice: Notice) -> None:
        self._say("remind", notice)

    async def end(self, notice: Notice, outcome: str) -> None:
        self._say(outcome, notice)

    def _say(self, how: str, notice: Notice) -> None:
        if not self.reachable:
            raise NotDelivered("no network")
        names = [notice.title[7:], *(also.title[7:] + ("!" if also.outcome else "") for also in notice.more)]
        self.said.append((how, " ".join(names)))


class Desk:
    def __init__(self) -> None:
        self.phone = Phone()
        self.delivered: list[str] = []
        self.ringer = Ringer(lambda prompt, _, delivered, why: self.delivered.append(prompt) if delivered else None)
        self.ringer.add(self.phone, "recorder", 5.0)

    def ring(self, *names: str) -> None:
        for name in names:
            self.ringer.ring(name, notice(name), ("phone",))

    def end(self, name: str, *told: str) -> None:
        self.ringer.end(name, over(name), told, "accepted")

    async def quiet(self) -> None:
        while self.ringer.busy:
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ringing, "BACKOFF", (0.001,))
    monkeypatch.setattr(ringing, "GATHER_SECONDS", 0.05)


def test_ten_services_at_boot_ring_once() -> None:
    """The first rings at once; the nine that follow become one quiet edit. All count as delivered."""

    async def story() -> None:
        desk = Desk()
        desk.ring("a")
        await desk.quiet()
        assert desk.phone.said == [("loud", "a")]
        desk.ring(*"bcdefghij")
        await desk.quiet()
        assert desk.phone.said[1:] == [("quiet", "a b c d e f g h i j")]
        assert set(desk.delivered) == set("abcdefghij")

    run(story())


def test_a_burst_while_the_network_is_down_rings_aloud_once_it_is_up() -> None:
    """Nobody has heard the first one yet, so the list itself is loud."""

    async def story() -> None:
        desk = Desk()
        desk.phone.reachable = False
        desk.ring("a", "b")
        await asyncio.sleep(0.05)
        desk.ring("c")
        desk.end("b")
        await asyncio.sleep(0.01)
        assert desk.phone.said == []
        desk.phone.reachable = True
        await desk.quiet()
        assert desk.phone.said == [("loud", "a b! c")]

    run(story())


def test_who_joins_while_the_first_ring_is_sent_makes_no_second_sound() -> None:
    """The loud ring has been heard by then."""

    async def story() -> None:
        desk = Desk()
        go_on = asyncio.Event()
        ring = desk.phone.ring

        async def slow(notice: Notice) -> None:
            await go_on.wait()
            await ring(notice)

        desk.phone.ring = slow  # type: ignore[method-assign]
        desk.ring("a")
        await asyncio.sleep(0.01)
        desk.ring("b")
        go_on.set()
        await desk.quiet()
        assert desk.phone.said == [("loud", "a"), ("quiet", "a b")]

    run(story())


def test_the_list_is_edited_as_its_prompts_end() -> None:
    """No link of an open prompt is taken away by the end of another."""

    async def story() -> None:
        desk = Desk()
        desk.ring("a", "b")
        await desk.quiet()
        desk.end("a", "phone")
        await desk.quiet()
        desk.end("b", "phone")
        await desk.quiet()
        assert desk.phone.said[-2:] == [("quiet", "b a!"), ("accepted", "a b!")]

    run(story())
