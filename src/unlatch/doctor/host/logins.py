"""Logins by PAM: is all there that a line in /etc/pam.d needs, and does sshd wait for as long as a person may take?"""

import contextlib
import os
from typing import NamedTuple

from unlatch import config
from unlatch.doctor.check import Check, Finding, Situation, ok, problem, warning
from unlatch.doctor.host import login_units, pam_places, pam_typos, sshd_error
from unlatch.doctor.host.served import served
from unlatch.doctor.host.words import edit, listed
from unlatch.pam import login
from unlatch.pam.errors import Unfit
from unlatch.settings import Settings

RECORDS = "/etc/unlatch/pam"
_WANTS = ("/etc/systemd/system", "/run/systemd/system")  # where "systemctl enable" makes its links
SPARE = 60  # seconds of LoginGraceTime for what comes before the challenge and after it
# Services that make somebody else, or root, of whoever runs them: what runs as a user must not enrol a key for these.
RAISING = ("su", "su-l", "sudo", "sudo-i", "doas", "polkit-1")


class Facts(NamedTuple):
    """``uses``: the lines that name the module. ``records``: there are keys of record. ``raising``: services in
    ``auth_gpg`` that make root of their callers. ``booted``: systemd runs here; ``enabled``: it makes our
    socket at boot. ``settings``: what the service reads; ``mistake``: why it lets nobody in by them, or nothing.
    """

    uses: tuple[pam_places.Use, ...]
    module: str
    listens: bool
    untrusted: str
    records: bool
    raising: tuple[str, ...]
    file: str
    booted: bool
    enabled: bool
    settings: Settings = Settings()
    mistake: str = ""
    units: tuple[login_units.Unit, ...] = ()
    typos: tuple[pam_typos.Typo, ...] = ()


def probe(situation: Situation) -> Facts:
    """Look at files and at the kernel's list of sockets; nobody is connected to."""
    loaded = served(situation).loaded
    records = False
    with contextlib.suppress(OSError):
        records = bool(os.listdir(RECORDS))
    own = config.load(None, {"HOME": "/nonexistent"}, 0)  # as the service does, whose home has no settings
    typos = pam_typos.find(pam_places.lines())
    mistyped = {(typo.service, typo.number) for typo in typos}
    uses = tuple(use for use in pam_places.uses() if (use.service, use.number) not in mistyped)
    booted = os.path.isdir("/run/systemd/system")  # sd_booted(3)
    return Facts(
        uses,
        pam_places.module_path(),
        pam_places.listens(),
        pam_places.untrusted(),
        records,
        tuple(name for name in loaded.settings.pam_auth_gpg if name in RAISING),
        loaded.path,
        booted,
        any(os.path.lexists(f"{place}/sockets.target.wants/unlatch-pam.socket") for place in _WANTS),
        own.settings,
        next((str(each) for each in own.mistakes if each.fatal), ""),
        login_units.ask() if booted and (uses or records) else (),
        typos,
    )


def judge(facts: Facts, situation: Situation) -> list[Finding]:
    """One line for the whole, and one for each that is dangerous."""
    found = [_judge_whole(facts, situation)] if facts.uses or not facts.typos else []
    found += [pam_typos.judge(typo, situation) for typo in facts.typos]
    same: dict[tuple[str, str], list[str]] = {}
    for use in facts.uses:
        place = f"{pam_places.PAM_D}/{use.service}"
        change = situation.as_root("vi", f"+{use.number}", place)
        wrong = _wrong(use)
        denied, hint = ("", "") if wrong or facts.mistake else _denied(use, facts, situation)
        if wrong or denied:
            same.setdefault((wrong or denied, hint or change), []).append(f"{place}:{use.number}")
    found += [problem(f"{listed(places)}: {text}", hint) for (text, hint), places in same.items()]
    if facts.raising:
        text = (
            f"~/.auth_gpg counts for {listed(facts.raising)}: whatever runs as a user can enrol a key of its own there"
        )
        found.append(warning(text, edit(situation, facts.file)))
    return found


def _wrong(use: pam_places.Use) -> str:
    """What is dangerous about a line, or nothing."""
    if use.control == "optional":
        return "says optional, so a denied login goes on; it must say required"
    if use.first and "after_first_factor" in use.arguments.split():
        return "says after_first_factor, and nothing before it asks for one: anybody could ring"
    return ""


def _denied(use: pam_places.Use, facts: Facts, situation: Situation) -> tuple[str, str]:
    """Why the service denies whoever comes by this line, or nothing; and what to type if it is not about the line."""
    if "[" in use.arguments:  # quoted, pam.d(5)
        return "", ""
    words = tuple(word for word in use.arguments.split() if word.partition("=")[0] not in ("socket", "timeout"))
    try:
        mode = login.options(words, facts.settings.pam_mode).mode
    except Unfit:
        return f"every login is denied: an argument is unknown, or there twice: {use.arguments}", ""
    if mode == "approve":
        if any(person.notify and set(person.users) - {"*"} for person in facts.settings.people):
            return "", ""
        text = 'the mode is approve, and no [people.NAME] table names an account ("*" does not count) and a notifier'
        return f"every login is denied: {text}", edit(situation, facts.file)
    if not facts.records and use.service not in facts.settings.pam_auth_gpg:
        enrol = situation.as_root("unlatch", "pam", "enrol", "USER", "FINGERPRINT", "--file", "KEY.asc")
        return "every login is denied: nobody has a key of record", enrol
    return "", ""


