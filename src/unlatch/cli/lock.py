"""``unlatch lock``: every grant ends now."""

from collections.abc import Callable

import click

from unlatch.cli import card_words, voice
from unlatch.cli.key_home import find_home, records_of
from unlatch.gnupg.homes import Home
from unlatch.gnupg.locking import Locked, Place, StillCached, StillVerified, lock_cards, lock_keys
from unlatch.keyslots import grant


def lock_secrets(_place: Place) -> list[Locked]:
    """Secrets that the kernel keeps for this user ("unlatch get --for")."""
    done = []
    for found in list(grant.grants()):
        what = f"the secret {found.name}"
        try:
            grant.end(found)
        except grant.NoGrants as error:
            done.append(Locked(what, error))
        else:
            done.append(Locked(what))
    return done


# Every kind of grant that there is, in the order in which they end. Each function tells what became of its grants, and
# raises nothing; a new kind is one more line here.
KINDS: tuple[Callable[[Place], list[Locked]], ...] = (lock_keys, lock_cards, lock_secrets)


@click.command(
    short_help="End every grant now: keys, cards, all that is unlocked.",
    epilog="""\b
Example:
  $ unlatch lock && echo "nothing is unlocked any more"

\b
Exit codes: 0 everything is locked, 1 something is not.
""",
)
def command() -> int:
    """End every grant now: gpg-agent forgets all passphrases, cards want their PINs again, the kernel forgets secrets.

    It tells what was locked, and what could not be, with the next thing to try. It asks nobody and starts no agent.
    """
    home = find_home()
    place = Place(home, records_of(home))
    done = [result for lock in KINDS for result in lock(place)]
    for result in done:
        if result.trouble is None:
            voice.say(f"locked {voice.clean(result.what)}")
    if not done:
        voice.say("nothing was unlocked")
    left = [result for result in done if result.trouble is not None]
    for result in left:
        voice.complain(_explain(result, home))
    return voice.FAILED if left else voice.OK


def _explain(result: Locked, home: Home) -> voice.Problem:
    what = voice.clean(result.what)
    match result.trouble:
        case StillCached():
            return voice.Problem(f"not locked: {what}: {result.trouble}", '"gpgconf --kill gpg-agent" ends the agent')
        case StillVerified():
            hint = 'pull it out; "fuser -v /run/pcscd/pcscd.comm" lists what else uses cards'
            return voice.Problem(f"not locked: {what}: {result.trouble}", hint)
        case grant.NoGrants():
            return voice.Problem(f"not locked: {what}: {result.trouble}", '"keyctl clear @u" empties your keyring')
        case Exception() as trouble:
            problem = card_words.explain(trouble, home)
            return voice.Problem(f"not locked: {what}: {problem.text}", *problem.hints)
        case None:
            raise AssertionError("it is locked")
