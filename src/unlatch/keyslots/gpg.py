"""The keyslot ``gpg``: a random KEK, encrypted to OpenPGP keys by the user's own gpg.

Parameters: ``to``, the fingerprints, and ``message``, the OpenPGP message (base64url). The keys may be on cards; the
person is asked by whatever pinentry that gpg-agent has, which may well be ours.
"""

import itertools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from unlatch import base64url
from unlatch.errors import Malformed
from unlatch.keyslots.errors import SlotFailed, WrongKey
from unlatch.keyslots.header import KEY_SIZE, Params
from unlatch.keyslots.slots import Created, Helpers, Opened, Subject
from unlatch.secret import Secret

if TYPE_CHECKING:
    import subprocess

MAX_KEYS = 16
MAX_MESSAGE = 32768  # bytes; sixteen rsa4096 recipients are 9 KiB
ENCRYPT_SECONDS = 60
OPEN_SECONDS = 7 * 24 * 3600  # a person is asked; the pinentry and the broker keep their own time
_FINGERPRINT = re.compile(r"(?:[0-9A-F]{40}|[0-9A-F]{64})\Z")


class Gpg:
    """See :class:`unlatch.keyslots.slots.SlotKind`. The wish ``to`` names the keys, separated by blanks."""

    def check(self, params: Params) -> None:
        """See the protocol."""
        if params.keys() != {"to", "message"} or not isinstance(params["to"], list):
            raise Malformed("gpg slot")
        if not 0 < len(params["to"]) <= MAX_KEYS or not all(map(_is_fingerprint, params["to"])):
            raise Malformed("gpg slot")
        if not 0 < len(base64url.decode(params["message"], "gpg slot")) <= MAX_MESSAGE:
            raise Malformed("gpg slot")

    def create(self, subject: Subject, wishes: Mapping[str, str], helpers: Helpers) -> Created:  # noqa: ARG002
        """See the protocol."""
        wanted = wishes.get("to", "").split()
        if not 0 < len(wanted) <= MAX_KEYS:
            raise SlotFailed(f"a gpg keyslot needs 1 to {MAX_KEYS} keys", "unlatch secret add-slot NAME gpg --to KEY")
        keys = [_fingerprint(name, helpers) for name in wanted]
        kek = Secret(helpers.random(KEY_SIZE))
        # The fingerprint names one key, which --trust-model always takes as the person named it.
        recipients = [word for key in keys for word in ("--recipient", key)]
        options = ["--trust-model", "always", "--no-auto-key-locate", "--no-encrypt-to", "--encrypt"]
        said = _gpg([*options, *recipients], kek, helpers, ENCRYPT_SECONDS)
        if said.returncode or not 0 < len(said.stdout) <= MAX_MESSAGE:
            raise SlotFailed(f"gpg could not encrypt: {_why(said.stderr)}", f"gpg --list-keys {keys[0]}")
        return Created({"to": keys, "message": base64url.encode(said.stdout)}, kek)

    def renew(self, subject: Subject, params: Params, helpers: Helpers) -> Created:
        """See the protocol."""
        return self.create(subject, {"to": " ".join(params["to"])}, helpers)

    def open(self, subject: Subject, params: Params, unwrap: Callable[[Secret], Secret], helpers: Helpers) -> Opened:
        """See the protocol. Nothing is asked here: gpg-agent asks."""
        message = Secret(base64url.decode(params["message"], "gpg slot"))
        said = _gpg(["--decrypt"], message, helpers, OPEN_SECONDS)
        if said.returncode or len(said.stdout) != KEY_SIZE:
            raise SlotFailed(
                f"gpg could not open the keyslot {subject.label}: {_why(said.stderr)}",
                f"gpg --list-secret-keys {params['to'][0]}",
            )
        try:
            return Opened(unwrap(Secret(said.stdout)))
        except WrongKey:
            raise SlotFailed(f"the keyslot {subject.label} was changed") from None


def _fingerprint(name: str, helpers: Helpers) -> str:
    """The one key that this name stands for: its primary fingerprint."""
    said = _gpg(["--with-colons", "--list-keys", "--", name], Secret(b""), helpers, ENCRYPT_SECONDS)
    rows = [line.split(":") for line in said.stdout.decode("utf-8", "replace").splitlines()]
    primary = [later[9] for row, later in itertools.pairwise(rows) if row[0] == "pub" and later[0] == "fpr"]
    if said.returncode or not primary:
        raise SlotFailed(f"gpg knows no key {name!r}", "gpg --list-keys")
    if len(primary) > 1:
        raise SlotFailed(f"{name!r} stands for {len(primary)} keys", f"name one by its fingerprint: {primary[0]}")
    return primary[0]


def _gpg(arguments: list[str], feed: Secret, helpers: Helpers, seconds: float) -> "subprocess.CompletedProcess[bytes]":
    import subprocess

    try:
        return subprocess.run(
            ["gpg", "--batch", "--quiet", "--no-tty", "--output", "-", *arguments],  # not where gpg.conf may say
            input=bytes(feed.reveal()),
            capture_output=True,
            timeout=seconds,
            env=dict(helpers.environ),
            check=False,
        )
    except FileNotFoundError:
        raise SlotFailed("gpg is not installed", "apt install gnupg") from None
    except subprocess.TimeoutExpired:
        raise SlotFailed("gpg took too long") from None


def _why(said: bytes) -> str:
    """The last word of gpg, which quotes no secret."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("gpg: ") if lines else "it said nothing"


def _is_fingerprint(value: object) -> bool:
    return isinstance(value, str) and _FINGERPRINT.match(value) is not None


kind = Gpg()
