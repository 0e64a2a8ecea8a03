"""Our own client of gpg-agent: one connection, one command at a time, everything bounded in time and size.

    with Agent.open(home) as agent:
        agent.ask("PRESET_PASSPHRASE --inquire KEYGRIP -1", inquire={"PASSPHRASE": lambda _: secret})

The commands are those of GnuPG's agent/command.c; ``gpg-connect-agent 'help COMMAND' /bye`` explains them.
"""

import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NoReturn, TypeVar

from unlatch import runtime
from unlatch.gnupg import finding
from unlatch.gnupg.errors import BrokenPipe, Gone, GpgError, Live, NoAgent, NoReply, TwoAgents, from_wire
from unlatch.gnupg.homes import Home
from unlatch.secret import Secret
from unlatch.wire.assuan import Client, parse_error

OPEN_SECONDS = 5.0  # an agent starts in 20 ms; five is for a machine in distress
ASK_SECONDS = (
    30.0  # what needs no person and no card takes a millisecond; a card's RSA 4096 signature takes three seconds
)
PIPE_SECONDS = 10.0  # killscd is followed by 2 to 4 s of broken pipe (measured with 2.2.40)
_PIPE_PAUSE = 0.1
_CHUNK = 4096

Inquire = Mapping[str, Callable[[str], "Secret | bytes"]]
_Result = TypeVar("_Result")


