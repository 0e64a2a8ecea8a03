"""Where logins hang together on this host: the module, the lines of /etc/pam.d that name it, the socket, sshd."""

import contextlib
import glob
import os
import re
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

MODULE = "pam_unlatch.so"
SOCKET = "/run/unlatch-pam/pam.sock"
PAM_D = "/etc/pam.d"
SECONDS = 5.0
# Where distributions have libpam's modules; Debian's are below the triplet.
_SECURITY = ("/usr/lib/*/security", "/lib/*/security", "/usr/lib64/security", "/usr/lib/security", "/lib/security")
_MAX_FILE = 65536  # bytes of a service's file
_MAX_SERVICES = 256
_MAX_SAID = 65536  # bytes of what "sshd -T" prints
_MAX_ERROR = 4096  # bytes of what "sshd -t" does
_LISTENS = 0x10000  # __SO_ACCEPTCON, in the flags of /proc/net/unix
_PACKETS = 5  # SOCK_SEQPACKET
_COPIES = ("~", ".bak", ".dpkg-old", ".dpkg-dist", ".dpkg-new", ".ucf-old", ".ucf-dist")  # no program asks for these
_ASK_NOTHING = ("pam_nologin.so", "pam_faildelay.so", "pam_env.so", "pam_securetty.so", "pam_permit.so", "pam_group.so")
# type, control (a word, or values in brackets), module, arguments; pam.d(5)
_LINE = re.compile(r"-?(\w+)\s+(\[[^\]]*\]|\w+)\s+(\S+)\s*(.*)\Z")


class Use(NamedTuple):
    """A line of a service's file that asks us: its number from 1, its control and its arguments. ``first``: nothing
    stands before it that could have asked for a first factor.
    """

    service: str
    number: int
    control: str
    arguments: str
    first: bool


class Line(NamedTuple):
    """Any module's line: ``kind`` is its first word, ``module`` as it stands there."""

    kind: str
    module: str
    use: Use


def module_path(name: str = MODULE) -> str:
    """Where a module is installed; "" where it is not."""
    found = (f"{directory}/{name}" for pattern in _SECURITY for directory in sorted(glob.glob(pattern)))
    return next(filter(os.path.exists, found), "")


def uses(directory: str = PAM_D) -> tuple[Use, ...]:
    """The lines that name the module, of all services; those of a file that others include count for its name."""
    found = lines(directory)
    return tuple(each.use for each in found if each.kind == "auth" and os.path.basename(each.module) == MODULE)


def lines(directory: str = PAM_D) -> list[Line]:
    """The lines of all services that name a module."""
    found = []
    with contextlib.suppress(OSError):
        services = [name for name in sorted(os.listdir(directory)) if not name.endswith(_COPIES)]
        for service in services[:_MAX_SERVICES]:
            found += _lines(directory, service)
    return found


def _lines(directory: str, service: str) -> list[Line]:
    try:
        with open(f"{directory}/{service}", encoding="utf-8", errors="replace") as file:
            text = file.read(_MAX_FILE)
    except OSError:
        return []
    found, first = [], True
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].strip()
        match = _LINE.match(words)
        if match:
            found.append(Line(match[1], match[3], Use(service, number, match[2], match[4].strip(), first)))
        first = first and not (words.startswith("@include") or (match and match[1] == "auth" and _asks(match[3])))
    return found


def _asks(module: str) -> bool:
    """Whether a module may be a first factor; some only look or wait."""
    return os.path.basename(module) not in _ASK_NOTHING


def listens(path: str = SOCKET) -> bool:
    """Whether somebody takes packets there. Nobody is bothered with a connection that says nothing."""
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
            rows = [line.split(maxsplit=7) for line in file]
    except OSError:
        return os.path.exists(path)
    return any(
        len(row) == 8 and row[7].rstrip("\n") == path and int(row[4], 16) == _PACKETS and int(row[3], 16) & _LISTENS
        for row in rows[1:]
        if len(row) > 4
    )


def untrusted(path: str = SOCKET) -> str:
    """The directory of the socket, if others than root could put a socket there; "" where the module believes it."""
    directory = os.path.dirname(path)
    try:
        status = os.stat(directory)
    except OSError:
        return ""
    return directory if status.st_uid or status.st_mode & 0o022 else ""


def sshd_settings(user: str = "") -> Mapping[str, str]:
    """What sshd's configuration comes to, by names in small letters; with ``user``, for logins of that user.

    Empty where there is no sshd, or where it cannot be asked: it wants to read its host keys, which are root's.
    """
    match = ["-C", f"user={user},host=localhost,addr=127.0.0.1"] if user else []
    done = _sshd("-T", *match)
    if done is None or done.returncode:
        return {}
    words = (line.split(None, 1) for line in done.stdout[:_MAX_SAID].decode("utf-8", "replace").splitlines())
    return {pair[0]: pair[1] for pair in words if len(pair) == 2}


def sshd_error() -> str:
    """What sshd says against its configuration, one line each; "" where it is right, or where there is no sshd."""
    done = _sshd("-t")
    return done.stderr[:_MAX_ERROR].decode("utf-8", "replace") if done is not None and done.returncode else ""


def _sshd(*words: str) -> subprocess.CompletedProcess[bytes] | None:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    try:
        return subprocess.run(
            ["sshd", *words], env={"PATH": path}, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
