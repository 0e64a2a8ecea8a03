"""The service's end of one conversation with ``pam_unlatch.so``: words out, what somebody typed in, and nobody forever.

The module takes our words one after the other. While it puts a prompt to somebody (``ask``) it reads none, and needs no
sign of life; while it waits for us it gives up after some silence, so that a hung service is no hung login.
"""

import contextlib
import select
import socket
import struct
from collections.abc import Callable, Collection

from unlatch.errors import Malformed
from unlatch.pam.errors import Gone
from unlatch.wire import pam

HEARTBEAT_SECONDS = 10.0  # the module waits for 30; and it takes 512 words, of which an hour of these is 360
LOOK_SECONDS = 3.0  # between two looks whether the login's client is still there: nobody shall answer for the dead
SEND_SECONDS = 10.0  # all that we ever say fits into the socket's buffer; a full one means a module that is no module


class Channel:
    """One conversation. ``clock`` gives CLOCK_BOOTTIME seconds; ``gone`` tells whether the login's client is."""

    def __init__(
        self, connection: socket.socket, clock: Callable[[], float], gone: Callable[[], bool] = lambda: False
    ) -> None:
        seconds, part = divmod(SEND_SECONDS, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(seconds), int(part * 1e6)))
        self._connection = connection
        self._clock = clock
        self._gone = gone
        self._asked = False

    def say(self, text: str) -> None:
        """Show a text of one or more lines."""
        self._send("say", text)

    def warn(self, text: str) -> None:
        """Show a line that is no good news."""
        self._send("warn", text)

    def ask(self, text: str) -> None:
        """Prompt for a line with echo; it comes out of :meth:`wait`."""
        self._send("ask", text)
        self._asked = True

    def live(self) -> None:
        """A sign of life between two things that take their time. The client shall be there for the next one.

        Raises:
            Gone
        """
        self._send("wait")
        if self._gone():
            raise Gone

    def end(self, word: str) -> None:
        """Say the last word. A module that went away needs none, nor the answer that it may just have sent."""
        with contextlib.suppress(Gone):
            self._send(word)
        with contextlib.suppress(OSError):
            # What stays unread here would take the last words away from the module (ECONNRESET).
            self._connection.recv(pam.MAX_PACKET, socket.MSG_DONTWAIT)
        self._connection.close()

    def wait(self, until: float, watch: Collection[int] = ()) -> bytes | int | None:
        """Wait until ``until``: gives what was typed, a descriptor of ``watch`` that has something to say, or None.

        Raises:
            Gone: the module hung up, or the login's client did.
            Malformed: the module said what it cannot.
        """
        start = self._clock()
        beat, look = start + HEARTBEAT_SECONDS, start + LOOK_SECONDS
        while True:
            now = self._clock()
            if now >= until:
                return None
            if now >= look:
                look = now + LOOK_SECONDS
                if self._gone():
                    raise Gone
            if now >= beat and not self._asked:
                beat = now + HEARTBEAT_SECONDS
                self._send("wait")
            ready = self._poll(min(until, look, beat if not self._asked else look) - now, watch)
            if ready is None or self._clock() >= until:
                continue  # this process may have slept with the machine: what was typed too late is late
            return self._answer() if ready == self._connection.fileno() else ready

    def _poll(self, seconds: float, watch: Collection[int]) -> int | None:
        poll = select.poll()
        for descriptor in (self._connection.fileno(), *watch):
            poll.register(descriptor, select.POLLIN)
        # A little over, so that the clock has reached what was waited for.
        ready = [descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000 + 1)]
        # The session first: what is typed there, and its end, come before what anybody else says.
        return min(ready, key=lambda each: each != self._connection.fileno(), default=None)

    def _answer(self) -> bytes:
        try:
            packet, _, flags, _ = self._connection.recvmsg(pam.MAX_ANSWER + 64)
        except OSError:
            raise Gone from None
        if not packet:
            raise Gone
        if flags & socket.MSG_TRUNC or not self._asked:
            raise Malformed("answer")
        self._asked = False
        return pam.answer_from_packet(packet)

    def _send(self, word: str, text: str = "") -> None:
        try:
            self._connection.send(pam.word_to_packet(word, text), socket.MSG_NOSIGNAL)
        except OSError:
            raise Gone from None
