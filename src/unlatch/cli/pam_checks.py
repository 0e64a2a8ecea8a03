"""What ``unlatch pam test`` looks at before it lets somebody wait: each a finding as doctor's, with what to type."""

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

from unlatch.cli.pam_lines import SPARE
from unlatch.doctor.check import Finding, Situation, ok, problem, warning
from unlatch.doctor.host import logins, pam_places
from unlatch.doctor.host.words import edit, listed
from unlatch.pam import challenge
from unlatch.pam.accounts import Account
from unlatch.pam.errors import Unfit
from unlatch.settings import Settings

LOGIN_DEFS = "/etc/login.defs"
_MAX_FILE = 65536


class Walk(NamedTuple):
    """Which login is walked through. ``module`` and ``socket`` are paths; ``arguments`` those of the PAM line."""

    account: Account
    service: str
    mode: str
    module: str
    socket: str
    arguments: tuple[str, ...]


def way(walk: Walk, situation: Situation) -> Iterator[Finding]:
    """What must be there for anything to happen: the module and its service."""
    if os.path.exists(walk.module):
        yield ok(walk.module)._replace(check="module")
    else:
        text = f"{walk.module or pam_places.MODULE} is not installed"
        install = situation.as_root("apt-get", "install", "--reinstall", "unlatch")
        yield problem(text, install)._replace(check="module")
    untrusted, listens = pam_places.untrusted(walk.socket), pam_places.listens(walk.socket)
    if listens and not untrusted:
        yield ok(f"the service listens at {walk.socket}")._replace(check="service")
    elif untrusted:
        text = f"others than root could put a socket into {untrusted}"
        yield problem(text, situation.as_root("ls", "-ld", untrusted))._replace(check="service")
    else:
        text = f"nobody listens at {walk.socket}"
        start = situation.as_root("systemctl", "enable", "--now", "unlatch-pam.socket")
        yield problem(text, start)._replace(check="service")


def entry(walk: Walk, settings: Settings, situation: Situation) -> Finding:
    """Which entry counts, and whether its keys can be used. What happens with a bad one is seen in what follows."""
    name = walk.account.name
    try:
        found = challenge.find(walk.account, walk.service, settings, challenge.Places())
    except Unfit as unfit:
        enrol = situation.as_root("unlatch", "pam", "enrol", name, "FINGERPRINT", "--file", f"{name}.asc")
        return problem(unfit.why, enrol)
    place = f"/etc/unlatch/pam/{name}" if found.source == "record" else f"{walk.account.home}/.auth_gpg"
    return ok(f"{listed(fingerprint for fingerprint, _ in found.keys)}, by {place}")


def rung(walk: Walk, settings: Settings, file: str, situation: Situation) -> Finding:
    """Who approves: only people who are named for this very account, since "*" would ring a stranger."""
    account = walk.account
    if walk.mode == "challenge":
        return ok("the challenge; nobody is rung")
    names = (account.name, str(account.uid))
    people = [person for person in settings.people if set(person.users) & set(names) and person.notify]
    if not people:
        text = f'nobody could approve: no [people.NAME] table names {account.name} ("*" does not count) and a notifier'
        return (problem if walk.mode == "approve" else warning)(text, edit(situation, file))
    if not settings.pam_approvals:
        return warning("nobody is rung: approvals in [pam] is 0", edit(situation, file))
    often = f"{settings.pam_approvals} times an hour at most"
    return ok(f"{listed(person.name for person in people)} may approve, {often}")


def patience(walk: Walk, settings: Settings, situation: Situation) -> Finding | None:
    """Whether the service waits for as long as a challenge lasts; None where nothing is known of it, and where it does
    not ask us yet: what it then needs is printed with its lines.
    """
    if not _uses(walk):
        return None
    if walk.service == "sshd":
        said = pam_places.sshd_settings(walk.account.name)
        keys = ("logingracetime", "usepam", "kbdinteractiveauthentication")
        error = "" if said else pam_places.sshd_error()
        facts = logins.Patience(True, settings.pam_seconds, bool(said), *(said.get(key, "") for key in keys))
        return logins.judge_patience(facts._replace(error=error), situation)
    if walk.service == "login":
        seconds = login_timeout()
        if 0 < seconds < settings.pam_seconds + SPARE:
            text = f"login hangs up after {seconds} s: LOGIN_TIMEOUT {settings.pam_seconds + SPARE}"
            return warning(text, situation.as_root("vi", LOGIN_DEFS))
        return ok(f"login waits for {seconds} s" if seconds else "login waits for as long as it takes")
    return None


def login_timeout(path: str = LOGIN_DEFS) -> int:
    """LOGIN_TIMEOUT of login.defs(5), in seconds; 60 where nothing is said (shadow's login.c), 0 is for ever."""
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file.read(_MAX_FILE).splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == "LOGIN_TIMEOUT" and words[1].isdigit():
                return int(words[1])
    return 60


def line(walk: Walk) -> Finding:
    """Whether the real service asks us yet."""
    numbers = [str(use.number) for use in _uses(walk)]
    place = f"{pam_places.PAM_D}/{walk.service}"
    if numbers:
        return ok(f"{place} asks us, in line {listed(numbers)}")
    return ok(f"{place} does not ask us yet; a walk that succeeds ends with the lines for it")


def _uses(walk: Walk) -> list[pam_places.Use]:
    return [use for use in pam_places.uses() if use.service == walk.service]
