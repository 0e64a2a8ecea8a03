"""``unlatch key lock``: gpg-agent forgets keys now."""

import os

import click

from unlatch.cli import voice
from unlatch.cli.key_home import describe, explain, find_home, user_home
from unlatch.errors import UnlatchError
from unlatch.gnupg import ending, keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import NoAgent
from unlatch.gnupg.grants import Records
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import HomeKey


@click.command(
    short_help="Have gpg-agent forget keys now.",
    epilog="""\b
Example:
  $ unlatch key lock backup@db01.example
""",
)
@click.argument("whats", metavar="[KEY...]", nargs=-1)
def lock(whats: tuple[str, ...]) -> int:
    """Have gpg-agent forget the passphrase of each KEY now, however it came to know it; without KEY, of all.

    "unlatch lock" also locks cards, and everything else that was granted.
    """
    home = find_home()
    try:
        with Agent.open(home, start=False) as agent:
            found = [key for key in keys.find(agent, home, whats) if key.in_software]
            forget(agent, home, found)
            left = [key for key in keys.find(agent, home, whats) if key.agent.cached]
    except NoAgent:
        voice.say("no gpg-agent is running; nothing is unlocked")
        return voice.OK
    except (UnlatchError, OSError) as error:
        raise explain(error, home) from None
    for key in (key for key in found if key.agent.cached):
        voice.say(f"locked {describe(key)}")
    if not any(key.agent.cached for key in found):
        voice.say("nothing was unlocked")
    if left:
        voice.fail(f"gpg-agent still keeps {', '.join(map(describe, left))}", '"unlatch lock" ends everything')
    return voice.OK


def forget(agent: Agent, home: Home, found: list[HomeKey]) -> None:
    """Lock these keys, and take back whatever would have ended their grants later."""
    records = Records(home.directory, home.uid, os.environ, user_home())
    scheduled = set()
    for key in found:
        keys.clear(agent, key.grip)
        grant = records.read(key.grip)
        scheduled.add(grant.scheduled if grant is not None else "")
        records.forget(key.grip)
    for name in scheduled - {""}:
        if not records.mention(name):
            ending.cancel(home.uid, name)
