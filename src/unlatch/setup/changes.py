"""One change to one path, and how it looks to a person. Pure."""

import difflib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from unlatch.setup.files import ABSENT, FileState

# What has to be told of a change after it, also when it is taken back.
AGENT, SYSTEMD, BROKER, CADDY, NGINX = "agent", "systemd", "broker", "caddy", "nginx"


class Change(NamedTuple):
    """From one state to another. ``user``: whose hands do it, "" for our own. ``tells``: who has to be told.

    ``group`` is the name of the group that a new file gets; it may not exist yet. A ``secret`` file is never shown.
    """

    path: str
    before: FileState
    after: FileState
    user: str = ""
    tells: str = ""
    group: str = ""
    secret: bool = False


def making(folders: Iterable[str], mode: int = 0o755) -> list[Change]:
    """The changes that make directories."""
    return [Change(folder, ABSENT, FileState("directory", b"", mode)) for folder in folders]


def is_new(change: Change) -> bool:
    """Whether nothing was there before."""
    return change.before.kind == "absent"


def diff(change: Change) -> Iterator[str]:
    """The change as a unified diff, line by line; text from the files is not yet fit for a terminal."""
    before, after = change.before, change.after
    if "directory" in (before.kind, after.kind):
        yield "(a directory)"
        return
    if change.secret:
        yield "(its content is a secret)"
        return
    old, new = ("/dev/null" if state.kind == "absent" else change.path for state in (before, after))
    yield from difflib.unified_diff(_lines(before.data), _lines(after.data), old, new, lineterm="")
    if before.kind == after.kind == "file" and before.mode != after.mode:
        yield f"mode of {change.path}: {before.mode:04o} to {after.mode:04o}"
    if before.kind == after.kind == "file" and -1 not in (after.uid, after.gid) and before[3:] != after[3:]:
        yield f"owner of {change.path}: {before.uid}:{before.gid} to {after.uid}:{after.gid}"


def _lines(data: bytes) -> list[str]:
    """Lines of a file as a diff compares them: one that lacks its end is not the same as one that has it."""
    text = data.decode("utf-8", "backslashreplace")
    lines = text.split("\n")
    if lines[-1]:
        lines[-1] += " (no newline at the end)"
    else:
        lines.pop()
    return lines
