"""Whom the lines of /etc/pam.d would shut out: accounts that log in here and that nobody has enrolled.

A warning, for perhaps they shall not come in any more. Accounts are those of /etc/passwd: a directory of ten thousand
people has no homes here that matter.
"""

import os
import stat
import time
from collections.abc import Iterable
from typing import NamedTuple

from unlatch import config
from unlatch.doctor.check import Check, Finding, Situation, ok, unknown, warning
from unlatch.doctor.host import pam_places, sudoers
from unlatch.doctor.host.parallel import side_by_side
from unlatch.doctor.host.served import served
from unlatch.doctor.host.words import edit, listed
from unlatch.pam import login, record
from unlatch.pam.errors import Unfit
from unlatch.pam.worker import Places
from unlatch.settings import Settings

NAMED = 3  # accounts that the line names; the others are a number
SECONDS = 2.0  # for all homes, some of which may be on a server that does not answer; and for sshd as long again
MOST = 64  # homes that are looked into, and accounts for which sshd is asked
_PASSWD, _SHADOW, _SUDOERS = "/etc/passwd", "/etc/shadow", ("/etc/sudoers", "/etc/sudoers.d")
_GROUPS = "/etc/group"
_MAX_FILE = 1 << 20  # bytes: ten thousand accounts
_MAX_FILES = 64  # of /etc/sudoers.d
_NO_SHELL = ("nologin", "false", "true", "sync", "halt", "shutdown")
_SUDO = ("sudo", "sudo-i")
_SU = ("su", "su-l")
_REFUSES_ROOT = ("no", "prohibit-password", "without-password", "forced-commands-only")  # keyboard-interactive, that is
_BY_PAM = ("keyboard-interactive", "password")


class Account(NamedTuple):
    """``password``: it has one that could be right; ``keys``: there are authorized_keys; ``sudoer``: sudo's files name
    it, or a group of it, and it is not let off the password. ``methods`` and ``root`` are sshd's AuthenticationMethods
    for it and its PermitRootLogin, "" where sshd was not asked.
    """

    name: str
    uid: int
    password: bool
    keys: bool
    sudoer: bool = True
    methods: str = ""
    root: str = ""


class Facts(NamedTuple):
    """``records``: who has a key of record. ``whole``: passwords could be looked for, which takes root. ``accounts``:
    those with a shell to log in with; ``more``: how many of them were not looked at.
    """

    uses: tuple[pam_places.Use, ...]
    settings: Settings
    file: str
    records: frozenset[str]
    whole: bool
    accounts: tuple[Account, ...]
    more: int = 0


def probe(situation: Situation) -> Facts:
    """Read the host's files, look for keys in the homes of who is not enrolled, and ask sshd about these."""
    uses = pam_places.uses()
    settings = config.load(None, {"HOME": "/nonexistent"}, 0).settings  # as the service, whose home has none
    file = served(situation).loaded.path
    facts = Facts(uses, settings, file, frozenset(), False, ())
    shadow = _read(_SHADOW) if uses else ""
    if not shadow:
        return facts
    facts = facts._replace(records=frozenset(record.names(Places().records)), whole=True)
    loose = [row for row in with_shell(_read(_PASSWD)) if shut_out(facts, Account(row[0], int(row[2]), True, False))]
    looked = side_by_side(_has_keys, [row[5] for row in loose[:MOST]], SECONDS)
    passwords, rules, group = with_password(shadow), sudoers.named(_sudoers()), _read(_GROUPS)
    found = [
        Account(row[0], int(row[2]), row[0] in passwords, bool(keys), sudoers.may(row[0], row[3], rules, group))
        for row, keys in zip(loose, looked, strict=False)
    ]
    if any(use.service == "sshd" for use in uses):
        found = _ask_sshd(found)
    return facts._replace(accounts=tuple(found), more=len(loose) - len(found))


def _ask_sshd(accounts: list[Account]) -> list[Account]:
    until = time.monotonic() + SECONDS
    found = []
    for account in accounts:
        asks = (account.password or account.keys) and time.monotonic() < until
        said = pam_places.sshd_settings(account.name) if asks else {}
        methods, root = said.get("authenticationmethods", ""), said.get("permitrootlogin", "")
        found.append(account._replace(methods=methods, root=root))
    return found


def _sudoers() -> Iterable[str]:
    file, directory = _SUDOERS
    yield _read(file)
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names[:_MAX_FILES]:
        yield _read(f"{directory}/{name}")


def _read(path: str) -> str:
    """A file of root's; "" where it is not there, or not for us."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE)
    except OSError:
        return ""


def _has_keys(home: str) -> bool:
    """Whether sshd would find keys there. Nothing is opened: what a user's link leads to is not for root to open."""
    for name in ("authorized_keys", "authorized_keys2"):
        try:
            status = os.stat(f"{home}/.ssh/{name}")
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size:
            return True
    return False


