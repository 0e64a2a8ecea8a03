"""``unlatch pam enrol``, ``forget`` and ``list``: the keys of record, which root keeps in /etc/unlatch/pam."""

import contextlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from unlatch.cli import voice
from unlatch.pam import accounts, as_user, challenge, entry, record, worker
from unlatch.pam.accounts import Account
from unlatch.pam.entry import Entry
from unlatch.pam.errors import Unfit
from unlatch.pam.worker import Keys, Places

PLACES = Places()
MAX_FILE = 1 << 20  # bytes of a key; some carry hundreds of signatures
_WEB = (*entry.WEB, entry.BROKER)
_TYPED = "the command line"  # where an entry comes from that is in no file


@click.command(
    short_help="Keep the key that logins of a user are challenged with.",
    epilog="""\b
Examples, as root: a key of alice's keyring, and a key from a file:
  # unlatch pam enrol alice 73354FC74BF1B3AB3BCA736E466F3F0D98037F0D
  # unlatch pam enrol alice alice@example.org --file alice.asc
""",
)
@click.argument("user")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option(
    "--file", "files", metavar="FILE", multiple=True, help="Take the key from this file, - for standard input."
)
@click.option("--trust", is_flag=True, help="The key must be valid by USER's own trust database.")
@click.option("--sign-as", metavar="KEY", default="", help="Sign challenges with this key of unlatch pam sign-key.")
@click.option("--web", type=click.Choice(_WEB), help="Show challenges on a web page too.")
@click.option("--tls-key", metavar="FILE", default="", help="The web page's TLS key, an absolute path.")
@click.option("--tls-certificate", metavar="FILE", default="", help="Its certificate, with those above it.")
def enrol(
    user: str,
    keys: tuple[str, ...],
    files: tuple[str, ...],
    trust: bool,
    sign_as: str,
    web: str | None,
    tls_key: str,
    tls_certificate: str,
) -> int:
    """Make each KEY (three at most, each opens the challenge) USER's key of record, in place of any before.

    A KEY is a full fingerprint in USER's keyring. An address would leave it to whatever runs as USER which key that is,
    so it is taken with --file only. Root's record counts for every service, and is the only one that sudo and su take.
    """
    options = [("--sign-as", sign_as), ("--web", web), ("--tls-key", tls_key), ("--tls-certificate", tls_certificate)]
    said = [word for pair in (*options, *(("--file", file) for file in files)) if pair[1] for word in pair if word]
    _only_root(shlex.join(["unlatch", "pam", "enrol", user, *keys, *["--trust"] * trust, *said]))
    with _told("getent passwd"):
        account = accounts.find(user)
    if trust and files:
        hint = "leave --trust out: the fingerprint says which key it is"
        voice.fail("--trust asks USER's trust database, which knows nothing of files", hint, code=voice.USAGE)
    line = [",".join(keys), "trust" if trust else "notrust", sign_as or "nosign", web or "noWebQr"]
    with _told("unlatch pam enrol --help"):
        wanted = entry.parse(" ".join([*line, tls_key, tls_certificate]), _TYPED)
    found = _from_files(files, wanted.keys) if files else _from_keyring(account, wanted)
    kept = wanted._replace(keys=tuple(key for key, _ in found), sign_as=_signing(wanted.sign_as))
    if kept.tls_key:
        with _told(f"ls -l {kept.tls_key} {kept.tls_certificate}"):
            record.read_tls(kept)
    with _told("unlatch pam list"):
        before = record.names(PLACES.records)
        path = record.write(PLACES.records, account.name, record.Record(kept, tuple(block for _, block in found)))
    _tell_stored(account.name, path, kept, replaced=account.name in before)
    return voice.OK


@click.command(
    short_help="Forget the key of record of a user.",
    epilog="""\b
Example, as root:
  # unlatch pam forget alice
""",
)
@click.argument("user")
def forget(user: str) -> int:
    """Remove USER's key of record. The account need not exist any more."""
    _only_root(f"unlatch pam forget {user}")
    if not accounts.is_name(user) or not record.remove(PLACES.records, user):
        voice.fail(f"{voice.clean(user)} has no key of record", "unlatch pam list")
    voice.tell(f"{user} has no key of record any more")
    voice.tell("hint: from now on ~/.auth_gpg counts, for the services that [pam] auth_gpg lists; all others deny")
    return voice.OK


