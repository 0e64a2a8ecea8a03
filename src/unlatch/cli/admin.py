"""The broker's admin socket: whose broker it is, and one line for each question (docs/protocol.md section 5)."""

import contextlib
import os
import pwd
from collections.abc import Mapping
from typing import Any

from unlatch import runtime
from unlatch.cli import voice
from unlatch.errors import Refused, Unreachable
from unlatch.wire import lines

REPLY_SECONDS = 40.0  # a long poll is held for 25
MAX_LIST = 64 << 20  # bytes; ten thousand prompts, each with its texts


class Admin:
    """A connection to a broker's admin socket."""

    def __init__(self, place: runtime.Runtime, uid: int, seconds: float = REPLY_SECONDS) -> None:
        """Connect. ``seconds`` is how long a line may be waited for.

        Raises:
            OSError: nobody listens there, or it is forbidden.
            Untrusted: somebody else does.
        """
        self.place = place
        self._connection = runtime.connect(place.admin, uid, host=place.host)
        self._connection.settimeout(seconds)
        self._read = self._connection.makefile("rb")

    @property
    def peer(self) -> runtime.Peer:
        """Who listened on the socket, by the kernel's word: the broker, or systemd, or an asker before it."""
        return runtime.peer(self._connection)

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send one line and return the line that answers it.

        Raises:
            Unreachable: the broker went away, or says nothing.
            Refused: it serves no more of this user's connections, or none of this uid's.
            Malformed: what it said is no line of the protocol.
        """
        try:
            self._connection.sendall(lines.encode({"v": lines.VERSION, **message}))
        except OSError as error:
            raise Unreachable(why(error)) from None
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """Return the next line.

        Raises:
            as :meth:`ask`
        """
        try:
            line = self._read.readline(MAX_LIST)
        except OSError as error:
            raise Unreachable(why(error)) from None
        if not line.endswith(b"\n"):
            raise Unreachable("it went away")
        said = lines.decode(line)
        if said.get("event") == "refused":
            raise Refused(str(said.get("why")), str(said.get("text")))
        return said

    def close(self) -> None:
        """Hang up."""
        self._read.close()
        self._connection.close()


def find_admin() -> Admin | None:
    """Connect to the first broker that runs for this user: the host's, else their own; None when there is none.

    Raises:
        OSError, Untrusted: there is one, but not for us.
    """
    uid = os.geteuid()
    for place in runtime.candidates(uid, os.environ, home(uid)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return Admin(place, uid)
    return None


def check_host() -> None:
    """When no broker runs: nothing is waiting, unless this host should have one.

    Raises:
        Problem: it should, and askers wait for that broker and for no other.
    """
    uid = os.geteuid()
    if runtime.candidates(uid, os.environ, home(uid))[0].host:
        voice.fail(
            "the host's broker does not run; whoever asks waits for it, or fails",
            'as root: "systemctl status unlatch.service", "journalctl -u unlatch.service"',
        )


def home(uid: int) -> str:
    """Where this user's own broker keeps its state; "/" for a uid without an account and without $HOME."""
    try:
        return os.environ.get("HOME") or pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"


def why(error: OSError) -> str:
    """The system's reason, in lower case."""
    return (error.strerror or str(error) or type(error).__name__).lower()
