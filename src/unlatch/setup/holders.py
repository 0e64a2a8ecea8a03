"""Who would be left without a pinentry if this one were removed: every gpg-agent.conf of this host that names it.

Each is read with the rights of the user whose it is, in a process of its own and for a bounded time: a home may be on a
network file system that gives root nothing, or that does not answer at all, and what a user's link points at must not
be opened by root.
"""

import os
import re
import shlex
import stat
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from unlatch.doctor import child
from unlatch.doctor.check import Situation
from unlatch.gnupg.homes import UNIT_SETTINGS
from unlatch.setup.agent_conf import MAX_FILE, values

PINENTRY = "/usr/bin/pinentry-unlatch"
CONF = "gpg-agent.conf"
ACCOUNTS = "/etc/passwd"  # not the name service: a directory of ten thousand people has no homes here that matter
GLOBAL = "/etc/gnupg/gpg-agent.conf"  # GnuPG 2.3 and later
UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
         "/etc/systemd/user", "/usr/lib/systemd/user")  # fmt: skip
SECONDS = 3.0  # for one user's files
ALL_SECONDS = 30.0  # for everybody's
_NAME = re.compile(r"[\w.-]+")
_MANY = 10_000  # lines of passwd, unit files: far more than any host has
_LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Account(NamedTuple):
    """A line of /etc/passwd that has a home."""

    name: str
    uid: int
    gid: int
    home: str

    def holder(self, file: str, *, known: bool = True) -> "Holder":
        """One of this account's files."""
        return Holder(self.name, file, file == f"{self.home}/.gnupg/{CONF}", known)


class Holder(NamedTuple):
    """A gpg-agent.conf that names this pinentry, or (``known`` is false) that could not be read in time."""

    user: str
    file: str
    in_home: bool  # ~/.gnupg
    known: bool = True


def accounts(passwd: str) -> list[Account]:
    """The accounts with a home of their own; see passwd(5)."""
    found = []
    for line in passwd.splitlines()[:_MANY]:
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdecimal() and fields[3].isdecimal() and len(fields[5]) > 1:
            found.append(Account(fields[0], int(fields[2]), int(fields[3]), os.path.normpath(fields[5])))
    return found


def homes_of_unit(text: str) -> tuple[str, list[str]]:
    """The user of a unit ("" is root, or what its other files say) and every absolute GNUPGHOME that it sets."""
    user, homes = "", []
    for line in text.replace("\\\n", " ").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "User" and _NAME.fullmatch(value.strip()):
            user = value.strip()
        elif name.strip() == "Environment":
            for word in _words(value):
                variable, _, home = word.partition("=")
                home = home.replace("%S", "/var/lib").replace("%h", "/root").replace("%%", "%")
                if variable == "GNUPGHOME" and home.startswith("/"):
                    homes.append(os.path.normpath(home))
    return user, homes


def _words(value: str) -> list[str]:
    try:
        return shlex.split(value)  # quoted as for a shell (systemd.syntax(7))
    except ValueError:
        return []


def find(
    pinentry: str = PINENTRY, passwd: str = ACCOUNTS, everybody: str = GLOBAL, units: tuple[str, ...] = UNITS
) -> Iterator[Holder]:
    """All of them, as far as this host's files tell. For root; anybody else learns about their own files only."""
    end = time.monotonic() + ALL_SECONDS
    with open(passwd, encoding="utf-8", errors="replace") as file:
        known = accounts(file.read(1 << 22))
    if _names(everybody, pinentry):
        yield Holder("everybody", everybody, False)
    for account, directories in _places(known, units).items():
        files = [f"{directory}/{CONF}" for directory in directories]
        yield from _of_account(account, files, pinentry, min(SECONDS, end - time.monotonic()))


def _places(known: list[Account], units: tuple[str, ...]) -> dict[Account, list[str]]:
    """The GnuPG homes to look at, by who may look."""
    places: dict[Account, list[str]] = {account: [f"{account.home}/.gnupg"] for account in known}
    by_name = {account.name: account for account in known}
    # A unit's user stands in the unit, its GNUPGHOME perhaps in a drop-in: whoever is not named there is root, who may
    # look everywhere but on strict network file systems.
    root = Account("root", 0, 0, "/root")
    for file in _unit_files(units):
        user, directories = homes_of_unit(read(file).decode("utf-8", "replace"))
        account = by_name.get(user) or by_name.get("root") or root
        places[account] = list(dict.fromkeys([*places.get(account, []), *directories]))
    for account in known:
        # What unlatch-agent@USER.service reads (systemd.exec(5), EnvironmentFile=).
        for line in read(UNIT_SETTINGS.format(account.name)).decode("utf-8", "replace").splitlines():
            places[account] += homes_of_unit(f"Environment={line.strip()}")[1]
    return places


def _unit_files(units: tuple[str, ...]) -> list[str]:
    found = []
    for top in units:
        for folder, _, names in os.walk(top):
            if folder == top or folder.endswith(".d"):
                found += [f"{folder}/{name}" for name in names if name.endswith((".service", ".conf"))]
    return found[:_MANY]


def _of_account(account: Account, files: list[str], pinentry: str, seconds: float) -> list[Holder]:
    """What one user's process finds. It says one byte for each file: the user's word about that user's own files."""
    if os.geteuid() not in (0, account.uid):
        return []
    situation = Situation(account.name, account.uid, account.gid, account.home, "", {}, os.geteuid(), "")
    try:
        said = child.run_as(
            situation, lambda: bytes(b"-+"[_names(file, pinentry)] for file in files), max(seconds, 0.0)
        )
    except child.NotFinished:
        said = b"?" * len(files)
    return [
        account.holder(file, known=byte != ord("?"))
        for file, byte in zip(files, said.ljust(len(files), b"?"), strict=False)
        if byte != ord("-")
    ]


def _names(file: str, pinentry: str) -> bool:
    named = values(read(file)).get("pinentry-program", "")
    return bool(named) and os.path.realpath(named) == os.path.realpath(pinentry)


def read(file: str) -> bytes:
    """The beginning of a regular file; whatever else is there, or cannot be read, is empty to us."""
    try:
        # Looking at what a name leads to opens nothing: a fifo does not wait, a device does not start.
        place = os.open(file, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(place).st_mode):
                return b""
            with open(os.open(f"/proc/self/fd/{place}", _LOOK), "rb") as opened:
                return opened.read(MAX_FILE)
        finally:
            os.close(place)
    except OSError:
        return b""


def without_repetition(found: Iterable[Holder]) -> list[Holder]:
    """One for each file; two accounts may share a home."""
    return list({holder.file: holder for holder in found}.values())