def with_shell(passwd: str) -> list[list[str]]:
    """The lines of passwd(5) that have a shell to log in with; an empty one is /bin/sh. Pure."""
    rows = (line.split(":") for line in passwd.splitlines())
    return [
        row
        for row in rows
        if len(row) == 7 and row[2].isdecimal() and os.path.basename(row[6].strip()) not in _NO_SHELL
    ]


def with_password(shadow: str) -> frozenset[str]:
    """Who has a password in shadow(5), or may come in without. Of the hashes nothing is kept. Pure."""
    rows = (line.split(":", 2) for line in shadow.splitlines())
    return frozenset(row[0] for row in rows if len(row) == 3 and row[1][:1] not in ("!", "*"))


def shut_out(facts: Facts, account: Account) -> dict[str, str]:
    """The services that would let an account in no more, each with its mode: it comes by our line there, and has no
    entry. Pure.
    """
    found = {}
    for use in facts.uses:
        words = (word for word in use.arguments.split() if word.partition("=")[0] not in ("socket", "timeout"))
        try:
            mode = login.options(tuple(words), facts.settings.pam_mode).mode
        except Unfit:  # everybody is denied: the check "logins" says so
            continue
        if not _has_entry(facts, account, use.service, mode) and _comes_by(account, use.service):
            found[use.service] = mode
    return found


def _has_entry(facts: Facts, account: Account, service: str, mode: str) -> bool:
    if mode == "approve":
        own = {account.name, str(account.uid)}
        return any(person.notify and own & set(person.users) for person in facts.settings.people)
    # A file that others include counts for their names, of which some may be listed.
    listed_there = facts.settings.pam_auth_gpg
    auth_gpg = service in listed_there or (service.startswith("common-") and bool(listed_there))
    return account.name in facts.records or auth_gpg  # in "either" too: no entry is denied, whoever could be rung


def _comes_by(account: Account, service: str) -> bool:
    """Whether it would come by the line of a service, but for us."""
    if account.uid == 0 and service in _SU:
        return True  # asked for by whoever becomes root, with or without a password of its own
    if not (account.password or account.keys):
        return False
    if service in _SUDO:
        return account.uid != 0 and account.sudoer  # root is not asked
    if service != "sshd":
        return True
    if account.uid == 0 and account.root in _REFUSES_ROOT:
        return False
    if account.methods == "any":
        return not account.keys
    lists = [{word.partition(":")[0] for word in each.split(",")} for each in account.methods.split()]
    return all(each & set(_BY_PAM) for each in lists)


def judge(facts: Facts, situation: Situation) -> list[Finding]:
    """One line for those without a key, one for those whom no phone is rung for."""
    if not facts.uses:
        return [ok("no service in /etc/pam.d asks us")]
    if not facts.whole:
        again = situation.as_root("unlatch", "doctor", "login-accounts")
        return [unknown("who would be shut out can be seen by root only", again)]
    without: dict[bool, dict[str, dict[str, None]]] = {False: {}, True: {}}
    for account in facts.accounts:
        for service, mode in shut_out(facts, account).items():
            without[mode == "approve"].setdefault(account.name, {})[service] = None
    found = []
    for approve, names in without.items():
        if not names:
            continue
        services = listed(dict.fromkeys(service for each in names.values() for service in each))
        lack = "no [people.NAME] table with a notifier names" if approve else "no key of record"
        who = f"{_counted(list(names))} would be shut out by {services}"
        first = next(iter(names))
        enrol = situation.as_root("unlatch", "pam", "enrol", first, "FINGERPRINT", "--file", f"{first}.asc")
        text = f"{who}: {lack} them" if approve else f"{who}: there is {lack} for them"
        found.append(warning(text, edit(situation, facts.file) if approve else enrol))
    if facts.more:
        text = f"{facts.more} accounts that are not enrolled were not looked at"
        found.append(warning(text, situation.as_root("unlatch", "pam", "list")))
    return found or [ok("no account that logs in here is known to be shut out")]


def _counted(names: list[str]) -> str:
    shown = names[:NAMED]
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return f"{len(names)} account{'s' if len(names) > 1 else ''} ({listed(shown + more)})"


LOGIN_ACCOUNTS = Check(
    "login-accounts",
    "every account of `/etc/passwd` that logs in here (a shell, and a password or `authorized_keys`) has a key of "
    "record where a service asks us and `~/.auth_gpg` does not count, and in the mode `approve` a person; whom sshd "
    "lets in around us, or sudo's files do not name, is left out",
    "`unlatch pam enrol` for each, a `[people.NAME]` table, or nothing if they are not to come in; for programs "
    "that log in, `AuthenticationMethods publickey` in a `Match User` block ([logins](logins.md))",
    Facts,
    probe,
    judge,
)
