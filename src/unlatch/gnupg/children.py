"""The children of an agent: the scdaemon that it runs, the pinentry with which it asks somebody; proc(5)."""

import os
from typing import NamedTuple

MAX_READ = 4096  # bytes of a /proc file


class Child(NamedTuple):
    """A child process. ``stopped``: by a signal, until somebody sends it SIGCONT."""

    pid: int
    name: str
    stopped: bool
    is_pinentry: bool


def children_of(pid: int) -> list[Child]:
    """The living children of a process, oldest first; none of a process that is gone or not ours to see.

    gpg-agent leaves a scdaemon that ended unreaped for as long as it says "Broken pipe" about it.
    """
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    pids = {int(child) for task in tasks for child in _read(f"/proc/{pid}/task/{task}/children").split()}
    return [child for child in map(_child, sorted(pids)) if child is not None]


def _child(pid: int) -> Child | None:
    head, found, tail = _read(f"/proc/{pid}/stat").rpartition(")")
    state = tail.split()[0] if found else "Z"
    if state == "Z":
        return None
    # A pinentry may be a script, so its own name is that of the interpreter: then the script's stands behind that.
    words = _read(f"/proc/{pid}/cmdline").split("\0")[:3]
    is_pinentry = any(os.path.basename(word).startswith("pinentry") for word in words)
    return Child(pid, head.partition("(")[2], state in ("T", "t"), is_pinentry)


def _read(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, MAX_READ).decode("utf-8", "replace")
    except OSError:  # it ended between the two
        return ""
    finally:
        os.close(descriptor)
