"""The service's end of a conversation: deadlines, signs of life, and a module that says what no module says."""

import itertools
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from pam_house import Login, Word

from unlatch.errors import Malformed
from unlatch.pam import channel
from unlatch.pam.channel import Channel
from unlatch.pam.errors import Gone
from unlatch.wire import pam


class Clock:
    """Seconds that pass when the test says so, or with each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 1000.0
        self._step = step

    def __call__(self) -> float:
        self.now += self._step
        return self.now


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Login]]:
    """The service's and the module's end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(5)
    with ours, theirs:
        yield ours, Login(theirs)


Ends = tuple[socket.socket, Login]


def test_what_is_typed_comes_out(ends: Ends) -> None:
    """The words go to the module in their order, its answer comes back; its bytes are nobody's text."""
    told = Channel(ends[0], Clock())
    told.say("a challenge\nof two lines")
    told.ask("Response: ")
    assert ends[1].until_asked() == [Word("say", "a challenge\nof two lines"), Word("ask", "Response: ")]
    ends[1].type(b"\xff\x08typed")
    assert told.wait(2000) == b"\xff\x08typed"
    told.warn("no")
    told.end("deny")
    assert ends[1].end() == [Word("warn", "no"), Word("deny")]


def test_nothing_is_waited_for_when_it_is_late(ends: Ends) -> None:
    """Not even for what lies there already: a machine that slept through the time comes back too late."""
    clock = Clock()
    told = Channel(ends[0], clock)
    told.ask("Response: ")
    ends[1].type("Yvv3bY4VL3")
    assert told.wait(clock.now) is None
    asleep = Channel(ends[0], iter([1000.0, 1000.0, 5000.0, 5000.0]).__next__)
    assert asleep.wait(1600.0) is None


def test_a_module_that_waits_hears_that_we_live(ends: Ends) -> None:
    """Every ten seconds, so that thirty of silence are never there."""
    clock = Clock(step=0.5)  # each look at the clock is half a second, and the socket is not really waited for
    told = Channel(ends[0], clock)
    told._poll = lambda seconds, watch: None  # type: ignore[method-assign]
    assert told.wait(1095) is None
    told.end("deny")
    said = []
    while (word := ends[1].next()) is not None:
        said.append(word.word)
    assert said == ["wait"] * 9 + ["deny"]


def test_a_long_wait_has_no_more_words_than_the_module_counts(ends: Ends) -> None:
    """An hour of signs of life stays well below its 512 words, and no two are 30 seconds apart."""
    clock = Clock()
    told = Channel(ends[0], clock)
    beats = []

    def poll(seconds: float, watch: object) -> None:
        clock.now += seconds + 0.001

    told._poll = poll  # type: ignore[assignment,method-assign]
    send = told._send

    def sent(word: str, text: str = "") -> None:
        beats.append(clock.now)
        send(word, text)
        assert ends[1].next() == Word("wait")

    told._send = sent  # type: ignore[method-assign]
    assert told.wait(clock.now + 3600) is None
    assert 300 < len(beats) < 500
    assert all(later - earlier < 15 for earlier, later in itertools.pairwise(beats))


def test_a_module_that_prompts_is_told_nothing(ends: Ends) -> None:
    """It does not read meanwhile: signs of life would only pile up."""
    clock = Clock(step=0.5)
    told = Channel(ends[0], clock)
    told.ask("Response: ")
    told._poll = lambda seconds, watch: None  # type: ignore[method-assign]
    assert told.wait(1100) is None
    told.end("deny")
    assert [word.word for word in [*ends[1].until_asked(), *ends[1].end()]] == ["ask", "deny"]


def test_a_client_that_is_gone_ends_the_waiting(ends: Ends) -> None:
    """It is looked for while nobody says anything, whether somebody is asked or not."""
    for ask in (False, True):
        told = Channel(ends[0], Clock(step=0.5), gone=lambda: True)
        told._poll = lambda seconds, watch: None  # type: ignore[method-assign]
        if ask:
            told.ask("Response: ")
        with pytest.raises(Gone):
            told.wait(2000)
    with pytest.raises(Gone):
        told.live()


def test_another_descriptor_wakes_it(ends: Ends) -> None:
    """The phone's, for one; but what the session says comes first."""
    told = Channel(ends[0], Clock())
    phone, far = socket.socketpair()
    with phone, far:
        far.send(b"yes")
        assert told.wait(2000, {phone.fileno()}) == phone.fileno()
        told.ask("Response: ")
        ends[1].type("here")
        assert told.wait(2000, {phone.fileno()}) == b"here"


def ask_and(say: Callable[[socket.socket], object]) -> Callable[[Channel, socket.socket], None]:
    def play(told: Channel, module: socket.socket) -> None:
        told.ask("Response: ")
        say(module)

    return play


@pytest.mark.parametrize(
    "play",
    [
        lambda told, module: module.send(pam.answer_to_packet(b"nobody asked")),
        ask_and(lambda module: module.send(b"answer")),
        ask_and(lambda module: module.send(b"answer\0")),
        ask_and(lambda module: module.send(b"answer\0one\0two\0")),
        ask_and(lambda module: module.send(b"allow\0yes\0")),
        ask_and(lambda module: module.send(pam.answer_to_packet(b"x" * (pam.MAX_ANSWER + 1)))),
        ask_and(lambda module: module.send(pam.answer_to_packet(b"x" * 30000))),
    ],
    ids=["unasked", "no NUL", "no field", "two fields", "another word", "long", "very long"],
)
def test_what_no_module_says_is_malformed(ends: Ends, play: Callable[[Channel, socket.socket], None]) -> None:
    """And is an answer to nothing."""
    told = Channel(ends[0], Clock())
    play(told, ends[1].connection)
    with pytest.raises(Malformed):
        told.wait(2000)


def test_one_prompt_has_one_answer(ends: Ends) -> None:
    """A second one was not asked for."""
    told = Channel(ends[0], Clock())
    told.ask("Response: ")
    ends[1].type("first")
    ends[1].type("second")
    assert told.wait(2000) == b"first"
    with pytest.raises(Malformed):
        told.wait(2000)


def test_a_module_that_hangs_up_is_gone(ends: Ends) -> None:
    """While it is waited for, and while it is told something."""
    told = Channel(ends[0], Clock())
    ends[1].close()
    with pytest.raises(Gone):
        told.wait(2000)
    with pytest.raises(Gone):
        told.say("anybody there?")
    told.end("deny")  # to nobody, and without a word


def test_a_module_that_reads_nothing_holds_nobody_up(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full socket is waited for no longer than a moment."""
    monkeypatch.setattr(channel, "SEND_SECONDS", 0.05)
    told = Channel(ends[0], Clock())
    with pytest.raises(Gone):
        all(told.say("x" * 30000) is None for _ in range(1000))  # type: ignore[func-returns-value]


def test_the_last_words_are_heard_by_who_has_just_answered(ends: Ends) -> None:
    """An answer that nobody reads any more must not take them away."""
    told = Channel(ends[0], Clock())
    told.ask("Response: ")
    ends[1].until_asked()
    ends[1].type("too late")
    told.warn("unlatch: too late")
    told.end("deny")
    assert ends[1].end() == [Word("warn", "unlatch: too late"), Word("deny")]


def test_whoever_waits_is_woken_by_the_answer(ends: Ends) -> None:
    """Really waiting, not looking again and again."""
    told = Channel(ends[0], Clock())
    told.ask("Response: ")
    typist = threading.Timer(0.05, ends[1].type, ["now"])
    typist.start()
    assert told.wait(2000) == b"now"
    typist.join()
