"""``unlatch key wait``: the gate for services. It blocks until keys are unlocked, and rings once for all who wait."""

import time

import click

from unlatch.cli import persons, voice
from unlatch.cli.key_home import describe, explain, find_home, may_start, open_agent, records_of, user_name, word_for
from unlatch.cli.key_unlock import explain_unlocking, until_text
from unlatch.cli.spans import Span
from unlatch.errors import Expired, UnlatchError
from unlatch.frontends.asking import Moot
from unlatch.gnupg import gate, keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import NoAgent
from unlatch.gnupg.granting import Granting
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import HomeKey
from unlatch.gnupg.unlocking import Unlocking, is_unlocked


@click.command(
    short_help="Block until keys are unlocked: the gate for services.",
    epilog="""\b
Example, for ten services that all start at boot and need one key:
  ExecStartPre=/usr/bin/unlatch key wait 98E9FED71D711BDD

\b
Exit codes: 0 unlocked, 1 an error, 2 wrong usage, 3 wrong passphrase,
4 denied, or the time is over.
""",
)
@click.option(
    "--seconds", "patience", metavar="N", type=click.IntRange(1), help="How long to wait; without it, for ever."
)
@click.option("--no-ring", is_flag=True, help="Ring nobody; wait for somebody else to unlock them.")
@click.option(
    "--for", "seconds", metavar="TIME", type=Span(or_reboot=True), help="How long they stay unlocked, as of key unlock."
)
@click.option("--reason", metavar="TEXT", default="", help="One more line for the page: why this is asked.")
@click.argument("whats", metavar="[KEY...]", nargs=-1)
def wait(patience: int | None, no_ring: bool, seconds: int | None, reason: str, whats: tuple[str, ...]) -> int:
    """Block until every KEY can be used without asking, proved by a signature or decryption; without KEY, all keys that
    are in files.

    Somebody is rung, once for all who wait for the same key. Nobody here stands in gpg-agent's queue, where clients die
    after a minute. A link that expired unanswered is followed by another, until the time is over.
    """
    home = find_home()
    until = time.monotonic() + patience if patience is not None else float("inf")
    granting = Granting(home, records_of(home), seconds, user=user_name())
    try:
        wanted, limits = _look(home, whats, None if no_ring else granting, until)
        with gate.Watch(lambda: Agent.open(home, start=False), [key.grip for key in wanted]) as watch:
            if no_ring and not watch.wait(until - time.monotonic()):
                raise _over(wanted)
            if wanted and not no_ring:
                work = Unlocking(lambda: open_agent(home), wanted, until=until_text(seconds, limits))
                _ring(work, granting, watch, until, reason)
    except (UnlatchError, OSError) as error:
        raise explain_unlocking(error, home) from None
    return voice.OK


def _look(
    home: Home, whats: tuple[str, ...], granting: Granting | None, until: float
) -> tuple[list[HomeKey], keys.Limits]:
    """The keys that are locked. Without ``granting`` nobody will be asked, and nothing else need be in order."""
    with _agent(home, until) as agent:
        found = keys.find(agent, home, whats)
        on_card = [key for key in found if not key.in_software]
        if not whats:
            found = [key for key in found if key.in_software]
        if not found:
            voice.fail("there are no secret keys here to wait for", '"unlatch key list" shows what gpg-agent has')
        if whats and on_card:
            voice.fail(
                f"{describe(on_card[0])} is on a card", 'services wait for a card with "unlatch card unlock --wait"'
            )
        wanted = [key for key in found if not is_usable(agent, key)]
        limits = keys.limits(home) if wanted and granting is not None else keys.Limits()
        if wanted and granting is not None:
            granting.check(agent, limits)
        return wanted, limits


def is_usable(agent: Agent, key: HomeKey) -> bool:
    """Whether a key can be used now without asking, proved."""
    return key.agent.protection == "C" or is_unlocked(agent, key.grip)


def _agent(home: Home, until: float) -> Agent:
    """The home's agent. Where none may be started, at boot, it is waited for like everything else."""
    told = False
    while True:
        try:
            return open_agent(home)
        except NoAgent as error:
            if may_start() or time.monotonic() > until:
                raise
            if not told:
                problem = explain(error, home)
                voice.tell(f"{problem.text}; waiting for one")
                voice.tell(f"hint: {problem.hints[0]}")
                told = True
        time.sleep(gate.INTERVAL)


def _ring(work: Unlocking, granting: Granting, watch: gate.Watch, until: float, reason: str) -> None:
    """Ask until they are unlocked, by whomever, or the time is over."""
    choice = persons.Choice(from_stdin=False, at_tty=False, reason=reason, timeout=0)
    while True:
        left = until - time.monotonic()
        seconds = 0 if left == float("inf") else max(1, round(left))
        try:
            with persons.person(choice, "unlatch key wait", moot=watch.descriptor) as person:
                work.run(person, granting=granting, seconds=seconds)
        except Moot:
            return
        except Expired:
            if time.monotonic() + 1 < until:
                continue  # the broker's own limit for a link
            raise _over(work.locked) from None
        return


def _over(locked: list[HomeKey]) -> voice.Problem:
    names = ", ".join(map(describe, locked))
    words = " ".join(dict.fromkeys(map(word_for, locked)))
    return voice.Problem(
        f"the time is over, and still locked: {names}", f'run "unlatch key unlock {words}"', code=voice.OVER
    )
