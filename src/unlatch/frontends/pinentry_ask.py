"""What ``pinentry-unlatch`` does with a question: decide by the rules, ask the person, tell page and agent.

The page hears what became of its answer as gpg-agent lets us know it: another GETPIN with SETERROR in the same process
means "wrong", BYE or the end of the stream means "accepted". A yes is final as soon as it is given. After the last try,
and after a card's PIN, gpg-agent 2.2.40 says BYE whether it was right or not (measured): then nobody claims to know.
"""

import os
import pwd
import time

from unlatch import config, origin, runtime
from unlatch.ask import Asker, Question, Released, boottime
from unlatch.errors import Denied, Expired, NoBroker, Refused, UnlatchError, Withdrawn
from unlatch.frontends import pinentry_prompt, terminal
from unlatch.frontends.pinentry import complain
from unlatch.frontends.stopping import Stop, Stopping
from unlatch.prompt import Answer, AskerInfo, Prompt, Verdict
from unlatch.rules import Facts, Rule, decide, minute_of_day
from unlatch.secret import Secret, forbid_core_dumps
from unlatch.wire.pinentry import Dialogue, Request
from unlatch.words import match_words

TYPE_CHECKING = False  # as in wire/pinentry.py
if TYPE_CHECKING:
    from unlatch.frontends.pinentry_keep import Keeping

LAST_TRY = "This was the last try, and gpg-agent does not say whether it was right."
CARD_TRY = "gpg-agent does not say whether the card took the PIN. If it asks again, the PIN was wrong."
ONE_TRY = "A card gets one try per link: look for a new message."


class _Gone(UnlatchError):
    """Whoever asked is not there any more; the text says who."""


class _Orphaned(UnlatchError):
    """The program that asked has ended, and its answer may still be kept."""


