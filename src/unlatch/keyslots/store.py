"""Where stored secrets lie: one directory (0700), one file (0600) for each, and how one file replaces another.

A reader takes no lock: a file is replaced in one step, so it is the old or the new one. Writers hold the secret's lock
from reading to renaming (:meth:`Store.edit`), and change what is there *then*, so two of them lose nothing.
"""

import contextlib
import fcntl
import os
import pwd
import stat
import time
from collections.abc import Callable, Iterator, Mapping

from unlatch.keyslots.errors import BadSecretFile, Busy, NoSuchSecret, SecretExists, Unsafe
from unlatch.keyslots.header import MAX_FILE, SecretFile, check_name, from_json, is_name, to_json

SUFFIX = ".json"
_POLL = 0.01  # s between tries for the lock; flock(2) knows no time limit
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def directory(environ: Mapping[str, str], home: str) -> str:
    """Where this user's secrets are: ``$UNLATCH_SECRETS``, else ``~/.local/share/unlatch/secrets``.

    Not below ``$XDG_DATA_HOME``: a job without an environment must find what a shell with one stored.
    """
    return environ.get("UNLATCH_SECRETS") or os.path.join(home, ".local", "share", "unlatch", "secrets")


def account_home(uid: int, environ: Mapping[str, str]) -> str:
    """The home directory of the account, whatever $HOME says; for a uid without an account, $HOME.

    A job without an environment and one under sudo must look where the account's secrets are.
    """
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return environ.get("HOME", "/")


class Store:
    """A directory of stored secrets. Nothing is read or made before the first call."""

    def __init__(self, path: str) -> None:
        self.path = path

    def names(self) -> list[str]:
        """What there is, sorted; files that no secret's name fits are not ours and are left out.

        Raises:
            Unsafe
        """
        try:
            self._check_directory()
            found = os.listdir(self.path)
        except FileNotFoundError:
            return []
        names = [name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX)]
        return sorted(filter(is_name, names))

    def read(self, name: str) -> SecretFile:
        """The file of this secret.

        Raises:
            BadName, NoSuchSecret, Unsafe
            BadSecretFile: it is not what it should be, or says that it is another secret.
        """
        path = self.file(name)
        try:
            self._check_directory()
            descriptor = os.open(path, _READ)
        except FileNotFoundError:
            raise NoSuchSecret(name, path) from None
        except OSError as error:
            raise Unsafe(path, (error.strerror or "it cannot be opened").lower()) from None
        try:
            _check_ours(path, os.fstat(descriptor), stat.S_ISREG)
            data = _read(descriptor, MAX_FILE + 1)
        finally:
            os.close(descriptor)
        try:
            file = from_json(data)
        except BadSecretFile as error:
            raise BadSecretFile(error.why, path) from None
        if file.header.name != name:
            raise BadSecretFile(f"it holds the secret {file.header.name}", path)
        return file

    def add(self, file: SecretFile, check: Callable[[SecretFile], None]) -> None:
        """Store a new secret; ``check`` opens what was written, before it gets its name.

        Raises:
            BadName, SecretExists, Unsafe, Busy
            OSError: it cannot be written.
        """
        name = file.header.name
        with self.locked(name):
            if os.path.lexists(self.file(name)):
                raise SecretExists(name)
            self._replace(name, file, check)

    def edit(
        self, name: str, change: Callable[[SecretFile], SecretFile], check: Callable[[SecretFile], None]
    ) -> SecretFile:
        """Replace what is there by what ``change`` makes of it; under another name, if it says so.

        ``check`` gets the new file as it was read back from the disk, and raises when it does not open: then the old
        one stays. Returns the new file.

        Raises:
            NoSuchSecret, BadSecretFile, Unsafe, Busy, SecretExists
            OSError: it cannot be written (EROFS on a read-only disk); the old file stays.
        """
        with self.locked(name):
            new = change(self.read(name))
            if new.header.name == name:
                self._replace(name, new, check)
                return new
            with self.locked(new.header.name):
                if os.path.lexists(self.file(new.header.name)):
                    raise SecretExists(new.header.name)
                self._replace(new.header.name, new, check)
                os.unlink(self.file(name))
                self._sync_directory()
            return new

    def remove(self, name: str) -> None:
        """Forget a secret. What the disk still holds of it stays closed as before.

        Raises:
            NoSuchSecret, Unsafe, Busy
        """
        path = self.file(name)
        with self.locked(name):
            try:
                os.unlink(path)
            except FileNotFoundError:
                raise NoSuchSecret(name, path) from None
            self._sync_directory()

    def file(self, name: str) -> str:
        """The path of this secret's file.

        Raises:
            BadName
        """
        return os.path.join(self.path, check_name(name) + SUFFIX)

    @contextlib.contextmanager
    def locked(self, name: str, seconds: float = 10.0) -> Iterator[None]:
        """Keep other writers of this secret out. Short: no person is waited for inside. Not reentrant.

        Raises:
            Unsafe
            Busy: somebody held it for ``seconds``.
        """
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        self._check_directory()
        path = os.path.join(self.path, f".{check_name(name)}.lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        lock = os.open(path, flags, 0o600)
        try:
            _wait_for(lock, name, time.monotonic() + seconds)
            yield
        finally:
            os.close(lock)  # and with it the lock

    def _replace(self, name: str, file: SecretFile, check: Callable[[SecretFile], None]) -> None:
        """Write beside, make it durable, open it, rename, make the name durable: a power cut leaves one of the two."""
        beside = os.path.join(self.path, f".{name}.new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)  # left by a process that died; we hold the lock
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(beside, flags, 0o600), "w+b") as stream:
                stream.write(to_json(file))
                stream.flush()
                os.fsync(stream.fileno())
                stream.seek(0)
                check(from_json(stream.read(MAX_FILE + 1)))
            os.rename(beside, self.file(name))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        self._sync_directory()

    def _sync_directory(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _check_directory(self) -> None:
        _check_ours(self.path, os.stat(self.path, follow_symlinks=False), stat.S_ISDIR)


def _read(descriptor: int, most: int) -> bytes:
    data = bytearray()
    while len(data) < most and (piece := os.read(descriptor, most - len(data))):
        data += piece
    return bytes(data)


def _check_ours(path: str, found: os.stat_result, kind: Callable[[int], bool]) -> None:
    if not kind(found.st_mode):
        raise Unsafe(path, "it is no plain file or directory")
    if found.st_uid != os.geteuid():
        raise Unsafe(path, "it belongs to another user")
    if found.st_mode & 0o077:
        raise Unsafe(
            path, "others may read it: its mode must be " + ("0700" if stat.S_ISDIR(found.st_mode) else "0600")
        )


def _wait_for(lock: int, name: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy(name) from None
            time.sleep(_POLL)
        else:
            return
