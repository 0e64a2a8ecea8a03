"""``unlatch secret``: secrets that are stored on this host, and that only a person's key opens."""

import base64
import os
import sys
import time
from collections.abc import Sequence

import click

from unlatch.cli import persons, secret_paper, secrets, voice
from unlatch.keyslots import editing, header
from unlatch.keyslots.errors import BadSecretFile, SecretError, SecretExists
from unlatch.keyslots.slots import KINDS
from unlatch.secret import Secret, forbid_core_dumps

GENERATED_SIZE = 32  # bytes, before base64

_TO = click.option("--to", "to", multiple=True, metavar="KEY", help="An OpenPGP key that opens it; may be repeated.")
_FIDO2 = click.option("--fido2", is_flag=True, help="A security key that is plugged into this server opens it.")
_NO_TOUCH = click.option("--no-touch", is_flag=True, help="fido2: the security key opens it without being touched.")
_PIN = click.option("--pin", is_flag=True, help="fido2: the security key's PIN is asked each time.")
_WORDS = click.option("--passphrase", is_flag=True, help="Six generated words, typed on the phone, open it.")


@click.group(
    no_args_is_help=False,
    short_help="Keep secrets that only a person's key opens.",
    epilog="""\b
Example: a passphrase for borg, which your OpenPGP key opens:
  $ unlatch secret add borg --generate --to alex@example.org
  $ export BORG_PASSCOMMAND="unlatch get borg"
""",
)
def command() -> None:
    """Keep secrets on this host that only a person's key opens: an OpenPGP key, a passphrase, a security key."""


@command.command(
    short_help="Store a secret.",
    epilog="""\b
Examples:
  $ unlatch secret add borg --generate --to alex@example.org
  $ unlatch secret add borg-key --fido2 --passphrase < key-file
""",
)
@click.argument("name")
@_TO
@_FIDO2
@_NO_TOUCH
@_PIN
@_WORDS
@click.option("--generate", is_flag=True, help="Make the secret: 32 random bytes in base64.")
@click.option("--allow-unit", "units", multiple=True, metavar="UNIT", help="Only this systemd unit may open it (glob).")
@persons.options
def add(
    name: str,
    to: Sequence[str],
    fido2: bool,
    no_touch: bool,
    pin: bool,
    passphrase: bool,
    generate: bool,
    units: Sequence[str],
    from_stdin: bool,
    at_tty: bool,
    reason: str,
    timeout: int,
) -> int:
    """Store a secret under NAME, with at least one keyslot.

    The secret is made (--generate), read from standard input byte for byte, or typed at this terminal.
    """
    forbid_core_dumps()
    if (no_touch or pin) and not fido2:
        voice.fail("--no-touch and --pin are about a security key, so they need --fido2", code=voice.USAGE)
    slots = [editing.NewSlot("gpg", "gpg", {"to": " ".join(to)})] if to else []
    slots += [editing.NewSlot("fido2", "fido2", _wishes(no_touch=no_touch, pin=pin))] if fido2 else []
    slots += [editing.NewSlot("passphrase", "words", {})] if passphrase else []
    _check_slots(slots)
    choice = persons.Choice(from_stdin, at_tty, reason, timeout)
    with secrets.told(name):
        header.check_name(name)
        if name in secrets.store().names():  # before anybody touches or types something for it
            raise SecretExists(name)
        content = _generated() if generate else _given(f"secret {name}:")
        editing.add(
            secrets.store(),
            name,
            content,
            slots,
            secrets.helpers(choice, f"unlatch secret add {name}"),
            created=int(time.time()),
            allow_units=tuple(units),
        )
    secrets.end_grants(name)  # of what was typed under this name before it was stored
    _tell_stored(name, [slot.kind for slot in slots])
    return voice.OK


def _check_slots(slots: Sequence[editing.NewSlot]) -> None:
    if not slots:
        voice.fail("a secret needs a keyslot: --to KEY, --fido2 or --passphrase", code=voice.USAGE)
    if any(slot.kind == "passphrase" for slot in slots):
        secrets.check_talk()


