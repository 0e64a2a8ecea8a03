"""``unlatch key``: keys in software, unlocked before somebody needs them."""

import click

from unlatch.cli import key_check, voice
from unlatch.cli.key_list import list_keys
from unlatch.cli.key_lock import lock
from unlatch.cli.key_unlock import unlock
from unlatch.cli.key_wait import wait


@click.group(
    no_args_is_help=False,
    short_help="Unlock keys that gpg-agent keeps, before somebody needs them.",
    epilog="""\b
Example: one page unlocks all keys of an address, for a month:
  $ unlatch key unlock --for 30d backup@db01.example
""",
)
def command() -> None:
    """Unlock the keys that gpg-agent keeps in files, for gpg and for ssh, before somebody needs them.

    A KEY is a keygrip, a key id, a fingerprint (GnuPG's, or SHA256:... as ssh-add -l prints it), or an address.
    """


@click.command(
    "check",
    short_help="Is a key usable now, without asking?",
    epilog="""\b
Examples:
  $ unlatch key check backup@db01.example || exit 1
  ExecCondition=/usr/bin/unlatch key check 98E9FED71D711BDD

\b
Exit codes: 0 usable, 1 an error, 2 wrong usage, 7 locked.
""",
)
@click.option("--sign", is_flag=True, help="Prove it with a signature, or a decryption.")
@click.argument("whats", metavar="KEY...", nargs=-1, required=True)
def check(sign: bool, whats: tuple[str, ...]) -> int:
    """Exit 0 only if every KEY can be used now without asking anybody.

    It never asks, never starts an agent, and takes some milliseconds. It believes gpg-agent that a passphrase in its
    cache is the right one; --sign does not.
    """
    if any("://" in what for what in whats):
        raise voice.leaked_argument()
    return key_check.check(whats, sign=sign)


for _each in (list_keys, check, unlock, wait, lock):
    command.add_command(_each)
