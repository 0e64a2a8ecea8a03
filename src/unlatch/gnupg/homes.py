"""A GnuPG home, and the two places where its agent's sockets can be.

GnuPG looks into /run/user/UID when that is there, and else into the home itself (common/homedir.c,
``_gnupg_socketdir_internal``; every rule below was held against gpgconf 2.2.40). So the place changes when a user logs
in for the first time, and back when the last session ends. docs/agent.md tells what comes of that.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

AGENT, SSH, EXTRA = "S.gpg-agent", "S.gpg-agent.ssh", "S.gpg-agent.extra"

RUN = "/run/user"
HOST_AGENTS = "/run/unlatch-agent"  # systemd/system/unlatch-agent@.socket
UNIT_SETTINGS = "/etc/unlatch/agent-{}.env"  # EnvironmentFile= of unlatch-agent@USER.service
_ZBASE32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
_HASHED = 15  # bytes of the SHA-1 that name a home: 24 digits
# What a program of GnuPG's that we start gets to know. An agent outlives us, so it inherits nobody's terminal, display
# or secrets; its clients tell it about theirs.
_KEPT = ("USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ", "UNLATCH_CONFIG", "UNLATCH_RUNTIME_DIR")
_PATH = "/usr/local/bin:/usr/bin:/bin"


class Home(NamedTuple):
    """A GNUPGHOME of the user ``uid``. ``is_default``: it is the ~/.gnupg of ``user_home``.

    ``directory`` is as GnuPG writes it: absolute, without a slash at the end, otherwise unchanged, because the name of
    its directory in /run/user is a hash of these very bytes.
    """

    directory: str
    uid: int
    is_default: bool
    user_home: str
    kept: tuple[tuple[str, str], ...] = ()

    @classmethod
    def find(cls, environ: Mapping[str, str], uid: int, home_dir: str) -> "Home":
        """The home that GnuPG would use: ``$GNUPGHOME``, else ~/.gnupg.

        ``home_dir`` is the user's home by passwd(5), for when ``$HOME`` does not say it.
        """
        user_home = environ.get("HOME") or home_dir
        default = f"{user_home}/.gnupg"
        named = environ.get("GNUPGHOME", "")
        directory = _absolute(named, user_home) if named else default
        kept = tuple((name, environ[name]) for name in _KEPT if name in environ)
        return cls(directory, uid, directory == default, user_home, kept)

    def sockets(self, name: str = AGENT) -> tuple[str, str]:
        """Where a socket can be: in the home, and below /run/user/UID. Neither needs to exist."""
        return f"{self.directory}/{name}", f"{self.run_directory()}/{name}"

    def owned(self, name: str = AGENT) -> str:
        """Where unlatch-agent@USER.service keeps a socket, if this home is its home."""
        return f"{HOST_AGENTS}/{self._user()}/{name}"

    def unit_settings(self) -> str:
        """The file that names another home than ~/.gnupg for that unit, if there is one."""
        return UNIT_SETTINGS.format(self._user())

    def _user(self) -> str:
        import pwd

        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:  # then it has no unit either
            return str(self.uid)

    def run_directory(self) -> str:
        """The directory of the sockets below /run/user/UID."""
        base = f"{RUN}/{self.uid}/gnupg"
        return base if self.is_default else f"{base}/d.{_hash(self.directory)}"

    def uses_run(self) -> bool:
        """Whether GnuPG, started as this user now, would look into /run/user/UID."""
        try:
            run = os.stat(f"{RUN}/{self.uid}")
            return run.st_uid == self.uid and _is_private(f"{RUN}/{self.uid}/gnupg", self.uid)
        except OSError:
            return False

    def environment(self) -> dict[str, str]:
        """All that a program of GnuPG's needs to know to work with this home."""
        home = {} if self.is_default else {"GNUPGHOME": self.directory}
        return {"PATH": _PATH, "HOME": self.user_home, **dict(self.kept), **home}


def _absolute(name: str, user_home: str) -> str:
    name = _without_slashes(name)
    if name == "~" or name.startswith("~/"):
        name = user_home + name[1:]
    elif name.startswith("~"):
        name = os.path.expanduser(name)
    if name.startswith("/"):
        return _without_slashes(name)
    return f"{os.getcwd()}/{name}".removesuffix("/.")  # a relative name's only, and only once


def _without_slashes(name: str) -> str:
    return name.rstrip("/") or "/"


def _hash(directory: str) -> str:
    # hashlib would map OpenSSL for this one hash; the C module has no types.
    from _sha1 import sha1  # type: ignore[import-not-found,unused-ignore]

    number = int.from_bytes(sha1(os.fsencode(directory)).digest()[:_HASHED], "big")
    return "".join(_ZBASE32[number >> shift & 31] for shift in range(_HASHED * 8 - 5, -1, -5))


def _is_private(directory: str, uid: int) -> bool:
    """Whether GnuPG would take this directory; it makes one that is missing."""
    try:
        status = os.stat(directory)
    except FileNotFoundError:
        return True
    return status.st_uid == uid and not status.st_mode & 0o077


def home_of_unit(user: str) -> str:
    """The GNUPGHOME that unlatch-agent@USER.service was given, "" for the usual one."""
    try:
        with open(UNIT_SETTINGS.format(user), encoding="utf-8", errors="replace") as file:
            lines = file.read(65536).splitlines()
    except OSError:
        return ""
    named = [line.partition("=")[2].strip().strip("\"'") for line in lines if line.startswith("GNUPGHOME=")]
    return named[-1] if named else ""
