"""``unlatch key lock``: gpg-agent forgets keys now."""

import click

from unlatch.cli import voice
from unlatch.cli.key_home import describe, explain, find_home, records_of
from unlatch.errors import UnlatchError
from unlatch.gnupg import keys, locking
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import NoAgent


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
            locking.forget(agent, locking.Place(home, records_of(home)), found)
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
