"""Make the agent whose sockets systemd holds the only one of a home: both places where GnuPG looks lead to it.

A symbolic link does for every client: connect(2) follows it, also for ssh, which knows nothing of libassuan's
redirection files. Nobody starts an agent where a link leads to a socket that answers.
"""

import os
import select
from collections.abc import Iterator

from unlatch.errors import Malformed
from unlatch.gnupg import finding, processes
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import AgentTrouble, GpgError, NoAgent
from unlatch.gnupg.homes import AGENT, EXTRA, RUN, SSH, Home
from unlatch.runtime import Untrusted, make_private

END_SECONDS = 5.0  # an agent without open requests ends in a millisecond
_TELL_SECONDS = 2.0


def own(home: Home) -> Iterator[str]:
    """End other agents of this home, and lead both places to the sockets of the host's unit; says what was done.

    What another agent had unlocked is lost with it. May be repeated; without anything to do it says nothing.

    Raises:
        OSError: a directory or a link cannot be made.
        Untrusted: a directory of the home belongs to somebody else.
    """
    in_home, in_run = home.sockets()
    directories = [os.path.dirname(in_home)]
    if os.path.isdir(f"{RUN}/{home.uid}"):
        directories.append(os.path.dirname(in_run))
    for directory in directories:
        make_private(directory, home.uid)
    # An agent removes its sockets by their names when it ends, so it must have ended before they are links.
    yield from _end_others(home)
    for directory in directories:
        for name in (AGENT, SSH, EXTRA):
            if _lead(f"{directory}/{name}", home.owned(name)):
                yield f"{directory}/{name} leads to {home.owned(name)}"


def _end_others(home: Home) -> Iterator[str]:
    for path in finding.agents_first(home):
        # Without such a process it is an old socket, or one on which systemd listens; to ask there would start one.
        if finding.is_owned(path) or not processes.may_serve_too(home):
            continue
        try:
            yield _end(path, home.uid)
        except NoAgent:
            continue
        except (AgentTrouble, GpgError, Malformed, Untrusted, OSError) as error:
            yield f"the gpg-agent at {path} could not be ended: {error}"


def _end(path: str, uid: int) -> str:
    with Agent.at(path, uid, seconds=_TELL_SECONDS) as agent:
        process = os.pidfd_open(agent.pid)
        try:
            agent.ask("KILLAGENT", seconds=_TELL_SECONDS)
            ended, _, _ = select.select([process], [], [], END_SECONDS)
        finally:
            os.close(process)
        outcome = "was ended" if ended else "was told to end, and still has something to do"
        return f"the gpg-agent at {path} (pid {agent.pid}) {outcome}"


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
