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
from typing import NamedTuple, NoReturn

from unlatch import runtime
from unlatch.ask import Asker, Question
from unlatch.broker.notice import plain
from unlatch.errors import Denied, Expired, NoBroker, Refused, Withdrawn
from unlatch.pam import qr, response
from unlatch.pam.challenge import Facts
from unlatch.pam.errors import Gone, Unfit
from unlatch.prompt import MAX_TEXT, Answer, AskerInfo, Prompt, Verdict
from unlatch.secret import Secret, forbid_core_dumps
from unlatch.words import match_words

PUT_SECONDS = 5.0  # a broker that is started for this prompt takes one; the login waits for it without a word
_END_SECONDS = 1.0  # half of it is the broker's to read our last words
_MAX_REPORT = 16384
_MAX_TYPED = 1024  # bytes of a response; a longer one is wrong anyway
_MAX_TITLE = 120
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD)

WRONG_DIGITS = "no: wrong digits on the phone"
PRESS_ENTER = "Now press Enter where you log in."


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

    def __init__(self, where: runtime.Runtime, wait: "Callable[[_Waiting], None]") -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._pid = os.fork()
            if self._pid == 0:
                _run(theirs, where, wait)
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
            data = self._socket.recv(_MAX_REPORT)
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
        question = approval_prompt(facts, match_words(random))
        super().__init__(where, lambda waiting: waiting.approval(question, facts.user, seconds, digits))

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
        question = challenge_prompt(facts, armour, match_words(random))
        super().__init__(where, lambda waiting: waiting.challenge(question, facts.user, seconds, expected, public_url))

    def result(self) -> "Secret | str":
        """What came of it, once it is readable: the response as it was typed, or as :meth:`Approval.result`."""
        data = bytearray(_MAX_REPORT)
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


def approval_prompt(facts: Facts, words: tuple[str, str]) -> Prompt:
    """The question behind an approval: who logs in where, by what and from where, each on a line."""
    rows = [
        ("User", facts.user),
        ("Host", facts.host),
        ("Service", facts.service),
        ("From", facts.source or "this host"),
        ("Time", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(facts.at))),
    ]
    text = "\n".join(f"{name}: {plain(value, 300)}" for name, value in rows)
    advice = "Say yes only to a login that you are making yourself, right now."
    return _prompt("confirm", facts, words)._replace(text=f"{text}\n\n{advice}", digits=True)


def challenge_prompt(facts: Facts, armour: str, words: tuple[str, str]) -> Prompt:
    """The question behind a challenge on the broker's page: the message to decrypt, also as a QR code."""
    code = qr.modules(armour.strip())
    packed = qr.packed(code) if code else ""
    return _prompt("challenge", facts, words)._replace(text=armour, qr=packed if len(packed) <= MAX_TEXT else "")


def _prompt(kind: str, facts: Facts, words: tuple[str, str]) -> Prompt:
    service = plain(facts.service, 40)
    where = f", from {facts.source}" if facts.source else ""
    return Prompt(
        kind=kind,
        title=plain(f"Login of {plain(facts.user, 40)} by {service}{where}", _MAX_TITLE),
        words=words,
        asked=max(0, facts.at),
        asker=AskerInfo(command=f"unlatch pam ({service})"),
    )


def _said(word: str, why: list[str]) -> str:
    if word not in ("no", "failed", "refused"):
        return "failed: the process that asks the broker ended"
    return f"{'no' if word == 'no' else 'failed'}: {why[0] if why else ''}"


# The process that waits


