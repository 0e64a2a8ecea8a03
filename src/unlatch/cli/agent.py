"""``unlatch agent``: what the units of the one agent need; people need ``unlatch env``."""

import os
import pwd

import click

from unlatch.cli import voice
from unlatch.gnupg.homes import Home


@click.group(short_help="What unlatch-agent@.service needs.")
def command() -> None:
    """See to it that each GnuPG home has one gpg-agent."""


@command.command()
def own() -> int:
    """Lead GnuPG to the agent that unlatch-agent@USER.service owns, and end any other agent of this home."""
    from unlatch.gnupg import owning

    home = Home.find(os.environ, os.getuid(), os.path.expanduser("~"))
    if not os.path.exists(home.owned()):
        name = pwd.getpwuid(os.getuid()).pw_name
        voice.fail(
            f"no unit owns the gpg-agent of {voice.clean(name)}",
            f'run "systemctl enable --now unlatch-agent@{voice.clean(name)}.service" as root',
        )
    for done in owning.own(home):
        voice.tell(voice.clean(done))
    return voice.OK
