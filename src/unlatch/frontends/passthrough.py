"""Hand a dialogue over to a local pinentry, which then talks with gpg-agent as if it had been started by it.

What gpg-agent has said so far is said again to the other pinentry, whose replies to that are dropped: they were given.
From the open request on, bytes pass both ways and are not looked at.
"""

import os
import select
import subprocess
import time

from unlatch.errors import Malformed, Refused
from unlatch.wire.assuan import LineReader

REPLAY_SECONDS = 10.0  # a pinentry answers these lines in a millisecond each
_CHUNK = 65536


def pass_on(program: str, lines: list[bytes], rest: bytes, watch: tuple[int, ...]) -> int:
    """Run ``program`` until it ends; its exit status. Ends it when a descriptor of ``watch`` becomes readable.

    ``lines`` are what it must hear, the open request last; ``rest`` came after that.

    Raises:
        Refused: it cannot be started, or does not speak pinentry.
    """
    try:
        child = subprocess.Popen([program], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except OSError as error:
        raise Refused("rule", f"{program}: {error.strerror}") from None
    assert child.stdin is not None
    assert child.stdout is not None
    to_child, from_child = child.stdin.fileno(), child.stdout.fileno()
    try:
        _replay(program, to_child, from_child, lines[:-1])
        _write(to_child, lines[-1] + b"\n" + rest)
        return child.wait() if _pump(child, watch) else 1
    finally:
        child.kill()  # nothing happens to one that has ended
        child.wait()
        child.stdin.close()
        child.stdout.close()


def _replay(program: str, to_child: int, from_child: int, lines: list[bytes]) -> None:
    until = time.monotonic() + REPLAY_SECONDS
    replies = LineReader()
    try:
        _skip_reply(replies, from_child, until)  # the greeting
        for line in lines:
            _write(to_child, line + b"\n")
            _skip_reply(replies, from_child, until)
    except (OSError, Malformed):
        raise Refused("rule", f"{program}: is not a pinentry") from None


def _skip_reply(replies: LineReader, from_child: int, until: float) -> None:
    while True:
        line = replies.next_line()
        if line is not None and line.split(b" ")[0] in (b"OK", b"ERR"):
            return
        if line is not None:
            continue
        ready, _, _ = select.select([from_child], [], [], max(0.0, until - time.monotonic()))
        data = os.read(from_child, _CHUNK) if ready else b""
        if not data:
            raise OSError
        replies.feed(data)


def _pump(child: "subprocess.Popen[bytes]", watch: tuple[int, ...]) -> bool:
    """Carry bytes until the other pinentry has said all; False when it is to be ended."""
    assert child.stdin is not None
    assert child.stdout is not None
    poller = select.poll()
    for descriptor in (0, child.stdout.fileno(), *watch):
        poller.register(descriptor, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor in watch:
                return False
            source = os.read(descriptor, _CHUNK)
            if descriptor != 0 and not source:
                return True
            if descriptor != 0:
                _write(1, source)
            elif source:
                _write(child.stdin.fileno(), source)
            else:
                poller.unregister(0)
                child.stdin.close()


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
