"""Start a pinentry as gpg-agent would, exchange the first words, and say goodbye. Nobody is asked anything."""

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Mapping
from typing import NamedTuple

from unlatch.errors import Malformed
from unlatch.wire.assuan import LineReader

SECONDS = 10.0  # it answers in 30 ms; ten seconds are for a machine in distress
_MAX_WORD = 64


class Trial(NamedTuple):
    """``why`` is what went wrong, "" if nothing did; ``interpreter`` what really runs: "" when it could not be seen."""

    why: str
    flavor: str
    version: str
    interpreter: str


class _Broken(Exception):
    """Its text says how."""


def trial(program: str, environ: Mapping[str, str]) -> Trial:
    """Try this program."""
    try:
        process = subprocess.Popen(
            [program], cwd="/", env=dict(environ), start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            bufsize=0,  # nothing is left to be written when it has ended by itself
        )  # fmt: skip
    except FileNotFoundError:  # for a file that is there: the interpreter that its first line names is not
        return Trial("its interpreter is gone", "", "", "")
    except OSError as error:
        return Trial((error.strerror or "cannot be started").lower(), "", "", "")
    with process:
        try:
            return _talk(process, time.monotonic() + SECONDS)
        except _Broken as broken:
            return Trial(str(broken), "", "", "")
        finally:
            process.kill()


def _talk(process: "subprocess.Popen[bytes]", until: float) -> Trial:
    reader = LineReader()
    if not _line(process, reader, until).startswith(b"OK"):
        raise _Broken("it does not greet as a pinentry does")
    flavor = _ask(process, reader, b"GETINFO flavor", until)
    interpreter = ""
    with contextlib.suppress(OSError):  # a process without core dumps does not show it
        interpreter = os.readlink(f"/proc/{process.pid}/exe")
    version = _ask(process, reader, b"GETINFO version", until)
    _ask(process, reader, b"BYE", until)
    return Trial("", flavor, version, interpreter)


def _ask(process: "subprocess.Popen[bytes]", reader: LineReader, command: bytes, until: float) -> str:
    assert process.stdin is not None
    try:
        process.stdin.write(command + b"\n")
    except OSError:
        raise _Broken("it ends before it was told to") from None
    data = b""
    while True:
        line = _line(process, reader, until)
        if line.startswith(b"D "):
            data = line[2:]
        elif line.startswith(b"OK"):
            return data.decode("utf-8", "replace")[:_MAX_WORD]
        elif line.startswith(b"ERR"):
            return ""


def _line(process: "subprocess.Popen[bytes]", reader: LineReader, until: float) -> bytes:
    assert process.stdout is not None
    try:
        while (line := reader.next_line()) is None:
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                raise _Broken(f"it says nothing for {SECONDS:.0f} s")
            data = os.read(process.stdout.fileno(), 4096)
            if not data:
                raise _Broken("it ends at once: its interpreter or its packages are gone")
            reader.feed(data)
    except Malformed:
        raise _Broken("it does not speak as a pinentry does") from None
    return line
