"""The lines of gpg-agent.conf that unlocking needs: written with ``--configure``, else told."""

from unlatch.cli import voice
from unlatch.cli.key_home import conf_of
from unlatch.gnupg import keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.granting import Capped
from unlatch.gnupg.grants import LONGEST
from unlatch.gnupg.homes import Home
from unlatch.setup import agent_conf, files

PRESET = "allow-preset-passphrase"
TTL = "max-cache-ttl"


def needed(seconds: int | None, limits: keys.Limits) -> dict[str, str]:
    """What gpg-agent.conf must say for a grant of so many seconds (0: as long as the agent lives; None: whatever)."""
    wanted = {PRESET: ""}
    if seconds is not None:
        wanted[TTL] = str(max(limits.max_cache_ttl, seconds or LONGEST))
    return wanted


def configure(agent: Agent, home: Home, seconds: int | None) -> None:
    """Write them, and have the agent read them, which makes it forget what it keeps. Nothing happens if all are there.

    Raises:
        NotPlain, Changed, OSError: the file cannot be changed.
        Unreadable: nobody knows what it says now.
    """
    path = f"{home.directory}/gpg-agent.conf"
    before = files.look(path)
    wanted = needed(seconds, keys.limits(home))
    edited = agent_conf.edit(before.data, wanted)
    if edited == before.data and is_allowed(agent):
        return
    new = files.FileState("file", edited, before.mode if before.kind == "file" else 0o600)
    files.put(path, before, new)
    agent.ask("RELOADAGENT")
    voice.tell(f"{conf_of(home)} now says {as_lines(wanted)}; gpg-agent was reloaded, which locked every key")


def is_allowed(agent: Agent) -> bool:
    """Whether this agent lets passphrases be preset; it read its file when it started, or when it was reloaded."""
    try:
        keys.check_allowed(agent)
    except keys.NotAllowed:
        return False
    return True


def capped(error: Capped, home: Home) -> voice.Problem:
    """What to say when gpg-agent.conf ends a grant before its time."""
    lines = needed(error.wanted, keys.Limits(error.max_cache_ttl))
    wanted = voice.duration(error.wanted) if error.wanted else "until the next boot"
    return voice.Problem(
        f"gpg-agent would not keep it {f'for {wanted}' if error.wanted else wanted}: "
        f"capped by {TTL} = {error.max_cache_ttl} s",
        f"{conf_of(home)} must say {as_lines(lines)}",
        '"unlatch key unlock --configure" with the same --for writes that; "gpgconf --reload gpg-agent" makes it count',
    )


def as_lines(options: dict[str, str]) -> str:
    """Options as they stand in the file, in a sentence."""
    return " and ".join(f'"{f"{name} {value}".strip()}"' for name, value in options.items())
