"""``unlatch pam serve``: accepts logins on a packet socket, and gives each to a process of its own.

The rules that hold here:
- This process only accepts, counts, forks and reaps. It has one thread, waits for nobody, and reads nothing but a first
  packet and who sent it: a conversation that hangs, fails or is killed is no other one's business.
- Each connection ends with one line in the log. A conversation that could not write its own has it written here.
- A conversation's process ends with its time (an alarm that it does not catch), with this process (PR_SET_PDEATHSIG),
  and with its login; whatever it started and left behind goes with it.
"""

import contextlib
import errno
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from unlatch import forked, runtime
from unlatch.broker import systemd
from unlatch.broker.connections import overflow_uid
from unlatch.errors import Malformed
from unlatch.pam import log, login
from unlatch.pam.as_user import reason
from unlatch.pam.channel import Channel
from unlatch.pam.conversation import EXTRA_SECONDS, House, Stopped, converse
from unlatch.pam.limits import Key, Limits, key_of
from unlatch.secret import forbid_core_dumps
from unlatch.wire import pam
from unlatch.wire.pam import Hello

SOCKET = "/run/unlatch-pam/pam.sock"
BACKLOG = 256  # the module waits for its turn; the kernel caps it at net.core.somaxconn
HELLO_SECONDS = 5.0  # a module speaks at once
STOP_SECONDS = 5.0  # for conversations to say goodbye
BREATHER_SECONDS = 1.0  # when there are no descriptors or processes left
MOST_AT_ONCE = 64  # connections before others get their turn
_MOST_SECONDS = 3600 + EXTRA_SECONDS  # until the settings have said less

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN}


class _Newcomer(NamedTuple):
    """A connection that has not said for whom it asks."""

    connection: socket.socket
    peer: runtime.Peer
    until: float


class _Running(NamedTuple):
    """A conversation, by the process that holds it."""

    key: Key
    hello: Hello


