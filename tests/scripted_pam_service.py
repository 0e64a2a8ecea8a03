"""A service behind ``pam_unlatch.so`` that says exactly what a test wants, to one login after the other."""

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from real import absent
from waiting import PATIENCE

Step = bytes | Callable[["Line"], None]  # a packet to send, or something else to do
LARGEST = 65536


class Line:
    """The connection of one login, as the service has it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.heard: list[bytes] = []

    def hear(self) -> None:
        """Wait for a packet of the module; b"" is its end."""
        try:
            self.heard.append(self.connection.recv(LARGEST))
        except ConnectionResetError:  # it left, and did not read all that was said
            self.heard.append(b"")

    def leave_unread(self) -> None:
        """Wait for a packet, and do not take it."""
        self.connection.recv(1, socket.MSG_PEEK)

    def hang(self) -> None:
        """Say nothing until the module is gone."""
        while not self.heard or self.heard[-1]:
            self.hear()

    def say(self, packet: bytes) -> bool:
        """Say something; False if the module is gone."""
        try:
            self.connection.send(packet)
        except (BrokenPipeError, ConnectionResetError):
            self.heard.append(b"")
            return False
        return True

    def flood(self, packet: bytes) -> None:
        """Say the same until the module is gone."""
        while self.say(packet):
            pass


class ScriptedPamService:
    """Listens at ``path``; ``logins`` has a :class:`Line` for each login so far.

    ``uid`` is what the kernel says of who listens, ``mode`` and ``owner`` are those of the directory.
    """

    def __init__(self, *steps: Step, uid: int = 0, mode: int = 0o755, owner: int = 0) -> None:
        if os.getuid() != 0:
            absent("only root can be the service")
        self.root = Path(tempfile.mkdtemp(prefix="unlatch-pam-", dir="/tmp"))
        self.path = self.root / "pam.sock"
        self.logins: list[Line] = []
        self._steps: tuple[Step, ...] = steps
        self._next: list[tuple[Step, ...]] = []
        self._failures: list[BaseException] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)
        os.chown(self.root, owner, 0)
        self.root.chmod(mode)
        os.seteuid(uid)
        try:
            self._listener.listen()  # unix(7): SO_PEERCRED tells who called this
        finally:
            os.seteuid(0)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def play(self, *steps: Step, times: int = 0) -> None:
        """What the next logins hear, after their greeting was taken; all of them unless ``times`` says how many.

        Said several times with a number, it is in turn.
        """
        if times:
            self._next += [steps] * times
        else:
            self._steps = steps

    @property
    def heard(self) -> list[bytes]:
        """What the last login said."""
        return self.logins[-1].heard

    def close(self) -> None:
        """Stop; a failure of a step is a failure of the test."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join(PATIENCE)
        self._listener.close()
        shutil.rmtree(self.root)
        if self._failures:
            raise self._failures[0]

    def __enter__(self) -> "ScriptedPamService":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(PATIENCE)
                line = Line(connection)
                self.logins.append(line)
                try:
                    self._one(line)
                except OSError as error:  # the module left first
                    self._failures.append(error)

    def _one(self, line: Line) -> None:
        line.hear()
        for step in self._next.pop(0) if self._next else self._steps:
            if not isinstance(step, bytes):
                step(line)
            elif not line.say(step):
                return
