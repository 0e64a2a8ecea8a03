"""``unlatch key unlock`` may give gpg-agent a passphrase before anybody asks for it, where that is used."""

import os
from typing import NamedTuple

from unlatch import runtime
from unlatch.doctor.asker import conf
from unlatch.doctor.asker.agent_stays import WANTS
from unlatch.doctor.check import Check, Finding, Situation, ok, problem
from unlatch.gnupg import keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import AgentTrouble, GpgError
from unlatch.gnupg.homes import Home
from unlatch.runtime import Untrusted

ALLOW, FORBID = "allow-preset-passphrase", "no-allow-loopback-pinentry"
UNIT = "unlatch-key@"
MAX_READ = 65536  # bytes of a drop-in; they have some hundred


class Facts(NamedTuple):
    """``allowed`` and ``forbidden``: the two lines of the file. ``refused``: the line that the running agent goes by.

    ``used``: a unit of ours unlocks keys of this user at boot, or a grant was written down.
    """

    allowed: bool
    forbidden: bool
    refused: str
    used: bool


def probe(situation: Situation) -> Facts:
    """Read the file, and try on the agent what changes nothing."""
    options = conf.read(situation).options
    refused = ""
    home = Home.find(situation.environ, situation.uid, situation.home)
    try:
        with Agent.open(home, start=False) as agent:
            keys.check_allowed(agent)
    except keys.NotAllowed as error:
        refused = error.option
    except (AgentTrouble, GpgError, Untrusted):
        pass  # none runs, or another check tells
    return Facts(ALLOW in options, FORBID in options, refused, _is_used(situation))


def _is_used(situation: Situation) -> bool:
    grants = f"{runtime.own(situation.uid, situation.environ, situation.home).state}/grants"
    gate = f"{UNIT}{situation.user}.service"
    if _listed(grants):
        return True
    for name in _listed(WANTS):
        folder = f"{WANTS}/{name}"
        if name.endswith((".wants", ".requires")) and gate in _listed(folder):
            return True
        if name.endswith(".d") and any(gate in _text(f"{folder}/{each}").split() for each in _listed(folder)):
            return True
    return False


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(drop_in: str) -> str:
    """What a service requires stands in a drop-in: ``Requires=unlatch-key@USER.service``."""
    try:
        with open(drop_in, encoding="utf-8", errors="replace") as file:
            return file.read(MAX_READ).replace("=", " ")
    except OSError:
        return ""


def judge(facts: Facts, situation: Situation) -> Finding:
    """Without key unlock nobody needs it, and then it is better not allowed."""
    if not facts.used:
        return ok(
            "allowed" if facts.allowed else "not allowed, and not needed: nothing unlocks keys ahead of time here"
        )
    line = f"{ALLOW}" if not facts.allowed else f"{FORBID}" if facts.forbidden else ""
    path = f"{situation.gnupghome}/gpg-agent.conf"
    if not facts.allowed:
        add = situation.as_user("sh", "-c", f'printf "\\n%s\\n" {ALLOW} >> "$0"', path)
        return problem(
            f'"unlatch key unlock" needs the line {line} in gpg-agent.conf', f"{add}\n{conf.reload(situation)}"
        )
    if facts.forbidden:
        text = f'the line {line} in gpg-agent.conf keeps "unlatch key unlock" from trying passphrases'
        return problem(text, f"{situation.as_user('sed', '-i', f'/^{FORBID}/d', path)}\n{conf.reload(situation)}")
    if facts.refused:
        text = (
            f"the running agent has not read the file since {facts.refused} was changed; a reload makes it forget all"
        )
        return problem(text, conf.reload(situation))
    return ok("allowed, as unlatch key unlock needs it")


PRESETTING = Check(
    "presetting",
    "where keys are unlocked ahead of time (`unlatch key unlock`), gpg-agent.conf and the running agent allow it",
    "the line `allow-preset-passphrase` in gpg-agent.conf, no `no-allow-loopback-pinentry`, then "
    "`gpgconf --reload gpg-agent`",
    Facts,
    probe,
    judge,
)
