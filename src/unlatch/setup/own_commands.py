"""Run another of our own commands as the user whom it is for, at this terminal."""

import os
import sys

from unlatch.cli import voice
from unlatch.doctor.check import Situation

_KEPT = ("LANG", "TERM", "UNLATCH_CONFIG")


def start(situation: Situation, *words: str) -> int:
    """Begin the command in a child that is this user; the child's pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become_command(situation, words)
    return pid


def finish(pid: int) -> int:
    """Wait for its end; the exit code."""
    while True:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except KeyboardInterrupt:  # the child has its own, and says what came of it
            continue


def _become_command(situation: Situation, words: tuple[str, ...]) -> None:
    code = voice.FAILED
    try:
        if situation.caller != situation.uid:
            os.setgroups(os.getgrouplist(situation.user, situation.gid))
            os.setresgid(situation.gid, situation.gid, situation.gid)
            os.setresuid(situation.uid, situation.uid, situation.uid)
            kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
            os.environ.clear()
            os.environ.update({**situation.environ, **kept})
            os.chdir("/")
        from unlatch.cli.main import run

        code = run(list(words))
        sys.stdout.flush()
    finally:
        os._exit(code)  # nothing of the parent's is flushed, closed or told twice
