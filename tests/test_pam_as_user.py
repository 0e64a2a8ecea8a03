"""A task with another account's rights: all of its rights and none of the caller's, bounded in time, size and words."""

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from real import absent
from waiting import until

from unlatch.pam import as_user
from unlatch.pam.accounts import Account, by_uid, find
from unlatch.pam.errors import Unfit

# pytest's own threads run while it forks; the service has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

UID = 4312
ALICE = Account("alice", UID, UID, "/home/of/alice")


@pytest.fixture(autouse=True)
def _as_root() -> None:
    if os.getuid() != 0:
        absent("only root can act as others")


def why(task: Callable[[], bytes], **bounds: float) -> str:
    """Why a task of alice's brought nothing."""
    with pytest.raises(Unfit) as caught:
        as_user.call(ALICE, task, **bounds)  # type: ignore[arg-type]
    assert caught.value.why.isprintable()
    return caught.value.why


def test_it_has_the_rights_of_the_account_and_no_way_to_more() -> None:
    """All its uids, no group of root's, no_new_privs, no core dumps, and nobody else's memory to give.

    Its own group is one that nothing else of the account's has.
    """

    def look() -> bytes:
        status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
        raised = []
        for call in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):
            try:
                call()
            except PermissionError:
                raised.append(True)
        told = [
            status["Uid"],
            status["Gid"],
            status["Groups"],
            status["NoNewPrivs"],
            status["CapEff"],
            status["CapPrm"],
        ]
        return json.dumps([*told, raised, os.stat("/proc/self/mem").st_uid]).encode()

    told = json.loads(as_user.call(ALICE, look))
    ids = "\t".join([str(UID)] * 4)
    groups = "\t".join([str(as_user.GROUP)] * 4)
    assert told == [ids, groups, f"{UID} ", "1", "0" * 16, "0" * 16, [True] * 3, 0]
    assert os.geteuid() == 0


def test_it_knows_nothing_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables, descriptors, directory, session or signal handlers; and no limits that it could raise."""
    monkeypatch.setenv("CANARY", "secret")
    monkeypatch.setenv("GNUPGHOME", "/root")
    opened = os.open("/etc/passwd", os.O_RDONLY)
    signal.signal(signal.SIGTERM, lambda *_: None)

    def look() -> bytes:
        streams = [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]
        open_now = [name for name in os.listdir("/proc/self/fd") if int(name) > 2]
        limits = [resource.getrlimit(each) for each in (resource.RLIMIT_CORE, resource.RLIMIT_NOFILE)]
        handler = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        own = os.getsid(0) == os.getpid()
        return json.dumps([sorted(os.environ), streams, len(open_now), os.getcwd(), own, handler, limits]).encode()

    try:
        told = json.loads(as_user.call(ALICE, look))
    finally:
        os.close(opened)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert told[0] == ["HOME", "LANG", "LOGNAME", "PATH", "USER"]
    assert told[1] == ["/dev/null"] * 3
    assert told[2] == 2  # its pipe, and the directory that is listed
    assert told[3:] == ["/", True, True, [[0, 0], [256, 256]]]


def test_who_runs_as_the_account_cannot_look_into_it() -> None:
    """Until it runs a program its memory is a copy of root's: neither readable nor traceable for its own uid."""

    def look() -> bytes:
        script = f"""
try: open('/proc/{os.getpid()}/mem', 'rb')
except PermissionError: print(open('/proc/self/status').read().split('Uid:')[1].split()[0], 'refused')
"""
        return subprocess.run(["/usr/bin/python3", "-ISc", script], capture_output=True, check=False).stdout

    assert as_user.call(ALICE, look) == f"{UID} refused\n".encode()


TRACE = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
own = os.posix_spawn('/bin/sleep', ['sleep', '1000'], {})
told = [libc.ptrace(16, pid, None, None) and ctypes.get_errno() for pid in (own, int(sys.argv[1]))]  # PTRACE_ATTACH
os.kill(own, signal.SIGKILL)
print(*told)
"""


def test_who_runs_as_the_account_cannot_trace_what_it_runs() -> None:
    """Else it could make a gpg of ours do anything, or keep it when it is dead, as a task of the service."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(folder, UID, UID)
    asking = os.fork()
    if asking == 0:
        try:
            words = ["/bin/sh", "-c", f"echo $$ > {folder}/pid; exec sleep 1000"]
            as_user.call(ALICE, lambda: b"%d" % subprocess.run(words, check=False).returncode, seconds=60)
        finally:
            os._exit(0)
    try:
        until(lambda: (folder / "pid").exists() and (folder / "pid").read_text(), "a program")
        ours = (folder / "pid").read_text().strip()
        until(lambda: Path(f"/proc/{ours}/comm").read_text() == "sleep\n", "that it runs")
        words = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "/usr/bin/python3", "-ISc", TRACE]
        done = subprocess.run([*words, ours], capture_output=True, check=True, cwd="/")
        os.kill(int(ours), signal.SIGKILL)
    finally:
        os.waitpid(asking, 0)
        shutil.rmtree(folder)
    assert done.stdout == f"0 {errno.EPERM}\n".encode()


