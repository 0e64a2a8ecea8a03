"""``unlatch pam sign-key``: the key with which this server signs its challenges."""

import os
import socket
import sys

import click

from unlatch.cli import voice
from unlatch.pam import entry, worker
from unlatch.pam.errors import Unfit
from unlatch.pam.worker import Places, Signer

PLACES = Places()


@click.command(
    short_help="Make the key that signs challenges, and print it.",
    epilog="""\b
Example, as root:
  # unlatch pam sign-key logins@db01.example > db01.asc
""",
)
@click.argument("address")
def command(address: str) -> int:
    """Make a key for ADDRESS that signs this server's challenges, unless there is one, and print its public half.

    It has no passphrase, and is readable for the system user unlatch-pam and root only. Who imports the public half
    sees that a challenge came from this server; logins do not depend on it.
    """
    if os.geteuid() != 0:
        voice.fail("only root makes this key", f"sudo unlatch pam sign-key {voice.clean(address)}")
    if not entry.is_address(address):
        hint = f"unlatch pam sign-key logins@{socket.gethostname()}"
        voice.fail("a key is made for an address such as logins@db01.example", hint, code=voice.USAGE)
    found = _signer(address)
    fingerprint = found.fingerprint
    sys.stdout.buffer.write(found.block)
    sys.stdout.buffer.flush()
    voice.tell(f"hint: hand the public key out; the others import it: gpg --import, then gpg --edit-key {fingerprint}")
    voice.tell(f"hint: sign a user's challenges with it: unlatch pam enrol USER KEY --sign-as {fingerprint}")
    return voice.OK


def _signer(address: str) -> Signer:
    try:
        worker.find(PLACES)
    except Unfit as error:
        voice.fail(voice.clean(error.why), "systemd-sysusers")
    try:
        found = worker.signer(address, PLACES)
        if found is None:
            found = worker.make_signer(address, f"Logins of {socket.gethostname()}", PLACES)
            voice.tell(f"made {found.fingerprint}, which never expires")
    except Unfit as error:
        voice.fail(voice.clean(error.why), f"ls -la {PLACES.signing}")
    return found
