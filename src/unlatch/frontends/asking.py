"""How commands ask a person for a secret: on the phone, at this terminal, or from a program on standard input.

A command says what it wants (:class:`Wanted`) and does not know which of the three it talks to. The dialogue is always
the same:

    with asking.Phone(command="unlatch card unlock", ...) as person:
        secret = person.ask(wanted)              # the first time
        ...                                      # try it; it was wrong
        secret = person.ask(wanted._replace(error="...", attempt=(2, 3)))
        ...                                      # it was right
        person.judge(Verdict("accepted"))

On the phone the second ``ask`` is the verdict on the first answer. For a passphrase the open page goes on by itself; a
card's PIN has one try for each ring, because a page left open must not spend a card's tries: its page says what was
wrong, and a fresh link is rung. What was not judged when the dialogue ends is withdrawn, or was of no use ("failed").
"""

import os
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple, Protocol

from unlatch import config, origin, runtime
from unlatch.ask import Asker, Question
from unlatch.errors import Denied, Malformed, Refused, UnlatchError
from unlatch.frontends import terminal
from unlatch.prompt import MAX_SECRET, Answer, AskerInfo, Key, Prompt, Verdict
from unlatch.rules import Facts, decide, minute_of_day
from unlatch.secret import Secret
from unlatch.words import match_words

ONE_TRY = "A card gets one try per link: look for a new message."


class Wanted(NamedTuple):
    """What a command asks for; the fields are those of a prompt. ``keeper`` "card" makes it a card's PIN."""

    kind: str  # "passphrase", "new-passphrase", "pin" (unlatch.prompt.KINDS)
    title: str  # stands in the message, so at most 120 characters and nothing secret
    text: str = ""
    error: str = ""  # what was wrong with the answer before
    attempt: tuple[int, int] | None = None
    key: Key | None = None
    keeper: str = "none"
    label: str = ""
    ok: str = ""


class NothingGiven(UnlatchError):
    """Standard input has no (further) secret. ``wrong`` is why another one was wanted, "" for the first."""

    def __init__(self, wrong: str) -> None:
        super().__init__("standard input holds no secret")
        self.wrong = wrong


class TooLong(UnlatchError):
    """What was given is longer than ``unlatch.prompt.MAX_SECRET`` bytes."""

    def __init__(self) -> None:
        super().__init__(f"the secret is longer than {MAX_SECRET} bytes")


class Moot(UnlatchError):
    """What was asked for came another way meanwhile; the prompt was withdrawn."""

    def __init__(self) -> None:
        super().__init__("nobody needs to answer any more")


