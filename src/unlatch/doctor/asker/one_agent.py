"""One gpg-agent for a home. GnuPG looks for its socket in /run/user/UID if that exists, else in GNUPGHOME; so services
that start before the first login get an agent there, and a login a second one, with a cache of its own.
"""

import os
from typing import NamedTuple

from unlatch.doctor.check import Check, Finding, Situation, ok, problem, unknown, warning
from unlatch.gnupg import finding
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import Live, NoAgent, NoReply, TwoAgents
from unlatch.gnupg.homes import Home
from unlatch.runtime import Untrusted

SECONDS = 3.0


class Facts(NamedTuple):
    """``agents``: socket and pid of each that lives, the right one first; ``expected``: where GnuPG looks now, and
    ``leads`` whether that is the first one's socket or leads there.

    ``why`` is "hangs" or "foreign" when what is there is no agent of this user's that works.
    """

    agents: tuple[tuple[str, int], ...]
    expected: str
    leads: bool
    why: str


def probe(situation: Situation) -> Facts:
    """Look into both places; start none."""
    home = Home.find(situation.environ, situation.uid, situation.home)
    expected = home.sockets()[home.uses_run()]
    try:
        with Agent.open(home, start=False, seconds=SECONDS) as agent:
            return Facts(((agent.socket, agent.pid),), expected, _is_same(expected, agent.socket), "")
    except NoAgent:
        return Facts((), expected, False, "")
    except TwoAgents as two:
        return Facts((_named(two.right), _named(two.wrong)), expected, False, "")
    except NoReply:
        return Facts((), expected, False, "hangs")
    except Untrusted:
        return Facts((), expected, False, "foreign")


def _is_same(first: str, second: str) -> bool:
    """Whether two names lead to one socket."""
    try:
        return os.path.samestat(os.stat(finding.redirected(first)), os.stat(finding.redirected(second)))
    except OSError:
        return False


def _named(agent: Live) -> tuple[str, int]:
    return agent.socket, agent.pid


def judge(facts: Facts, situation: Situation) -> Finding:
    """Two are a problem; one in the wrong place becomes two at the next request."""
    kill = situation.as_user("gpgconf", "--kill", "gpg-agent")
    if facts.why == "hangs":
        return unknown("a gpg-agent is there and does not answer", kill)
    if facts.why:
        text = f"somebody else's process answers at {facts.expected}"
        return problem(text, situation.as_root("ss", "-xlp", "src", facts.expected))
    if not facts.agents:
        return ok("none runs now; the first request starts one")
    socket, pid = facts.agents[0]
    if len(facts.agents) > 1:
        other, wrong = facts.agents[1]
        text = f"two run: pid {pid} at {socket}, pid {wrong} at {other}. What is unlocked in one is locked in the other"
        return problem(text, situation.as_user("kill", str(wrong)))
    if not facts.leads:
        text = f"pid {pid} is at {socket}, but GnuPG looks at {facts.expected} now and will start a second one"
        return warning(text, situation.as_user("kill", str(pid)))
    return ok(f"pid {pid} at {socket}")


ONE_AGENT = Check(
    "one-agent",
    "at most one gpg-agent runs for this home: GnuPG looks for it in `/run/user/UID` if that is there, else in "
    "GNUPGHOME, and two of them have separate caches",
    "end the one that is named, as printed; `unlatch-agent@USER.service` keeps it from coming back",
    Facts,
    probe,
    judge,
)
