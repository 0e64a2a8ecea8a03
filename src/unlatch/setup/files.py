"""What a path holds, and how to put something else there: whole or not at all, durable, and never through a link.

A path is taken apart into its directory, which is opened once, and a name in it. The name is never followed when it is
a symbolic link. Links further up are: root's own directories are root's matter, and whoever writes in a user's home
has that user's rights only (``hands``).
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from unlatch.errors import Malformed, UnlatchError

MAX_FILE = 1 << 20  # bytes; what config.py reads of unlatch.toml, the largest file here
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a fifo must not make us wait
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NotPlain(UnlatchError):
    """There is something at ``path`` that is not touched. ``what`` says what it is, printable."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path} is {what}")
        self.path = path
        self.what = what


class Changed(UnlatchError):
    """What is at ``path`` is not what was there when the change was planned."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} was changed by somebody else just now")
        self.path = path


class FileState(NamedTuple):
    """All about a path that is restored. Owners of -1 are whatever a new file gets, or the one that is replaced has."""

    kind: Literal["absent", "file", "directory"] = "absent"
    data: bytes = b""
    mode: int = 0
    uid: int = -1
    gid: int = -1

    def same(self, other: "FileState") -> bool:
        """Whether nothing has to be done to make one of the other. Of directories only that they are there."""
        return self == other or self.kind == other.kind == "directory"


ABSENT = FileState()


def look(path: str, most: int = MAX_FILE) -> FileState:
    """What is there now.

    Raises:
        NotPlain: a link, a device, or more than ``most`` bytes.
        OSError: it may not be looked at.
    """
    try:
        with _directory(path) as (holder, name):
            return _look(holder, name, path, most)
    except FileNotFoundError:
        return ABSENT


def put(path: str, before: FileState, after: FileState) -> FileState:
    """Make ``after`` of ``before``; returns what is there then.

    A file is replaced by a rename, after it reached the disk. A directory that is not empty is not removed.

    Raises:
        Changed: it was not ``before`` any more.
        NotPlain, OSError
    """
    with _directory(path) as (holder, name):
        try:
            now = _look(holder, name, path, MAX_FILE)
        except FileNotFoundError:
            now = ABSENT
        if not now.same(before):
            raise Changed(path)
        if after.kind == "file":
            _replace(holder, name, before, after)
        elif after.kind == "directory":
            _make_directory(holder, name, after)
        elif before.kind == "directory":
            os.rmdir(name, dir_fd=holder)
        elif before.kind == "file":
            os.unlink(name, dir_fd=holder)
        os.fsync(holder)
    return look(path)


def missing_above(path: str) -> list[str]:
    """The directories above a path that are not there, outermost first."""
    missing: list[str] = []
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder):
        missing.insert(0, folder)
        folder = os.path.dirname(folder)
    return missing


@contextlib.contextmanager
def _directory(path: str) -> Iterator[tuple[int, str]]:
    folder, name = os.path.split(os.path.abspath(path))
    holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield holder, name
    finally:
        os.close(holder)


def _look(holder: int, name: str, path: str, most: int) -> FileState:
    status = os.stat(name, dir_fd=holder, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        raise NotPlain(path, f"a symbolic link (to {os.readlink(name, dir_fd=holder)!r})")
    if stat.S_ISDIR(status.st_mode):
        return FileState("directory", b"", stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    if not stat.S_ISREG(status.st_mode):
        raise NotPlain(path, "not a regular file")
    descriptor = os.open(name, _READ, dir_fd=holder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotPlain(path, "not a regular file")
        data = b""
        while len(data) <= most and (more := os.read(descriptor, most + 1 - len(data))):
            data += more
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise NotPlain(path, f"larger than {most} bytes")
    return FileState("file", data, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def _replace(holder: int, name: str, before: FileState, after: FileState) -> None:
    fresh = f".{name}.unlatch-{os.urandom(6).hex()}"
    descriptor = os.open(fresh, _NEW, 0o600, dir_fd=holder)
    try:
        try:
            _own(descriptor, before, after)
            os.fchmod(descriptor, after.mode)
            view = memoryview(after.data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(fresh, name, src_dir_fd=holder, dst_dir_fd=holder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh, dir_fd=holder)
        raise


def _own(descriptor: int, before: FileState, after: FileState) -> None:
    """Give a new file its owners, before it has any content."""
    status = os.fstat(descriptor)
    uid, gid = (before.uid if after.uid < 0 else after.uid), (before.gid if after.gid < 0 else after.gid)
    wanted = (status.st_uid if uid < 0 else uid, status.st_gid if gid < 0 else gid)
    if wanted != (status.st_uid, status.st_gid):
        os.fchown(descriptor, *wanted)


def _make_directory(holder: int, name: str, after: FileState) -> None:
    os.mkdir(name, 0o700, dir_fd=holder)
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=holder)
    try:
        _own(descriptor, ABSENT, after)
        os.fchmod(descriptor, after.mode)
    finally:
        os.close(descriptor)


def describe(state: FileState) -> dict[str, Any]:
    """The state without its data, for JSON."""
    return {name: value for name, value in state._asdict().items() if name != "data"}


def from_description(described: object, data: bytes) -> FileState:
    """The state that :func:`describe` described, with its data.

    Raises:
        Malformed
    """
    match described:
        case {"kind": "absent" | "file" | "directory" as kind, "mode": int(mode), "uid": int(uid), "gid": int(gid)}:
            return FileState(kind, data, mode, uid, gid)
    raise Malformed("file state")


def dump(state: FileState) -> bytes:
    """The state as bytes."""
    return json.dumps(describe(state)).encode("ascii") + b"\n" + state.data


def load(dumped: bytes) -> FileState:
    """The state that :func:`dump` made bytes of.

    Raises:
        Malformed
    """
    head, _, data = dumped.partition(b"\n")
    try:
        described = json.loads(head)
    except ValueError:
        raise Malformed("file state") from None
    return from_description(described, data)