class _Waiting:
    """The asker of one prompt, with its end of the socket to the login."""

    def __init__(self, login: socket.socket, asker: Asker) -> None:
        self._login = login
        self._asker = asker

    def approval(self, prompt: Prompt, account: str, seconds: int, digits: str) -> None:
        """Until somebody says yes or no."""
        question = self._put(prompt, account, seconds, silent=False)
        answer = self._answer(question)
        if answer.answer != "yes":
            self._deny(question, Verdict("denied"), "denied on the phone")
        elif Secret(answer.digits.encode()) != Secret(digits.encode()):
            self._deny(question, Verdict("denied", "The digits were wrong."), WRONG_DIGITS.removeprefix("no: "))
        else:
            self._tell("yes")
            self._asker.verdict(question, Verdict("accepted", PRESS_ENTER))

    def challenge(self, prompt: Prompt, account: str, seconds: int, expected: Secret, public_url: str) -> None:
        """Until somebody types a response or says no."""
        question = self._put(prompt, account, seconds, silent=True, public_url=public_url)
        answer = self._answer(question)
        if answer.secret is None:
            self._deny(question, Verdict("denied"), "denied on the page")
            return
        typed = answer.secret.reveal()[:_MAX_TYPED]
        right = response.matches(expected, bytes(typed))
        self._login.sendall(b"typed\0" + typed)
        answer.secret.wipe()
        wrong = Verdict("failed", "This is not the response, and this login is over.")
        self._asker.verdict(question, Verdict("accepted", PRESS_ENTER) if right else wrong)

    def _put(self, prompt: Prompt, account: str, seconds: int, *, silent: bool, public_url: str = "") -> Question:
        self._asker.open()
        self._tell("asked")
        question = self._asker.put(prompt, seconds=seconds, account=account, silent=silent)
        self._asker.settle(question)
        if not question.registered:
            raise NoBroker(["the broker went away, or says nothing"])
        link = next(iter(question.tickets.values())).owned.link
        url = f"{public_url}{link.ticket_text}#{link.fragment}" if silent else ""
        self._tell("taken", question.person, *prompt.words, url)
        return question

    def _answer(self, question: Question) -> Answer:
        got = self._asker.wait(question, (self._login.fileno(),))
        if not isinstance(got, Answer):  # the login is over: it closed its end
            self._asker.withdraw(question, "the login is over")
            raise Gone
        return got

    def _deny(self, question: Question, verdict: Verdict, why: str) -> None:
        self._tell("no", why)
        self._asker.verdict(question, verdict)

    def _tell(self, *fields: str) -> None:
        self._login.sendall("\0".join(field.replace("\0", " ") for field in fields).encode("utf-8", "replace"))


def _run(login: socket.socket, where: runtime.Runtime, wait: Callable[[_Waiting], None]) -> NoReturn:
    """The child's whole life. It ends here, whatever happens, and nothing of the caller's is ended a second time."""
    try:
        asker = Asker([where], uid=os.geteuid(), environ={})
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # The login's own connection among them: its end must be seen by who waits for it.
        os.closerange(3, login.fileno())
        os.closerange(login.fileno() + 1, 1 << 20)
        forbid_core_dumps()
        why = _failure(lambda: wait(_Waiting(login, asker)))
        if why:
            with contextlib.suppress(OSError):
                login.sendall(f"{why[0]}\0{why[1]}".encode("utf-8", "replace")[:_MAX_REPORT])
        asker.close()
    finally:
        os._exit(0)


def _failure(wait: Callable[[], None]) -> tuple[str, str] | None:
    """Why nothing came of it, in a word and a reason; None when something did, or when nobody is there to hear it."""
    try:
        wait()
    except (Gone, BrokenPipeError):
        return None
    except Denied:
        return "no", "denied in the chat"
    except Expired:
        return "failed", "nobody answered the prompt in time"
    except Withdrawn:
        return "failed", "the prompt was withdrawn"
    except Refused as refused:
        return "refused", f"the broker refuses it: {plain(refused.text, 200)} ({plain(refused.why, 20)})"
    except NoBroker as error:
        return "failed", plain("; ".join(error.why) or "there is no broker", 300)
    except Exception as error:  # its text may quote anything
        return "failed", f"unforeseen {type(error).__name__}"
    return None
