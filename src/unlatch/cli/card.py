"""``unlatch card``: OpenPGP cards, unlocked from the phone, for jobs that log in with them."""

import click

from unlatch.cli import card_check
from unlatch.cli.card_init import init
from unlatch.cli.card_status import status
from unlatch.cli.card_unlock import unlock
from unlatch.cli.card_watch import watch


@click.group(
    no_args_is_help=False,
    short_help="OpenPGP cards: look, unlock from the phone, keep watch.",
    epilog="""\b
Example: a backup that fails at once while the card is locked:
  $ unlatch card check || exit 1
""",
)
def command() -> None:
    """Look at OpenPGP cards, unlock them from the phone, and be rung when one was locked again.

    SERIAL is the number that "unlatch card status" and "gpg --card-status" show, or the long form of it. It may be left
    out where there is one card.
    """


@click.command(
    "check",
    short_help="Will the card work now, without asking?",
    epilog="""\b
Examples:
  $ unlatch card check || exit 1
  ExecCondition=/usr/bin/unlatch card check 12345678

\b
Exit codes: 0 it works now, 1 an error, 2 wrong usage or several cards,
7 locked, 8 blocked, 9 no card.
""",
)
@click.option("--sign", is_flag=True, help="Prove it with a signature.")
@click.argument("serial", metavar="[SERIAL]", default="")
def check(sign: bool, serial: str) -> int:
    """Exit 0 only if the card will log in and decrypt now without asking anybody.

    It never asks, never starts an agent, never spends a try, and gives up after some seconds whatever hangs. --sign has
    the card sign something, with its authentication key if it has one.
    """
    return card_check.check(serial, sign=sign)


for _each in (status, check, unlock, watch, init):
    command.add_command(_each)
