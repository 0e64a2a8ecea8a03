"""Where a secret comes from by its name: a grant, a stored secret, ``pass:ENTRY``, ``gpg:FILE``, or a person."""

import contextlib
import functools
import os
import subprocess
import time
from typing import NamedTuple

from unlatch import origin
from unlatch.ask import Released
from unlatch.cli import persons, secrets, voice
from unlatch.frontends.asking import Wanted
from unlatch.keyslots import grant
from unlatch.keyslots.errors import BadName
from unlatch.keyslots.header import MAX_SECRET
from unlatch.prompt import Key, Verdict
from unlatch.secret import Secret

PROGRAM_SECONDS = 7 * 24 * 3600  # pass and gpg ask a person; pinentry and broker keep the time


class Wishes(NamedTuple):
    """How a secret is wanted. ``seconds`` is how long it stays usable without asking, 0 for not at all."""

    choice: persons.Choice
    command: str
    slot: str = ""
    seconds: int = 0


def fetch(name: str, wishes: Wishes) -> Secret:
    """The secret of this name.

    Of several processes that want the same one at once, the first asks; the others look for its grant then, and ask
    themselves if there is none.

    Raises:
        Problem, Denied, Expired, Withdrawn, Refused, NoBroker
    """
    if name.startswith("gpg:"):  # the same name elsewhere is another file, and must not find this one's grant
        name = f"gpg:{os.path.abspath(name.removeprefix('gpg:'))}"
    while True:
        with contextlib.suppress(Released):
            return _granted(name) or _opened(name, wishes)


def _granted(name: str) -> Secret | None:
    secret = grant.find(name)
    return None if secret is None else _recorded(name, secret, "grant")


def _recorded(name: str, secret: Secret, by: str) -> Secret:
    """The same secret, once its opening stands in the audit trail.

    Raises:
        NoBroker, Refused
    """
    system_unit, user_unit = origin.units_of(os.getpid())
    secrets.record(name, by, user_unit or system_unit)
    return secret


def _opened(name: str, wishes: Wishes) -> Secret:
    kind, colon, rest = name.partition(":")
    if colon and kind == "pass":
        _check_entry(name, rest)
        secret = _first_line(name, _printed(["pass", "show", "--", rest], name))
        return _kept(name, _recorded(name, secret, "pass"), wishes)
    if colon and kind == "gpg":
        secret = _printed(["gpg", "--batch", "--quiet", "--no-tty", "--output", "-", "--decrypt", "--", rest], name)
        return _kept(name, _recorded(name, secret, "gpg"), wishes)
    if not _is_stored(name):
        return _asked(name, wishes)
    keep = functools.partial(_kept, name, wishes=wishes)
    return secrets.open_named(name, wishes.choice, wishes.command, wishes.slot, keep).content


def _is_stored(name: str) -> bool:
    """Whether there is such a file, whole or damaged: a damaged one must not become a question."""
    try:
        return os.path.lexists(secrets.store().file(name))
    except BadName:
        return False


def _asked(name: str, wishes: Wishes) -> Secret:
    """What a person types; nobody here can tell whether it is right."""
    if wishes.slot:
        voice.fail(f"{voice.clean(name)} is no stored secret, so it has no keyslots", "unlatch secret list")
    wanted = Wanted(
        kind="passphrase",
        title=f"Secret {name}"[:120],
        key=Key(name=name),
        keeper="program",
    )
    with persons.person(wishes.choice, wishes.command) as person:
        secret = person.ask(wanted, coalesce=f"secret:{name}"[:256], seconds=wishes.choice.timeout)
        _kept(name, secret, wishes)  # before the verdict, which sends the followers to look for it
        person.judge(Verdict("accepted"))
        return secret


def _kept(name: str, secret: Secret, wishes: Wishes) -> Secret:
    """The same secret, with a grant if one is wanted."""
    if wishes.seconds:
        try:
            grant.keep(name, secret, wishes.seconds, int(time.time()))
        except grant.NoGrants as error:
            voice.fail(voice.clean(str(error)), "leave --for out")
    return secret


def _printed(arguments: list[str], name: str) -> Secret:
    """What a program prints, at most ``MAX_SECRET`` bytes. Its own words go to standard error as they are."""
    try:
        with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            data = bytearray(program.stdout.read(MAX_SECRET + 1))
            program.stdout.close()
            code = program.wait(PROGRAM_SECONDS)
    except FileNotFoundError:
        voice.fail(f"{arguments[0]} is not installed", f"apt install {'gnupg' if arguments[0] == 'gpg' else 'pass'}")
    try:
        if code or not 0 < len(data) <= MAX_SECRET:
            why = f"{arguments[0]} failed" if code else f"{arguments[0]} must print 1 to {MAX_SECRET} bytes"
            voice.fail(f"{voice.clean(name)}: {why}", f"try it by hand: {voice.clean(' '.join(arguments))}")
        return Secret(data)
    finally:
        data[:] = bytes(len(data))


def _check_entry(name: str, entry: str) -> None:
    """A folder is no entry: pass lists it with exit code 0, and the first line of that is no password.

    Raises:
        Problem: it is no entry.
    """
    folder = os.environ.get("PASSWORD_STORE_DIR") or os.path.expanduser("~/.password-store")
    if not os.path.isfile(f"{folder}/{entry}.gpg"):
        voice.fail(f"{voice.clean(name)}: there is no such entry", "pass ls")


def _first_line(name: str, secret: Secret) -> Secret:
    """What pass calls the password: the first line of an entry.

    Raises:
        Problem: it is empty, which no program may take for a password.
    """
    data = secret.reveal()
    end = next((place for place, byte in enumerate(data) if byte == ord("\n")), len(data))
    if not end:
        voice.fail(
            f"{voice.clean(name)}: its first line is empty", f"pass edit {voice.clean(name.removeprefix('pass:'))}"
        )
    return Secret(data[:end])
