"""``unlatch card check``: will the card work now, without asking? It stands in front of jobs, so it is quick.

It never asks, never starts an agent, never spends a try, and answers within some seconds whatever hangs. What is only
needed to say why not is imported when there is something to say.
"""

import os

from unlatch.errors import UnlatchError
from unlatch.gnupg import card_access
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card import BLOCKED, UNLOCKED
from unlatch.gnupg.card_errors import Blocked, StillLocked, Touch
from unlatch.gnupg.homes import Home

SECONDS = 4.0  # an agent or a card that says nothing for so long will not serve a job either


def quickly(arguments: list[str]) -> int | None:
    """The exit code for arguments that need no parser: a serial number, and --sign. None for others."""
    wanted = [argument for argument in arguments if argument != "--sign"]
    if len(wanted) > 1 or any(word.startswith("-") for word in wanted):
        return None
    return check("".join(wanted), sign="--sign" in arguments)


def check(wanted: str, *, sign: bool) -> int:
    """Exit code 0 if the card will work now without asking; with ``sign``, if it also did just now.

    Raises:
        Problem: it will not, and why.
    """
    home = Home.find(os.environ, os.geteuid(), _user_home())
    try:
        with Agent.open(home, start=False, seconds=SECONDS) as agent:
            aid = card_access.select(agent, wanted, patient=False, seconds=SECONDS)
            _check_state(agent, aid)
            if sign:
                card_access.prove(agent, aid)
    except (UnlatchError, OSError) as error:
        from unlatch.cli.card_words import explain_check

        raise explain_check(error, home, wanted) from None
    return 0


def _check_state(agent: Agent, aid: str) -> None:
    state = card_access.state_of(agent, aid, seconds=SECONDS)
    if state.state == BLOCKED:
        status = card_access.status_of(agent)
        raise Blocked(aid, status.reset, status.admin)
    if state.state != UNLOCKED:
        raise StillLocked(aid, lying=state.lying)
    if card_access.wants_touch(agent, seconds=SECONDS):
        raise Touch(aid, "authenticate")


def _user_home() -> str:
    if "HOME" in os.environ:
        return os.environ["HOME"]
    from unlatch.cli.key_home import user_home

    return user_home()
