"""Keys of record: root's own file for an account, /etc/unlatch/pam/USER, which counts for every service.

First the entry (:mod:`unlatch.pam.entry`), by full fingerprints only; then the public keys, armoured, one block a key
and in the same order. So nothing that the account owns, not even its keyring, has a say in sudo and su.
"""

import contextlib
import os
import re
from typing import NamedTuple

from unlatch.pam import accounts, entry, files
from unlatch.pam.as_user import reason
from unlatch.pam.entry import Entry
from unlatch.pam.errors import Unfit
from unlatch.secret import Secret

ROOT = (0,)
MAX_RECORD = 65536  # bytes
_BLOCK = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n[A-Za-z0-9+/=:()., \t\r\n-]*?-----END PGP PUBLIC KEY BLOCK-----"
)
_HEAD = """\
# The key of record of {name}, for logins: only root may change it. See unlatch-pam(1).
{line}

"""


class Record(NamedTuple):
    """``blocks`` are the armoured public keys of ``entry.keys``, in this order."""

    entry: Entry
    blocks: tuple[bytes, ...]

    @property
    def keys(self) -> tuple[tuple[str, bytes], ...]:
        """Each fingerprint with its block."""
        return tuple(zip(self.entry.keys, self.blocks, strict=True))


def read(directory: str, name: str) -> Record | None:
    """The record of an account; None if there is none.

    Raises:
        Unfit: there is one that cannot be trusted or has a mistake. Nothing else may then take its place.
    """
    try:
        files.check_directory(os.path.dirname(directory) or "/", ROOT)
        within = files.open_directory(directory, ROOT)
    except files.Missing:
        return None
    path = os.path.join(directory, name)
    try:
        content = files.read(name, ROOT, MAX_RECORD, within=within, name=path)
    except files.Missing:
        return None
    finally:
        os.close(within)
    return parse(content, path)


def parse(content: bytes, path: str) -> Record:
    """Read what stands in a record.

    Raises:
        Unfit
    """
    head, begin, rest = content.partition(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")
    found = entry.from_bytes(head, path)
    if not all(map(entry.is_fingerprint, found.keys)):
        raise Unfit(f"{path}: a key of record is named by its full fingerprint")
    blocks = tuple(_BLOCK.findall(begin + rest))
    if len(blocks) != len(found.keys) or _BLOCK.sub(b"", begin + rest).strip():
        raise Unfit(f"{path}: after the entry stands one armoured public key for each of its fingerprints, and no more")
    return Record(found, blocks)


def read_tls(found: Entry) -> tuple[Secret, bytes]:
    """The TLS key and the certificate that a record names: root's files, by absolute paths.

    Raises:
        Unfit
    """
    for path in (found.tls_key, found.tls_certificate):
        if not path.startswith("/"):
            raise Unfit(f"{path}: in a record this must be an absolute path")
    key, certificate = (files.read(path, ROOT, entry.MAX_TLS) for path in (found.tls_key, found.tls_certificate))
    return Secret(key), certificate


def names(directory: str) -> list[str]:
    """The accounts that have a record, good or bad.

    Raises:
        Unfit: the directory cannot be read.
    """
    try:
        return sorted(name for name in os.listdir(directory) if accounts.is_name(name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unfit(f"{directory}: {reason(error)}") from None


def write(directory: str, name: str, record: Record) -> str:
    """Store a record, or nothing at all; gives its path. It takes the place of the one before.

    Raises:
        Unfit: it cannot be written, or would not be read again.
    """
    path, new = os.path.join(directory, name), os.path.join(directory, f".{name}.new")
    content = _HEAD.format(name=name, line=_line(record.entry)).encode() + b"\n".join([*record.blocks, b""])
    if len(content) > MAX_RECORD or parse(content, path) != record:
        raise Unfit(f"{path}: these keys do not fit into a record")
    try:
        os.makedirs(directory, 0o755, exist_ok=True)
        os.close(files.open_directory(directory, ROOT))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        try:
            _store(new, content)
            os.rename(new, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
    except OSError as error:
        raise Unfit(f"{path}: {reason(error)}") from None
    return path


def remove(directory: str, name: str) -> bool:
    """Whether there was a record, which is gone now.

    Raises:
        Unfit: it cannot be removed.
    """
    try:
        os.unlink(os.path.join(directory, name))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unfit(f"{os.path.join(directory, name)}: {reason(error)}") from None
    return True


def _store(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(descriptor, 0o644)  # whatever the umask; nothing in it is secret
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _line(found: Entry) -> str:
    words = [",".join(found.keys), "trust" if found.trust else "notrust", found.sign_as or "nosign"]
    return " ".join([*words, found.web or "noWebQr", found.tls_key, found.tls_certificate]).rstrip()
