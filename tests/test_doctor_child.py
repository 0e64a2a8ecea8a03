"""Doctor's probes run as somebody else, and what they say is believed no further than it must be."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from doctor_asker import situation
from house import House
from real import absent

from unlatch import forked
from unlatch.doctor import child, facts, run
from unlatch.doctor.check import Check, Finding, Situation, ok
from unlatch.errors import Malformed

# Here pytest's own threads run while it forks; the command has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


class Inner(NamedTuple):
    name: str
    number: int


class Some(NamedTuple):
    text: str | None
    flag: bool
    share: float
    names: tuple[str, ...]
    pair: tuple[str, int]
    inner: tuple[Inner, ...]


GOOD = Some(None, True, 0.5, ("a", "b"), ("x", 1), (Inner("n", 2),))
PLAIN = {
    "text": None,
    "flag": True,
    "share": 0.5,
    "names": ["a", "b"],
    "pair": ["x", 1],
    "inner": [{"name": "n", "number": 2}],
}


def test_facts_come_back_as_they_went() -> None:
    """Types included, and bytes of paths that are no text."""
    assert facts.load(Some, facts.dump(GOOD)) == GOOD
    odd = Inner(os.fsdecode(b"/srv/\xff"), 1)
    assert facts.load(Inner, facts.dump(odd)) == odd


@pytest.mark.parametrize(
    "change",
    [
        {"flag": 1}, {"flag": None}, {"share": True}, {"share": "0.5"}, {"text": 1}, {"names": "ab"}, {"names": [1]},
        {"names": ["a"] * 257}, {"pair": ["x"]}, {"pair": [1, "x"]}, {"inner": [{"name": "n"}]}, {"inner": [["n", 2]]},
        {"inner": [{"name": "n", "number": 2, "hint": "rm -rf /"}]}, {"hint": "rm -rf /"}, {"text": "x" * 4097},
    ],
    ids=str,
)  # fmt: skip
def test_anything_else_is_no_facts(change: dict[str, Any]) -> None:
    """Another type, another name, one more, one less, more than anybody needs."""
    with pytest.raises(Malformed):
        facts.load(Some, json.dumps(PLAIN | change).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 50_000,
        json.dumps(PLAIN | {"share": math.nan}).encode(),
        b" " * 70_000,
    ],
    ids=range(8),
)
def test_what_is_no_json_is_no_facts(data: bytes) -> None:
    """Nesting without end, numbers that are none, bytes that are no text."""
    with pytest.raises(Malformed):
        facts.load(Some, data)


# The process


def test_it_knows_nothing_of_the_caller(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only two variables, no descriptors but its pipe, another session, the root directory, nothing on its input."""
    monkeypatch.setenv("CANARY", "secret")
    opened = os.open("/etc/passwd", os.O_RDONLY)

    def look() -> bytes:
        streams = [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]
        open_now = [name for name in os.listdir("/proc/self/fd") if int(name) > 2]
        variables = sorted(os.environ)
        told = [variables, streams, len(open_now), os.getcwd(), os.getsid(0) == os.getpid()]
        return json.dumps(told).encode()

    bare = {"GNUPGHOME": "/g", "PATH": "/bin"}
    said = json.loads(child.run_as(situation(house, environ=bare), look))
    os.close(opened)
    # Its pipe, and the directory that was being listed.
    assert said == [["GNUPGHOME", "PATH"], ["/dev/null"] * 3, 2, "/", True]


def test_it_is_the_user_for_good(house: House) -> None:
    """All three uids and gids, no group of root's, and no way back."""
    if os.getuid() != 0:
        absent("only root can become somebody else")
    daemon = situation(house, user="daemon", uid=1, gid=1, caller=0)

    def look() -> bytes:
        try:
            os.setuid(0)
        except PermissionError:
            return json.dumps([os.getresuid(), os.getresgid(), os.getgroups()]).encode()
        return b"root again"

    assert json.loads(child.run_as(daemon, look)) == [[1, 1, 1], [1, 1, 1], [1]]