def _tell_stored(name: str, kinds: Sequence[str]) -> None:
    voice.tell(f"{name} is stored; it opens with {_and(kinds)}")
    if "fido2" in kinds:
        again = f"unlatch secret add-slot {name} fido2 --label second"
        voice.tell(f"hint: security keys get lost; enrol a second one: {again}")
    if kinds == ["fido2"]:
        voice.tell(f"hint: or print words for the safe: unlatch secret paper {name}")


@command.command(name="list", short_help="List the stored secrets.")
def list_() -> int:
    """List this user's stored secrets and the kinds of their keyslots."""
    where = secrets.store()
    broken = 0
    for name in where.names():
        try:
            kinds = [slot.kind for slot in where.read(name).header.slots]
        except SecretError as error:
            broken += 1
            voice.complain(voice.Problem(voice.clean(str(error))))
        else:
            voice.say(f"{name}  {' '.join(kinds)}")
    if not where.names():
        voice.tell("no secret is stored here")
    return voice.FAILED if broken else voice.OK


@command.command(short_help="Show the keyslots and units of a secret.")
@click.argument("name")
def show(name: str) -> int:
    """Show what can be known of a secret without opening it."""
    with secrets.told(name):
        file = secrets.store().read(name)
    head = file.header
    created = time.strftime("%Y-%m-%d", time.gmtime(head.created))
    rows = [("name", head.name), ("created", created), ("generation", str(head.generation))]
    rows += [("units", "\n".join(head.allow_units) or "any")]
    rows += [("keyslot", f"{slot.label} ({slot.kind}){_detail(slot)}") for slot in head.slots]
    for line in voice.columns([(title, voice.clean(text, lines=True)) for title, text in rows]):
        voice.say(line)
    return voice.OK


@command.command(name="add-slot", short_help="Give a secret one more keyslot.")
@click.argument("name")
@click.argument("kind", type=click.Choice(sorted(KINDS)))
@_TO
@click.option("--label", default="", metavar="TEXT", help="What the keyslot is called; default: its kind.")
@click.option("--choose", is_flag=True, help="passphrase: choose it, on the phone, instead of six generated words.")
@_NO_TOUCH
@_PIN
@persons.options
def add_slot(
    name: str,
    kind: str,
    to: Sequence[str],
    label: str,
    choose: bool,
    no_touch: bool,
    pin: bool,
    from_stdin: bool,
    at_tty: bool,
    reason: str,
    timeout: int,
) -> int:
    """Open the secret NAME and give it one more keyslot."""
    choice = persons.Choice(from_stdin, at_tty, reason, timeout)
    wishes = {"to": " ".join(to)} if to else {}
    wishes |= {"choose": "yes"} if choose else {}
    wishes |= _wishes(no_touch=no_touch, pin=pin)
    calling = f"unlatch secret add-slot {name}"
    if kind == "passphrase" and not choose:
        secrets.check_talk()
    opening = secrets.open_to_edit(name, choice, calling)
    with secrets.told(name):
        wanted = editing.NewSlot(kind, label or kind, wishes)
        editing.add_slot(secrets.store(), opening, wanted, secrets.helpers(choice, calling))
    voice.tell(f"{name} has the keyslot {voice.clean(wanted.label)} now")
    return voice.OK


@command.command(name="remove-slot", short_help="Take a keyslot away.")
@click.argument("name")
@click.argument("label")
@persons.options
def remove_slot(name: str, label: str, from_stdin: bool, at_tty: bool, reason: str, timeout: int) -> int:
    """Open the secret NAME and take the keyslot LABEL away.

    Old copies of the file, in backups or on the disk, still open with it; "unlatch secret rotate" heals that for what
    is stored from then on.
    """
    choice = persons.Choice(from_stdin, at_tty, reason, timeout)
    calling = f"unlatch secret remove-slot {name}"
    opening = secrets.open_to_edit(name, choice, calling)
    with secrets.told(name):
        editing.remove_slot(secrets.store(), opening, label, secrets.helpers(choice, calling))
    voice.tell(f"the keyslot {voice.clean(label)} of {name} is gone")
    return voice.OK


