"""The agent, and what it has unlocked, outlives the login or service that happened to start it."""

import os
from typing import NamedTuple

from unlatch import origin
from unlatch.doctor.check import Check, Finding, Situation, ok, warning
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import AgentTrouble, TwoAgents
from unlatch.gnupg.homes import Home
from unlatch.runtime import Untrusted

LINGER = "/var/lib/systemd/linger"
WANTS = "/etc/systemd/system"
UNIT = "unlatch-agent@"


class Facts(NamedTuple):
    """``pid`` is the agent's, 0 for none; its units; whether the user lingers, and whether our unit is enabled."""

    pid: int
    system_unit: str
    user_unit: str
    linger: bool
    enabled: bool


def probe(situation: Situation) -> Facts:
    """Find the agent, and whose it is."""
    linger = os.path.exists(f"{LINGER}/{situation.user}")
    enabled = _is_enabled(situation.user)
    home = Home.find(situation.environ, situation.uid, situation.home)
    try:
        with Agent.open(home, start=False) as agent:
            pid = agent.pid
    except TwoAgents as two:
        pid = two.right.pid
    except (AgentTrouble, Untrusted):
        return Facts(0, "", "", linger, enabled)
    return Facts(pid, *origin.units_of(pid), linger, enabled)


def _is_enabled(user: str) -> bool:
    """Whether a start of the machine starts our unit for this user (systemctl(1), enable)."""
    try:
        targets = [name for name in os.listdir(WANTS) if name.endswith((".wants", ".requires"))]
    except OSError:
        return False
    units = [f"{UNIT}{user}.{kind}" for kind in ("service", "socket")]
    return any(os.path.lexists(f"{WANTS}/{target}/{unit}") for target in targets for unit in units)


def judge(facts: Facts, situation: Situation) -> Finding:
    """Who would take it along."""
    keep = situation.as_root("systemctl", "enable", "--now", f"{UNIT}{situation.user}.service")
    if not facts.pid:
        if facts.enabled:
            return ok(f"none runs now; {UNIT}{situation.user}.service starts it with the machine")
        return warning("none runs now, and the one that the first service starts will end with that service", keep)
    unit = facts.system_unit
    if unit.startswith(UNIT):
        return ok(f"it belongs to {unit}")
    if not unit or unit == "init.scope":
        return ok("it belongs to no login and no service")
    end = situation.as_user("kill", str(facts.pid))
    if unit.endswith(".scope"):
        lost = "" if facts.linger else ", and /run/user with its socket goes in any case"
        return warning(f"it was started from a login ({unit}), whose end may end it{lost}", f"{end}\n{keep}")
    if unit.startswith("user@"):
        if facts.linger:
            return ok(f"it belongs to the user's own systemd ({facts.user_unit or unit}), which lingers")
        text = f"it belongs to the user's own systemd ({facts.user_unit or unit}), which ends with the last logout"
        return warning(text, situation.as_root("loginctl", "enable-linger", situation.user))
    return warning(f"it belongs to {unit} and ends when that is stopped or restarted", f"{end}\n{keep}")


AGENT_STAYS = Check(
    "agent-stays",
    "the agent belongs to `unlatch-agent@USER.service`, to a user who lingers, or to nobody; so no logout and no "
    "restart of a service ends it, with all that it has unlocked",
    "`systemctl enable --now unlatch-agent@USER.service`, or `loginctl enable-linger USER`",
    Facts,
    probe,
    judge,
)
