"""An answer that outlives its program: kept by gpg-agent for a stated time, if the person agreed on the page.

gpg-agent serves one pinentry at a time and waits for its end. So nothing is done here before the dialogue is over: this
process ends as any pinentry does, and a child of it goes on, without gpg-agent's pipes, with the connection to the
broker. It is in gpg-agent's own unit, so it ends with it.

The offer is made only if it could be kept: gpg-agent must allow it for so long, and there must be somebody to end it.
Everything is imported with the offer, as nothing may be imported after somebody was rung.
"""

import os
import subprocess  # noqa: F401  # what gnupg.ending needs later
import time
from collections.abc import Callable, Mapping

from unlatch import origin
from unlatch.ask import Asker, Question, boottime
from unlatch.errors import Denied, Expired, UnlatchError, Withdrawn
from unlatch.frontends.asking import Wanted
from unlatch.gnupg import grant_end, keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import BadPassphrase
from unlatch.gnupg.granting import Granting
from unlatch.gnupg.grants import Records
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import HomeKey
from unlatch.gnupg.unlocking import Unlocking
from unlatch.prompt import Verdict
from unlatch.secret import Secret

NOT_KEPT = "The program had given up, and it was not to be kept: nothing came of the answer."
AGENT_SECONDS = 2.0  # for the agent to say what it allows; somebody waits to be rung
CACHED_SECONDS = 2.0  # for the agent to put the passphrase into its cache after it has said BYE
_LOOK_EVERY = 0.02


class NotKeeping(UnlatchError):
    """No offer can be made; the text says why."""


class _NotAgreed(UnlatchError):
    """The answer came too late for its program, and is not to be kept."""


class Keeping:
    """What can be offered for one key."""

    def __init__(self, grip: str, seconds: int, *, uid: int, environ: Mapping[str, str], user_home: str) -> None:
        """Look whether an answer could be kept for so many seconds.

        Raises:
            NotKeeping
        """
        self._seconds = seconds
        self._home = Home.find(environ, uid, user_home)
        records = Records(self._home.directory, uid, environ, user_home)
        self._granting = Granting(self._home, records, seconds, user=grant_end.user_name(uid))
        try:
            with self._agent() as agent:
                if not origin.is_below(agent.pid):
                    raise NotKeeping("another gpg-agent than ours runs for this home")
                known = keys.agent_key(agent, grip)
                if known is None or known.kind != "D":
                    raise NotKeeping("this key is not in a file")
                self._key = HomeKey(known)
                self._granting.check(agent, keys.limits(self._home))
        except (UnlatchError, OSError) as error:
            raise NotKeeping(str(error)) from None

    def go_on(self, asker: Asker, question: Question) -> None:
        """The program has ended: wait on for the answer, and keep it if that was agreed to."""
        asker.orphan(question)
        page = _Page(asker, question, self._seconds)
        try:
            self._unlock(page)
        except (_NotAgreed, Denied, Expired, Withdrawn):
            pass  # said already, or there is nobody to tell
        except (UnlatchError, OSError):
            page.judge(Verdict("failed"))

    def keep(self, asker: Asker, question: Question, secret: Secret) -> None:
        """gpg-agent has taken the answer: have it keep that for the stated time, and tell the page."""
        self._wait_until_cached()
        page = _Page(asker, question, self._seconds)
        try:
            with self._agent() as agent:
                keys.verify(agent, self._key.grip, secret)
                self._granting(agent, [self._key])
                keys.keep(agent, self._key.grip, secret)
        except BadPassphrase:
            page.judge(Verdict("failed", "It does not open this key, and this was the last try."))
        except (UnlatchError, OSError) as error:
            asker.verdict(question, Verdict("accepted", f"It is not kept for later requests: {error}"))
        else:
            page.judge(Verdict("accepted"))

    def _unlock(self, page: "_Page") -> None:
        work = Unlocking(self._agent, [self._key])
        work.run(page, granting=self._granting)

    def _agent(self) -> Agent:
        return Agent.open(self._home, start=False, seconds=AGENT_SECONDS)

    def _wait_until_cached(self) -> None:
        """gpg-agent caches what it was given only after BYE; that must not come after ours, and take its place."""
        until = boottime() + CACHED_SECONDS
        while boottime() < until:
            try:
                with self._agent() as agent:
                    known = keys.agent_key(agent, self._key.grip)
            except UnlatchError:
                return
            if known is not None and known.cached:
                return
            time.sleep(_LOOK_EVERY)


class _Page:
    """The person behind a question that was already put (:class:`unlatch.frontends.asking.Person`)."""

    def __init__(self, asker: Asker, question: Question, seconds: int) -> None:
        self._asker = asker
        self._question = question
        self._seconds = seconds

    def ask(self, wanted: Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:  # noqa: ARG002  # as it was put
        """The answer that comes; after a wrong one, that to the next question."""
        if self._question.answer is not None:
            self._ask_again(wanted)
        answer = self._asker.wait(self._question)
        assert not isinstance(answer, int)  # no descriptor was given to watch
        if answer.answer == "no":
            self.judge(Verdict("denied"))
            raise Denied
        if answer.secret is None or not answer.keep:
            self.judge(Verdict("failed", NOT_KEPT))
            raise _NotAgreed
        return answer.secret

    def judge(self, verdict: Verdict) -> None:
        """Tell the page, and until when if it is kept."""
        if verdict.outcome == "accepted":
            until = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + self._seconds))
            verdict = verdict._replace(text=f"gpg-agent keeps it until {until}.")
        self._asker.verdict(self._question, verdict)

    def close(self) -> None:
        """The dialogue ends with the process."""

    def __enter__(self) -> "_Page":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask_again(self, wanted: Wanted) -> None:
        before = self._question
        left = 0 if before.deadline is None else max(1, round(before.deadline - boottime()))
        prompt = before.prompt._replace(error=wanted.error, attempt=wanted.attempt)
        self._question = self._asker.put(prompt, coalesce=before.coalesce, seconds=left, after=before)
        self._asker.orphan(self._question)


def detach(go_on: Callable[[], None]) -> None:
    """Have a child do this: its own session, nothing of gpg-agent's open, and nobody waits for it."""
    if os.fork():
        return
    code = 1
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        go_on()
        code = 0
    finally:
        os._exit(code)  # nothing of the parent's is ended a second time
