"""The rehearsal with a key in software. Everything here but ``judge_*`` runs as the asking user.

The unlocking is gpg's own, in the environment of a bare service: gpg asks gpg-agent, that starts pinentry-unlatch, and
the broker rings.
"""

import os
import re
import subprocess
import time
from typing import NamedTuple

from unlatch.cli.voice import duration
from unlatch.doctor.check import Finding, Situation, command, ok, problem
from unlatch.errors import UnlatchError
from unlatch.gnupg import keys, locking
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import GpgError
from unlatch.gnupg.grants import Records
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import HomeKey

DECRYPT, SIGN, AGENT = "decrypt", "sign", "agent"
# What the process says that ran as the user: names of exceptions, of which this makes sentences.
WHY = {
    "Forbidden": "its gpg-agent is a restricted one, of another host",
    "Gone": "gpg-agent ended",
    "NoAgent": "gpg-agent ended",
    "NoReply": "gpg-agent does not answer",
    "TwoAgents": "two gpg-agents run",
    "Unreadable": "gpg cannot list the keys",
    "Untrusted": "somebody else's process answers in place of gpg-agent",
}
NONCE = 32  # bytes
_GPG = ("gpg", "--batch", "--no-tty", "--quiet", "--status-fd", "2")
_OWN = ("--no-options", "--no-encrypt-to", "--trust-model", "always")
_FAILURE = re.compile(rb"^\[GNUPG:\] FAILURE \S+ (\d{1,10})$", re.MULTILINE)
_SAID = {99: "somebody said no", 62: "nobody answered in time", 11: "the passphrase was wrong three times"}


class Target(NamedTuple):
    """What is rehearsed. ``error`` is the name of what is in the way; ``serial`` is that of a card that has the key.

    ``use`` is one of DECRYPT, SIGN (by gpg, with the key of this ``fingerprint``) and AGENT (gpg knows no such key).
    ``grips`` are locked, ``grip`` is used. ``granted``: by ``unlatch key unlock --for``, with an end of its own.
    """

    error: str
    name: str
    use: str
    grip: str
    grips: tuple[str, ...]
    fingerprint: str
    serial: str
    unlocked: bool
    granted: bool


NOTHING = Target("", "", "", "", (), "", "", False, False)


def find(situation: Situation, what: str) -> Target:
    """Which key is meant, and what can be done with it."""
    home = _home(situation)
    try:
        with Agent.open(home, start=False) as agent:
            found = keys.find(agent, home, (what,))
            unlocked = any(key.agent.cached for key in found)
    except UnlatchError as error:
        return NOTHING._replace(error=type(error).__name__)
    ours = [key for key in found if key.in_software]
    if not ours:
        return NOTHING._replace(error="OnCard", serial=found[0].agent.serial)
    use, key = _choose(ours)
    if key.agent.protection == "C":
        return NOTHING._replace(error="NoPassphrase", name=key.name[:100])
    records = _records(situation, home)
    return Target(
        error="",
        name=key.name[:100],
        use=use,
        grip=key.grip,
        grips=tuple(each.grip for each in ours),
        fingerprint=key.certified.fingerprint if key.certified is not None else "",
        serial="",
        unlocked=unlocked,
        granted=any(records.read(each.grip) is not None for each in ours),
    )


def _choose(ours: list[HomeKey]) -> tuple[str, HomeKey]:
    """Decrypting is what most services do; what gpg would not use any more is left to the agent."""
    for use, letter in ((DECRYPT, "e"), (SIGN, "s")):
        for key in ours:
            good = key.certified is not None and not key.certified.state
            if good and key.certified is not None and letter in key.certified.uses:
                return use, key
    return AGENT, ours[0]


class Locked(NamedTuple):
    """``still``: the agent would use the key all the same."""

    error: str
    still: bool


def lock(situation: Situation, target: Target) -> Locked:
    """Have the agent forget the key, as ``unlatch key lock`` does, and see that it would ask now."""
    home = _home(situation)
    try:
        with Agent.open(home, start=False) as agent:
            found = [key for key in keys.find(agent, home, target.grips, named=False) if key.in_software]
            locking.forget(agent, locking.Place(home, _records(situation, home)), found)
            return Locked("", keys.works_unasked(agent, target.grip))
    except (UnlatchError, OSError) as error:
        return Locked(type(error).__name__, False)


class Used(NamedTuple):
    """``failure`` is libgpg-error's number when gpg told one; ``seconds`` how long it took."""

    worked: bool
    error: str
    failure: int
    seconds: float


def use(situation: Situation, target: Target, seconds: float) -> Used:
    """Use the key for something random: this asks the person. A program that takes longer than ``seconds`` is ended."""
    began = time.monotonic()
    try:
        worked, failure = _use(situation, target, seconds)
    except subprocess.TimeoutExpired:
        return Used(False, "Expired", 0, time.monotonic() - began)
    except (UnlatchError, OSError) as error:
        number = error.code if isinstance(error, GpgError) else 0
        return Used(False, type(error).__name__, number, time.monotonic() - began)
    return Used(worked, "", failure, time.monotonic() - began)


