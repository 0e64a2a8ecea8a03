"""The pinentry is where every service of this user can start it, and where only root can change it."""

import os
import stat
from typing import NamedTuple

from unlatch.doctor.asker import conf
from unlatch.doctor.asker.pinentry_trial import trial
from unlatch.doctor.check import Check, Finding, Situation, ok, problem, unknown, warning

PRIVATE = ("/home", "/root", "/run/user")  # what ProtectHome= hides (systemd.exec(5))


class Facts(NamedTuple):
    """``program`` is what the file names, ``real`` what that leads to; ``interpreter`` likewise; "" when not known.

    ``closed`` is the first directory on the way that the user cannot enter, ``open`` what others may write to.
    """

    program: str
    real: str
    interpreter: str
    executable: bool
    closed: str
    open: tuple[str, ...]


def probe(situation: Situation) -> Facts:
    """Look at the file, and along both paths to it."""
    program = conf.read(situation).options.get("pinentry-program", "")
    if not program.startswith("/"):
        return Facts("", "", "", False, "", ())
    closed = _closed(program)
    if closed or not os.path.isfile(program):
        return Facts(program if closed else "", "", "", False, closed, ())
    real = os.path.realpath(program)
    executable = os.access(program, os.X_OK)
    interpreter = trial(program, situation.environ).interpreter if executable else ""
    return Facts(program, real, interpreter, executable, "", _open(real, situation.uid))


def _closed(path: str) -> str:
    folder = ""
    for part in path.split("/")[1:-1]:
        folder += f"/{part}"
        if os.path.isdir(folder) and not os.access(folder, os.X_OK):
            return folder
    return ""


def _open(path: str, uid: int) -> tuple[str, ...]:
    """What of this path others than root and the user could change."""
    found = []
    while True:
        status = os.stat(path)
        # In a directory with the sticky bit nobody can move what is somebody else's.
        writable = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, uid) or writable:
            found.append(path)
        if path == "/":
            return tuple(found)
        path = os.path.dirname(path)


def judge(facts: Facts, situation: Situation) -> Finding:
    """What keeps it from running, then what will keep it from running in a service, then who else could change it."""
    if facts.closed:
        text = f"{situation.user} cannot enter {facts.closed}, and so not start {facts.program}"
        return problem(text, _move(situation))
    if not facts.program:
        return unknown("there is no pinentry to look at: see pinentry-line", conf.setup(situation))
    if not facts.executable:
        # No chmod: the user chose this path, which may be /etc/shadow.
        return problem(f"{situation.user} may not execute {facts.program}", conf.setup(situation))
    for path in (facts.program, facts.real, facts.interpreter):
        hidden = next((place for place in PRIVATE if path.startswith(f"{place}/")), "")
        if hidden:
            text = f"{path} is under {hidden}, where services with ProtectHome= do not see it"
            return warning(text, _move(situation))
    if facts.open:
        text = f"others than root can change {facts.open[0]}, and with it what asks for passphrases"
        return problem(text, situation.as_root("ls", "-ld", *facts.open))
    return ok(f"{facts.real} may be executed, and changed by root only")


def _move(situation: Situation) -> str:
    return f"apt install unlatch\n{conf.setup(situation)}"


PINENTRY_PLACE = Check(
    "pinentry-place",
    "the pinentry and its interpreter may be executed by the asking user, are outside of /home and /root, and nobody "
    "but root and that user can change them",
    "install the package, or a virtual environment in `/opt`, and run `unlatch setup` again",
    Facts,
    probe,
    judge,
)
