"""The running gpg-agent really starts our pinentry: it has read the file that is there now.

Nothing that the agent tells says which pinentry it would start. But CLEAR_PASSPHRASE for a name that no key has starts
it, to have it clear a cache of its own, and asks it nothing (agent/call-pinentry.c, agent_clear_passphrase); with
``allow-pinentry-notify`` the agent tells us of that pinentry while it waits. So this takes the way of a real request,
and nobody is rung.
"""

import os
from typing import NamedTuple

from unlatch.doctor.asker import conf
from unlatch.doctor.check import Check, Finding, Situation, ok, problem, unknown
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import AgentTrouble, GpgError, NoReply
from unlatch.gnupg.homes import Home
from unlatch.runtime import Untrusted

SECONDS = 3.0  # the pinentry is started in 0.1 s
NOBODYS_KEY = "unlatch-doctor"  # not a keygrip


class Facts(NamedTuple):
    """``pid`` is the agent's, 0 for none. ``flavor`` and ``version`` are the pinentry's that it started, "" for none.

    ``runs`` are the files that the process of that pinentry runs, ``program`` is what the file names, as a real path.
    """

    pid: int
    busy: bool
    flavor: str
    version: str
    runs: tuple[str, ...]
    program: str


def probe(situation: Situation) -> Facts:
    """Have the agent start its pinentry."""
    program = conf.read(situation).options.get("pinentry-program", "")
    real = os.path.realpath(program) if program.startswith("/") else ""
    told: list[str] = []
    files: list[str] = []

    def launched(arguments: str) -> bytes:
        told.extend(arguments.split())
        files.extend(_files(told[0] if told else ""))
        return b""

    home = Home.find(situation.environ, situation.uid, situation.home)
    pid = 0
    try:
        with Agent.open(home, start=False, seconds=SECONDS) as agent:
            pid = agent.pid
            agent.ask("OPTION allow-pinentry-notify")
            agent.ask(f"CLEAR_PASSPHRASE {NOBODYS_KEY}", inquire={"PINENTRY_LAUNCHED": launched}, seconds=SECONDS)
    except NoReply:  # one request at a time has the pinentry, for as long as a person takes
        return Facts(pid, True, "", "", (), real)
    except (AgentTrouble, GpgError, Untrusted) as error:
        if not isinstance(error, GpgError):
            return Facts(0, False, "", "", (), real)
    flavor, version = (*(word[:64] for word in told[1:3]), "", "")[:2]
    return Facts(pid, False, flavor, version, tuple(files), real)


def _files(pid: str) -> list[str]:
    """The files that a process names as its program and arguments."""
    if not (pid.isascii() and pid.isdigit()):
        return []
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).split(b"\0")
    except OSError:
        return []
    return [os.path.realpath(os.fsdecode(word)) for word in words if word.startswith(b"/")][:8]


def judge(facts: Facts, situation: Situation) -> Finding:
    """Compare what was started with what the file names."""
    reload = conf.reload(situation)
    if not facts.pid:
        return ok("no agent runs now; the next one reads gpg-agent.conf when it starts")
    if facts.busy:
        return unknown("the agent is asking somebody just now, or hangs", situation.as_user("unlatch", "status"))
    if not facts.flavor:
        return problem(f'the agent (pid {facts.pid}) cannot start its pinentry: gpg would say "No secret key"', reload)
    if facts.flavor != "unlatch":
        text = f"the agent (pid {facts.pid}) starts another pinentry ({facts.flavor})"
        read = "; it has read gpg-agent.conf before that was changed. A reload makes it forget all passphrases"
        return problem(text + (read if facts.program else ""), reload if facts.program else conf.setup(situation))
    if facts.program and facts.runs and facts.program not in facts.runs:
        text = f"the agent (pid {facts.pid}) starts {facts.runs[-1]}, gpg-agent.conf names {facts.program}"
        return problem(f"{text}. A reload makes it forget all passphrases", reload)
    if facts.version != situation.version:
        text = f"the agent (pid {facts.pid}) starts version {facts.version}, this command is {situation.version}"
        return problem(text, reload)
    return ok(f"the running agent (pid {facts.pid}) has started it")


AGENT_PINENTRY = Check(
    "agent-pinentry",
    "the running gpg-agent starts Unlatch's pinentry, the one that gpg-agent.conf names now: it has read the file "
    "since it was changed",
    "`gpgconf --reload gpg-agent`, which also makes it forget all passphrases",
    Facts,
    probe,
    judge,
)