class Person(Protocol):
    """Who is asked. One dialogue: ``ask`` as often as needed, ``judge`` the last answer, ``close``."""

    def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
        """The secret; the caller wipes it. A further call says that the answer before was wrong (``wanted.error``).

        ``coalesce`` is what makes two prompts of one user the same (a keygrip, ``card:SERIAL``; empty: never shared);
        ``seconds`` how long the person has, 0 for what the broker's settings say. Both concern the phone only.

        Raises:
            Denied, Expired, Withdrawn, Refused, NoBroker: nobody answered, as in :meth:`unlatch.ask.Asker.wait`.
            Moot: what the phone was told to watch has happened.
            unlatch.ask.Released: somebody else's prompt of the same coalesce key is over: look whether it did the
                job, and else ask again.
            NothingGiven, TooLong: of standard input.
        """

    def judge(self, verdict: Verdict) -> None:
        """Tell the person what became of the last answer: "accepted", or "failed" with a text."""

    def close(self) -> None:
        """End the dialogue."""

    def __enter__(self) -> "Person": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Dialogue:
    """What the three have in common: they can be used in ``with``."""

    def close(self) -> None:
        """Nothing is left to do."""

    def judge(self, verdict: Verdict) -> None:
        """Whoever sits here reads what the command says."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Phone(_Dialogue):
    """The people whom the broker rings. The rules of unlatch.toml are obeyed as in a pinentry.

    ``command`` is what the page calls us, ``reason`` one more line of the user's for the page (``--reason``), ``rung``
    is called with each prompt that was put to the broker, for whoever watches the command. ``local`` is asked instead
    when a rule says "tty"; a pinentry program, which such a rule may name, has no part in that. ``moot`` is a
    descriptor that becomes readable when nobody needs to answer any more, -1 for none.
    """

    def __init__(
        self,
        *,
        command: str,
        uid: int,
        environ: Mapping[str, str],
        home: str,
        reason: str = "",
        rung: Callable[[Prompt], None] | None = None,
        local: Person | None = None,
        moot: int = -1,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._command = command
        self._uid = uid
        self._environ = environ
        self._home = home
        self._reason = reason
        self._rung = rung
        self._local = local
        self._watched = (moot,) if moot >= 0 else ()
        self._random = random
        self._asker: Asker | None = None
        self._question: Question | None = None  # open, or answered and not judged

    def __enter__(self) -> "Phone":
        return self

    def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
        """See :meth:`Person.ask`; ``wanted.kind`` must be one that a secret answers."""
        who = asking_process(self._command, self._environ)
        if rule_for(who, wanted.key, uid=self._uid, environ=self._environ) == "tty":
            return self._ask_locally(wanted)
        before, self._question = self._question, None
        words = match_words(self._random)
        if before is not None and before.answer is not None and not before.judged:
            if before.prompt.keeper == "card":
                self._connected().verdict(before, Verdict("failed", f"{wanted.error} – {ONE_TRY}"))
                before = None
            else:
                words = before.prompt.words  # its message is the one that people hold
        prompt = self._prompt(wanted, who, words)
        asker = self._connected()
        self._question = asker.put(
            prompt, coalesce=coalesce, seconds=seconds, after=before, outcome="wrong" if wanted.error else "next"
        )
        if self._rung is not None:
            self._rung(prompt)
        answer = asker.wait(self._question, self._watched)
        if not isinstance(answer, Answer):
            raise Moot
        return self._secret_of(answer)

    def judge(self, verdict: Verdict) -> None:
        """See :meth:`Person.judge`."""
        if self._asker is not None and self._question is not None:
            self._asker.verdict(self._question, verdict)

    def close(self) -> None:
        """Withdraw what is open, and say of an answer that was not judged that it was of no use."""
        asker, question = self._asker, self._question
        self._asker = self._question = None
        if asker is None:
            return
        if question is not None and question.answer is None:
            asker.withdraw(question, "gone")
        elif question is not None:
            asker.verdict(question, Verdict("failed"))
        asker.close()

    def _secret_of(self, answer: Answer) -> Secret:
        if answer.answer == "no":
            self.judge(Verdict("denied"))
            raise Denied
        if answer.secret is None:
            self.judge(Verdict("failed"))
            raise Malformed("answer")
        return answer.secret

    def _ask_locally(self, wanted: Wanted) -> Secret:
        if self._local is None:
            raise Refused("rule", "a rule sends this prompt to a terminal, and nobody can be asked there")
        return self._local.ask(wanted)

    def _prompt(self, wanted: Wanted, who: AskerInfo, words: tuple[str, str]) -> Prompt:
        fields = wanted._asdict()
        fields["text"] = "\n\n".join(part for part in (self._reason, wanted.text) if part)
        return Prompt(**fields, words=words, asked=int(time.time()), asker=who)

    def _connected(self) -> Asker:
        if self._asker is None:
            places = runtime.candidates(self._uid, self._environ, self._home)
            asker = Asker(places, uid=self._uid, environ=self._environ, random=self._random)
            asker.open()
            self._asker = asker
        return self._asker


def asking_process(command: str, environ: Mapping[str, str]) -> AskerInfo:
    """Our own process with its ancestors and its unit; ``command`` is what we call ourselves."""
    node = os.uname().nodename
    found = origin.owner(f"{os.getpid()} {node}", node)
    try:
        info = origin.asker_info(found, tty=_tty(), user_data=environ.get("PINENTRY_USER_DATA", ""))
    finally:
        if found is not None:
            os.close(found.pidfd)
    program = command.partition(" ")[0]  # a process of ours may ask for another one of ours
    callers = [process.name for process in reversed(info.chain[1:3]) if process.name != program]
    return info._replace(command=" > ".join([*callers, command]))


def rule_for(who: AskerInfo, key: Key | None, *, uid: int, environ: Mapping[str, str]) -> str:
    """What the rules of unlatch.toml say about a prompt now: "ring" or "tty".

    Raises:
        Refused: a rule refuses it, or the rules cannot be read.
    """
    loaded = config.load(None, environ, uid)
    if loaded.settings.rules is None:
        raise Refused("config", f"the rules cannot be read: {loaded.mistakes[0]}")
    facts = Facts(
        user_data=who.user_data,
        units=tuple(unit for unit in (who.system_unit, who.user_unit) if unit),
        keygrip=key.grip if key else "",
        tty=terminal.is_terminal(who.tty),
        minute=minute_of_day(*time.localtime()[3:5]),
    )
    rule = decide(loaded.settings.rules, facts)
    if rule.action == "refuse":
        raise Refused("rule", "a rule refuses this prompt")
    return rule.action


class AtTerminal(_Dialogue):
    """Whoever sits at this terminal. ``tell`` shows a text, ``ask_secret`` reads a line without echo."""

    def __init__(self, tell: Callable[[str], None], ask_secret: Callable[[str], Secret]) -> None:
        self._tell = tell
        self._ask_secret = ask_secret

    def __enter__(self) -> "AtTerminal":
        return self

    def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:  # noqa: ARG002  # of the phone
        """See :meth:`Person.ask`. An empty line is no answer."""
        for text in (wanted.error, wanted.title, wanted.text):
            if text:
                self._tell(text)
        label = wanted.label or {"pin": "PIN"}.get(wanted.kind, "passphrase")
        while True:
            secret = self._ask_secret(f"{label}:")
            if secret:
                return secret


class StandardInput(_Dialogue):
    """A program that gives the secrets on a descriptor, a line each; LF or CR LF is not part of one.

    One line more is not a second try: after a wrong secret nothing is read.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> "StandardInput":
        return self

    def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:  # noqa: ARG002  # of the phone
        """See :meth:`Person.ask`."""
        if wanted.error:
            raise NothingGiven(wanted.error)
        line = bytearray()
        try:
            # Byte for byte, so that nothing of the next line is taken away, nor stays in a buffer.
            while (byte := os.read(self._descriptor, 1)) not in (b"", b"\n"):
                line += byte
                if len(line) > MAX_SECRET:
                    raise TooLong
            if line.endswith(b"\r"):
                del line[-1:]
            if not line:
                raise NothingGiven("")
            return Secret(line)
        finally:
            line[:] = bytes(len(line))


def _tty() -> str:
    try:
        return os.ttyname(0)
    except OSError:
        return ""