@click.command(
    "list",
    short_help="List the keys of record.",
    epilog="""\b
Example:
  $ unlatch pam list --json | jq -r '.[] | select(.trouble != "") | .user'
""",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects, one for each record.")
def list_records(as_json: bool) -> int:
    """List who has a key of record; exit 1 if one of them is bad, for then its user cannot log in.

    For root that includes keys that have expired since they were enrolled.
    """
    rows = [_row(name) for name in record.names(PLACES.records)]
    if as_json:
        voice.say(json.dumps(rows))
    elif not rows:
        voice.say("nobody has a key of record")
    for row in [] if as_json else rows:
        voice.say(voice.clean(_line(row)))
    return voice.FAILED if any(row["trouble"] for row in rows) else voice.OK


def _only_root(again: str) -> None:
    if os.geteuid() != 0:
        voice.fail("only root keeps keys of record", f"sudo {voice.clean(again)}")


@contextlib.contextmanager
def _told(*hints: str) -> Iterator[None]:
    """What is wrong, and what to look at next."""
    try:
        yield
    except Unfit as error:
        voice.fail(voice.clean(error.why.removeprefix(f"{_TYPED}:1: ")), *map(voice.clean, hints))


def _from_keyring(account: Account, wanted: Entry) -> Keys:
    addresses = [key for key in wanted.keys if not entry.is_fingerprint(key)]
    keys = " ".join(wanted.keys)
    files = " ".join("--file KEY.asc" for _ in wanted.keys)
    from_file = f"or, exported by the person: unlatch pam enrol {account.name} {keys} {files}"
    with _told(f"sudo -u {account.name} gpg --list-keys {keys}", from_file):
        if addresses:
            _refuse(account, addresses)
        return challenge.keys_of(account, wanted.keys, trust=wanted.trust)


def _refuse(account: Account, addresses: Sequence[str]) -> NoReturn:
    """Tell what an address leads to, for somebody to compare."""
    found = challenge.keys_of(account, addresses, trust=False)
    voice.fail(
        f"an address in {voice.clean(account.name)}'s keyring may lead to a key that somebody put there",
        "compare the fingerprint with what the person reads to you, then:",
        f"unlatch pam enrol {voice.clean(account.name)} {' '.join(key for key, _ in found)}",
    )


def _from_files(files: Sequence[str], words: Sequence[str]) -> Keys:
    if len(files) != len(words):
        voice.fail("each KEY comes from a --file of its own", 'run "unlatch pam enrol --help"', code=voice.USAGE)
    with _told("systemd-sysusers"):
        worker.find(PLACES)
    return [_from_file(file, word) for file, word in zip(files, words, strict=True)]


def _from_file(file: str, word: str) -> tuple[str, bytes]:
    try:
        with open(0 if file == "-" else file, "rb", closefd=file != "-") as opened:
            content = opened.read(MAX_FILE + 1)
    except OSError as error:
        voice.fail(f"{voice.clean(file)}: {as_user.reason(error)}", f"ls -l {voice.clean(file)}")
    if len(content) > MAX_FILE:
        voice.fail(f"{voice.clean(file)}: larger than {MAX_FILE} bytes", "gpg --export FINGERPRINT gives one key")
    with _told(f"gpg --show-keys {file}"):
        return worker.key_in(content, word, PLACES, os.urandom(16).hex())


def _signing(sign_as: str) -> str:
    """The fingerprint of the server's key that shall sign; whoever signs later must not depend on names."""
    if not sign_as:
        return ""
    with _told("unlatch pam sign-key ADDRESS"):
        found = worker.signer(sign_as, PLACES)
    if found is None:
        voice.fail(f"this server has no key {voice.clean(sign_as)}", "unlatch pam sign-key ADDRESS")
    return found.fingerprint


def _tell_stored(name: str, path: str, kept: Entry, *, replaced: bool) -> None:
    keys = " or ".join(kept.keys)
    voice.tell(voice.clean(f"{path}: logins of {name} want {keys}{'; the record before is gone' if replaced else ''}"))
    if len(kept.keys) == 1:
        voice.tell("hint: keys get lost; name a second one behind the first, whose secret half lies in a safe")
    voice.tell(voice.clean(f"hint: try it, and keep a root session open meanwhile: unlatch pam test {name}"))


def _row(name: str) -> dict[str, Any]:
    row: dict[str, Any] = {"user": name, "keys": [], "sign_as": "", "web": "", "trouble": ""}
    try:
        accounts.find(name)
        found = record.read(PLACES.records, name)
        if found is not None and os.geteuid() == 0:
            worker.check(found.keys, found.entry.sign_as, PLACES, os.urandom(16).hex())
    except Unfit as error:
        return row | {"trouble": error.why}
    if found is None:  # removed while we looked
        return row | {"trouble": "there is no record any more"}
    kept = found.entry
    return row | {"keys": list(kept.keys), "sign_as": kept.sign_as, "web": kept.web}


def _line(row: dict[str, Any]) -> str:
    notes = [f"signed by {row['sign_as']}" if row["sign_as"] else "", row["web"], row["trouble"]]
    return "  ".join(part for part in (row["user"], " ".join(row["keys"]), ", ".join(filter(None, notes))) if part)
