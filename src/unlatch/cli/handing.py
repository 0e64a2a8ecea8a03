"""How ``unlatch run`` hands secrets to the program that it becomes: nothing here writes to a disk."""

import ctypes
import fcntl
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from unlatch.cli import secrets, voice
from unlatch.secret import Secret

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as the shell's (POSIX sh, 2.8.2)
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000  # unshare(2)
PR_SET_DUMPABLE = 4  # prctl(2)
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000  # mount(2)


def find(program: str, environ: Mapping[str, str]) -> str:
    """The program's file, looked for before anybody is asked for a secret.

    Raises:
        Problem: with the shell's exit codes.
    """
    found = shutil.which(program, path=environ.get("PATH", os.defpath))
    if found is None and os.path.exists(program):
        voice.fail(f"{voice.clean(program)} cannot be executed", f"ls -l {voice.clean(program)}", code=NOT_EXECUTABLE)
    if found is None:
        voice.fail(f"{voice.clean(program)} was not found", "name it by its path, or look at PATH", code=NOT_FOUND)
    return found


def as_text(name: str, secret: Secret) -> str:
    """A secret for an environment variable.

    Raises:
        Problem: it holds a zero byte, which no variable can.
    """
    if 0 in secret.reveal():
        voice.fail(
            f"{voice.clean(name)} has a zero byte, which no variable can hold", "hand it over with --fd or --file"
        )
    return os.fsdecode(bytes(secret.reveal()))


def pipe(secret: Secret) -> int:
    """A pipe's reading end with the secret in it, then the end of the file; the program inherits it."""
    reading, writing = os.pipe()
    data = secret.reveal()
    # The pipe must hold it all: nobody is left to write once this process is the program (F_SETPIPE_SZ, fcntl(2)).
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, max(4096, len(data)))
    os.set_blocking(writing, False)
    written = os.write(writing, data)
    os.close(writing)
    if written != len(data):
        voice.fail("the pipe cannot hold the whole secret", "hand it over with --file")
    os.set_inheritable(reading, True)
    return reading


def memory_file(name: str, secret: Secret) -> str:
    """The path of a sealed memory file (memfd_create(2)) that the program inherits and nobody can change."""
    descriptor = os.memfd_create(f"unlatch-{os.path.basename(name)}"[:200], os.MFD_ALLOW_SEALING)
    _fill(descriptor, secret)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, True)
    return f"/proc/self/fd/{descriptor}"


def folders(wanted: Sequence[tuple[str, str, Secret]]) -> dict[str, str]:
    """Directories in memory, one for each variable, with a file called after its secret; variable -> path.

    They are on a ramfs (never swapped) in a mount namespace of this process, so nobody else sees them and they end with
    it. Without root that takes a user namespace, in which files of other users seem to belong to nobody.

    Raises:
        Problem: the kernel allows neither.
    """
    place = os.path.join(secrets.store().path, ".memory")
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)  # not with the next one: it would be open to others
    os.makedirs(place, mode=0o700, exist_ok=True)
    try:
        _unshare()
        _mount(b"none", b"/", None, MS_REC | MS_PRIVATE)
        _mount(b"unlatch", os.fsencode(place), b"ramfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        voice.fail(f"a private directory in memory is not possible here: {why}", "hand the secret over with --file")
    os.chmod(place, 0o700)
    paths = {}
    for number, (variable, name, secret) in enumerate(wanted):
        paths[variable] = os.path.join(place, str(number))
        os.mkdir(paths[variable], 0o700)
        file = os.path.join(paths[variable], os.path.basename(name) or "secret")
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        _fill(descriptor, secret)
        os.close(descriptor)
    return paths


def become(where: str, program: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become the program, with its signals as a shell would leave them.

    Raises:
        Problem: it cannot be executed.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):  # what Python and we changed
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(where, list(program), dict(environ))
    except OSError as error:
        why = (error.strerror or "unknown").lower()
        voice.fail(f"{voice.clean(where)}: {why}", f"ls -l {voice.clean(where)}", code=NOT_EXECUTABLE)


def _fill(descriptor: int, secret: Secret) -> None:
    data = secret.reveal()
    while data:
        data = data[os.write(descriptor, data) :]


def _unshare() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _call("unshare", CLONE_NEWNS)
        return
    # A process that refuses core files does not own its /proc files (prctl(2)); exec would reset it in a moment.
    _call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
    _call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    _call("mount", source, target, kind, ctypes.c_ulong(flags), None)


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
