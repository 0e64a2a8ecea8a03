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
from unlatch.gnupg.errors import (
    BrokenPipe,
    CardDaemonEnded,
    Gone,
    GpgError,
    Live,
    NoAgent,
    NoCardDaemon,
    NoReply,
    TwoAgents,
    from_wire,
)
from unlatch.gnupg.finding import Limit
from unlatch.gnupg.homes import Home
from unlatch.secret import Secret
from unlatch.wire.assuan import Client, parse_error

OPEN_SECONDS = 5.0  # an agent starts in 20 ms; five is for a machine in distress
ASK_SECONDS = 30.0  # most commands take a millisecond; a card's signature takes seconds
PIPE_SECONDS = 10.0  # killscd is followed by 2 to 4 s of broken pipe (measured with 2.2.40)
_PIPE_PAUSE = 0.1
_CHUNK = 4096

Inquire = Mapping[str, Callable[[str], "Secret | bytes"]]
_NOTHING: Inquire = {}
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
            TwoAgents: two live ones were found.
            NoReply: it did not answer within ``seconds``.
            Untrusted: somebody else's process listens there.
        """
        limit = Limit(seconds)
        agent = cls._find(home, limit)
        if agent is not None:
            return agent
        if hidden := finding.is_hidden(home):
            raise NoAgent(home.directory, f"its socket {hidden} is hidden from this process (ProtectHome=)")
        if start:
            from unlatch.gnupg import launching

            launching.launch(home, limit)
            agent = cls._find(home, limit)
        if agent is None:
            raise NoAgent(home.directory)
        return agent

    @classmethod
    def at(cls, path: str, uid: int, *, seconds: float = OPEN_SECONDS) -> "Agent":
        """Connect to the agent behind one socket, such as the restricted one (homes.EXTRA).

        Raises:
            NoAgent, NoReply, Untrusted: as :meth:`open`.
        """
        agent = cls._try(path, uid, Limit(seconds))
        if agent is None:
            raise NoAgent(path)
        return agent

    @classmethod
    def _find(cls, home: Home, limit: Limit) -> "Agent | None":
        live: list[Agent] = []
        try:
            for path in finding.agents_first(home):
                if live and not _may_be_another(home, live[0].pid):
                    break
                agent = cls._try(path, home.uid, limit)
                live += [agent] if agent is not None else []
            _check_that_they_are_one(live, home)
        except BaseException:
            _close(live)
            raise
        _close(live[1:])
        return live[0] if live else None

    @classmethod
    def _try(cls, path: str, uid: int, limit: Limit) -> "Agent | None":
        connection = finding.connect(path, uid, limit)
        if connection is None:
            return None
        agent = cls(connection, path)
        try:
            agent._greet(limit)
        except Gone:  # it is about to end
            return None
        return agent

    def _greet(self, limit: Limit) -> None:
        try:
            self._converse(limit)
            # By its own word: of a socket that systemd holds, the kernel names systemd's pid.
            self.pid = int(self._run("GETINFO pid", limit))
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
        return self._run(command, Limit(seconds), status, inquire or {})

    def status(self, command: str, *, seconds: float = ASK_SECONDS) -> list[tuple[str, str]]:
        """Run one command; its S lines as (keyword, text). Raises what :meth:`ask` does."""
        lines: list[tuple[str, str]] = []
        self.ask(command, status=lambda keyword, text: lines.append((keyword, text)), seconds=seconds)
        return lines

    def _run(
        self, command: str, limit: Limit, status: Callable[[str, str], None] | None = None, inquire: Inquire = _NOTHING
    ) -> bytes:
        if self._connection.fileno() < 0:
            self._hung_up()
        sent = self._dialogue.command(command)
        try:
            self._send(sent, limit)
            return self._converse(limit, status, inquire)
        except GpgError:
            raise
        except BaseException:
            self.close()
            raise

    def _converse(
        self, limit: Limit, status: Callable[[str, str], None] | None = None, inquire: Inquire = _NOTHING
    ) -> bytes:
        """Take replies until OK or ERR; the data between."""
        data = bytearray()
        while True:
            reply = self._dialogue.reply()
            if reply is None:
                self._dialogue.feed(self._receive(limit))
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
                    self._answer(text, inquire, limit)

    def _answer(self, question: bytes, inquire: Inquire, limit: Limit) -> None:
        keyword, arguments = _split(question)
        if keyword in inquire:
            given = inquire[keyword](arguments)
            sent = self._dialogue.answer(given.reveal() if isinstance(given, Secret) else given)
        elif keyword == "PINENTRY_LAUNCHED":
            sent = self._dialogue.answer(b"")
        else:
            sent = bytearray(self._dialogue.cancel())
        try:
            self._send(sent, limit)
        finally:
            sent[:] = bytes(len(sent))

    def _send(self, data: bytes | bytearray, limit: Limit) -> None:
        self._connection.settimeout(limit.left())
        try:
            self._connection.sendall(data)
        except TimeoutError:
            raise self._silent(limit) from None
        except OSError:
            self._hung_up()

    def _receive(self, limit: Limit) -> bytes:
        self._connection.settimeout(limit.left())
        try:
            data = self._connection.recv(_CHUNK)
        except TimeoutError:
            raise self._silent(limit) from None
        except OSError:
            self._hung_up()
        if not data:
            self._hung_up()
        return data

    def _silent(self, limit: Limit) -> NoReply:
        return NoReply(self.socket, limit.seconds, self.pid)

    def _hung_up(self) -> NoReturn:
        raise Gone(f"the gpg-agent at {self.socket} hung up") from None


def patiently(
    what: Callable[[], _Result],
    *,
    repeatable: bool = False,
    seconds: float = PIPE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _Result:
    """Do something with a card, and again while the agent has no scdaemon to do it with, for at most ``seconds``.

    After killscd, or when scdaemon crashed, the agent says "Broken pipe" for 2 to 4 s, until it starts another, or "No
    SmartCard daemon" to a new connection while others are open: nothing reached the card, so ``what`` is done again. A
    connection that had used the scdaemon is told "End of file" first, and a command in whose middle it ended is, too.
    That is repeated only if ``repeatable``: never say so of a PIN.

    Raises:
        BrokenPipe, NoCardDaemon: it still says so.
        CardDaemonEnded: it said so, and ``what`` is not repeatable.
    """
    until = clock() + seconds
    while True:
        try:
            return what()
        except (BrokenPipe, NoCardDaemon, CardDaemonEnded) as error:
            if clock() + _PIPE_PAUSE > until or (isinstance(error, CardDaemonEnded) and not repeatable):
                raise
        sleep(_PIPE_PAUSE)


def _may_be_another(home: Home, known: int) -> bool:
    from unlatch.gnupg import processes  # only where there are two sockets

    return processes.may_serve_too(home, known)


def _check_that_they_are_one(agents: list[Agent], home: Home) -> None:
    """Several connections must lead to one process.

    Of two, the agent of the host's unit is the right one; else the one that GnuPG uses now.
    """
    used = home.sockets()[home.uses_run()]
    live = sorted(
        (Live(agent.socket, agent.pid) for agent in agents),
        key=lambda found: (not finding.is_owned(found.socket), found.socket != used),
    )
    for other in live[1:]:
        if other.pid != live[0].pid:
            raise TwoAgents(live[0], other)


def _close(agents: list[Agent]) -> None:
    for agent in agents:
        agent.close()


def _split(text: bytes) -> tuple[str, str]:
    keyword, _, rest = text.decode("utf-8", "replace").partition(" ")
    return keyword, rest.strip()
