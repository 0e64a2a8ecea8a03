"""``unlatch key check``: is a key usable now, without asking anybody? It stands in front of jobs, so it is quick."""

from collections.abc import Iterable

from unlatch.cli import voice
from unlatch.cli.key_home import describe, explain, find_home, word_for
from unlatch.errors import UnlatchError
from unlatch.gnupg import keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import NoAgent
from unlatch.gnupg.keyring import HomeKey

SECONDS = 5.0  # an agent that says nothing for so long will not serve a job either


def quickly(arguments: list[str]) -> int | None:
    """The exit code for arguments that need no parser: keys, and --sign. None for others."""
    whats = [argument for argument in arguments if argument != "--sign"]
    if not whats or any(what.startswith("-") or "://" in what for what in whats):
        return None
    try:
        return check(tuple(whats), sign="--sign" in arguments)
    except voice.Problem as problem:
        voice.complain(problem)
        return problem.code


def check(whats: tuple[str, ...], *, sign: bool) -> int:
    """Exit code 0 if all these keys can be used without asking; with ``sign``, if they also were just now.

    Raises:
        Problem: they cannot, and why.
    """
    home = find_home()
    try:
        with Agent.open(home, start=False, seconds=SECONDS) as agent:
            found = keys.find(agent, home, whats, named=False)
            locked = [key for key in found if not key.usable]
            wrong = [key for key in found if sign and not locked and not keys.works_unasked(agent, key.grip)]
    except NoAgent:
        raise _locked_problem("no gpg-agent runs, so no key is unlocked", whats) from None
    except (UnlatchError, OSError) as error:
        raise explain(error, home) from None
    if locked:
        raise _locked(locked)
    if wrong:
        text = f"gpg-agent has a passphrase that does not work for {', '.join(map(describe, wrong))}"
        raise _locked_problem(text, map(word_for, wrong))
    return voice.OK


def _locked(locked: list[HomeKey]) -> voice.Problem:
    cards = [key for key in locked if not key.in_software]
    if cards:
        number = f" {cards[0].agent.serial}" if cards[0].agent.serial else ""
        return voice.Problem(f"this key is on a card: {describe(cards[0])}", f'run "unlatch card check{number}"')
    return _locked_problem(f"locked: {', '.join(map(describe, locked))}", map(word_for, locked))


def _locked_problem(text: str, words: Iterable[str]) -> voice.Problem:
    command = " ".join(["unlatch key unlock", *dict.fromkeys(map(voice.clean, words))])
    return voice.Problem(text, f'run "{command}"', code=voice.LOCKED)