def test_who_cannot_become_the_user_runs_nothing(house: House) -> None:
    """A caller without the right gets a reason, and the probe never runs with the caller's own rights."""
    if os.getuid() != 0:
        absent("this test drops root's rights itself")
    mark = house.root / "ran"

    def drop_then_become() -> bytes:
        return child.run_as(
            situation(house, user="daemon", uid=1, gid=1, caller=2), lambda: bytes(mark.touch() or b"ran")
        )

    # First become uid 2, which may become nobody else.
    said = child.run_as(situation(house, user="bin", uid=2, gid=2, caller=0), drop_then_become)
    assert said.startswith(child.FAILED + b"PermissionError at child.py:")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (lambda: os._exit(0), "ended without an answer"),
        (lambda: b"x" * 200_000, "too long"),
        (lambda: time.sleep(60) or b"", "no answer within"),
        (lambda: os.kill(os.getpid(), signal.SIGSTOP) or time.sleep(60) or b"", "no answer within"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL) or b"", "ended without an answer"),
    ],
    ids=["silent", "long", "slow", "stopped", "killed"],
)
def test_its_words_are_bounded(house: House, work: Any, why: str) -> None:
    """Its user can stop it or kill it, and make its programs say anything; doctor goes on."""
    with pytest.raises(child.NotFinished, match=why):
        child.run_as(situation(house), work, seconds=0.3)


def test_what_it_started_ends_with_it(house: House) -> None:
    """A program that a probe waits for does not stay behind."""
    import subprocess

    def work() -> bytes:
        subprocess.run(["sleep", "60", str(house.root)], check=False)
        return b""

    with pytest.raises(child.NotFinished):
        child.run_as(situation(house), work, seconds=0.3)
    assert house.processes() == []


# From the process to a finding


class Number(NamedTuple):
    value: int


# Its tracer is told of a process's end before its parent, and says nothing on.
TRACER = """
import ctypes, os, sys
child = int(open(sys.argv[1]).read())
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
if libc.ptrace(0x4206, child, 0, 0):  # PTRACE_SEIZE
    sys.exit(os.strerror(ctypes.get_errno()))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_process_that_ends_for_nobody_holds_up_nobody(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that a dead file system holds is left behind; here a tracer keeps it from its parent."""
    if os.getuid() != 0:
        absent("only root may trace any process")
    monkeypatch.setattr(forked, "END_SECONDS", 0.2)
    name = tmp_path / "pid"
    os.mkfifo(name)
    tracer = subprocess.Popen(
        [sys.executable, "-c", TRACER, str(name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    began = time.monotonic()
    try:
        with pytest.raises(child.NotFinished, match="no answer"):
            child.run_as(situation(house), lambda: _tell_pid(str(name)), 2)
        assert time.monotonic() - began < 10
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "ready\n"
    finally:
        tracer.communicate(timeout=10)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _tell_pid(name: str) -> bytes:
    with open(name, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)
    return b""


def check(probe: Any, judge: Any = lambda found, _: ok(str(found.value))) -> Check[Number]:
    return Check("trial", "it proves", "type", Number, probe, judge)


def examine(house: House, made: Check[Number]) -> Finding:
    (found,) = run.examine((made,), (), situation(house))
    return found


def test_a_good_probe_is_judged(house: House) -> None:
    """The other tests here are about what is not."""
    assert examine(house, check(lambda _: Number(7))) == ("trial", "ok", "7", "")


def raising(text: str) -> Any:
    def probe(_: Situation) -> Number:
        raise ValueError(text)

    return probe


def test_an_exception_says_where_and_quotes_nothing(house: House) -> None:
    """Its text may hold anything."""
    found = examine(house, check(raising("the canary")))
    assert (found.state, found.hint) == ("unknown", "unlatch doctor trial")
    assert "ValueError at test_doctor_child.py:" in found.text
    assert "canary" not in found.text


def test_an_exception_of_the_judge_too(house: House) -> None:
    """One check that cannot cope takes no other with it."""

    def judge(found: Number, _: Situation) -> Finding:
        raise ValueError("the canary")

    found = examine(house, check(lambda _: Number(1), judge))
    assert (found.state, "ValueError at" in found.text, "canary" in found.text) == ("unknown", True, False)


@pytest.mark.parametrize(
    "said",
    [
        b"!rm -rf / at x",
        b"!\x1b[2J",
        b"!",
        b'{"value": "1"}',
        b'{"value": 1, "hint": "rm"}',
        b'[{"check": "trial"}]',
        b"\xff",
    ],
)
def test_a_user_who_speaks_in_its_place_is_not_quoted(
    house: House, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever bytes come out of the pipe, no sentence and no command of theirs reaches the caller's terminal."""
    monkeypatch.setattr(child, "run_as", lambda *_: said)
    found = examine(house, check(lambda _: Number(1)))
    assert found.state == "unknown"
    assert "rm" not in found.hint.split()
    assert "rm" not in found.text.split()
    assert found.text.isprintable()