class Service:
    """The accepting process. ``listener`` is a SOCK_SEQPACKET socket that listens."""

    def __init__(self, listener: socket.socket, house: House) -> None:
        self._listener = listener
        self._house = house
        self._limits = Limits()
        self._newcomers: dict[int, _Newcomer] = {}
        self._running: dict[int, _Running] = {}
        self._overflow = overflow_uid()
        self._pause = 0.0
        self._stopping = False
        self._pid = os.getpid()

    def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT; the conversations that are open then say goodbye first."""
        self._listener.setblocking(False)
        bell, ringer = socket.socketpair()
        with bell, ringer:
            ringer.setblocking(False)
            signal.set_wakeup_fd(ringer.fileno(), warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            ready()
            while not self._stopping:
                self._turn(bell)
            self._end_all(bell)
            signal.set_wakeup_fd(-1)

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _turn(self, bell: socket.socket) -> None:
        now = self._house.clock()
        poll = select.poll()
        for descriptor in (bell.fileno(), *self._newcomers):
            poll.register(descriptor, select.POLLIN)
        if now >= self._pause:
            poll.register(self._listener.fileno(), select.POLLIN)
        ends = [newcomer.until for newcomer in self._newcomers.values()] + [self._pause] * (now < self._pause)
        ready = {descriptor for descriptor, _ in poll.poll((min(ends) - now) * 1000 + 1 if ends else None)}
        if bell.fileno() in ready:
            bell.recv(4096)
        self._reap()
        for descriptor in ready & self._newcomers.keys():
            self._hear(self._newcomers.pop(descriptor))
        self._give_up()
        if self._listener.fileno() in ready:
            self._accept()

    # Who comes

    def _accept(self) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                # EAGAIN is both: nobody is there, and nobody is there to be had; a pause would slow the next one down.
                if error.errno in _OUT_OF_RESOURCES - {errno.EAGAIN}:
                    self._breathe()
                return
            connection.setblocking(True)
            self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        peer, now = runtime.peer(connection), self._house.clock()
        full = self._limits.full(Key(peer.uid), now)
        if peer.uid == self._overflow:
            full = "the kernel does not say who asks (a user namespace without a mapping)"
        if full:
            self._refuse(connection, peer, full)
            return
        self._limits.enter(Key(peer.uid), now)
        self._newcomers[connection.fileno()] = _Newcomer(connection, peer, now + HELLO_SECONDS)

    def _hear(self, newcomer: _Newcomer) -> None:
        """A newcomer has something to say, or went away."""
        connection, peer, _ = newcomer
        before = Key(peer.uid)
        try:
            packet = connection.recv(pam.MAX_HELLO + 1, socket.MSG_DONTWAIT)  # one byte more is too long to be read
            hello = pam.hello_from_packet(packet)
        except (OSError, Malformed):
            self._limits.leave(before)
            self._refuse(connection, peer, "no module of this release speaks like that")
            return
        key = key_of(peer.uid, hello)
        full = self._limits.full(key, self._house.clock()) if peer.uid == 0 else ""
        if full:
            self._limits.leave(before)
            self._refuse(connection, peer, full, hello)
            return
        self._limits.rename(before, key)
        self._begin(connection, peer, key, hello)

    def _give_up(self) -> None:
        now = self._house.clock()
        for descriptor in [each for each, newcomer in self._newcomers.items() if now >= newcomer.until]:
            newcomer = self._newcomers.pop(descriptor)
            self._limits.leave(Key(newcomer.peer.uid))
            self._refuse(newcomer.connection, newcomer.peer, f"it said nothing for {HELLO_SECONDS:g} s")

    def _refuse(self, connection: socket.socket, peer: runtime.Peer, why: str, hello: Hello | None = None) -> None:
        if self._limits.worth_telling(peer.uid, self._house.clock()):
            log.write(log.denied(hello, peer.uid, why) if hello else log.refused(peer.uid, why))
        channel = Channel(connection, self._house.clock)
        with contextlib.suppress(Exception):
            channel.warn(login.CANNOT)
        channel.end("deny")

    # What runs

    def _begin(self, connection: socket.socket, peer: runtime.Peer, key: Key, hello: Hello) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._limits.leave(key)
            self._breathe()
            self._refuse(connection, peer, f"no process could be started: {reason(error)}", hello)
            return
        if pid == 0:
            self._become_conversation(connection, peer, hello)
        connection.close()
        self._running[pid] = _Running(key, hello)

    def _become_conversation(self, connection: socket.socket, peer: runtime.Peer, hello: Hello) -> NoReturn:
        status, parent = 1, self._pid
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, _raise_stopped)
            signal.alarm(_MOST_SECONDS)
            os.setsid()
            forked.end_with_parent(signal.SIGTERM)
            if os.getppid() != parent:  # it died before it could be watched
                os._exit(status)
            self._listener.close()
            for newcomer in self._newcomers.values():
                newcomer.connection.close()
            converse(connection, hello, peer, self._house)
            status = 0
        finally:
            os._exit(status)

    def _reap(self) -> None:
        for pid, running in list(self._running.items()):
            # Its process group goes first, while the number cannot be anybody else's.
            done = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if done is None:
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            del self._running[pid]
            self._limits.leave(running.key)
            if (done.si_code, done.si_status) != (os.CLD_EXITED, 0):
                log.write(log.denied(running.hello, running.key.uid, _ending(done)))

    def _end_all(self, bell: socket.socket) -> None:
        self._listener.close()
        for newcomer in self._newcomers.values():
            self._refuse(newcomer.connection, newcomer.peer, "the service is stopping")
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self._running:
                os.kill(pid, number)  # not reaped, so it is the one we mean
            until = self._house.clock() + STOP_SECONDS
            while self._running and (left := until - self._house.clock()) > 0:
                select.select([bell], [], [], left)
                with contextlib.suppress(BlockingIOError):
                    bell.recv(4096, socket.MSG_DONTWAIT)
                self._reap()

    def _breathe(self) -> None:
        self._pause = self._house.clock() + BREATHER_SECONDS


def listen(path: str) -> socket.socket:
    """Listen at ``path``; whoever listened there before is gone.

    Raises:
        OSError: it cannot be made, or somebody listens there.
        Untrusted: others may write to the directory, so that the module would not believe what it finds there.
    """
    folder = os.path.dirname(path)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o755)
    status = os.lstat(folder)
    if status.st_uid != 0 or status.st_mode & 0o022:
        raise runtime.Untrusted(f"others may write to {folder}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as trial:
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except FileNotFoundError:
            pass
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    os.chmod(path, 0o666)  # noqa: S103  # everybody may ask for itself
    listener.listen(BACKLOG)
    return listener


def inherited(environ: Mapping[str, str]) -> socket.socket | None:
    """The socket that systemd gave, if it gave one that can be served."""
    found = systemd.inherited_sockets(environ, ("pam",))["pam"]
    if not found or found[0].type != socket.SOCK_SEQPACKET:
        return None
    return found[0]


def main(listener: socket.socket, house: House, ready: Callable[[], None] = lambda: None) -> None:
    """Serve, telling systemd when it begins and ends."""
    forbid_core_dumps()

    def begin() -> None:
        ready()
        systemd.tell(house.environ, "READY=1")

    Service(listener, house).serve(begin)
    systemd.tell(house.environ, "STOPPING=1")


def _raise_stopped(*_: object) -> None:
    raise Stopped


def _ending(done: os.waitid_result) -> str:
    if done.si_code == os.CLD_EXITED:
        return f"the conversation ended with code {done.si_status}"
    if done.si_status == signal.SIGALRM:
        return "the conversation took too long and was ended"
    return f"the conversation was ended by signal {done.si_status}"
