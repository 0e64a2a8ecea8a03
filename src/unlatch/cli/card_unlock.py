"""``unlatch card unlock``: ask a person for the PIN, and then give it to the card."""

import time

import click

from unlatch.cli import persons, voice
from unlatch.cli.card_words import explain
from unlatch.cli.key_home import find_home, open_agent
from unlatch.errors import UnlatchError
from unlatch.gnupg import card_unlock


@click.command(
    short_help="Ask once for the PIN, and unlock the card.",
    epilog="""\b
Examples:
  $ unlatch card unlock --wait                  # at boot: also when the card comes later
  $ unlatch card unlock --tty 12345678
  $ printf '%s\\n' "$pin" | unlatch card unlock --stdin

\b
Exit codes: 0 unlocked, 1 an error, 2 wrong usage or several cards, 3 wrong PIN,
4 denied or nobody answered, 8 blocked or too few tries left, 9 no card.
""",
)
@click.option("--wait", is_flag=True, help="Wait for the card to appear, and for an answer, for ever.")
@click.option("--last-try", is_flag=True, help="Risk the last try: a wrong PIN then blocks the card.")
@persons.options
@click.argument("serial", metavar="[SERIAL]", default="")
def unlock(wait: bool, last_try: bool, from_stdin: bool, at_tty: bool, reason: str, timeout: int, serial: str) -> int:
    """Ask for the PIN of a card and unlock it, until it is pulled out or reset.

    The card is talked to only when the PIN is there, so nobody is kept from it while a person is asked. A PIN that the
    card refused is never given to it again; with fewer than two tries left none is, unless --last-try.
    """
    home = find_home()
    visit = card_unlock.visits(lambda: open_agent(home), serial, home.directory)
    try:
        if wait:
            card_unlock.wait_for_card(visit, voice.tell, time.sleep)
        with persons.person(persons.Choice(from_stdin, at_tty, reason, timeout), "unlatch card unlock") as person:
            patient = wait and not timeout
            look = card_unlock.unlock(visit, person, last_try=last_try, seconds=timeout, patient=patient)
    except (UnlatchError, OSError) as error:
        raise explain(error, home) from None
    voice.say(f"unlocked the card {look.number}{voice.clean(f' of {look.holder}' if look.holder else '')}")
    if look.status.forced:
        voice.tell("its signature PIN is forced: signing asks each time; logging in and decrypting do not")
    return voice.OK
