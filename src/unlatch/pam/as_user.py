"""Do something with the rights of an account, and believe no more of it than its bytes.

A process of its own for each task. Whatever the task meets belongs to that account: a home on a file system that does
not answer, a file that never ends, a gpg that hangs. So it is bounded in time and size, and killed.
"""

import ctypes
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Collection
from typing import NoReturn

from unlatch import forked
from unlatch.pam import accounts
from unlatch.pam.accounts import Account
from unlatch.pam.errors import Unfit
from unlatch.secret import forbid_core_dumps

SECONDS = 10.0
MOST = 65536  # bytes of an answer
# The group of every task, in which no account is (systemd's UIDS-GIDS.md leaves 65520..65533 unused). Who traces a
# process has all its uids and gids (ptrace(2)), and so has who serves it a file system of his own (fuse(4)). So the
# account's other processes can neither take over a program of ours nor keep one that was killed from ending: both would
# be tasks of this service, which has only so many for everybody. The account's group is among the task's other groups.
GROUP = 65533
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # nowhere that is not root's

_MAX_WHY = 500  # bytes
_LIMITS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 16 << 20),
    (resource.RLIMIT_AS, 2 << 30),
)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGPIPE,
            signal.SIGCHLD)  # fmt: skip
_PR_SET_NO_NEW_PRIVS = 38  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


def call(who: Account | int, task: Callable[[], bytes], *, seconds: float = SECONDS, most: int = MOST) -> bytes:
    """What ``task`` returns when this account runs it. Its environment, descriptors and directory are not the caller's.

    The task's memory is a copy of the caller's, so the caller must not hold what this account may not have; before it
    executes a program, that is out of the account's reach (ptrace(2): a process that changed its uid is not dumpable).

    Raises:
        Unfit: the task's own one, or that it failed, said too much, or took too long.
    """
    account = who if isinstance(who, Account) else accounts.by_uid(who)
    if account.uid != os.geteuid() and os.geteuid() != 0:
        raise Unfit(f"only root can look as {account.name}")
    until = boottime() + seconds
    ours, theirs = forked.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            _child(account, task, theirs, seconds)
    except OSError as error:
        os.close(ours)
        raise Unfit(f"no process could be started: {reason(error)}") from None
    finally:
        os.close(theirs)
    try:
        heard = _hear(ours, until, most, account.name)
    finally:
        os.close(ours)
        forked.end(pid)
    if heard[:1] == b"-":
        raise Unfit(printable(heard[1:-1].decode("utf-8", "replace")))
    return heard[1:-1]


def boottime() -> float:
    """Seconds that go on during sleep and that nobody sets (clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def printable(text: str) -> str:
    """One line for the log, from somebody who is not believed."""
    return "".join(character if character.isprintable() else "?" for character in text)[:_MAX_WHY]


def environment(account: Account) -> dict[str, str]:
    """All that a program of this account gets to know; nothing of it is the account's own choice."""
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": account.home or "/", "USER": account.name, "LOGNAME": account.name}


def read_most(descriptor: int, most: int, until: float) -> bytes | None:
    """Everything up to the end; None if that comes too late, or is more than ``most`` bytes."""
    heard = bytearray()
    while True:
        left = until - boottime()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        data = os.read(descriptor, 65536)
        if not data:
            return bytes(heard)
        heard += data
        if len(heard) > most:
            return None


def become(
    account: Account, keep: Collection[int], seconds: float, *, descriptors: int = 256, group: int | None = None
) -> None:
    """Make this process, a new child, the account's for good: its rights, and nothing of the caller's but ``keep``.

    ``keep`` are descriptors above the standard ones, ``descriptors`` how many there may be, ``group`` is its group if
    not the account's own. The process ends with the caller, and some seconds after ``seconds`` should nothing else end
    it.

    Raises:
        Unfit, OSError
    """
    _leave_caller(keep, seconds)
    _take_rights(account, account.gid if group is None else group)
    forked.end_with_parent(signal.SIGKILL)  # a change of uid would take an earlier one back
    forbid_core_dumps()
    for limit, most in (*_LIMITS, (resource.RLIMIT_NOFILE, descriptors)):
        hard = resource.getrlimit(limit)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (allowed, allowed))
    os.environ.clear()
    os.environ.update(environment(account))


def _leave_caller(keep: Collection[int], seconds: float) -> None:
    """Nothing of the caller's stays: session, signals, descriptors, directory."""
    os.setsid()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.alarm(int(seconds) + 2)  # should the caller die without a word
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    begin = 3
    for kept in sorted(keep):
        os.closerange(begin, kept)
        begin = kept + 1
    os.closerange(begin, 1 << 20)
    os.chdir("/")
    os.umask(0o077)


def _take_rights(account: Account, group: int) -> None:
    """The account's rights, for good and without a way to more."""
    if account.uid != os.getuid() or account.uid != os.geteuid():
        os.initgroups(account.name, account.gid)
        os.setresgid(group, group, group)
        os.setresuid(account.uid, account.uid, account.uid)
    if os.getresuid() != (account.uid,) * 3:
        raise Unfit(f"the rights of {account.name} could not be taken")
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise Unfit("the kernel knows no no_new_privs")


def _hear(pipe: int, until: float, most: int, name: str) -> bytes:
    heard = read_most(pipe, max(most, _MAX_WHY) + 2, until)
    if heard is None and boottime() >= until:
        raise Unfit(f"looking as {name} took too long")
    if heard is None or (heard[:1] == b"+" and len(heard) > most + 2):
        raise Unfit(f"looking as {name} brought too much")
    # The full stop is the last that a child says: without it, it was killed on the way.
    if heard[:1] not in (b"+", b"-") or heard[-1:] != b"." or len(heard) < 2:
        raise Unfit(f"looking as {name} ended without an answer")
    return heard


def _child(account: Account, task: Callable[[], bytes], pipe: int, seconds: float) -> NoReturn:
    status = 1
    try:
        try:
            become(account, (pipe,), seconds, group=GROUP)
            said = b"+" + task() + b"."
        except Exception as error:
            said = b"-" + _why(error).encode("utf-8", "replace")[:_MAX_WHY] + b"."
        forked.write(pipe, said)
        status = 0
    finally:
        os._exit(status)  # nothing of the caller's is flushed, closed or told twice


def _why(error: Exception) -> str:
    if isinstance(error, Unfit):
        return error.why
    return reason(error) if isinstance(error, OSError) else f"unforeseen {type(error).__name__}"


def reason(error: OSError) -> str:
    """What the system says, as part of a line of ours."""
    return (error.strerror or type(error).__name__).lower()