def test_its_own_reason_comes_back() -> None:
    """As one printable line, however long and odd."""

    def refuse() -> bytes:
        raise Unfit("~/.auth_gpg: no\nsuch\x1b file" + "x" * 2000)

    assert why(refuse).startswith("~/.auth_gpg: no?such? filexxx")
    assert len(why(refuse)) <= 500


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("canary"), "unforeseen ValueError"),
        (OSError(errno.EIO, "Input/output error", "canary"), "input/output error"),
        (MemoryError("canary"), "unforeseen MemoryError"),
        (RecursionError("canary"), "unforeseen RecursionError"),
    ],
    ids=["value", "system", "memory", "recursion"],
)
def test_other_errors_say_only_what_they_are(error: Exception, told: str) -> None:
    """Their texts may quote anything."""

    def fail() -> bytes:
        raise error

    assert why(fail) == told


def test_an_answer_has_a_greatest_size() -> None:
    """Exactly that many bytes pass."""
    assert as_user.call(ALICE, lambda: b"x" * 100_000, most=100_000) == b"x" * 100_000
    assert as_user.call(ALICE, lambda: b"") == b""
    assert why(lambda: b"x" * 100_001, most=100_000) == "looking as alice brought too much"
    assert why(lambda: b"x" * 11, most=10) == "looking as alice brought too much"
    assert why(lambda: b"x" * (1 << 24), most=10) == "looking as alice brought too much"


@pytest.mark.parametrize("how", ["exit", "kill", "half"])
def test_half_an_answer_is_none(how: str) -> None:
    """A task that dies, by itself or by somebody else, before it has said the last of it."""

    def die() -> bytes:
        if how == "half":
            for descriptor in range(3, 20):
                try:
                    os.write(descriptor, b"+half an answer")
                except OSError:
                    continue
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)

    assert why(die) == "looking as alice ended without an answer"


def test_what_hangs_is_killed_with_all_that_it_started() -> None:
    """As an open of a pipe that nobody writes does, in a process that ignores every signal that can be ignored."""

    def hang() -> bytes:
        for number in (signal.SIGTERM, signal.SIGALRM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        subprocess.Popen(["/bin/sleep", "1000"])
        os.mkfifo(folder / "fifo")
        os.open(folder / "fifo", os.O_RDONLY)
        return b"never"

    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(folder, UID, UID)
    try:
        assert why(hang, seconds=0.5) == "looking as alice took too long"
    finally:
        shutil.rmtree(folder)
    until(lambda: not processes(), "the end of everything that was started")


def processes() -> list[int]:
    """Those of alice's uid."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if f"Uid:\t{UID}\t" in Path(f"/proc/{name}/status").read_text():
                found.append(int(name))
    return found


def test_only_root_acts_as_others() -> None:
    """An account may look as itself; another one is refused before anything is done."""
    assert as_user.call(ALICE, lambda: as_user.call(ALICE, lambda: str(os.getuid()).encode())) == str(UID).encode()
    assert why(lambda: as_user.call(ALICE._replace(uid=UID + 1), lambda: b"no")) == "only root can look as alice"


def test_root_looks_as_itself() -> None:
    """Its own entry is read like any other's: with its rights, and without a way to give them to what it starts."""

    def look() -> bytes:
        status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return json.dumps([os.getuid(), status["NoNewPrivs"], sorted(os.environ)]).encode()

    told = json.loads(as_user.call(Account("root", 0, 0, "/root"), look))
    assert told == [0, "1", ["HOME", "LANG", "LOGNAME", "PATH", "USER"]]


def test_a_uid_stands_for_its_account() -> None:
    """Where there is none, nothing is done."""
    daemon = find("daemon")

    def look() -> bytes:
        return json.dumps([os.getuid(), os.environ["USER"]]).encode()

    assert json.loads(as_user.call(daemon.uid, look)) == [daemon.uid, "daemon"]
    assert by_uid(daemon.uid) == daemon
    with pytest.raises(Unfit, match="uid 4294900000 has no account"):
        as_user.call(4_294_900_000, lambda: b"")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-r", "a b", "a:b", "a\0b", "a\nb", "x" * 257, "no-such-user"])
def test_what_names_no_account_is_refused(name: str) -> None:
    """Nor what could lead to another file than one's own record."""
    with pytest.raises(Unfit):
        find(name)


def test_it_works_without_standard_descriptors_and_children() -> None:
    """As a daemon may run: all three closed, and the kernel told to reap (SIGCHLD ignored)."""
    script = (
        "import os, signal; os.close(0); os.close(1); os.close(2); signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "from unlatch.pam import as_user; from unlatch.pam.accounts import Account\n"
        f"said = as_user.call(Account('a', {UID}, {UID}, ''), lambda: b'yes', seconds=20)\n"
        "os._exit(0 if said == b'yes' else 1)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd="/", timeout=60, check=False).returncode == 0
