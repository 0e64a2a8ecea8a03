"""The units of the host's broker: enabled, so that the next boot starts them, and not failed; and their user."""

import os
import pwd
import subprocess
from typing import NamedTuple

from unlatch.doctor.check import Check, Finding, Situation, ok, problem, unknown, warning
from unlatch.doctor.host.served import place_of
from unlatch.doctor.host.words import hold_page, listed

SECONDS = 5.0
UNITS = ("unlatch.socket", "unlatch-admin.socket", "unlatch-page.socket", "unlatch.service")
USER = "unlatch"
_RUNS = "/run/systemd/system"  # sd_booted(3)
_ENABLED = ("enabled", "enabled-runtime", "static", "alias", "generated", "indirect")


class Unit(NamedTuple):
    """``enabled`` is what "systemctl is-enabled" says: "not-found" where it knows no such unit, "" where it could not
    be asked; ``active`` likewise.
    """

    name: str
    enabled: str
    active: str


class Facts(NamedTuple):
    """``booted``: systemd runs here. ``host``: there is a host's broker."""

    host: bool
    booted: bool
    units: tuple[Unit, ...]


def probe(situation: Situation) -> Facts:
    """Ask systemd."""
    host, booted = place_of(situation).host, os.path.isdir(_RUNS)
    return Facts(host, booted, ask() if host and booted else ())


def ask(*options: str) -> tuple[Unit, ...]:
    """What systemctl says of each; ``options`` go to "is-enabled", which can look into another root."""
    enabled = _systemctl(*options, "is-enabled", *UNITS)
    active = [] if options else _systemctl("is-active", *UNITS)
    if enabled is not None and len(enabled) != len(UNITS):
        # Older systemds say nothing on standard output of a unit that is not there: then ask for each by itself.
        enabled = [(_systemctl(*options, "is-enabled", name) or ["not-found"])[0] for name in UNITS]
    enabled, active = enabled or [], active or []
    enabled += [""] * (len(UNITS) - len(enabled))
    active += [""] * (len(UNITS) - len(active))
    return tuple(Unit(*each) for each in zip(UNITS, enabled, active, strict=True))


def _systemctl(*words: str) -> list[str] | None:
    """What it says on standard output; None: it does not run."""
    command = ["systemctl", "--no-pager", *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split()


def judge(facts: Facts, situation: Situation) -> Finding:
    """The page's socket may be left out on purpose, where the settings say where to listen."""
    if not facts.host:
        return ok("a broker of your own needs no units")
    if not facts.booted:
        return warning("systemd does not run here: see that something starts the broker at boot", "unlatch status")
    if not any(unit.enabled for unit in facts.units):
        return unknown("systemctl could not be asked", situation.as_root("systemctl", "list-unit-files", "unlatch*"))
    failed = [unit.name for unit in facts.units if unit.active == "failed"]
    if failed:
        text = f"{listed(failed)} failed"
        return problem(text, situation.as_root("systemctl", "status", *failed))
    if all(unit.enabled == "not-found" for unit in facts.units):
        text = "systemd knows no unit of ours: after the next boot nobody is rung"
        return problem(text, situation.as_root("systemctl", "list-unit-files", "unlatch*"))
    needed = [unit for unit in facts.units if unit.name != "unlatch-page.socket" or unit.enabled == "disabled"]
    off = [unit.name for unit in needed if unit.enabled not in _ENABLED]
    if off == ["unlatch-page.socket"]:
        text = "unlatch-page.socket is not enabled: after the next boot nothing holds the page's address"
        return warning(text, hold_page(situation))
    if off:
        text = f"{listed(off)} {'is' if len(off) == 1 else 'are'} not enabled: after the next boot nobody is rung"
        # "enable --now" would not give the page's socket to a broker that runs already.
        enable = situation.as_root("systemctl", "enable", *off)
        return problem(text, f"{enable}\n{situation.as_root('systemctl', 'restart', 'unlatch.service')}")
    return ok("the broker's units are enabled: the next boot starts it")


class User(NamedTuple):
    """``uid`` of the broker's account, -1 when there is none. ``locked``: it has no shell to log in with."""

    host: bool
    uid: int
    shell: str


def probe_user(situation: Situation) -> User:
    """Look into the user database."""
    host = place_of(situation).host
    try:
        account = pwd.getpwnam(USER)
    except KeyError:
        return User(host, -1, "")
    return User(host, account.pw_uid, account.pw_shell)


def judge_user(facts: User, situation: Situation) -> Finding:
    """A system user of its own is what keeps the broker out of everybody's files."""
    if not facts.host:
        return ok("a broker of your own runs as you")
    if facts.uid < 0:
        text = f"there is no user {USER}: the broker's unit cannot start"
        return problem(text, situation.as_root("systemd-sysusers", "unlatch.conf"))
    if facts.uid == 0:
        return problem(f"the user {USER} is root: it must be a system user of its own", f"getent passwd {USER}")
    if os.path.basename(facts.shell) not in ("nologin", "false", ""):
        text = f"the user {USER} has the shell {facts.shell}: nobody should log in as it"
        return warning(text, situation.as_root("usermod", "--shell", "/usr/sbin/nologin", USER))
    return ok(f"the user {USER} has uid {facts.uid} and no login")


BROKER_UNITS = Check(
    "units",
    "the units of the host's broker are enabled, so that the next boot starts them, and none has failed",
    "`systemctl enable` and a restart as printed; `journalctl -u unlatch.service` for one that failed",
    Facts,
    probe,
    judge,
)
SYSTEM_USER = Check(
    "system-user",
    "the host's broker has a system user of its own, which cannot log in",
    "`systemd-sysusers unlatch.conf`",
    User,
    probe_user,
    judge_user,
)
