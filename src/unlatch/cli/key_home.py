"""What all ``unlatch key`` commands begin with: this user's GnuPG home, its agent, and what can go wrong, in words."""

import os
import pwd
import sys

from unlatch import origin
from unlatch.cli import voice
from unlatch.gnupg import errors, keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.grants import Records
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import HomeKey, NoSuchKey, NotAKey

FORMS = "a keygrip, a key id, a fingerprint (of GnuPG, or SHA256:... of ssh), or an address"


def user_home() -> str:
    """The user's home directory; one that does not exist for a uid without an account."""
    try:
        return os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/nonexistent"


def user_name() -> str:
    """What the user database calls us, or our uid."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def find_home() -> Home:
    """The home that GnuPG would use here."""
    return Home.find(os.environ, os.geteuid(), user_home())


def records_of(home: Home) -> Records:
    """Where the grants of a home are written down."""
    return Records(home.directory, home.uid, os.environ, user_home())


def may_start() -> bool:
    """Whether an agent may be started from here. In a service it would end with the service, and all grants with it."""
    system_unit, user_unit = origin.units_of(os.getpid())
    unit = user_unit or system_unit
    return sys.stdin.isatty() or not unit.endswith(".service") or unit.startswith("user@")


def open_agent(home: Home) -> Agent:
    """The home's agent, started if that may be; raises as :meth:`Agent.open` does."""
    return Agent.open(home, start=may_start())


def describe(key: HomeKey) -> str:
    """A key in a sentence."""
    name = voice.clean(key.name)
    detail = key.certified.key_id if key.certified is not None else key.grip
    return name if detail == name else f"{name} ({detail})"


def word_for(key: HomeKey) -> str:
    """What to type for a key on the command line of another command."""
    return key.certified.key_id if key.certified is not None else key.grip


def explain(error: Exception, home: Home) -> voice.Problem:
    """What to tell people about anything that went wrong with keys or with the agent."""
    text = voice.clean(str(error))
    match error:
        case NotAKey():
            return voice.Problem(text, f"accepted: {FORMS}", '"unlatch key list" lists them', code=voice.USAGE)
        case NoSuchKey():
            return voice.Problem(text, f'"unlatch key list" lists the secret keys of {voice.clean(home.directory)}')
        case errors.NoAgent():
            unit = f"systemctl enable --now unlatch-agent@{user_name()}.service"
            return voice.Problem(text, f'at every boot, as root: "{unit}"', 'once: "gpgconf --launch gpg-agent"')
        case errors.TwoAgents():
            return voice.Problem(text, f'end the one that GnuPG does not use now: "{error.command}"')
        case errors.NoReply():
            hint = f'"pkill -KILL -U {home.uid} -x gpg-agent" ends it, which locks every key'
            return voice.Problem(text, hint)
        case errors.Gone():
            return voice.Problem(text, "it was ended, or restarted; run the same command again")
        case errors.Forbidden():
            return voice.Problem(
                "this gpg-agent is restricted: it forbids to look at keys and to unlock them",
                "its socket is the extra one, forwarded from another host; unlock the key on that host",
            )
        case keys.NotAllowed():
            return voice.Problem(f"gpg-agent does not allow it: {error.option}", *lines_for(error.option, home))
        case keys.NotKept():
            return voice.Problem(
                "the passphrase is right, but gpg-agent asks all the same",
                f'a line "ignore-cache-for-signing" in {conf_of(home)} makes it ask for each signature; remove it',
            )
        case _:
            return voice.explain(error)


def lines_for(option: str, home: Home) -> tuple[str, ...]:
    """What to change in gpg-agent.conf so that this option does not stand in the way."""
    reload = '"gpgconf --reload gpg-agent" makes it read that; it also locks every key'
    if option.startswith("no-"):
        return f'remove the line "{option}" from {conf_of(home)}', reload
    return (
        '"unlatch key unlock --configure" writes what is missing, has gpg-agent read it, and unlocks',
        f'or by hand: add the line "{option}" to {conf_of(home)}; {reload}',
    )


def conf_of(home: Home) -> str:
    """The path of the agent's configuration, as text for people."""
    return voice.clean(f"{home.directory}/gpg-agent.conf")
