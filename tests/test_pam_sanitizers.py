"""The module under pamtester: as people have it, under AddressSanitizer and UBSan, and under valgrind."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pam_build import CHECKED, ROOT, SANITIZED, Workshop, pam_module
from real import real
from scripted_pam_service import Line, ScriptedPamService, Step

from unlatch.wire import pam

PROMPT, ALLOW, DENY = b"ask\0Response: \0", b"allow\0", b"deny\0"
FOUND = 97  # exit status of a checker that has something to say
UNCONFIRMED = "unlatch: this login cannot be confirmed"


class Way(NamedTuple):
    """How pamtester is run: with which build of the module, words before it, and environment."""

    module: Path
    before: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()


@pytest.fixture(params=["plain", "sanitizers", "valgrind"])
def way(request: pytest.FixtureRequest, workshop: Workshop) -> Way:
    """Each of the three."""
    return {"plain": lambda: Way(workshop.module()), "sanitizers": lambda: sanitizers(workshop),
            "valgrind": lambda: valgrind(workshop)}[request.param]()  # fmt: skip


def sanitizers(workshop: Workshop, source: Path | None = None) -> Way:
    """The program around the module knows nothing of them, so the library has to be there before it."""
    library = subprocess.run(
        [real("gcc"), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    module = compiled(workshop, "sanitized.so", SANITIZED, source)
    options = f"exitcode={FOUND}:detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1"
    return Way(module, environ=(("LD_PRELOAD", library), ("ASAN_OPTIONS", options)))


def valgrind(workshop: Workshop, source: Path | None = None) -> Way:
    """Leaks of the module are errors; descriptors that stay open too."""
    module = compiled(workshop, "checked.so", CHECKED, source)
    options = f"--quiet --error-exitcode={FOUND} --leak-check=full --errors-for-leak-kinds=definite,indirect,possible"
    return Way(module, before=(real("valgrind"), *options.split()))


def compiled(workshop: Workshop, name: str, options: tuple[str, ...], source: Path | None) -> Path:
    """The module of this checkout, or of another source."""
    if source is None:
        return workshop.variant(name, options)
    pam_module.compile_with(real("gcc"), source.parent / name, (*options, f"-I{ROOT / 'pam'}"), source)
    return source.parent / name


Checker = Callable[[Workshop, Path], Way]
Login = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def login() -> Iterator[Login]:
    """pamtester in a mount namespace of its own, where /etc/pam.d is a directory with this one service."""
    with tempfile.TemporaryDirectory(prefix="unlatch-pamd-", dir="/tmp") as services:

        def login(way: Way, socket: Path, typed: str = "", *options: str) -> "subprocess.CompletedProcess[str]":
            (Path(services) / "unlatch-test").write_text(f"auth required {way.module} socket={socket} timeout=20\n")
            script = 'mount --bind "$0" /etc/pam.d && exec "$@"'
            environ = [f"{name}={value}" for name, value in way.environ]
            return subprocess.run(
                [real("unshare"), "--mount", "--propagation", "private", "sh", "-c", script, services, "env", *environ,
                 *way.before, real("pamtester"), "-I", "rhost=203.0.113.5", *options, "unlatch-test", "alice",
                 "authenticate"],
                input=typed, capture_output=True, text=True, timeout=120, check=False, env={"PATH": os.environ["PATH"]},
            )  # fmt: skip

        yield login


@pytest.fixture
def service() -> Iterator[ScriptedPamService]:
    """What the module talks to."""
    with ScriptedPamService() as service:
        yield service


LARGE = f"SSH_AUTH_INFO_0={'x' * pam.MAX_HELLO}"
LONG = pam.word_to_packet("say", "x" * (pam.MAX_PACKET - len(b"say\0\0")))
MANY = (pam.word_to_packet("say", "one\ntwo"), LONG, b"wait\0", PROMPT, Line.hear, b"hide\0PIN: \0", Line.hear)
LATE = (PROMPT, Line.leave_unread, pam.word_to_packet("warn", "unlatch: too late"), DENY)
CASES: dict[str, tuple[tuple[Step, ...], int, str]] = {
    "allow": ((*MANY, ALLOW), 0, "one\ntwo"),
    "deny": ((*MANY, pam.word_to_packet("warn", "unlatch: not accepted"), DENY), 1, "unlatch: not accepted"),
    "late": (LATE, 1, "unlatch: too late"),
    "dead": ((PROMPT,), 1, UNCONFIRMED),
    "garbage": ((b"\xff" * 100, Line.hear), 1, UNCONFIRMED),
    "too large": ((LONG + b"\0" * 40000, Line.hear), 1, UNCONFIRMED),
    "too much": ((lambda line: line.flood(b"wait\0"),), 1, UNCONFIRMED),
}


@pytest.mark.parametrize("case", CASES)
def test_no_findings(login: Login, service: ScriptedPamService, way: Way, case: str) -> None:
    """Every end of a login ends as it should, is told to the person, and no checker has anything to say."""
    steps, code, shown = CASES[case]
    service.play(*steps)
    done = login(way, service.path, "0aZ\nsecret\n")
    assert done.returncode == code, done.stderr
    assert shown in done.stdout + done.stderr
    assert ("successfully authenticated" in done.stdout) == (case == "allow")
    assert pam.hello_from_packet(service.heard[0]).rhost == "203.0.113.5"


def test_no_findings_without_a_service(login: Login, service: ScriptedPamService, way: Way) -> None:
    """Nobody listens; and then the greeting does not fit."""
    assert login(way, service.root / "none.sock").returncode == 1
    service.play(Line.hear)
    assert login(way, service.path, "", "-E", LARGE).returncode == 1


WIPE = "    if (typed != NULL)\n        explicit_bzero"
BREAKS = {
    "a leak": ("    free(typed);\n", ""),
    "an overflow": ("size == 0 || length > MAX_HELLO - size", "size == 0"),
    "a freed answer": (WIPE, f"    free(typed);\n{WIPE}"),
}
FINDABLE = [(sanitizers, each) for each in BREAKS] + [(valgrind, "a leak"), (valgrind, "a freed answer")]


@pytest.mark.parametrize(("checker", "broken"), FINDABLE)
def test_a_broken_module_is_found(
    login: Login, service: ScriptedPamService, workshop: Workshop, tmp_path: Path, checker: Checker, broken: str
) -> None:
    """Mistakes that are put into the module are told: the silence of the checkers means something."""
    before, after = BREAKS[broken]
    text = (ROOT / "pam/pam_unlatch.c").read_text()
    assert text.count(before) == 1
    source = tmp_path / "pam_unlatch.c"
    source.write_text(text.replace(before, after))
    service.play(PROMPT, Line.hear, DENY)
    done = login(checker(workshop, source), service.path, "0aZ\n", *(["-E", LARGE] if broken == "an overflow" else []))
    assert done.returncode == FOUND, done.stdout + done.stderr
