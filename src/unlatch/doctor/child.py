"""Run a probe as the asking user: a process of its own that knows what that user's services know, and no more.

It is that user's process, so nothing that it says is believed further than a fact of that user's would be: its words
are bounded in size and time, and read strictly (``facts``). Who asks for another user must be root.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from typing import NoReturn

from unlatch import forked
from unlatch.doctor.check import Situation
from unlatch.doctor.facts import MAX_FACTS
from unlatch.errors import UnlatchError

SECONDS = 20.0  # for one probe; the slowest (an interpreter that starts on a busy machine) takes a second
FAILED = b"!"  # what starts the words of a probe that raised


class NotFinished(UnlatchError):
    """The probe ended without a word, said too much, or took too long; the text says which."""


def run_as(situation: Situation, work: Callable[[], bytes], seconds: float = SECONDS) -> bytes:
    """What ``work`` returns when the asking user runs it, or :data:`FAILED` and the reason.

    Raises:
        NotFinished: it said nothing, or nothing that can be read.
    """
    ours, theirs = forked.pipe()
    pid = os.fork()
    if pid == 0:
        _child(situation, work, theirs, seconds)
    os.close(theirs)
    try:
        return _hear(ours, seconds)
    finally:
        os.close(ours)
        forked.end(pid)


def _hear(pipe: int, seconds: float) -> bytes:
    until = time.monotonic() + seconds
    heard = bytearray()
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            raise NotFinished(f"no answer within {seconds:.0f} s")
        data = os.read(pipe, 65536)
        if not data:
            break
        heard += data
        if len(heard) > MAX_FACTS:
            raise NotFinished("the answer is too long")
    if not heard:
        raise NotFinished("the process ended without an answer")
    return bytes(heard)


def _child(situation: Situation, work: Callable[[], bytes], pipe: int, seconds: float) -> NoReturn:
    status = 1
    try:
        try:
            said = _work(situation, work, pipe, seconds)
        except Exception as error:
            said = FAILED + f"{type(error).__name__} at {forked.place(error)}".encode()
        forked.write(pipe, said)
        status = 0
    finally:
        os._exit(status)  # nothing of the caller's is flushed, closed or told twice


def _work(situation: Situation, work: Callable[[], bytes], pipe: int, seconds: float) -> bytes:
    # 1. Nothing of the caller's: session, signals, descriptors, directory, environment.
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.alarm(int(seconds) + 5)  # should the caller die without a word
    _close_all_but(pipe)
    os.chdir("/")
    os.umask(0o077)
    # 2. The user's rights, for good. That user can then neither trace nor read this process (ptrace(2)).
    if situation.caller != situation.uid:
        _become(situation)
    os.environ.clear()
    os.environ.update(situation.environ)
    # 3. The work.
    return work()


def _become(situation: Situation) -> None:
    groups = os.getgrouplist(situation.user, situation.gid)
    os.setgroups(groups)
    os.setresgid(situation.gid, situation.gid, situation.gid)
    os.setresuid(situation.uid, situation.uid, situation.uid)
    if os.getresuid() != (situation.uid,) * 3 or os.getresgid() != (situation.gid,) * 3:
        raise PermissionError


def _close_all_but(pipe: int) -> None:
    """All descriptors; the standard ones lead nowhere. ``pipe`` is none of those (see :func:`run_as`)."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 65536)
