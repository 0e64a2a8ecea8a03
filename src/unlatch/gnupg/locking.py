"""End grants now: the agent forgets every passphrase, and cards every PIN that was verified.

A kind of grant is a function that ends all of its grants in one GnuPG home and tells what became of each
(:data:`KINDS` of cli/lock.py lists them). It raises nothing for what it cannot lock: that is told, and the other kinds
have their turn.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from typing import NamedTuple

from unlatch.errors import UnlatchError
from unlatch.gnupg import card_access, ending, keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card import UNLOCKED, is_openpgp, number_of, tells_status
from unlatch.gnupg.card_errors import Empty, HeldByAnother, Hung, NoDaemon, NoReader, Occupied, Unused
from unlatch.gnupg.children import children_of
from unlatch.gnupg.errors import BrokenPipe, CardDaemonEnded, GpgError, NoAgent, TwoAgents
from unlatch.gnupg.grants import Records
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import HomeKey
from unlatch.gnupg.reading import Unreadable

_REFERENCES = (0x81, 0x82, 0x83)  # PW1 for signing, PW1 for the rest, PW3 (OpenPGP card 3.4, 7.2.2)
_VERIFIED = b"\x90\x00"
_PATIENCE = 2.0  # seconds for an agent to answer at all
# Nothing that could be unlocked: no card, none that this agent has, or a scdaemon that has just begun.
_NO_CARD = (NoReader, Empty, HeldByAnother, Unused, NoDaemon, BrokenPipe, CardDaemonEnded)


class Locked(NamedTuple):
    """What became of one grant. ``trouble`` is None when it is over."""

    what: str
    trouble: Exception | None = None


class Place(NamedTuple):
    """Where grants are looked for."""

    home: Home
    records: Records


def agents(home: Home) -> list[Agent]:
    """Every agent of this home that lives: whoever locks must not stop because there are two.

    Raises:
        AgentTrouble: one of them cannot be reached.
    """
    try:
        return [Agent.open(home, start=False, seconds=_PATIENCE)]
    except NoAgent:
        return []
    except TwoAgents as two:
        return [Agent.at(live.socket, home.uid, seconds=_PATIENCE) for live in (two.right, two.wrong)]


def lock_keys(place: Place) -> list[Locked]:
    """Keys in software, and whatever else the agents' caches hold."""
    return _in_each(place, "the keys of gpg-agent", _lock_keys)


def lock_cards(place: Place) -> list[Locked]:
    """Cards whose PIN is verified, as far as an agent's scdaemon can reach them."""
    return _in_each(place, "cards", _lock_cards)


def forget(agent: Agent, place: Place, found: list[HomeKey]) -> None:
    """Lock these keys, and take back whatever would have ended their grants later."""
    scheduled = set()
    for key in found:
        keys.clear(agent, key.grip)
        grant = place.records.read(key.grip)
        scheduled.add(grant.scheduled if grant is not None else "")
        place.records.forget(key.grip)
    for name in scheduled - {""}:
        if not place.records.mention(name):
            ending.cancel(place.home.uid, name)


def _in_each(place: Place, what: str, lock: Callable[[Agent, Place], list[Locked]]) -> list[Locked]:
    done: list[Locked] = []
    try:
        found = agents(place.home)
    except (UnlatchError, OSError) as error:
        return [Locked(what, error)]
    for agent in found:
        try:
            with agent:
                done += lock(agent, place)
        except (UnlatchError, OSError) as error:  # the other agent has its turn
            done.append(Locked(what, error))
    return done


def _lock_keys(agent: Agent, place: Place) -> list[Locked]:
    known = [HomeKey(key) for key in keys.agent_keys(agent)]
    cached = {key.grip for key in known if key.agent.cached}
    # First of all, as what comes then asks gpg and systemd, which may take their time. It forgets what has no keygrip,
    # too: passphrases of files, and those that were verified a moment ago.
    agent.ask("RELOADAGENT")
    with contextlib.suppress(Unreadable):  # then they have no names
        known = keys.find(agent, place.home, ())
    forget(agent, place, [key for key in known if key.in_software])
    left = {key.grip for key in keys.agent_keys(agent) if key.cached}
    return [Locked(_called(key), StillCached() if key.grip in left else None) for key in known if key.grip in cached]


class StillCached(UnlatchError):
    """The agent was told to forget, and has not."""

    def __init__(self) -> None:
        super().__init__("gpg-agent still has its passphrase")


class StillVerified(UnlatchError):
    """The card takes commands without its PIN, although its daemon was ended: another program keeps it powered."""

    def __init__(self) -> None:
        super().__init__("another program keeps the card powered, and so its PIN verified")


def _called(key: HomeKey) -> str:
    return f"{key.name} ({key.certified.key_id})" if key.certified is not None else key.name


# Cards


def _lock_cards(agent: Agent, _place: Place) -> list[Locked]:
    try:
        agent.ask("GETINFO scd_running")
    except GpgError:
        return []  # without a daemon nobody has verified anything for this agent
    try:
        verified = [aid for aid in _cards(agent) if _is_verified(agent, aid)]
    except (Hung, Occupied) as trouble:
        return [_end_daemon(agent, trouble)]
    except _NO_CARD:
        return []
    except UnlatchError:
        # Nobody knows what the card would do now. It is told, and what can be done is done.
        with contextlib.suppress(UnlatchError):
            card_access.renew(agent)
        raise
    if not verified:
        return []
    for aid in verified:
        _clear(agent, aid)
    left = [aid for aid in verified if _is_verified(agent, aid)]
    if left:
        card_access.renew(agent)
        present = _cards(agent)
        left = [aid for aid in left if aid in present and _is_verified(agent, aid)]
    return [Locked(f"card {number_of(aid)}", StillVerified() if aid in left else None) for aid in verified]


def _cards(agent: Agent) -> list[str]:
    return [aid for aid in card_access.present(agent) if is_openpgp(aid)]


def _is_verified(agent: Agent, aid: str) -> bool:
    """Whether the card would do anything now for which it wants a PIN; asked of the card, without spending a try."""
    card_access.demand(agent, aid)
    with card_access.troubles(agent):
        if not tells_status(aid):
            return card_access.state_of(agent, aid).state == UNLOCKED
        return any(
            agent.ask(f"SCD APDU 002000{reference:02x}", seconds=card_access.QUICK_SECONDS)[-2:] == _VERIFIED
            for reference in _REFERENCES
        )


def _clear(agent: Agent, aid: str) -> None:
    """What scdaemon 2.4 can: end the verified state without ending itself. 2.2 knows no such option."""
    card_access.demand(agent, aid)
    for number in (1, 2, 3):
        with contextlib.suppress(GpgError):
            agent.ask(f"SCD PASSWD --clear OPENPGP.{number}", seconds=card_access.QUICK_SECONDS)


def _end_daemon(agent: Agent, trouble: Hung | Occupied) -> Locked:
    """A daemon that does not answer, or waits for a person, is ended: a card that nobody holds is reset by pcscd."""
    daemons = [child.pid for child in children_of(agent.pid) if child.name == "scdaemon"]
    if not daemons:
        return Locked("cards", trouble)
    for pid in daemons:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return Locked("the card whose scdaemon did not answer")