def _judge_whole(facts: Facts, situation: Situation) -> Finding:
    names = listed(dict.fromkeys(use.service for use in facts.uses))
    if facts.uses and not facts.module:
        text = f"{names} names {pam_places.MODULE}, which is not installed: every login there is refused"
        return problem(text, situation.as_root("apt-get", "install", "--reinstall", "unlatch"))
    if facts.untrusted:
        text = f"others than root could put a socket into {facts.untrusted}: every login is refused"
        return problem(text, situation.as_root("ls", "-ld", facts.untrusted))
    stuck = login_units.stuck(facts.units, situation) if facts.uses or facts.records else None
    if stuck:
        text, hint = stuck
        return problem(f"{text}: logins by {names} are refused", hint) if facts.uses else warning(text, hint)
    if not facts.listens and (facts.uses or facts.records):
        text = f"nobody listens at {pam_places.SOCKET}: "
        text += f"every login by {names} is refused" if facts.uses else "a login could not be challenged"
        start = situation.as_root("systemctl", "enable", "--now", "unlatch-pam.socket")
        return (problem if facts.uses else warning)(text, start)
    if facts.uses and facts.booted and not facts.enabled:
        text = f"unlatch-pam.socket is not enabled: after the next boot every login by {names} is refused"
        return problem(text, situation.as_root("systemctl", "enable", "unlatch-pam.socket"))
    if facts.uses and facts.mistake:
        return problem(f"every login by {names} is refused: {facts.mistake}", edit(situation, facts.file))
    if facts.uses:
        return ok(f"{names} can ask: the module is installed, and its socket listens")
    return ok("no service in /etc/pam.d asks us")


class Patience(NamedTuple):
    """``seconds``: the window of a challenge. ``said``: sshd gave its settings, which the three after it are;
    ``error``: what it has against them, where it gave none.
    """

    uses: bool
    seconds: int
    said: bool
    grace: str
    pam: str
    keyboard: str
    error: str = ""


def probe_patience(situation: Situation) -> Patience:
    """Ask sshd, if its service asks us."""
    seconds = served(situation).loaded.settings.pam_seconds
    if not any(use.service == "sshd" for use in pam_places.uses()):
        return Patience(uses=False, seconds=seconds, said=False, grace="", pam="", keyboard="")
    said = pam_places.sshd_settings()
    keys = ("logingracetime", "usepam", "kbdinteractiveauthentication")
    error = "" if said else pam_places.sshd_error()
    return Patience(True, seconds, bool(said), *(said.get(key, "") for key in keys))._replace(error=error)


def judge_patience(facts: Patience, situation: Situation) -> Finding:
    """LoginGraceTime counts from the connection on, whatever a challenge allows; 0 is for ever."""
    change = situation.as_root("vi", "/etc/ssh/sshd_config.d/10-unlatch.conf")
    if not facts.uses:
        return ok("sshd does not ask us")
    if not facts.said:
        return sshd_error.judge(facts.error, situation)
    for value, name in ((facts.pam, "UsePAM"), (facts.keyboard, "KbdInteractiveAuthentication")):
        if value == "no":
            return problem(f"sshd never asks us: it needs {name} yes", change)
    grace = int(facts.grace) if facts.grace.isdigit() else 0
    if 0 < grace < facts.seconds + SPARE:
        text = f"sshd hangs up after {grace} s, and a challenge lasts {facts.seconds} s"
        return warning(f"{text}: LoginGraceTime {facts.seconds + SPARE}", change)
    return ok(f"sshd waits for {facts.grace} s" if grace else "sshd waits for as long as it takes")


LOGINS = Check(
    "logins",
    "where a service in `/etc/pam.d` names `pam_unlatch.so`, the module is installed, its socket listens, is "
    "root's and is back after a boot, its units are neither masked nor failed, no line names a module that is not "
    "there and whose name or path is ours mistyped, no line lets everybody pass or nobody, and `~/.auth_gpg` serves no "
    "service that makes root of its caller",
    "`systemctl enable --now unlatch-pam.socket`; the line or the setting as printed, with a root session kept open "
    "([logins](logins.md))",
    Facts,
    probe,
    judge,
)
LOGIN_GRACE = Check(
    "login-grace",
    "sshd's configuration has no mistake that would keep it from starting again; it asks PAM, by keyboard-interactive, "
    "and waits for as long as a challenge lasts",
    "`LoginGraceTime` of `seconds` in `[pam]` and a minute, `UsePAM yes` and `KbdInteractiveAuthentication yes` in "
    "sshd's configuration; what `sshd -t` says, mended before anybody restarts it",
    Patience,
    probe_patience,
    judge_patience,
)
