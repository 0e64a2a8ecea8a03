"""Whose GnuPG is set up."""

import os
import pwd
from collections.abc import Mapping

from unlatch import __version__
from unlatch.doctor.check import Situation
from unlatch.errors import UnlatchError
from unlatch.gnupg.homes import Home, home_of_unit

_PATH = "/usr/local/bin:/usr/bin:/bin"


class NoSuchUser(UnlatchError):
    """There is no such user on this host."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no user of this host is called {name}")


def target(name: str, gnupghome: str, environ: Mapping[str, str], caller: int) -> Situation:
    """The user (the caller for "") and the GnuPG home: told, else the caller's by the environment, else as the unit has
    it that owns the user's agent. Another user's home is never guessed from our own environment.

    Raises:
        NoSuchUser
    """
    try:
        entry = pwd.getpwnam(name) if name else pwd.getpwuid(caller)
    except KeyError:
        if name:
            raise NoSuchUser(name) from None
        entry = pwd.struct_passwd((str(caller), "x", caller, os.getegid(), "", environ.get("HOME") or "/", "/bin/sh"))
    own = entry.pw_uid == caller
    home = (environ.get("HOME") if own else "") or entry.pw_dir
    chosen = gnupghome or (environ.get("GNUPGHOME", "") if own else "") or home_of_unit(entry.pw_name)
    known = {"PATH": _PATH, "HOME": home, **({"GNUPGHOME": chosen} if chosen else {})}
    directory = Home.find(known, entry.pw_uid, entry.pw_dir).directory
    return Situation(entry.pw_name, entry.pw_uid, entry.pw_gid, home, directory, known, caller, __version__)


def home_of(situation: Situation) -> Home:
    """Its GnuPG home, as GnuPG would find it."""
    return Home.find(situation.environ, situation.uid, situation.home)
