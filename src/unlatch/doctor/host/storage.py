"""Where the broker writes: the audit trail, the Matrix state, the sockets' directory. Writable, and with room."""

import contextlib
import os
import pwd
import stat
from typing import NamedTuple

from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem, unknown, warning
from unlatch.doctor.host.served import audit_file, served
from unlatch.notify.matrix_place import state_directory

LITTLE = 100 << 20  # bytes; the audit trail of a busy year has some megabytes
NOTHING = 1 << 20  # bytes; the Matrix state is written anew with every message, up to two megabytes


class Folder(NamedTuple):
    """A directory that is written to. ``missing`` also when it cannot be seen. ``writable``: by the broker's user.
    ``free``: bytes for others than root; ``files``: inodes, -1 where the file system does not count them.
    """

    path: str
    what: str
    missing: bool
    writable: bool = False
    free: int = 0
    files: int = -1


class Facts(NamedTuple):
    """``user`` is the broker's."""

    user: str
    folders: tuple[Folder, ...]


def probe(situation: Situation) -> Facts:
    """Look at each, once."""
    found = served(situation)
    folders = {os.path.dirname(audit_file(found)): "the audit trail"}
    for each in found.loaded.settings.notifiers:
        if each.kind == "matrix":
            folders.setdefault(state_directory(each.options["matrix"], found.environ), "the Matrix state")
    if found.status.whole:
        folders.setdefault(os.path.dirname(found.place.askers), "the sockets")
    try:
        user = pwd.getpwuid(found.uid).pw_name if found.uid >= 0 else "unlatch"
    except KeyError:
        user = str(found.uid)
    return Facts(user, tuple(look(path, what, found.uid) for path, what in folders.items()))


def look(path: str, what: str, uid: int) -> Folder:
    """One directory, as ``uid`` has it. By its modes: os.access() would tell of us."""
    try:
        status, room = os.stat(path), os.statvfs(path)
    except OSError:
        return Folder(path, what, missing=True)
    writable = stat.S_ISDIR(status.st_mode) and may_write(status, uid) and not room.f_flag & os.ST_RDONLY
    files = room.f_favail if room.f_files else -1
    # The sockets' directory is systemd's, and written to only by a broker that makes its own sockets.
    writable = writable or what == "the sockets"
    return Folder(path, what, missing=False, writable=writable, free=room.f_bavail * room.f_frsize, files=files)


def may_write(status: os.stat_result, uid: int) -> bool:
    """Whether the modes let this user make files in a directory (path_resolution(7))."""
    groups: set[int] = set()
    with contextlib.suppress(KeyError):
        account = pwd.getpwuid(uid)
        groups.update(os.getgrouplist(account.pw_name, account.pw_gid))
    shift = 6 if status.st_uid == uid else 3 if status.st_gid in groups else 0
    return uid == 0 or (status.st_mode >> shift) & 0o3 == 0o3


def judge(facts: Facts, situation: Situation) -> Finding:
    """The worst of all."""
    found = [_judge_one(folder, facts.user, situation) for folder in facts.folders]
    for state in ("problem", "warning", "unknown"):
        for finding in found:
            if finding.state == state:
                return finding
    free = [folder.free for folder in facts.folders if not folder.missing]
    room = f"; {_size(min(free))} free at least" if free else ""
    if not free:
        return ok("nothing was written yet: the broker makes its directories when it starts")
    return ok(f"{facts.user} may write where it must{room}")


def _judge_one(folder: Folder, user: str, situation: Situation) -> Finding:
    if folder.missing and not os.path.isabs(folder.path):
        return unknown(f"{folder.what} has no directory", "unlatch config check")
    if folder.missing:
        return _judge_missing(folder, situation)
    if not folder.writable:
        text = f"{folder.path} ({folder.what}) cannot be written by {user}"
        return problem(text, situation.as_root("ls", "-ld", folder.path))
    if folder.free < NOTHING or folder.files == 0:
        what = "inodes" if folder.files == 0 else "room"
        text = f"no {what} left where {folder.path} ({folder.what}) lies"
        return problem(text, command("df", "-hi" if folder.files == 0 else "-h", folder.path))
    if folder.free < LITTLE:
        text = f"only {_size(folder.free)} left where {folder.path} ({folder.what}) lies"
        return warning(text, command("df", "-h", folder.path))
    return ok(folder.path)


def _judge_missing(folder: Folder, situation: Situation) -> Finding:
    if folder.what == "the audit trail":  # the broker makes it when it starts
        return ok(folder.path)
    return problem(
        f"{folder.path} ({folder.what}) is not there, or hidden from us", situation.as_root("ls", "-ld", folder.path)
    )


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count < 10 << 30 else f"{count >> 30} GiB"


STORAGE = Check(
    "storage",
    "the broker's user may write where the audit trail and the Matrix state are, and the disk has room there",
    "`chown` it to the broker's user; make room: without it nothing is logged, and Matrix sends nothing",
    Facts,
    probe,
    judge,
)
