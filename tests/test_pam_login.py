"""What follows from what is typed and heard at a login, and what the log says of it: decisions, without a socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlatch.pam import log, login
from unlatch.pam.errors import Unfit
from unlatch.pam.login import CANNOT, LATE, NO, PAGE, PHONE, WRONG, Login, Options, Outcome
from unlatch.secret import Secret
from unlatch.settings import PAM_MODES
from unlatch.wire.pam import Hello

RIGHT = "Yvv3bY4VL3"
BY = "challenge key=F"
PERSON = "approval person=alice"
ALLOWED = Outcome(True, "", BY)
APPROVED = Outcome(True, "", PERSON)
BROKEN = "failed: the broker went away"


def attempt(*ways: str, challenge: bool = True) -> Login:
    return Login(Secret(RIGHT.encode()) if challenge else None, frozenset(ways), BY)


def play(attempt: Login, steps: list[str]) -> Outcome | None:
    """What comes of a course of events: "typed:...", "phone:...", "page:..." or "page typed:..."."""
    for step in steps:
        way, _, said = step.partition(":")
        if way == "typed":
            outcome = attempt.typed(said.encode())
        elif way == "page typed":
            outcome = attempt.heard(PAGE, Secret(said.encode()))
        else:
            outcome = attempt.heard(way, said, PERSON)
        if outcome is not None:
            assert step == steps[-1], f"over after {step!r}"
            return outcome
    return None


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ([f"typed:{RIGHT}"], ALLOWED),
        ([f"typed: {RIGHT}\r\n"], ALLOWED),
        (["typed:Yvv3bY4VL4"], Outcome(False, WRONG, "wrong response")),
        ([f"typed:{RIGHT.lower()}"], Outcome(False, WRONG, "wrong response")),
        ([f"typed:{RIGHT}{RIGHT}"], Outcome(False, WRONG, "wrong response")),
        (["typed:"], Outcome(False, WRONG, "wrong response")),
    ],
)
def test_a_challenge_takes_one_response(steps: list[str], outcome: Outcome) -> None:
    """The right one lets in, anything else ends it: an empty line too, where nothing else is open."""
    assert play(attempt(), steps) == outcome


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        # The response decides at once, whatever the phone does.
        ([f"typed:{RIGHT}"], ALLOWED),
        (["phone:yes", f"typed:{RIGHT}"], ALLOWED),
        ([BROKEN.replace("failed", "phone:failed"), f"typed:{RIGHT}"], ALLOWED),
        (["phone:yes", "typed:wrong"], Outcome(False, WRONG, "wrong response")),
        # Enter and a yes, in both orders; neither alone.
        (["phone:yes"], None),
        (["typed:"], None),
        (["phone:yes", "typed:"], APPROVED),
        (["typed:", "phone:yes"], APPROVED),
        (["typed:  ", "phone:yes"], APPROVED),
        # A no ends it, also while somebody still types.
        (["phone:no: denied on the phone"], Outcome(False, NO, "denied on the phone")),
        (["typed:", "phone:no: wrong digits on the phone"], Outcome(False, NO, "wrong digits on the phone")),
        # A phone that fails leaves the challenge, until Enter says that nobody has a response.
        (["phone:failed: the broker went away"], None),
        (["phone:failed: the broker went away", "typed:"], Outcome(False, CANNOT, "the broker went away")),
        (["typed:", "phone:failed: the broker went away"], Outcome(False, CANNOT, "the broker went away")),
        # What is no word of the phone's is no yes.
        (["typed:", "phone:"], Outcome(False, CANNOT, "no answer")),
        (["typed:", "phone:YES"], Outcome(False, CANNOT, "no answer")),
        (["typed:", "phone:yes: and more"], Outcome(False, CANNOT, "and more")),
    ],
)  # fmt: skip
def test_either_takes_a_response_or_a_yes(steps: list[str], outcome: Outcome | None) -> None:
    """Whichever comes first; a wrong response and a no are final."""
    assert play(attempt(PHONE), steps) == outcome


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        (["phone:yes"], None),
        (["phone:yes", "typed:"], APPROVED),
        (["typed:ok", "phone:yes"], APPROVED),  # whatever is typed is Enter: there is nothing to be right or wrong
        (["phone:no: denied"], Outcome(False, NO, "denied")),
        (["phone:failed: expired"], Outcome(False, CANNOT, "expired")),
    ],
)
def test_approve_takes_a_yes(steps: list[str], outcome: Outcome | None) -> None:
    """Without a challenge a phone that fails is the end."""
    assert play(attempt(PHONE, challenge=False), steps) == outcome


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ([f"page typed:{RIGHT}"], None),
        ([f"page typed:{RIGHT}", "typed:"], Outcome(True, "", f"{BY} typed=page")),
        (["typed:", f"page typed:{RIGHT}"], Outcome(True, "", f"{BY} typed=page")),
        (["page typed:wrong"], Outcome(False, WRONG, "wrong response, typed on the page")),
        ([f"page typed:{RIGHT}", "typed:wrong"], Outcome(False, WRONG, "wrong response")),
        (["page:no: denied on the page"], Outcome(False, NO, "denied on the page")),
        (["page:failed: expired", f"typed:{RIGHT}"], ALLOWED),
        # The page knows no yes without a response: whoever has the link could say it.
        (["typed:", "page:yes"], Outcome(False, CANNOT, "no answer")),
    ],
)
def test_the_brokers_page_takes_the_response_too(steps: list[str], outcome: Outcome | None) -> None:
    """There is still one attempt in all."""
    judged = attempt(PAGE)
    result = None
    for step in steps:
        way, _, said = step.partition(":")
        result = judged.typed(said.encode()) if way == "typed" else judged.heard(
            PAGE, Secret(said.encode()) if way == "page typed" else said
        )  # fmt: skip
    assert result == outcome


@given(st.lists(st.sampled_from(["typed:", "typed:wrong", "phone:failed: x", "phone:no: x", "phone:x"]), max_size=5))
def test_nothing_but_a_response_or_a_yes_lets_in(steps: list[str]) -> None:
    """In no order of events, and with no way that closed."""
    for judged in (attempt(PHONE), attempt(), attempt(PHONE, challenge=False)):
        for step in steps:
            way, _, said = step.partition(":")
            outcome = judged.typed(said.encode()) if way == "typed" else judged.heard(PHONE, said, PERSON)
            assert outcome is None or not outcome.allowed


def test_late_says_what_else_went_wrong() -> None:
    """To the log; the session hears that it was late."""
    judged = attempt(PHONE)
    judged.heard(PHONE, BROKEN)
    assert judged.late() == Outcome(False, LATE, "too late; the broker went away")


def test_the_pam_line_says_the_mode() -> None:
    """Else the settings do; every mode is known."""
    for mode in PAM_MODES:
        assert login.options((f"mode={mode}",), "challenge") == Options(mode, False)
        assert login.options((), mode) == Options(mode, False)
    assert login.options(("after_first_factor", "mode=either"), "approve") == Options("either", True)


@pytest.mark.parametrize(
    "arguments",
    [("mode=",), ("mode",), ("mode=none",), ("mode=Approve",), ("debug",), ("after_first_factor=no",), ("",),
     ("mode=either", "mode=either"), ("after_first_factor", "after_first_factor"), ("mode=approve\n",)],
)  # fmt: skip
def test_what_the_pam_line_cannot_mean_is_refused(arguments: tuple[str, ...]) -> None:
    """An unknown, misspelt or repeated argument lets nobody in."""
    with pytest.raises(Unfit, match="the PAM line has"):
        login.options(arguments, "challenge")


@pytest.mark.parametrize(
    ("authinfo", "proven"),
    [("", False), ("publickey ssh-ed25519 AAAA\n", True), ("password\n", True), ("none\n", False), ("\n", False),
     (" publickey x\n", False), ("none\nkeyboard-interactive/pam\n", True), ("publickeys x\n", False)],
)  # fmt: skip
def test_sshd_says_what_succeeded_before(authinfo: str, proven: bool) -> None:
    """Only a method that it names is a first factor; the PAM line may say that there was one."""
    hello = Hello("sshd", "alice", tty="ssh", authinfo=authinfo)
    assert login.first_factor(hello, Options("approve", False)) is proven
    assert login.first_factor(hello, Options("approve", True))


@pytest.mark.parametrize("tty", ["", "pts/3", "/dev/tty1", "SSH", "ssh/"])
def test_nobody_but_sshd_says_what_succeeded_before(tty: str) -> None:
    """What others have in PAM's environment may come from a file of the user's."""
    hello = Hello("su", "alice", tty=tty, authinfo="publickey ssh-ed25519 AAAA\n")
    assert not login.first_factor(hello, Options("approve", False))


def test_the_prompt_says_what_can_be_done() -> None:
    """No prompt offers what is not open."""
    assert login.prompt(challenge=True, ways=frozenset()) == "Response: "
    assert login.prompt(challenge=True, ways=frozenset((PHONE,))) == "Response, or Enter after you approved: "
    assert "answered on the page" in login.prompt(challenge=True, ways=frozenset((PAGE,)))
    assert "approved or answered" in login.prompt(challenge=True, ways=frozenset((PAGE, PHONE)))
    assert login.prompt(challenge=False, ways=frozenset((PHONE,))) == "Press Enter when you have approved: "


# The log


def test_a_login_is_one_line() -> None:
    """With who, by what, from where, for whom the kernel says that it asks, and why."""
    hello = Hello("sshd", "alice", rhost="203.0.113.5", tty="ssh")
    assert log.denied(hello, 0, "too late") == (
        "login denied: user=alice service=sshd from=203.0.113.5 uid=0: too late"
    )
    local = Hello("sudo", "alice", tty="/dev/pts/3", ruser="alice")
    assert log.allowed(local, 0, "challenge key=F") == (
        "login allowed: user=alice service=sudo from=pts/3 uid=0 by=challenge key=F"
    )
    assert "from=bob@pts/3 " in log.denied(local._replace(ruser="bob"), 0, "x")
    assert "from=- " in log.denied(Hello("cron", "alice"), 0, "x")


@given(st.text(max_size=400), st.text(max_size=400), st.text(max_size=400), st.text(max_size=2000))
def test_no_name_can_pose_as_another_field(user: str, service: str, rhost: str, why: str) -> None:
    """Whatever a stranger calls himself: one printable line, its fields in their places, of bounded length."""
    line = log.denied(Hello(service, user, rhost=rhost), 0, why)
    assert line.isprintable()
    assert len(line) < 1200
    head, _, _ = line.partition(" uid=0: ")
    assert [word.partition("=")[0] for word in head.split(" ")[2:]] == ["user", "service", "from"]
    assert head.count("=") == 3
