"""``unlatch card watch``: be rung once when a card was locked again."""

import os
import time
from typing import NoReturn

import click

from unlatch.broker import systemd
from unlatch.cli import persons, voice
from unlatch.cli.card_words import explain
from unlatch.cli.key_home import find_home, open_agent
from unlatch.errors import Refused, UnlatchError
from unlatch.frontends import asking
from unlatch.gnupg import card_unlock
from unlatch.gnupg.card_watch import DONE, outcome_of
from unlatch.gnupg.card_watcher import Watcher
from unlatch.gnupg.homes import Home
from unlatch.prompt import Verdict
from unlatch.secret import Secret, forbid_core_dumps

COMMAND = "unlatch card watch"


@click.command(
    short_help="Ring once when a card was locked again.",
    epilog="""\b
Example:
  $ unlatch card watch 12345678

\b
It runs until it is ended. Exit codes: 1 an error, 2 wrong usage or several cards.
""",
)
@click.option(
    "--every",
    metavar="SECONDS",
    type=click.IntRange(1, 3600),
    default=60,
    help="How often to look when nothing happened.  [default: 60]",
)
@click.option("--timeout", metavar="SECONDS", type=click.IntRange(0, 604_800), default=0, help=persons.TIMEOUT_HELP)
@click.argument("serial", metavar="[SERIAL]", default="")
def watch(every: int, timeout: int, serial: str) -> NoReturn:
    """Watch a card and ring once when it was unlocked and is locked: it was pulled out and put back, scdaemon, pcscd or
    gpg-agent was restarted, or another program reset it.

    Nobody is rung for a card that was locked from the beginning: "unlatch card unlock" does that, at boot. While a rule
    of unlatch.toml refuses, such as one with hours, it waits, and rings when the rule allows it, if the card is still
    locked then.
    """
    forbid_core_dumps()
    home = find_home()

    def ask(aid: str, reason: str, moot: int) -> int:
        return _unlock(home, aid, persons.Choice(False, False, reason, timeout), moot)

    watcher = Watcher(
        lambda: open_agent(home),
        serial,
        every=every,
        refusal=_refusal,
        ask=ask,
        tell=lambda text: voice.tell(voice.clean(text)),
        clock=time.monotonic,
    )
    try:
        watcher.run(lambda: systemd.tell(os.environ, "READY=1"))
    except (UnlatchError, OSError) as error:
        raise explain(error, home) from None
    raise AssertionError("a watch has no end")


def _refusal() -> str:
    """Why the rules would refuse to ring now."""
    who = asking.asking_process(COMMAND, os.environ)
    try:
        asking.rule_for(who, None, uid=os.geteuid(), environ=os.environ)
    except Refused as refused:
        return refused.text
    return ""


def _unlock(home: Home, aid: str, choice: persons.Choice, moot: int) -> int:
    """Ask and unlock, in the child process; what happened is told here, and its outcome handed on."""
    answers: list[bool] = []
    try:
        with persons.person(choice, COMMAND, moot=moot) as person:
            visit = card_unlock.visits(lambda: open_agent(home), aid, home.directory)
            card_unlock.unlock(visit, _Heard(person, answers), seconds=choice.timeout)
    except Exception as error:
        voice.complain(explain(error, home))
        return outcome_of(error, answered=bool(answers))
    return DONE


class _Heard:
    """The person, and a note of each answer that came."""

    def __init__(self, person: asking.Person, answers: list[bool]) -> None:
        self._person = person
        self._answers = answers

    def ask(self, wanted: asking.Wanted, *, coalesce: str = "", seconds: int = 0) -> Secret:
        """See :class:`unlatch.frontends.asking.Person`."""
        secret = self._person.ask(wanted, coalesce=coalesce, seconds=seconds)
        self._answers.append(True)
        return secret

    def judge(self, verdict: Verdict) -> None:
        """See :class:`unlatch.frontends.asking.Person`."""
        self._person.judge(verdict)

    def close(self) -> None:
        """See :class:`unlatch.frontends.asking.Person`."""
        self._person.close()

    def __enter__(self) -> "_Heard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
