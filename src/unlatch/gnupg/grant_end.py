"""The program that ends grants: a timer or a child runs it with the home, the agent's life, the end, and keygrips.

It clears what is over and nothing else: a key that was unlocked again meanwhile has another end, and an agent that was
started anew has forgotten everything. When it came too early, because the wall clock was set, it has itself called
again.
"""

import contextlib
import ctypes
import os
import pwd
import select
import struct
import sys
import time

from unlatch.ask import boottime
from unlatch.errors import UnlatchError
from unlatch.gnupg import (
    ending,
    keys,
    processes,  # noqa: F401  # what Agent needs later: a child waits for months, and the package may be exchanged
)
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import NoAgent, TwoAgents
from unlatch.gnupg.grants import Grant, Records, agent_life, is_over
from unlatch.gnupg.homes import Home

_TIMERSPEC = struct.Struct(
    "@qqqq"
)  # interval, then the first time, each as seconds and nanoseconds (timerfd_create(2))
_ABSOLUTE = 1
AGAIN_SECONDS = 30.0  # as RestartSec= of the timers' services (gnupg/ending.py)


def main(arguments: list[str], again: float = AGAIN_SECONDS) -> None:
    """``HOME LIFE END GRIP... [--wait]``. Any trouble with an agent is raised, so that systemd calls again.

    With ``--wait`` there is nobody who would: it is tried again after ``again`` seconds, as long as the agent lives.
    """
    directory, life, end, *grips = (each for each in arguments if each != "--wait")
    uid = os.geteuid()
    user_home = _home(uid)
    home = Home.find(dict(os.environ) | {"GNUPGHOME": directory}, uid, user_home)
    records = Records(directory, uid, os.environ, user_home)
    asked = [Grant(directory, grip, life, float(end)) for grip in grips]
    if "--wait" not in arguments:
        _end_in_each(home, records, asked)
        return
    come = float(end)
    while _wait_until(come, life):  # else the agent ended first
        try:
            _end_in_each(home, records, asked)
        except (UnlatchError, OSError):  # it hangs, or another one is in the way: the grant must not outlive that
            come = boottime() + again
        else:
            return


def arguments_of(grants: list[Grant]) -> list[str]:
    """The arguments with which this program ends these grants, which have one home, agent and end."""
    first = grants[0]
    return [first.directory, first.agent, repr(first.end), *(grant.grip for grant in grants)]


def _end_in_each(home: Home, records: Records, asked: list[Grant]) -> None:
    for agent in _agents(home):
        with agent:
            _end(agent, home, records, asked)


def _end(agent: Agent, home: Home, records: Records, asked: list[Grant]) -> None:
    life, now = agent_life(agent.pid), boottime()
    early = []
    for grant in asked:
        match is_over(records.read(grant.grip), grant, life, now):
            case "clear":
                keys.clear(agent, grant.grip)
                records.forget(grant.grip)
            case "wait":
                early.append(grant)
    if early:
        seconds = early[0].end - now
        who = ending.choose(ending.look(home.uid, user_name(home.uid), agent.pid))
        again = ending.schedule(who, home, arguments_of(early), seconds=seconds, wall=time.time() + seconds)
        for grant in early:
            records.write(grant._replace(scheduled=again))


def _agents(home: Home) -> list[Agent]:
    """Every agent of this home that lives: with two of them, nobody can know which one was meant."""
    try:
        return [Agent.open(home, start=False)]
    except NoAgent:
        return []
    except TwoAgents as two:
        return [Agent.at(live.socket, home.uid) for live in (two.right, two.wrong)]


def _wait_until(end: float, life: str) -> bool:
    """Wait for a CLOCK_BOOTTIME; False when the agent ended before. Nothing wakes up in between."""
    with contextlib.ExitStack() as opened:
        poller = select.poll()
        timer = _timer(end)
        opened.callback(os.close, timer)
        poller.register(timer, select.POLLIN)
        with contextlib.suppress(OSError, IndexError, ValueError):
            agent = os.pidfd_open(int(life.split()[1]))
            opened.callback(os.close, agent)
            poller.register(agent, select.POLLIN)
        return dict(poller.poll()).get(timer) is not None


def _timer(end: float) -> int:
    """A descriptor that becomes readable at a CLOCK_BOOTTIME; os.timerfd_create() came with Python 3.13."""
    libc = ctypes.CDLL(None, use_errno=True)
    timer = int(libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_CLOEXEC))
    spec = _TIMERSPEC.pack(0, 0, int(end), int(end % 1 * 1e9) + 1)  # a first time of zero would disarm it
    if timer < 0 or libc.timerfd_settime(timer, _ABSOLUTE, spec, None) != 0:
        raise OSError(ctypes.get_errno(), "timerfd")
    return timer


def _home(uid: int) -> str:
    return os.environ.get("HOME") or pwd.getpwuid(uid).pw_dir


def user_name(uid: int) -> str:
    """What the user database calls this uid, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


if __name__ == "__main__":
    main(sys.argv[1:])
