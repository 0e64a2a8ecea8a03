"""The process that asks the broker about a login and waits, for as long as the login holds its end of a socket."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from unlatch import runtime
from unlatch.ask import Asker, Question
from unlatch.broker.notice import plain
from unlatch.errors import Denied, Expired, NoBroker, Refused, Withdrawn
from unlatch.pam import response
from unlatch.pam.errors import Gone
from unlatch.prompt import Answer, Prompt, Verdict
from unlatch.secret import Secret, forbid_core_dumps

MAX_REPORT = 16384  # bytes
WRONG_DIGITS = "no: wrong digits on the phone"
PRESS_ENTER = "Now press Enter where you log in."
_MAX_TYPED = 1024  # bytes of a response; a longer one is wrong anyway
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM, signal.SIGCHLD)


class Waiting:
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


def run(login: socket.socket, where: runtime.Runtime, wait: Callable[[Waiting], None]) -> NoReturn:
    """The child's whole life. It ends here, whatever happens, and nothing of the caller's is ended a second time."""
    try:
        asker = Asker([where], uid=os.geteuid(), environ={})
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        # The login's own connection among them: its end must be seen by who waits for it.
        os.closerange(3, login.fileno())
        os.closerange(login.fileno() + 1, 1 << 20)
        forbid_core_dumps()
        why = failure(lambda: wait(Waiting(login, asker)))
        if why:
            with contextlib.suppress(OSError):
                login.sendall(f"{why[0]}\0{why[1]}".encode("utf-8", "replace")[:MAX_REPORT])
        asker.close()
    finally:
        os._exit(0)


def failure(wait: Callable[[], None]) -> tuple[str, str] | None:
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
