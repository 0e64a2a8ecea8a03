"""A password agent for systemd (systemd.io/PASSWORD_AGENTS): every question that appears is a prompt to a person.

One process watches the directory; each question has a child of its own, which ends as soon as the question is over: the
program that asked is gone, its time is over, another agent answered first. The end of the child withdraws the prompt.
"""

import contextlib
import os
import select
import signal
import socket
import stat
import time
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from unlatch.ask import Released
from unlatch.errors import Denied, Expired, Malformed, UnlatchError, Withdrawn
from unlatch.frontends import inotify
from unlatch.frontends.asking import Moot, Person, Wanted
from unlatch.prompt import Key, Verdict
from unlatch.secret import Secret
from unlatch.wire import askfile

SYSTEM = "/run/systemd/ask-password"
MAX_QUESTIONS = 64  # at once
STALE_SECONDS = 5.0  # how often a question whose program died without a word is looked for
_ENDING = (signal.SIGTERM, signal.SIGINT)
_LONGEST = 7 * 86_400  # seconds; the broker's own limit is far below
ANSWERED = Verdict("unknown", "systemd was given it; it asks again if it was wrong.")


class Place(NamedTuple):
    """A directory of questions. Whatever ``uid`` (or root) did not put there is not looked at."""

    directory: str
    uid: int


def place_of(uid: int, environ: Mapping[str, str]) -> Place:
    """The system's directory for root, whose answers alone it takes; the user's own for others."""
    if uid == 0:
        return Place(SYSTEM, 0)
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    return Place(f"{runtime}/systemd/ask-password", uid)


class Agent:
    """Watches one place for ever. ``person`` makes who is asked, given a descriptor that says that it is moot."""

    def __init__(
        self,
        place: Place,
        ids: tuple[str, ...],
        person: Callable[[int], Person],
        tell: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._ids = ids
        self._person = person
        self._tell = tell
        self._monotonic = monotonic
        self._children: dict[str, int] = {}

    def serve(self, ready: Callable[[], None], stopped: int) -> None:
        """Until ``stopped`` is readable; ``ready`` is called once the directory is watched.

        Raises:
            OSError: the directory cannot be made or watched.
        """
        os.makedirs(self._place.directory, mode=0o755 if self._place.uid == 0 else 0o700, exist_ok=True)
        mask = inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.MOVED_FROM | inotify.DELETE
        watch = inotify.Inotify(self._place.directory, mask)
        poller = select.poll()
        poller.register(watch.descriptor, select.POLLIN)
        poller.register(stopped, select.POLLIN)
        try:
            ready()
            while True:
                self._look()
                patience = int(STALE_SECONDS * 1000) if self._children else None
                if any(descriptor == stopped for descriptor, _ in poller.poll(patience)):
                    return
                watch.names()
        finally:
            watch.close()
            for name in list(self._children):
                self._end(name)

    def _look(self) -> None:
        """Begin what is new, end what is over."""
        self._reap()
        found = {name: self._read(name) for name in os.listdir(self._place.directory) if name.startswith(askfile.NAME)}
        for name in set(self._children) - {name for name, question in found.items() if question is not None}:
            self._end(name)
        for name, question in found.items():
            if question is not None and name not in self._children and len(self._children) < MAX_QUESTIONS:
                self._begin(name, question)

    def _read(self, name: str) -> askfile.Question | None:
        """The question, if somebody still waits for its answer and it is one of ours."""
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(f"{self._place.directory}/{name}", flags), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, self._place.uid):
                    return None
                question = askfile.parse(file.read(askfile.MAX_FILE + 1))
        except (OSError, Malformed):
            return None
        now = int(self._monotonic() * 1_000_000)
        if askfile.is_over(question, now, alive=os.path.exists(f"/proc/{question.pid}")):
            return None
        wanted = any(fnmatchcase(question.id, pattern) for pattern in self._ids) or not self._ids
        return question if wanted else None

    def _begin(self, name: str, question: askfile.Question) -> None:
        # Held back until the child has its own ways: our handlers would tell us, by a pipe that it shares, to end.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        child = os.fork()
        if child:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._children[name] = child
            return
        code = 1
        try:
            for number in _ENDING:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            code = self._answer(question)
        finally:
            os._exit(code)

    def _answer(self, question: askfile.Question) -> int:
        """In the child: ask, and send what the person gave. Nobody will say whether it was right."""
        moot = -1
        if question.pid:
            with contextlib.suppress(OSError):
                moot = os.pidfd_open(question.pid)
        wanted = Wanted(
            kind="passphrase",
            title=question.title,
            text=question.message,
            key=Key(name=question.id) if question.id else None,
            keeper="program",
        )
        try:
            with self._person(moot) as person:
                secret = self._patiently(person, wanted, question)
                datagram = askfile.answer(secret.reveal())
                secret.wipe()
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # its file goes now, and the page is still to be told
                sent = _send(question.socket, datagram)
                person.judge(ANSWERED if sent else Verdict("failed", "Somebody else answered first."))
        except Denied:
            _send(question.socket, bytearray(askfile.REFUSAL))
        except (Moot, Expired, Withdrawn):
            return 0
        except UnlatchError as error:
            self._tell(f"{question.title}: {error}")
            return 1
        return 0

    def _patiently(self, person: Person, wanted: Wanted, question: askfile.Question) -> Secret:
        """Ask; when another question with this Id led and is done, this one still wants its own answer."""
        while True:
            seconds = 0
            if question.not_after:
                seconds = min(max(1, question.not_after // 1_000_000 - int(self._monotonic())), _LONGEST)
            with contextlib.suppress(Released):
                return person.ask(wanted, coalesce=f"systemd:{question.id}" if question.id else "", seconds=seconds)

    def _reap(self) -> None:
        """Forget the children that ended by themselves; their questions stay answered for as long as their files."""
        for name, pid in self._children.items():
            if pid and os.waitpid(pid, os.WNOHANG)[0]:
                self._children[name] = 0

    def _end(self, name: str) -> None:
        pid = self._children.pop(name)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


def _send(path: str, datagram: bytearray) -> bool:
    """Whether the socket took it: the first answer wins, and ends the socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.setblocking(False)
            door.connect(path)
            door.send(datagram)
    except OSError:
        return False
    finally:
        datagram[:] = bytes(len(datagram))
    return True
