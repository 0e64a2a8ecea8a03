"""A person at a terminal: a program with a pseudo terminal of its own as its controlling terminal."""

import codecs
import os
import select
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from waiting import PATIENCE


class Terminal:
    """Runs a program at a terminal; ``screen`` is all that was ever shown.

    ``pair`` is a pseudo terminal's two ends, if it is not to be a new one of this host; ``enter`` is run around all.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        environ: Mapping[str, str],
        *,
        pair: tuple[int, int] | None = None,
        enter: Sequence[str] = (),
    ) -> None:
        self._master, far = pair or os.openpty()
        self.screen = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a read may end within a character
        self._seen = 0
        self._process = subprocess.Popen(
            [*enter, "/usr/bin/setsid", "--ctty", "--wait", *map(str, command)],
            stdin=far, stdout=far, stderr=far, env=dict(environ), cwd="/", start_new_session=True,
        )  # fmt: skip
        os.close(far)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    @property
    def pid(self) -> int:
        """The setsid that waits for the program, or what was run around it."""
        return self._process.pid

    def expect(self, text: str) -> None:
        """Wait until this text stands on the screen, behind what was expected before."""
        while text not in self.screen[self._seen :]:
            assert self._read(), f"the program ended without {text!r}:\n{self.screen}"
        self._seen = self.screen.index(text, self._seen) + len(text)

    def type(self, text: str) -> None:
        """Type something; control characters do what they do."""
        os.write(self._master, text.encode())

    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(self.flags() & termios.ECHO)

    def flags(self) -> int:
        """Its local modes (termios(3), c_lflag)."""
        modes: int = termios.tcgetattr(self._master)[3]
        return modes

    def end(self) -> int:
        """Wait for the program's end; its exit code."""
        while self._read():
            pass
        return self._process.wait(PATIENCE)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PATIENCE)
        assert ready, f"nothing more is shown:\n{self.screen}"
        try:
            data = os.read(self._master, 4096)
        except OSError:  # EIO: the last program has closed the terminal
            return False
        self.screen += self._decoder.decode(data).replace("\r\n", "\n")
        return bool(data)
