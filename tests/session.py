"""Our pinentry as gpg-agent starts it: an Assuan dialogue on pipes, with or without a terminal to write to."""

import os
import re
import select
import subprocess
from types import TracebackType

from house import PINENTRY, House
from waiting import PATIENCE


class Session:
    """One pinentry, for somebody who sits at a terminal or (``terminal=False``) for a service."""

    def __init__(self, house: House, *, terminal: bool = True) -> None:
        self._terminal, self._far = os.openpty()
        self._shown = b""
        self._pinentry = subprocess.Popen(
            [str(PINENTRY)], env=house.environ(), cwd="/", start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._buffer = b""
        assert self.reply().startswith(b"OK ")  # the greeting
        if terminal:
            self.tell(f"OPTION ttyname={os.ttyname(self._far)}")

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._pinentry:
            self._pinentry.kill()
        os.close(self._terminal)
        os.close(self._far)

    def ask(self, description: str, command: str) -> None:
        """Put a question; its reply comes when somebody answers."""
        self.tell(f"SETDESC {description}")
        self.say(command)

    def tell(self, line: str) -> None:
        """Send a command that is answered with OK at once."""
        self.say(line)
        assert self.reply() == b"OK"

    def say(self, line: str) -> None:
        """Send one command."""
        assert self._pinentry.stdin is not None
        self._pinentry.stdin.write(line.encode() + b"\n")
        self._pinentry.stdin.flush()

    def reply(self) -> bytes:
        """The next line of the dialogue, apart from status lines, which gpg-agent only logs."""
        assert self._pinentry.stdout is not None
        line = b"S "
        while line.startswith(b"S "):
            while b"\n" not in self._buffer:
                self._buffer += _read(self._pinentry.stdout.fileno())
            line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def digits(self) -> str:
        """The two digits that stand on the terminal."""
        while not (found := re.search(rb"(?<!\d)(\d\d)(?!\d)", self._shown)):
            self._shown += _read(self._terminal)
        return found[1].decode()


def _read(descriptor: int) -> bytes:
    ready, _, _ = select.select([descriptor], [], [], PATIENCE)
    assert ready, "nothing to read"
    data = os.read(descriptor, 4096)
    assert data, "end of file"
    return data