class Agent:
    """A connection to a home's one agent. ``pid`` is the agent's, ``socket`` the path at which it was found."""

    def __init__(self, connection: socket.socket, path: str) -> None:
        """For an open connection; people use :meth:`open` or :meth:`at`."""
        self.socket = path
        self._connection = connection
        self._dialogue = Client()
        self.pid = runtime.peer(connection).pid

    @classmethod
    def open(cls, home: Home, *, start: bool = True, seconds: float = OPEN_SECONDS) -> "Agent":
        """Connect to the home's agent; ``start`` one when none runs, as ``gpgconf --launch gpg-agent`` does.

        Raises:
            NoAgent: none runs, and none was to be started or could be.
            TwoAgents: both places have a live one, and they are not the same.
            NoReply: it did not answer within ``seconds``.
            Untrusted: somebody else's process listens there.
        """
        until = time.monotonic() + seconds
        agent = cls._find(home, until, seconds)
        if agent is None and start:
            from unlatch.gnupg import launching

            launching.launch(home, until)
            agent = cls._find(home, until, seconds)
        if agent is None:
            raise NoAgent(home.directory)
        return agent

    @classmethod
    def at(cls, path: str, uid: int, *, seconds: float = OPEN_SECONDS) -> "Agent":
        """Connect to the agent behind one socket, such as the restricted one (homes.EXTRA).

        Raises:
            NoAgent, NoReply, Untrusted: as :meth:`open`.
        """
        agent = cls._try(path, uid, time.monotonic() + seconds, seconds)
        if agent is None:
            raise NoAgent(path)
        return agent

    @classmethod
    def _find(cls, home: Home, until: float, seconds: float) -> "Agent | None":
        first, second = finding.in_order(home)
        agent = cls._try(first, home.uid, until, seconds)
        if agent is None:
            return cls._try(second, home.uid, until, seconds)
        other = None if finding.is_same(first, second) else cls._try(second, home.uid, until, seconds)
        if other is not None:
            other.close()
            if other.pid != agent.pid:
                agent.close()
                raise TwoAgents(Live(first, agent.pid), Live(second, other.pid))
        return agent

    @classmethod
    def _try(cls, path: str, uid: int, until: float, seconds: float) -> "Agent | None":
        connection = finding.connect(path, uid, until)
        if connection is None:
            return None
        agent = cls(connection, path)
        try:
            agent._greet(until, seconds)
        except Gone:  # it is about to end
            return None
        return agent

    def _greet(self, until: float, seconds: float) -> None:
        try:
            self._wait_for_end(until, seconds)
            # By its own word: of a socket that systemd holds, the kernel names systemd's pid.
            self.pid = int(self.ask("GETINFO pid", seconds=max(0.001, until - time.monotonic())))
        except (GpgError, ValueError):
            pass  # a restricted socket does not tell
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Agent":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. The agent forgets this connection's options, not its cache."""
        self._connection.close()

    def ask(
        self,
        command: str,
        *,
        status: Callable[[str, str], None] | None = None,
        inquire: Inquire | None = None,
        seconds: float = ASK_SECONDS,
    ) -> bytes:
        """Run one command; the data of its D lines.

        ``status`` hears each S line as keyword and text, as it came. ``inquire`` answers questions of the agent's by
        their keyword: a function of the question's arguments that gives a Secret or bytes. A question that it does not
        know is refused (CAN), apart from PINENTRY_LAUNCHED, which only tells. Secrets stay their owner's to wipe; what
        was written on the wire is wiped here.

        After Gone, NoReply, Malformed, and after an exception of one of these functions, the connection is closed.

        Raises:
            GpgError: the agent refused, by the names in ``gnupg.errors``.
            Gone: the agent hung up.
            NoReply: no end within ``seconds``.
            Malformed: it broke the protocol, or said more than a MiB.
            ValueError: the command is longer than 1000 bytes, or no line.
        """
        sent = self._dialogue.command(command)
        until = time.monotonic() + seconds
        try:
            self._send(sent, until, seconds)
            return self._wait_for_end(until, seconds, status, inquire)
        except GpgError:
            raise
        except BaseException:
            self.close()
            raise

    def status(self, command: str, *, seconds: float = ASK_SECONDS) -> list[tuple[str, str]]:
        """Run one command; its S lines as (keyword, text). Raises what :meth:`ask` does."""
        lines: list[tuple[str, str]] = []
        self.ask(command, status=lambda keyword, text: lines.append((keyword, text)), seconds=seconds)
        return lines

    def _wait_for_end(
        self,
        until: float,
        seconds: float,
        status: Callable[[str, str], None] | None = None,
        inquire: Inquire | None = None,
    ) -> bytes:
        data = bytearray()
        while True:
            reply = self._dialogue.reply()
            if reply is None:
                self._dialogue.feed(self._receive(until, seconds))
                continue
            match reply:
                case "OK", _:
                    return bytes(data)
                case "ERR", text:
                    raise from_wire(parse_error(text))
                case "D", text:
                    data += text
                case "S", text:
                    if status is not None:
                        status(*_split(text))
                case _, text:
                    self._answer(text, inquire or {}, until, seconds)

    def _answer(self, question: bytes, inquire: Inquire, until: float, seconds: float) -> None:
        keyword, arguments = _split(question)
        if keyword in inquire:
            given = inquire[keyword](arguments)
            sent = self._dialogue.answer(given.reveal() if isinstance(given, Secret) else given)
        elif keyword == "PINENTRY_LAUNCHED":
            sent = self._dialogue.answer(b"")
        else:
            sent = bytearray(self._dialogue.cancel())
        try:
            self._send(sent, until, seconds)
        finally:
            sent[:] = bytes(len(sent))

    def _send(self, data: bytes | bytearray, until: float, seconds: float) -> None:
        self._connection.settimeout(max(0.001, until - time.monotonic()))
        try:
            self._connection.sendall(data)
        except TimeoutError:
            raise NoReply(self.socket, seconds) from None
        except OSError:
            self._hung_up()

    def _receive(self, until: float, seconds: float) -> bytes:
        self._connection.settimeout(max(0.001, until - time.monotonic()))
        try:
            data = self._connection.recv(_CHUNK)
        except TimeoutError:
            raise NoReply(self.socket, seconds) from None
        except OSError:
            self._hung_up()
        if not data:
            self._hung_up()
        return data

    def _hung_up(self) -> NoReturn:
        raise Gone(f"the gpg-agent at {self.socket} hung up") from None


def patiently(
    what: Callable[[], _Result],
    *,
    seconds: float = PIPE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _Result:
    """Do something with a card, and again while the agent only says "Broken pipe", for at most ``seconds``.

    After killscd, or when scdaemon crashed, the agent says so for 2 to 4 s until it starts a new one. ``what`` must be
    safe to repeat: the error comes before anything reached the card.

    Raises:
        BrokenPipe: it still says so.
    """
    until = clock() + seconds
    while True:
        try:
            return what()
        except BrokenPipe:
            if clock() + _PIPE_PAUSE > until:
                raise
        sleep(_PIPE_PAUSE)


def _split(text: bytes) -> tuple[str, str]:
    keyword, _, rest = text.decode("utf-8", "replace").partition(" ")
    return keyword, rest.strip()
