"""The broker's part in a login: a yes from the account's person, or a response that is typed on the broker's page.

A process of its own asks, because an asker waits for its broker and a login waits for its session. Both hold one end of
a socket: the asker reports over it, and when the login closes its end, or dies, the prompt is withdrawn. The asker is
root's and stays root's, so on this host only root can see or answer the prompt: malware of the account cannot answer
its own sudo.

Approvals ring, and only who is named for this very account. The page with a challenge rings nobody: its link is shown
where somebody logs in.
"""

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from unlatch import runtime
from unlatch.pam import question
from unlatch.pam.asker import MAX_REPORT, Waiting, run
from unlatch.pam.challenge import Facts
from unlatch.pam.errors import Unfit
from unlatch.prompt import MAX_TEXT
from unlatch.secret import Secret
from unlatch.words import match_words

PUT_SECONDS = 5.0  # a broker that is started for this prompt takes one; the login waits for it without a word
_END_SECONDS = 1.0  # half of it is the broker's to read our last words


class Taken(NamedTuple):
    """What the broker said when it took a prompt. ``person`` are the names of who is rung, "" for nobody."""

    person: str
    words: tuple[str, str]
    link: str

    def __repr__(self) -> str:
        return "Taken(redacted)"


class NotRung(Unfit):
    """Nobody can have been rung: the broker refused, or was never asked."""


def place(environ: Mapping[str, str]) -> runtime.Runtime:
    """The broker that logins are put to: the host's, never one that would have to be started for root alone.

    Raises:
        Unfit: this host has none.
    """
    found = runtime.host_runtime()
    if environ.get("UNLATCH_RUNTIME_DIR"):
        found = runtime.own(0, environ, "/")._replace(host=True)
    if not os.path.isdir(os.path.dirname(found.askers)):
        raise Unfit(f"{os.path.dirname(found.askers)} is missing: this host has no broker")
    return found


class _Way:
    """One prompt and the process that waits for its answer. ``taken`` is what the broker said about it."""

    def __init__(self, where: runtime.Runtime, wait: "Callable[[Waiting], None]") -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = os.fork()
            if self._pid == 0:
                run(theirs, where, wait)
        except OSError as error:
            self._socket.close()
            raise NotRung(f"no process could be started: {error.strerror}") from None
        finally:
            theirs.close()
        try:
            self.taken = self._settled()
        except BaseException:
            self.stop()
            raise

    def fileno(self) -> int:
        """The descriptor that becomes readable once :meth:`result` has something to say."""
        return self._socket.fileno()

    def stop(self) -> None:
        """Withdraw what is still open, and wait for the process; it takes a second at most."""
        self._socket.close()
        until = time.monotonic() + _END_SECONDS
        with contextlib.suppress(ChildProcessError):  # the caller lets the kernel reap
            while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > until:
                    os.kill(self._pid, signal.SIGKILL)
                    os.waitpid(self._pid, 0)
                    return
                time.sleep(0.002)

    def _settled(self) -> Taken:
        until = time.monotonic() + PUT_SECONDS
        unfit: type[Unfit] = NotRung
        word = "asked"
        while word == "asked":
            if not select.select([self._socket], [], [], max(0.0, until - time.monotonic()))[0]:
                raise unfit(f"the broker did not take the prompt within {PUT_SECONDS:g} s")
            word, *fields = self._report()
            if word == "asked":  # from here on it may ring, whatever we hear of it
                unfit = Unfit
        if word == "refused":
            raise NotRung(fields[0])
        if word != "taken":
            raise unfit(fields[0] if fields else "the process that asks the broker ended")
        person, first, second, link = fields
        return Taken(person, (first, second), link)

    def _report(self) -> list[str]:
        """The next report; an empty one when the process ended without a word."""
        try:
            data = self._socket.recv(MAX_REPORT)
        except OSError:
            data = b""
        return data.decode("utf-8", "replace").split("\0")


class Approval(_Way):
    """Ring the account's own person, who says yes with the two digits that only the session shows, or no."""

    def __init__(
        self,
        facts: Facts,
        digits: str,
        *,
        where: runtime.Runtime,
        seconds: int,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Ring; ``digits`` are two. ``facts`` must not be a stranger's word: their user's person is rung.

        Raises:
            Unfit: nobody can say yes, and why; :class:`NotRung` if certainly nobody was rung.
        """
        asked = question.approval(facts, match_words(random))
        super().__init__(where, lambda waiting: waiting.approval(asked, facts.user, seconds, digits))

    def result(self) -> str:
        """What came of it, once it is readable: "yes", "no: ..." or "failed: ..." with the reason for the log."""
        word, *why = self._report()
        return word if word == "yes" else _said(word, why)


class PageChallenge(_Way):
    """Put the challenge on the broker's page, for whoever has the link that the session shows: ``taken.link``."""

    def __init__(
        self,
        facts: Facts,
        armour: str,
        expected: Secret,
        *,
        where: runtime.Runtime,
        seconds: int,
        public_url: str,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Put it there. ``expected`` decides only what the page is told; who is let in is the caller's business.

        Raises:
            Unfit: there is no page, and why.
        """
        if len(armour) > MAX_TEXT:
            raise Unfit(f"the challenge is too long for the broker's page: {len(armour)} characters")
        asked = question.challenge(facts, armour, match_words(random))
        super().__init__(where, lambda waiting: waiting.challenge(asked, facts.user, seconds, expected, public_url))

    def result(self) -> "Secret | str":
        """What came of it, once it is readable: the response as it was typed, or as :meth:`Approval.result`."""
        data = bytearray(MAX_REPORT)
        try:
            size = self._socket.recv_into(data)
        except OSError:
            size = 0
        try:
            if data.startswith(b"typed\0"):
                return Secret(memoryview(data)[6:size])
            word, *why = bytes(data[:size]).decode("utf-8", "replace").split("\0")
            return _said(word, why)
        finally:
            data[:] = bytes(len(data))


def _said(word: str, why: list[str]) -> str:
    if word not in ("no", "failed", "refused"):
        return "failed: the process that asks the broker ended"
    return f"{'no' if word == 'no' else 'failed'}: {why[0] if why else ''}"