@command.command(short_help="Make a new master key, and a new secret if wanted.")
@click.argument("name")
@click.option("--generate", is_flag=True, help="Make a new secret too: 32 random bytes in base64.")
@click.option("--replace", is_flag=True, help="Read a new secret too, from standard input or this terminal.")
@persons.options
def rotate(name: str, generate: bool, replace: bool, from_stdin: bool, at_tty: bool, reason: str, timeout: int) -> int:
    """Open the secret NAME and seal it anew, under a master key that nobody has had.

    Each keyslot is made anew: OpenPGP keys without asking, a security key with a touch, words as new words. The program
    that uses the secret must be told of a new one by yourself; the one from before is kept nowhere.
    """
    choice = persons.Choice(from_stdin, at_tty, reason, timeout)
    if generate and replace:
        voice.fail("--generate and --replace exclude each other", code=voice.USAGE)
    calling = f"unlatch secret rotate {name}"
    with secrets.told(name):
        words = any(slot.kind == "passphrase" for slot in secrets.store().read(name).header.slots)
        if words:
            secrets.check_talk()
    content = _generated() if generate else _given(f"new secret {name}:") if replace else None
    opening = secrets.open_to_edit(name, choice, calling)
    with secrets.told(name):
        editing.rotate(secrets.store(), opening, secrets.helpers(choice, calling), content)
    secrets.end_grants(name)
    voice.tell(f"{name} has a new master key" + (" and a new content" if content is not None else ""))
    if words:
        voice.tell(f"words and recovery sheets from before do not open {name} any more: print a new sheet")
    return voice.OK


@command.command(short_help="Give a secret another name.")
@click.argument("name")
@click.argument("new_name")
@persons.options
def rename(name: str, new_name: str, from_stdin: bool, at_tty: bool, reason: str, timeout: int) -> int:
    """Open the secret NAME and store it as NEW_NAME: the name is under the seal."""
    choice = persons.Choice(from_stdin, at_tty, reason, timeout)
    calling = f"unlatch secret rename {name}"
    with secrets.told(new_name):
        header.check_name(new_name)
    opening = secrets.open_to_edit(name, choice, calling)
    with secrets.told(new_name):
        editing.rename(secrets.store(), opening, new_name, secrets.helpers(choice, calling))
    secrets.end_grants(name)
    secrets.end_grants(new_name)
    voice.tell(f"{name} is {new_name} now")
    return voice.OK


@command.command(short_help="Forget a secret.")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, yes: bool) -> int:
    """Remove the secret NAME. Without a backup it is lost."""
    where = secrets.store()
    with secrets.told(name):
        where.read(name)
        if not yes and voice.Terminal().ask(f"type {name} to remove it for good:") != name:
            voice.fail("nothing was removed")
        where.remove(name)
    secrets.end_grants(name)
    voice.tell(f"{name} is removed")
    return voice.OK


command.add_command(secret_paper.command, "paper")


def _generated() -> Secret:
    return Secret(base64.b64encode(os.urandom(GENERATED_SIZE)))


def _given(question: str) -> Secret:
    """The secret as it comes: bytes of standard input, or a line typed without echo."""
    if sys.stdin.isatty():
        typed = voice.Terminal().ask_secret(question)
        if typed:
            return typed
        raise BadSecretFile("a secret has at least one byte")
    data = sys.stdin.buffer.read(header.MAX_SECRET + 1)
    if not 0 < len(data) <= header.MAX_SECRET:
        voice.fail(f"standard input must give a secret of 1 to {header.MAX_SECRET} bytes", "unlatch secret add --help")
    return Secret(data)


def _wishes(*, no_touch: bool, pin: bool) -> dict[str, str]:
    return {wish: "yes" for wish, given in (("no-touch", no_touch), ("pin", pin)) if given}


def _detail(slot: header.Slot) -> str:
    if slot.kind == "fido2":
        wanted = [wish for wish, name in (("touch", "touch"), ("PIN", "pin")) if slot.params.get(name) is True]
        return f": {' and '.join(wanted) or 'neither touch nor PIN'}"
    keys = slot.params.get("to")
    return f": {', '.join(map(str, keys))}" if isinstance(keys, list) else ""


def _and(names: Sequence[str]) -> str:
    return " or ".join(names)