def use_again(situation: Situation, target: Target) -> Used:
    """Use it once more, now that nobody may be asked."""
    began = time.monotonic()
    try:
        with Agent.open(_home(situation), start=False) as agent:
            worked = keys.works_unasked(agent, target.grip)
    except (UnlatchError, OSError) as error:
        return Used(False, type(error).__name__, 0, time.monotonic() - began)
    return Used(worked, "", 0, time.monotonic() - began)


def _use(situation: Situation, target: Target, seconds: float) -> tuple[bool, int]:
    if target.use == AGENT:
        with Agent.open(_home(situation), start=False) as agent:
            keys.use(agent, target.grip, seconds=seconds)
            return True, 0

    def gpg(*words: str, feed: bytes) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [*_GPG, *words], input=feed, capture_output=True, check=False, timeout=seconds, cwd="/",
            env=dict(situation.environ),
        )  # fmt: skip

    nonce = os.urandom(NONCE)
    chosen = f"{target.fingerprint}!"
    if target.use == DECRYPT:
        sealed = gpg(*_OWN, "--encrypt", "--recipient", chosen, feed=nonce)
        opened = gpg("--decrypt", feed=sealed.stdout)
        return opened.stdout == nonce, _failure(opened.stderr)
    signed = gpg("--sign", "--local-user", chosen, "--output", "-", feed=nonce)
    checked = gpg(*_OWN, "--decrypt", feed=signed.stdout)
    valid = f"[GNUPG:] VALIDSIG {target.fingerprint} ".encode() in checked.stderr
    return checked.stdout == nonce and valid, _failure(signed.stderr)


def _failure(status: bytes) -> int:
    found = _FAILURE.search(status)
    return int(found[1]) & 0xFFFF if found else 0


def _records(situation: Situation, home: Home) -> Records:
    return Records(home.directory, home.uid, situation.environ, situation.home)


def _home(situation: Situation) -> Home:
    return Home.find(situation.environ, situation.uid, situation.home)


# What it means


def judge_target(target: Target, situation: Situation, what: str) -> Finding | None:
    """Why nothing can be rehearsed with it; None when all is well."""
    listing = situation.as_user("unlatch", "key", "list")
    match target.error:
        case "":
            return None
        case "NoAgent":
            unit = situation.as_root("systemctl", "enable", "--now", f"unlatch-agent@{situation.user}.service")
            return problem(f"no gpg-agent runs for {situation.gnupghome}: start it as it shall run", unit)
        case "NoPassphrase":
            text = f"{target.name} has no passphrase, so it is always unlocked"
            return problem(text, situation.as_user("gpg", "--edit-key", what, "passwd"))
        case "NotAKey" | "NoSuchKey":
            return problem(f"{situation.user} has no key or card {what}", listing)
        case other:
            return problem(f"the key cannot be looked at: {WHY.get(other, other)}", _examine(situation))


def judge_lock(locked: Locked, target: Target, situation: Situation) -> Finding:
    """Whether it is really locked: gpg-agent also tries the passphrase that last opened another key."""
    if locked.error:
        return problem(
            f"gpg-agent could not be made to forget it: {WHY.get(locked.error, locked.error)}", _examine(situation)
        )
    if locked.still:
        text = "it is forgotten, but gpg-agent still opens it: another unlocked key has the same passphrase"
        return problem(text, situation.as_user("unlatch", "key", "lock"))
    return ok(f"{target.name} is locked")


def judge_use(used: Used, target: Target, situation: Situation) -> Finding:
    """Whether a person was reached, and the program got what it wanted."""
    if used.worked:
        return ok(f"{_deed(target)}: rung, answered and unlocked within {duration(used.seconds)}")
    why = _SAID.get(used.failure & 0xFFFF, "")
    if used.error in ("Expired", "NoReply"):
        why = "nobody answered in time"
    # gpg says nothing but "No secret key" of a decryption that came to nothing.
    why = why or (
        WHY.get(used.error, used.error) if used.error else "denied, not answered in time, or three wrong passphrases"
    )
    text = f"not done after {duration(used.seconds)}: {why}. {target.name} stays locked"
    return problem(text, f"{command('unlatch', 'log', '--since', '10m')}\n{_unlock(target, situation)}")


def judge_again(used: Used, situation: Situation) -> Finding:
    """Whether the next service finds it unlocked."""
    if used.worked:
        return ok(f"used once more without asking anybody, in {used.seconds * 1000:.0f} ms")
    return problem("it worked once, but gpg-agent has not kept it: it asks again", _examine(situation, "cache-times"))


def _deed(target: Target) -> str:
    return {DECRYPT: "gpg decrypted a random text", SIGN: "gpg signed a random text"}.get(
        target.use, "gpg-agent used the key"
    )


def _unlock(target: Target, situation: Situation) -> str:
    return situation.as_user("unlatch", "key", "unlock", target.grip)


def _examine(situation: Situation, *names: str) -> str:
    user = ["--as", situation.user] if situation.caller != situation.uid else []
    return command("unlatch", "doctor", *user, *names)
