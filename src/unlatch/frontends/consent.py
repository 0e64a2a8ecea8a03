"""How commands ask a person for a yes, or show a notice: on the phone only.

A yes needs more than the link: two digits that only the asking session shows, where it has a terminal. Where it has
none, only end-to-end notifiers may carry the link (the broker's rule, DESIGN "The link and the seal").
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from unlatch import runtime
from unlatch.ask import Asker, Question
from unlatch.errors import Denied, Refused
from unlatch.frontends import terminal
from unlatch.frontends.asking import asking_process, rule_for
from unlatch.prompt import Answer, AskerInfo, Prompt, Verdict
from unlatch.secret import Secret
from unlatch.words import match_words


class Matter(NamedTuple):
    """What a yes is wanted for; ``kind`` is "confirm", or "notice", which has only an OK."""

    title: str
    text: str = ""
    ok: str = ""
    notok: str = ""
    kind: str = "confirm"


class Consent:
    """Asks with the rules of unlatch.toml. ``command`` is what the page calls us."""

    def __init__(
        self,
        *,
        command: str,
        uid: int,
        environ: Mapping[str, str],
        home: str,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._command = command
        self._uid = uid
        self._environ = environ
        self._home = home
        self._random = random

    def ask(self, matter: Matter, watched: tuple[int, ...] = ()) -> bool:
        """Whether the person said yes; False for a no, and when one of ``watched`` became readable before an answer.

        Raises:
            Expired, Withdrawn, Refused, NoBroker
        """
        who = asking_process(self._command, self._environ)
        if rule_for(who, None, uid=self._uid, environ=self._environ) == "tty":
            raise Refused("rule", "a rule sends this prompt to a terminal, and a yes is asked on the phone only")
        places = runtime.candidates(self._uid, self._environ, self._home)
        asker = Asker(places, uid=self._uid, environ=self._environ, random=self._random)
        asker.open()
        try:
            return self._put(asker, matter, who, watched)
        except Denied:
            return False
        finally:
            asker.close()

    def _put(self, asker: Asker, matter: Matter, who: AskerInfo, watched: tuple[int, ...]) -> bool:
        digits = f"{int.from_bytes(self._random(8)) % 100:02}"
        shown = matter.kind == "confirm" and terminal.show_digits(who.tty, digits, self._uid)
        prompt = Prompt(
            kind=matter.kind,
            title=matter.title,
            text=matter.text,
            ok=matter.ok,
            notok=matter.notok,
            digits=shown,
            words=match_words(self._random),
            asked=int(time.time()),
            asker=who,
        )
        question = asker.put(prompt)
        answer = asker.wait(question, watched)
        if not isinstance(answer, Answer):
            asker.withdraw(question, "gone")
            return False
        return self._judge(asker, question, answer, digits if shown else "")

    def _judge(self, asker: Asker, question: Question, answer: Answer, digits: str) -> bool:
        yes = answer.answer == "yes"
        right = not digits or Secret(answer.digits.encode()) == Secret(digits.encode())
        if yes and right:
            asker.verdict(question, Verdict("accepted"))
            return True
        asker.verdict(question, Verdict("denied", "The digits were wrong." if yes else ""))
        return False
