"""Make the agent whose sockets systemd holds the only one of a home: both places where GnuPG looks lead to it.

A symbolic link does for every client: connect(2) follows it, also for ssh, which knows nothing of libassuan's
redirection files. Nobody starts an agent where a link leads to a socket that answers.
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from functools import partial

from unlatch.errors import Malformed
from unlatch.gnupg import finding, processes
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import AgentTrouble, GpgError, NoAgent
from unlatch.gnupg.homes import AGENT, EXTRA, RUN, SSH, Home
from unlatch.runtime import Untrusted, make_private

END_SECONDS = 5.0  # an agent without open requests ends in a millisecond
_TELL_SECONDS = 2.0
_ROUNDS = 10  # a busy client may start another agent at the moment in which one ends, and takes its links along


def own(home: Home) -> Iterator[str]:
    """End other agents of this home, and lead both places to the sockets of the host's unit; says what was done.

    What another agent had unlocked is lost with it. May be repeated; without anything to do it says nothing.

    Raises:
        OSError: a directory or a link cannot be made.
        Untrusted: a directory of the home belongs to somebody else.
    """
    in_home, in_run = map(os.path.dirname, home.sockets())
    sessions = f"{RUN}/{home.uid}"
    if not os.path.isdir(sessions):
        make_private(in_home, home.uid)
        yield from _settle(home, [in_home])
        return
    # While others may enter this directory, GnuPG does not take it, and looks in the home.
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{sessions}/gnupg", 0o755)
    os.chmod(f"{sessions}/gnupg", 0o755)  # noqa: S103  # for this moment, and below a directory that nobody else may enter
    for directory in (in_home, in_run):
        make_private(directory, home.uid)
    yield from _settle(home, [in_home, in_run])
    os.chmod(f"{sessions}/gnupg", 0o700)


def _settle(home: Home, directories: list[str]) -> Iterator[str]:
    told: set[int] = set()
    for _ in range(_ROUNDS):
        # An agent removes its sockets by their names when it ends, so it must have ended before they are links.
        yield from _end_those_that_answer(home)
        for directory in directories:
            for name in (AGENT, SSH, EXTRA):
                if _lead(f"{directory}/{name}", home.owned(name)):
                    yield f"{directory}/{name} leads to {home.owned(name)}"
        left = set(processes.started_for(home)) - told
        if not left:
            return
        for pid in left:
            yield _end(pid, lambda process: signal.pidfd_send_signal(process, signal.SIGTERM))
        told |= left


def _end_those_that_answer(home: Home) -> Iterator[str]:
    for path in finding.agents_first(home):
        # Without such a process it is an old socket, or one on which systemd listens; to ask there would start one.
        if finding.is_owned(path) or not processes.may_serve_too(home):
            continue
        try:
            with Agent.at(path, home.uid, seconds=_TELL_SECONDS) as agent:
                yield _end(agent.pid, partial(_tell, agent))
        except NoAgent:
            continue
        except (AgentTrouble, GpgError, Malformed, Untrusted, OSError) as error:
            yield f"the gpg-agent at {path} could not be ended: {error}"


def _tell(agent: Agent, _process: int) -> None:
    agent.ask("KILLAGENT", seconds=_TELL_SECONDS)


def _end(pid: int, tell: Callable[[int], None]) -> str:
    """Tell an agent to end, by its pidfd or otherwise, and wait until it has."""
    agent = f"another gpg-agent (pid {pid})"
    with contextlib.ExitStack() as opened:
        try:
            process = os.pidfd_open(pid)
            opened.callback(os.close, process)
            tell(process)
        except ProcessLookupError:
            return f"{agent} ended"
        ended, _, _ = select.select([process], [], [], END_SECONDS)
    return f"{agent} was ended" if ended else f"{agent} was told to end, and still has something to do"


def _lead(place: str, target: str) -> bool:
    """Put a link where a socket, a link or nothing is; False if it was there already."""
    try:
        if os.readlink(place) == target:
            return False
    except OSError:  # nothing there, or no link
        pass
    # Renamed into place, so that there is no moment without it, in which a client would start an agent.
    fresh = f"{place}.new-{os.getpid()}"
    os.symlink(target, fresh)
    try:
        os.rename(fresh, place)
    except OSError:
        os.unlink(fresh)
        raise
    return True
