"""``unlatch env``: the variables with which a job finds the one agent, also when nobody is logged in."""

import os
import pwd
import shutil
import sys

import click

from unlatch.cli import voice
from unlatch.gnupg import environment, finding
from unlatch.gnupg.homes import Home

LINGER = "/var/lib/systemd/linger"  # logind's mark of users whose systemd runs from boot on
LOGIND = "/run/systemd/seats"  # there while logind runs


@click.command(
    short_help="Print the variables that lead jobs to gpg-agent.",
    epilog="""\b
Example: rsnapshot's ssh finds the agent, from cron too:
  $ unlatch env --shell crontab
  $ eval "$(unlatch env)"
""",
)
@click.option(
    "--shell", type=click.Choice(environment.SHELLS), default="sh", show_default=True, help="For whom to quote."
)
@click.option("--askpass", is_flag=True, help="Print those that make ssh, ssh-add, sudo and git ask us instead.")
def command(shell: str, askpass: bool) -> int:
    """Print SSH_AUTH_SOCK and what else a job needs to find this user's one gpg-agent, as constants."""
    if askpass:
        return _askpass(shell)
    user = _user()
    home = Home.find(os.environ, os.getuid(), os.path.expanduser("~"))
    found = environment.place(
        home,
        owned=any(map(finding.is_owned, finding.places(home))),
        lingers=os.path.exists(f"{LINGER}/{user}"),
        sessions=os.path.isdir(LOGIND),
        in_run=home.uses_run(),
    )
    kept = environment.KEEPERS[found.keeper].format(user=voice.clean(user))
    try:
        printed = environment.lines(shell, environment.variables(home, found, os.environ), f"the agent's place: {kept}")
    except environment.Unquotable as error:
        voice.fail(f"{error.name} holds characters that {shell} cannot carry", "move the home to a plainer path")
    voice.say("\n".join(printed))
    if found.keeper == "session":
        voice.tell(f"warning: {voice.clean(found.socket)} is {kept}")
        voice.tell(f'hint: run "systemctl enable --now unlatch-agent@{voice.clean(user)}.service" as root')
    return voice.OK


def _askpass(shell: str) -> int:
    """The variables of ssh(1), sudo(8) and gitcredentials(7) that name a program to ask with."""
    program = shutil.which("unlatch-askpass", path=f"{os.path.dirname(os.path.abspath(sys.argv[0]))}:{os.defpath}")
    if program is None:
        voice.fail("unlatch-askpass is not beside unlatch", "install Unlatch anew")
    values = dict.fromkeys(("SSH_ASKPASS", "SUDO_ASKPASS", "GIT_ASKPASS"), program)
    comment = "ssh, ssh-add, sudo -A and git ask on the phone"
    voice.say("\n".join(environment.lines(shell, values | {"SSH_ASKPASS_REQUIRE": "force"}, comment)))
    return voice.OK


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
