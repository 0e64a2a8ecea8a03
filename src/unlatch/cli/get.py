"""``unlatch get``: print a secret for a program that takes one from a command."""

import os
import sys

import click

from unlatch.cli import fetching, persons, voice
from unlatch.cli.spans import Span
from unlatch.secret import forbid_core_dumps


@click.command(
    short_help="Print a secret, for a program that takes one from a command.",
    epilog="""\b
Examples:
  $ export BORG_PASSCOMMAND="unlatch get borg"
  $ export RESTIC_PASSWORD_COMMAND="unlatch get restic"
  $ unlatch get --for 8h pass:backup/db01

\b
Exit codes:
  0  the secret was printed
  1  an error: nothing was printed
  2  wrong usage
  4  denied, expired or withdrawn
""",
)
@click.option(
    "--newline/--no-newline", default=None, help="End it with a newline, or not; default: at a terminal only."
)
@click.option(
    "--for",
    "seconds",
    metavar="TIME",
    type=Span(),
    default=0,
    help="Keep it usable without asking for 90s, 30m, 8h, 7d.",
)
@click.option("--slot", default="", metavar="LABEL", help="Open a stored secret with this keyslot only.")
@persons.options
@click.argument("name")
def command(
    newline: bool | None, seconds: int, slot: str, from_stdin: bool, at_tty: bool, reason: str, timeout: int, name: str
) -> int:
    """Print the secret NAME on standard output, and nothing else.

    NAME is a stored secret ("unlatch secret list"), pass:ENTRY (the first line), gpg:FILE, or anything else: then a
    person is asked for it on the phone.
    """
    forbid_core_dumps()
    choice = persons.Choice(from_stdin, at_tty, reason, timeout)
    secret = fetching.fetch(name, fetching.Wishes(choice, f"unlatch get {name}", slot, seconds))
    at_terminal = sys.stdout.isatty()
    if at_terminal and not all(byte >= 0x20 or byte in b"\t\n" for byte in secret.reveal()):
        voice.fail("the secret has bytes that would move a terminal's cursor", f"unlatch get {voice.clean(name)} | xxd")
    _write(secret.reveal())
    if at_terminal if newline is None else newline:
        _write(memoryview(b"\n"))
    secret.wipe()
    return voice.OK


def _write(data: memoryview) -> None:
    """Straight to the descriptor, so that no copy stays in a buffer."""
    while data:
        data = data[os.write(1, data) :]
