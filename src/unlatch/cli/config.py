"""``unlatch config check``: every mistake of unlatch.toml at once, or who is rung for whom."""

import os
import pwd
from collections.abc import Iterator

import click

from unlatch.cli import voice
from unlatch.config import Loaded, Settings, load


@click.group(no_args_is_help=False)
def command() -> None:
    """Check the configuration (unlatch config check)."""


@command.command(
    short_help="Report all mistakes, or who is rung for whom.",
    epilog="""\b
Example:
  $ unlatch config check --config ./unlatch.toml
  ./unlatch.toml:3: listen: not accepted; accepted: "ADDRESS:PORT" ...
""",
)
@click.option("--config", "path", metavar="FILE", help="Check this file instead of the one that would be used.")
def check(path: str | None) -> int:
    """Report all mistakes with file, line, key and accepted values; exit 1 if there are any."""
    loaded = load(path, os.environ, os.geteuid())
    if loaded.mistakes:
        for mistake in loaded.mistakes:
            voice.say(voice.clean(str(mistake)))
        voice.fail(*summary(loaded))
    voice.say(f"{voice.clean(loaded.path)}: no mistakes" if loaded.path else "there is no file: the defaults hold")
    for line in _who_is_rung(loaded.settings):
        voice.say(voice.clean(line))
    return voice.OK


def summary(loaded: Loaded) -> tuple[str, ...]:
    """What the mistakes amount to, then hints on what happens at run time."""
    count = len(loaded.mistakes)
    hints = []
    if any(mistake.fatal for mistake in loaded.mistakes):
        from unlatch.doctor.host import pam_places, served  # late: a broker that starts does without

        hints.append("the broker will not start with this file")
        if loaded.path == served.HOST_CONFIG and pam_places.uses():
            hints.append("nor is anybody let in where a file of /etc/pam.d names pam_unlatch.so")
    if loaded.settings.rules is None:
        hints.append("askers refuse every prompt until this is mended")
    if not hints:
        hints.append("the broker starts without the notifiers that have mistakes")
    return (f"{voice.clean(loaded.path)} has {count} {'mistake' if count == 1 else 'mistakes'}", *hints)


def _is_known(user: str) -> bool:
    """Is this an account? ``*`` and uids need none."""
    if user == "*" or user.isdigit():
        return True
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _who_is_rung(settings: Settings) -> Iterator[str]:
    yield f"links start with {settings.public_url}"
    if settings.allow_users:
        yield f"only these users may ask: {', '.join(settings.allow_users)}"
    for person in settings.people:
        users = "every user" if "*" in person.users else ", ".join(person.users)
        way = ", ".join(person.notify) or 'no notifier ("unlatch answer" only)'
        yield f"{person.name} is rung for {users} by {way}"
    if settings.people:
        if not any("*" in person.users for person in settings.people):
            yield "every other user is refused"
    elif settings.notifiers:
        yield "nobody is rung: there is no [people.NAME] table, so every user is refused"
    else:
        yield 'nobody is rung: prompts of every user wait for the page on this machine, or for "unlatch answer"'
    for user in sorted({*settings.allow_users, *(user for person in settings.people for user in person.users)}):
        if not _is_known(user):
            yield f"no user of this host is called {user} (yet)"
    unused = {each.name for each in settings.notifiers} - {name for each in settings.people for name in each.notify}
    for name in sorted(unused):
        yield f"the notifier {name} is used by nobody"
    for number, rule in enumerate(settings.rules or (), start=1):
        conditions = {name: getattr(rule, name) for name in ("user_data", "unit", "keygrip", "tty")}
        matched = " and ".join(f"{name} is {value}" for name, value in conditions.items() if value is not None)
        yield f"rule {number}: {rule.action}{' where ' + matched if matched else ' always'}"
