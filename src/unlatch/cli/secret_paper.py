"""``unlatch secret paper``: a recovery sheet, six words that open a stored secret, for the safe."""

import os
import pwd
import stat
import sys
import time

import click

from unlatch.cli import persons, secrets, voice
from unlatch.keyslots import editing, vault
from unlatch.keyslots.errors import SecretError
from unlatch.keyslots.header import Header
from unlatch.keyslots.passphrase import derive, from_words, new_words
from unlatch.keyslots.store import Store
from unlatch.secret import Secret, forbid_core_dumps

KIND = "passphrase"


@click.command(
    short_help="Print a recovery sheet: six words that open a secret.",
    epilog="""\b
Examples:
  $ unlatch secret paper borg | lp
  $ unlatch secret paper --html "$XDG_RUNTIME_DIR/borg.html" borg
""",
)
@click.argument("name")
@click.option("--label", default="paper", show_default=True, metavar="TEXT", help="What the keyslot is called.")
@click.option("--html", "file", default="", metavar="FILE", help="Write a page for a browser's printer.")
@persons.options
def command(name: str, label: str, file: str, from_stdin: bool, at_tty: bool, reason: str, timeout: int) -> int:
    """Open the secret NAME, give it a passphrase keyslot of six new words, and print them with a QR code.

    The words are printed after the keyslot was proven to open with them, and are kept nowhere. FILE is made for you
    alone, in a directory that is yours alone; print it, then remove it.
    """
    forbid_core_dumps()
    choice = persons.Choice(from_stdin, at_tty, reason, timeout)
    calling = f"unlatch secret paper {name}"
    where = secrets.store()
    _check_file(file) if file else _check_output()
    with secrets.told(name):
        _check_free(where.read(name).header, label)
    opening = secrets.open_to_edit(name, choice, calling)
    helpers = secrets.helpers(choice, calling)
    with secrets.told(name):
        words = new_words(os.urandom)
        wanted = editing.NewSlot(KIND, label, {})
        editing.add_made_slot(where, opening, wanted, from_words(words, os.urandom), helpers)
    try:
        header = _prove(where, name, label, words)
        _put(file, _drawn(where, header, label, words, page=bool(file)))
    except BaseException:
        # Words that nobody has open nothing but questions.
        with secrets.told(name):
            editing.remove_slot(where, opening, label, helpers)
        raise
    voice.tell(f"{name} opens with the words of the keyslot {voice.clean(label)}, which stand nowhere else")
    if file:
        voice.tell(f"hint: print {voice.clean(file)}, then: shred -u {voice.clean(file)}")
    return voice.OK


def _check_free(header: Header, label: str) -> None:
    """Before anybody is asked.

    Raises:
        Problem: there is a sheet already, or the label is none.
    """
    if not label or not label.isprintable() or label.startswith("-") or " " in label:
        voice.fail("a label has letters, digits and the like, without blanks", code=voice.USAGE)
    if any(slot.label == label for slot in header.slots):
        voice.fail(
            f"{header.name} has a keyslot {voice.clean(label)} already",
            f"for a sheet in its place: unlatch secret remove-slot {header.name} {voice.clean(label)}",
            "for a second sheet: --label",
        )


def _check_output() -> None:
    """Words for a person's eyes must not end in a log, or in a file that others can read.

    Raises:
        Problem
    """
    found = os.fstat(sys.stdout.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        voice.fail("others can read the file that standard output goes to", "umask 077, or --html FILE")
    if stat.S_ISSOCK(found.st_mode) or os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}":
        voice.fail("standard output goes to a log, which would keep the words", "print it from a terminal")


def _check_file(path: str) -> None:
    """The file must be a new one, in a directory that nobody else can enter.

    Raises:
        Problem
    """
    directory = os.path.dirname(os.path.abspath(path))
    hint = "a directory of yours in memory: $XDG_RUNTIME_DIR; or make one: mkdir -m 0700 sheet"
    try:
        found = os.stat(directory)
    except OSError as error:
        voice.fail(f"{voice.clean(directory)}: {(error.strerror or 'unknown').lower()}", hint)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        voice.fail(f"others can enter {voice.clean(directory)}, and the sheet opens a secret", hint)
    if os.path.lexists(path):
        voice.fail(f"{voice.clean(path)} exists", f"shred -u {voice.clean(path)}")


def _prove(where: Store, name: str, label: str, words: str) -> Header:
    """Open the file as it is on the disk now with what the sheet's code will say.

    Raises:
        Problem: it does not open.
    """
    from unlatch.cli.sheet import scanned

    try:
        file = where.read(name)
        slot = next(slot for slot in file.header.slots if slot.label == label)
        master = vault.unwrap(file.header, slot, derive(slot.params, Secret(scanned(words).encode())))
        vault.open_file(file, master).wipe()
    except (SecretError, StopIteration):
        voice.fail(f"{name} did not open with its new words, so they were thrown away", f"unlatch secret show {name}")
    master.wipe()
    return file.header


def _drawn(where: Store, header: Header, label: str, words: str, *, page: bool) -> bytes:
    from unlatch.cli import sheet

    drawn = sheet.Sheet(
        name=header.name,
        label=label,
        generation=header.generation,
        words=words,
        host=os.uname().nodename,
        user=_user(),
        file=where.file(header.name),
        date=time.strftime("%Y-%m-%d"),
    )
    text = sheet.as_html(drawn) if page else sheet.as_text(drawn, terminal=sys.stdout.isatty())
    return text.encode()


def _put(file: str, data: bytes) -> None:
    """Write it all, past every buffer; a printer that went away is an error and not half a sheet."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600) if file else 1
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError:
        if file:
            os.unlink(file)
        raise
    finally:
        if file:
            os.close(descriptor)


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