class Asking:
    """All that one pinentry process asks. ``serve`` answers the open request of the dialogue."""

    def __init__(self, dialogue: Dialogue) -> None:
        forbid_core_dumps()
        self._dialogue = dialogue
        self._stopping = Stopping()
        self._uid = os.geteuid()
        self._asker: Asker | None = None
        self._owner: origin.Owner | None = None
        self._question: Question | None = None  # open, or answered and not judged
        self._tries = 0
        self._status = 0
        self._keep_seconds = 0
        self._keeping: Keeping | None = None  # what was offered
        self._orphan = False
        self._agreed: Secret | None = None  # what gpg-agent was given, and is to keep

    def read(self) -> bytes:
        """What gpg-agent says next; the end of its stream also when we are to stop."""
        try:
            with self._stopping:
                return os.read(0, 65536)
        except Stop:
            self._broken_off()
            return b""

    def serve(self) -> bytearray:
        """The reply to the open request, and to the lines that waited behind it. Takes as long as the person does."""
        request = self._dialogue.request
        assert request is not None
        try:
            with self._stopping:
                answer = self._answer(request)
            return self._reply(request, answer)
        except Stop:
            self._broken_off()
            return self._fail("cancelled", "stopped", "told to stop by a signal")
        except _Gone as gone:
            self._broken_off()
            return self._fail("cancelled", "gone", str(gone))
        except _Orphaned:
            self._broken_off()
            self._orphan = True
            return self._fail("cancelled", "gone", "the program that asked has ended; an answer may still be kept")
        except Denied:
            return self._dialogue.fail(_no(request))
        except Expired:
            return self._fail("timeout", "timeout", "nobody answered in time")
        except Withdrawn:
            return self._fail("cancelled", "withdrawn", "the prompt was withdrawn")
        except Refused as refused:
            return self._fail("cancelled", f"refused-{refused.why}", refused.text)
        except NoBroker as error:
            return self._fail("cancelled", "no-broker", "; ".join(error.why) or str(error))
        except Exception as error:  # gpg-agent gets its reply whatever happens, and people no traceback
            self._hang_up()
            return self._fail("cancelled", "internal", f"{type(error).__name__} at {_place(error)}")

    def end(self, *, broken: bool) -> int:
        """Judge the last answer and leave; the exit status. What is still open is withdrawn with the connection."""
        self._status = self._status or int(broken)
        if self._asker is not None and self._goes_on():
            return self._status
        if self._asker is not None:
            question = self._question
            if question is not None and question.answer is None:
                self._asker.withdraw(question, "gone")
            elif question is not None:
                self._asker.verdict(question, _last_verdict(question) if self._status == 0 else Verdict("failed"))
            self._hang_up()
        return self._status

    # Deciding

    def _answer(self, request: Request) -> Answer | None:
        """The person's answer, or None when a local pinentry took over."""
        if self._owner is None:
            self._owner = origin.owner(request.option("owner"), os.uname().nodename)
        user_data = request.option("pinentry-user-data") or os.environ.get("PINENTRY_USER_DATA", "")
        who = origin.asker_info(self._owner, tty=request.option("ttyname"), user_data=user_data)
        rule = self._rule(
            Facts(
                user_data=user_data,
                units=tuple(unit for unit in (who.system_unit, who.user_unit) if unit),
                keygrip=pinentry_prompt.keygrip(request),
                tty=terminal.is_terminal(request.option("ttyname")),
                minute=minute_of_day(*time.localtime()[3:5]),
            )
        )
        if rule.action == "refuse":
            raise Refused("rule", "a rule refuses this prompt")
        if rule.action == "tty":
            self._pass_on(rule.pinentry)
            return None
        return self._ask(request, who)

    def _rule(self, facts: Facts) -> Rule:
        loaded = config.load(None, os.environ, self._uid)
        if loaded.settings.rules is None:
            raise Refused("config", f"the rules cannot be read: {loaded.mistakes[0]}")
        self._keep_seconds = loaded.settings.keep_seconds
        return decide(loaded.settings.rules, facts)

    def _pass_on(self, program: str) -> None:
        from unlatch.frontends.passthrough import pass_on

        lines, rest = self._dialogue.take_over()
        try:
            self._status = pass_on(program, lines, rest, self._watched()[1:])
        except Stop:  # the other pinentry may have replied, so nothing more is said: gpg-agent sees the end of file
            self._status = 1

    # Asking

    def _ask(self, request: Request, who: AskerInfo) -> Answer:
        self._tries += 1
        digits = f"{int.from_bytes(os.urandom(8)) % 100:02}"
        kind = pinentry_prompt.kind(request)
        shown = kind == "confirm" and terminal.show_digits(request.option("ttyname"), digits, self._uid)
        occasion = pinentry_prompt.Occasion(who, self._words(), int(time.time()), self._tries, shown)
        prompt = pinentry_prompt.prompt_of(request, occasion)
        answer = self._put(request, prompt._replace(keep=self._offer(prompt)))
        if answer.answer == "yes" and shown and Secret(answer.digits.encode()) != Secret(digits.encode()):
            self._judge(Verdict("denied", "The digits were wrong."))
            raise Denied
        return answer

    def _offer(self, prompt: Prompt) -> int:
        """For how many seconds the answer may be kept, if the administrator wants that to be asked."""
        if not self._keep_seconds or prompt.kind != "passphrase" or prompt.keeper != "agent" or prompt.key is None:
            return 0
        from unlatch.frontends import pinentry_keep

        try:
            self._keeping = pinentry_keep.Keeping(
                prompt.key.grip, self._keep_seconds, uid=self._uid, environ=os.environ, user_home=_home(self._uid)
            )
        except pinentry_keep.NotKeeping as why:
            complain(f"keep: not offered: {why}")
            return 0
        return self._keep_seconds

    def _goes_on(self) -> bool:
        """Whether a child of ours goes on, with an answer that is to be kept or a question that waits for one."""
        asker, question, keeping, agreed = self._asker, self._question, self._keeping, self._agreed
        if asker is None or question is None or keeping is None:
            return False
        if not self._orphan and (agreed is None or self._status):
            return False
        from unlatch.frontends.pinentry_keep import detach

        def go_on() -> None:
            try:
                with self._stopping:
                    if self._orphan:
                        keeping.go_on(asker, question)
                    elif agreed is not None:
                        keeping.keep(asker, question, Secret(agreed.reveal()))  # a child's memory is locked anew
            except Stop:
                pass
            finally:
                asker.close()

        detach(go_on)
        return True

    def _words(self) -> tuple[str, str]:
        """Those of the answered question whose page goes on: its message is the one that people hold. Else new ones."""
        before = self._question
        if before is None or before.answer is None or before.judged or _is_card(before.prompt):
            return match_words(os.urandom)
        return before.prompt.words

    def _put(self, request: Request, prompt: Prompt) -> Answer:
        """Ask until somebody answers. A follower asks anew when its leader is done: the agent's cache is not ours."""
        asker = self._connected()
        self._agreed = None  # it was wrong
        until = boottime() + request.seconds
        coalesce = pinentry_prompt.coalesce(request)
        while True:
            seconds = max(1, round(until - boottime())) if request.seconds else 0
            outcome = "wrong" if prompt.error else "next"
            before, self._question = self._question, None
            if before is not None and _is_card(before.prompt):  # a page left open must not spend a card's tries
                asker.verdict(before, _card_verdict(prompt.error))
                before = None
            try:
                self._question = asker.put(prompt, coalesce=coalesce, seconds=seconds, after=before, outcome=outcome)
                return self._wait(asker, self._question)
            except Released:
                self._question = None
            finally:
                if before is not None:
                    asker.verdict(before, Verdict("failed"))  # only if it could not go on; else it has its verdict

    def _wait(self, asker: Asker, question: Question) -> Answer:
        while True:
            got = asker.wait(question, self._watched())
            if isinstance(got, Answer):
                return got
            if got != 0 and question.prompt.keep and question.registered:  # a follower has no page
                raise _Orphaned
            if got != 0:
                raise _Gone("the program that asked has ended")
            self._dialogue.feed(_read_more())
            if self._dialogue.closed:
                raise _Gone("gpg-agent has hung up")

    def _connected(self) -> Asker:
        if self._asker is None:
            places = runtime.candidates(self._uid, os.environ, _home(self._uid))
            asker = Asker(places, uid=self._uid, environ=os.environ)
            asker.open()
            self._asker = asker
        return self._asker

    def _watched(self) -> tuple[int, ...]:
        return (0,) if self._owner is None else (0, self._owner.pidfd)

    # Replying

    def _reply(self, request: Request, answer: Answer | None) -> bytearray:
        if answer is None:
            return bytearray()
        if answer.answer == "no":
            self._judge(Verdict("denied"))
            return self._dialogue.fail(_no(request))
        if request.command == "GETPIN" and answer.secret is not None:
            replies = self._dialogue.give(answer.secret.reveal())
            if answer.keep and self._question is not None and self._question.prompt.keep:
                self._agreed = Secret(answer.secret.reveal())
            answer.secret.wipe()
            return replies
        if request.command != "GETPIN" and answer.answer == "yes":
            self._judge(Verdict("accepted"))
            return self._dialogue.confirm()
        self._judge(Verdict("failed"))
        return self._fail("cancelled", "answer", "the answer does not fit the question")

    def _judge(self, verdict: Verdict) -> None:
        if self._asker is not None and self._question is not None:
            self._asker.verdict(self._question, verdict)

    def _fail(self, end: str, where: str, why: str) -> bytearray:
        complain(f"{where}: {why}")
        return self._dialogue.fail(end, where, why)

    def _hang_up(self) -> None:
        """Close the connection; the broker withdraws what is open."""
        if self._asker is not None:
            self._asker.close()
        self._asker = self._question = None

    def _broken_off(self) -> None:
        self._dialogue.closed = True
        self._status = 1


def _no(request: Request) -> str:
    """What a no is called: with a button of its own it is an answer, without one it is Cancel."""
    return "not-confirmed" if request.text("notok") else "cancelled"


def _last_verdict(question: Question) -> Verdict:
    """What the end of the dialogue means. The wire does not tell a right last try from a wrong one."""
    attempt = question.prompt.attempt
    if _is_card(question.prompt):
        return _card_verdict()
    return Verdict("unknown", LAST_TRY) if attempt is not None and attempt[0] >= attempt[1] else Verdict("accepted")


def _is_card(prompt: Prompt) -> bool:
    return prompt.kind == "pin" or prompt.keeper == "card"


def _card_verdict(error: str = "") -> Verdict:
    return Verdict("failed", f"{error} – {ONE_TRY}") if error else Verdict("unknown", CARD_TRY)


def _read_more() -> bytes:
    try:
        return os.read(0, 65536)
    except OSError:
        return b""


def _home(uid: int) -> str:
    try:
        return os.environ.get("HOME") or pwd.getpwuid(uid).pw_dir
    except KeyError:  # a uid without an account
        return "/nonexistent"


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "start"
