"""``unlatch key unlock``: one page unlocks one key or several, and gpg-agent keeps them for a stated time."""

import time
from datetime import datetime

import click

from unlatch.cli import key_configure, persons, voice
from unlatch.cli.key_home import conf_of, describe, explain, find_home, open_agent, records_of, user_name
from unlatch.cli.spans import OR_REBOOT, Span
from unlatch.errors import UnlatchError
from unlatch.frontends.asking import NothingGiven
from unlatch.gnupg import keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.ending import NoEnder
from unlatch.gnupg.granting import Capped, Granting
from unlatch.gnupg.grants import UNTIL_REBOOT
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import HomeKey
from unlatch.gnupg.unlocking import Unlocking, WrongThreeTimes, is_unlocked


@click.command(
    short_help="Ask once, and have gpg-agent keep the keys unlocked.",
    epilog="""\b
Examples:
  $ unlatch key unlock                          # every key that is locked
  $ unlatch key unlock --for 30d backup@db01.example
  $ printf '%s\\n' "$passphrase" | unlatch key unlock --stdin 98E9FED71D711BDD

\b
Exit codes: 0 unlocked, 1 an error, 2 wrong usage, 3 wrong passphrase,
4 denied or nobody answered.
""",
)
@click.option("--for", "seconds", metavar="TIME", type=Span(or_reboot=True), help=f"How long: {OR_REBOOT}.")
@click.option("--configure", is_flag=True, help="Write what gpg-agent.conf lacks for that, and reload gpg-agent.")
@persons.options
@click.argument("whats", metavar="[KEY...]", nargs=-1)
def unlock(
    seconds: int | None,
    configure: bool,
    from_stdin: bool,
    at_tty: bool,
    reason: str,
    timeout: int,
    whats: tuple[str, ...],
) -> int:
    """Ask for the passphrase of each KEY and have gpg-agent keep it, if it is the right one; without KEY, of all.

    What is typed is tried on every key that is still locked, so one passphrase for three keys is typed once. The page
    asks again for those that it did not open.

    Without --for a key stays unlocked for as long as gpg-agent is configured to keep it.
    """
    home = find_home()
    choice = persons.Choice(from_stdin, at_tty, reason, timeout)
    try:
        granting = Granting(home, records_of(home), seconds, user=user_name())
        wanted, limits = _prepare(home, whats, granting, seconds, configure=configure)
        if not wanted:
            return voice.OK
        work = Unlocking(lambda: open_agent(home), wanted, until=until_text(seconds, limits))
        try:
            with persons.person(choice, "unlatch key unlock") as person:
                work.run(person, granting=granting, seconds=timeout)
        finally:
            _tell(work, home, seconds, limits)
    except (UnlatchError, OSError) as error:
        raise explain_unlocking(error, home) from None
    return voice.OK


def _prepare(
    home: Home, whats: tuple[str, ...], granting: Granting, seconds: int | None, *, configure: bool
) -> tuple[list[HomeKey], keys.Limits]:
    """The keys to ask for. What would make it vain is found out here, before anybody is rung."""
    with open_agent(home) as agent:
        found = keys.find(agent, home, whats)
        if configure:
            key_configure.configure(agent, home, seconds)
        limits = keys.limits(home)
        granting.check(agent, limits)
        return select_locked(agent, found, chosen=bool(whats), again=seconds is not None), limits


def select_locked(agent: Agent, found: list[HomeKey], *, chosen: bool, again: bool) -> list[HomeKey]:
    """Those that a passphrase would unlock; the others are told about. ``again``: also those that are unlocked.

    A key that is unlocked gets another end only from somebody who knows its passphrase: nobody can tell from outside
    how long gpg-agent means to keep what it has.

    Raises:
        Problem: none of the chosen keys needs one.
    """
    wanted = []
    for key in found:
        if not key.in_software:
            if chosen:
                voice.tell(f"{describe(key)} is on a card: unlatch card unlock{f' {key.agent.serial}'.rstrip()}")
        elif key.agent.protection == "C":
            if chosen:
                voice.tell(f"{describe(key)} has no passphrase, and so is always unlocked")
        elif not again and is_unlocked(agent, key.grip):
            voice.tell(f"{describe(key)} is unlocked already")
        else:
            wanted.append(key)
            if key.certified is not None and key.certified.state:
                voice.tell(f"{describe(key)} is {key.certified.state}: gpg only decrypts with it")
    if chosen and not any(key.in_software for key in found):
        voice.fail(
            "none of these keys is in a file, where a passphrase protects it", '"unlatch card unlock" asks for a PIN'
        )
    if not found:
        voice.fail("there are no secret keys here to unlock", '"unlatch key list" shows what gpg-agent has')
    return wanted


def until_text(seconds: int | None, limits: keys.Limits) -> str:
    """How long it will be kept, for the page."""
    if seconds is None:
        return f"gpg-agent keeps it for {voice.duration(limits.max_cache_ttl)} at most."
    return (
        f"gpg-agent keeps it for {voice.duration(seconds)}." if seconds else "gpg-agent keeps it until the next boot."
    )


def _tell(work: Unlocking, home: Home, seconds: int | None, limits: keys.Limits) -> None:
    """What became of each key, also when somebody stopped in between."""
    for key in work.unlocked:
        voice.say(f"unlocked {describe(key)}{_end_of(seconds, limits)}")
    for key in work.elsewhere:
        voice.say(f"unlocked {describe(key)}, by another prompt")
    for key in work.locked if work.unlocked or work.elsewhere else []:
        voice.tell(f"still locked: {describe(key)}")
    if work.unlocked and seconds is None:
        voice.tell(
            f"capped by {key_configure.TTL} = {limits.max_cache_ttl} s in {conf_of(home)}; "
            "--for TIME --configure keeps it longer"
        )


def _end_of(seconds: int | None, limits: keys.Limits) -> str:
    if seconds == 0:
        return " until gpg-agent ends"
    at = datetime.fromtimestamp(time.time() + (seconds or limits.max_cache_ttl)).astimezone()
    return f" until {at:%Y-%m-%d %H:%M}" + (" at the latest" if seconds is None else "")


def explain_unlocking(error: Exception, home: Home) -> voice.Problem:
    """As ``key_home.explain``, and what is about grants."""
    match error:
        case Capped():
            return key_configure.capped(error, home)
        case WrongThreeTimes():
            return voice.Problem(
                "three wrong passphrases; nobody is asked any more", '"unlatch key list" shows what is locked',
                code=voice.WRONG,
            )  # fmt: skip
        case NothingGiven(wrong=""):
            return voice.Problem("standard input holds no passphrase for what is left", "give one on each line")
        case NothingGiven():
            return voice.Problem(f"wrong passphrase: {error.wrong[:1].lower()}{error.wrong[1:-1]}", code=voice.WRONG)
        case NoEnder():
            return _no_ender(error)
        case _:
            return explain(error, home)


def _no_ender(error: NoEnder) -> voice.Problem:
    user = user_name()
    hints = {
        "linger": [f'as root: "loginctl enable-linger {user}" keeps the user\'s systemd'],
        "agent": [
            f'as root: "loginctl enable-linger {user}" gives {user} a systemd that can end it',
            "or have the agent's own unit run this command (ExecStartPost=)",
        ],
        "systemd": [f"--for {UNTIL_REBOOT} needs nobody who comes back"],
    }.get(error.why, ['"systemctl --user status" says whether the user\'s systemd runs'])
    return voice.Problem(f"nobody could end this grant: {voice.clean(error.text)}", *hints)
