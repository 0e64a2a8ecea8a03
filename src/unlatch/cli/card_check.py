"""``unlatch card check``: will the card work now, without asking? It stands in front of jobs, so it is quick.

It never asks, never starts an agent, never spends a try, and answers within some seconds whatever hangs.
"""

from unlatch.cli import voice
from unlatch.cli.card_words import explain
from unlatch.cli.key_home import find_home
from unlatch.errors import UnlatchError
from unlatch.gnupg import card_access
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card import BLOCKED, UNLOCKED, number_of
from unlatch.gnupg.card_errors import Blocked, StillLocked, Touch
from unlatch.gnupg.errors import BrokenPipe, Cancelled, CardDaemonEnded, NoAgent

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
    home = find_home()
    try:
        with Agent.open(home, start=False, seconds=SECONDS) as agent:
            aid = card_access.select(agent, wanted, patient=False, seconds=SECONDS)
            _check_state(agent, aid)
            if sign:
                card_access.prove(agent, aid)
    except NoAgent:
        raise _locked("no gpg-agent runs, so no card is unlocked", wanted) from None
    except (BrokenPipe, CardDaemonEnded):
        raise _locked("scdaemon was just restarted, so no card is unlocked", wanted) from None
    except Cancelled:
        hint = 'its signature PIN is forced: "gpg --card-edit", "admin", "forcesig" switches that off'
        raise voice.Problem("the card would ask for its PIN to sign", hint, code=voice.LOCKED) from None
    except (UnlatchError, OSError) as error:
        raise explain(error, home) from None
    return voice.OK


def _check_state(agent: Agent, aid: str) -> None:
    state = card_access.state_of(agent, aid, seconds=SECONDS)
    if state.state == BLOCKED:
        status = card_access.status_of(agent)
        raise Blocked(aid, status.reset, status.admin)
    if state.state != UNLOCKED:
        raise StillLocked(aid, lying=state.lying)
    if card_access.wants_touch(agent, seconds=SECONDS):
        raise Touch(aid, "authenticate")


def _locked(text: str, wanted: str) -> voice.Problem:
    command = f"unlatch card unlock {voice.clean(number_of(wanted))}".strip()
    return voice.Problem(text, f'run "{command}"', code=voice.LOCKED)
