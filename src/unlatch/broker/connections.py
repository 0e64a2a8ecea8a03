"""One peer on a Unix socket who speaks JSON lines: an asker or an admin (docs/protocol.md sections 4 and 5).

Who is there is what the kernel says (SO_PEERCRED), as of connect(2). A peer from a user namespace that has no name in
ours shows up as the overflow uid, and so does everybody else in that position: nobody is served under that uid. A line
that breaks the protocol is answered with its reason and the connection ends, because whatever wrote it does not speak
our language.

One line is taken at a time, and others have their turn before the next; while lines wait, no more is read. A uid that
has said too much is heard later, and who is refused again and again is hung up on.
"""

import asyncio
import pwd
import socket
from collections import deque
from typing import Any, Protocol

from unlatch import runtime
from unlatch.errors import Malformed
from unlatch.wire import lines

MOST_REFUSALS = 16  # told to one connection: a front end gives up after the first
OVERFLOW_UID = 65534  # the kernel's default, for a sandbox that hides the file below
_OVERFLOW_UID_FILE = "/proc/sys/kernel/overflowuid"


class Side(Protocol):
    """What the peers of one socket may say, and what is done about it.

    ``max_unread``: bytes told to a peer that does not read; with more it is dropped.
    """

    max_unread: int

    def came(self, connection: "Connection") -> None:
        """Somebody connected, and the kernel has said who."""

    def patience(self, connection: "Connection") -> float:
        """Seconds until this peer may say its next line; 0: now, and it is counted."""

    def said(self, connection: "Connection", line: bytes, *, first: bool) -> None:
        """One line; ``first``: of this connection.

        Raises:
            Malformed: it breaks the protocol.
        """

    def refuse(self, connection: "Connection", why: str, text: str) -> None:
        """Tell why nothing comes of it, and hang up."""

    def left(self, connection: "Connection") -> None:
        """The connection is closed. Called once for each that came."""


class Connection(asyncio.Protocol):
    """A connection to the broker. Equal only to itself, so it names the asker in the pending table."""

    def __init__(self, side: Side) -> None:
        self.uid = -1
        self.gid = -1
        self._side = side
        self._buffer = lines.LineBuffer()
        self._lines: deque[bytes] = deque()
        self._refusals = 0
        self._transport: asyncio.Transport
        self._first = True
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=self._side.max_unread)
        connection: socket.socket = transport.get_extra_info("socket")
        _, self.uid, self.gid = runtime.peer(connection)
        self._side.came(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._lines.extend(self._buffer.feed(data))
        except Malformed as error:
            self._side.refuse(self, "line", str(error))
        self._hear()

    def _hear(self) -> None:
        """Take one line, if there is one, and see to it that the next gets its turn."""
        if self._lines and not self._closing:
            seconds = self._side.patience(self)
            if not seconds:
                self._take(self._lines.popleft())
        if self._closing:
            self._lines.clear()
        elif self._lines:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._hear)
        else:
            self._transport.resume_reading()

    def _take(self, line: bytes) -> None:
        first, self._first = self._first, False
        try:
            self._side.said(self, line, first=first)
        except Malformed as error:
            if error.what == "v":
                self._side.refuse(self, "version", "this broker speaks another version of the protocol")
            else:
                self._side.refuse(self, "line", str(error))

    def pause_writing(self) -> None:
        self._closing = True
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (the event loop's signature)
        self._closing = True
        self._side.left(self)

    def send(self, event: dict[str, Any]) -> None:
        """Tell the peer something."""
        if not self._transport.is_closing():
            self._transport.write(lines.encode(event))
        if event["event"] == "refused":
            self._refusals += 1
            if self._refusals == MOST_REFUSALS:
                self.close()

    def refuse(self, why: str, text: str) -> None:
        """Tell why not, and hang up. ``why`` is a code of docs/protocol.md section 4."""
        self.send({"event": "refused", "ticket": "", "why": why, "text": text})
        self.close()

    def close(self) -> None:
        """Hang up, after what was told has been sent."""
        self._closing = True
        self._transport.close()


class Crowd:
    """Who is connected to one socket, so that no uid takes all the room."""

    def __init__(self, most_per_uid: int) -> None:
        self._most = most_per_uid
        self._counts: dict[int | str, int] = {}
        self._everybody: dict[Connection, int | str] = {}  # the uid, or the account whose login root asks about

    def __len__(self) -> int:
        return len(self._everybody)

    def enter(self, connection: Connection) -> bool:
        """Count a connection; False: its uid has too many."""
        return self._count(connection, connection.uid)

    def move(self, connection: Connection, account: str) -> bool:
        """Count a connection of root's for this account from now on; False: that has too many.

        Whoever tries to log in makes root connect: strangers must not take the room of root's own prompts.
        """
        self.leave(connection)
        return self._count(connection, account)

    def leave(self, connection: Connection) -> None:
        """Forget a connection that entered."""
        who = self._everybody.pop(connection)
        self._counts[who] -= 1
        if not self._counts[who]:
            del self._counts[who]

    def _count(self, connection: Connection, who: int | str) -> bool:
        self._everybody[connection] = who
        count = self._counts.get(who, 0) + 1
        self._counts[who] = count
        return count <= self._most

    def hang_up(self) -> None:
        """End every connection."""
        for connection in self._everybody:
            connection.close()


def overflow_uid() -> int:
    """The uid that stands for everybody whom the kernel cannot name here (user_namespaces(7))."""
    try:
        with open(_OVERFLOW_UID_FILE, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return OVERFLOW_UID


def user_name(uid: int) -> str:
    """What the user database calls this uid, or its number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
