"""A secret that the settings only point to: a file, what a command prints, or a credential that systemd passes.

What everybody on this host may read is no secret, so it is refused rather than used. Nothing that is read stands in an
exception, and neither does what a command says: it may quote the secret.
"""

import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from unlatch.errors import UnlatchError

MAX_SIZE = 8192  # bytes; a token has some dozens, a URL with several some hundreds
COMMAND_SECONDS = 30.0  # a safety net: callers have limits of their own, and shorter ones
_PATH = "/usr/local/bin:/usr/bin:/bin"
_KEPT = ("HOME", "USER", "LOGNAME", "LANG", "CREDENTIALS_DIRECTORY", "XDG_RUNTIME_DIR")


class Source(NamedTuple):
    """Where a secret is. ``kind`` is "file" (a path), "command" (a program and its arguments) or "credential" (a name
    below ``$CREDENTIALS_DIRECTORY``, systemd.exec(5)).
    """

    kind: str
    where: tuple[str, ...]


class NoCredential(UnlatchError):
    """The secret cannot be had. ``why`` is printable, and may say what to do."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def read(source: Source, environ: Mapping[str, str]) -> str:
    """The secret, without the newline that editors and programs put at its end. It may block for as long as a command
    takes.

    Raises:
        NoCredential
    """
    if source.kind == "command":
        return _text(_printed_by(source.where, environ), "the command printed")
    path = source.where[0]
    if source.kind == "credential":
        folder = environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder.startswith("/"):
            raise NoCredential("there is no $CREDENTIALS_DIRECTORY; set LoadCredential= in the broker's unit")
        path = f"{folder}/{path}"
    return _text(_content(path), f"{path} holds")


def exposure(path: str) -> str:
    """Why a file cannot keep a secret, or nothing. A file that cannot be looked at has not been found wanting."""
    try:
        return _exposure(path, os.stat(path).st_mode)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return ""


def _exposure(path: str, mode: int) -> str:
    if not stat.S_ISREG(mode):
        return f"{path} is not a regular file"
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        return f'everybody may {"read" if mode & stat.S_IROTH else "write"} {path}; run "chmod o= {path}"'
    return ""


def _content(path: str) -> bytes:
    try:
        # O_NONBLOCK: opening a fifo that somebody put there must not wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or "not a path").lower()
        raise NoCredential(f"{path} cannot be read: {why}") from None
    try:
        exposed = _exposure(path, os.fstat(descriptor).st_mode)
        if exposed:
            raise NoCredential(exposed)
        return os.read(descriptor, MAX_SIZE + 3)  # a regular file gives all that it has
    except OSError as error:
        raise NoCredential(f"{path} cannot be read: {(error.strerror or '').lower()}") from None
    finally:
        os.close(descriptor)


def _printed_by(command: tuple[str, ...], environ: Mapping[str, str]) -> bytes:
    import subprocess  # dear, and only this kind of source needs it
    import threading

    kept = {"PATH": _PATH} | {key: environ[key] for key in _KEPT if key in environ}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=kept, cwd="/",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise NoCredential(f"the command cannot be started: {getattr(error, 'strerror', None) or 'bad'}") from None
    timer = threading.Timer(COMMAND_SECONDS, process.kill)
    timer.start()
    try:
        with process:
            assert process.stdout is not None
            printed = process.stdout.read(MAX_SIZE + 3)
            process.stdout.close()  # who prints more than that gets SIGPIPE
    finally:
        timer.cancel()
    if len(printed) <= MAX_SIZE + 2 and process.returncode:
        raise NoCredential(f"the command failed with exit status {process.returncode}")
    return printed


def _text(data: bytes, what: str) -> str:
    if data.endswith(b"\n"):
        data = data[:-2] if data.endswith(b"\r\n") else data[:-1]
    if not data:
        raise NoCredential(f"{what} nothing")
    if len(data) > MAX_SIZE:
        raise NoCredential(f"{what} more than {MAX_SIZE} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() or not text:  # a newline too: which of the lines would be the secret?
        raise NoCredential(f"{what} something else than one line of text")
    return text
