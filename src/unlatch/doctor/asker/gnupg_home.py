"""GNUPGHOME is there, is the user's own, and nobody else looks in."""

import os
import stat
from typing import NamedTuple

from unlatch.doctor.check import Check, Finding, Situation, ok, problem, warning


class Facts(NamedTuple):
    """What lstat(2) said; ``uid`` -1 when nothing is there or it cannot be reached, with the reason in ``why``."""

    uid: int
    mode: int
    directory: bool
    writable: bool
    why: str


def probe(situation: Situation) -> Facts:
    """Look, as gpg would: through links."""
    path = situation.gnupghome
    try:
        status = os.stat(path)
    except OSError as error:
        return Facts(-1, 0, False, False, (error.strerror or "").lower())
    directory = stat.S_ISDIR(status.st_mode)
    return Facts(status.st_uid, stat.S_IMODE(status.st_mode), directory, os.access(path, os.W_OK | os.X_OK), "")


def judge(facts: Facts, situation: Situation) -> Finding:
    """Say what is wrong with it; of a directory that others may enter gpg itself only warns."""
    path = situation.gnupghome
    if facts.uid < 0:
        make = situation.as_user("mkdir", "-p", "-m", "0700", path)
        return problem(f"{path}: {facts.why}", make)
    if not facts.directory:
        return problem(f"{path} is no directory", situation.as_user("ls", "-ld", path))
    if facts.uid != situation.uid:
        take = situation.as_root("chown", "-R", f"{situation.uid}:{situation.gid}", path)
        return problem(f"{path} belongs to uid {facts.uid}, not to {situation.user}", take)
    if not facts.writable:
        return problem(f"{path} cannot be written by {situation.user}", situation.as_user("chmod", "0700", path))
    if facts.mode & 0o077:
        return warning(f"{path} has mode {facts.mode:04o}: others look in", situation.as_user("chmod", "0700", path))
    return ok(f"{path} is {situation.user}'s own and private")


GNUPG_HOME = Check(
    "gnupg-home",
    "GNUPGHOME exists, belongs to the asking user, and has mode 0700",
    "`chmod 0700` or `chown` as printed; for a home that is missing, make it or name the right one with `--gnupghome`",
    Facts,
    probe,
    judge,
)
