"""What gpg has to do for a new card: make keys there with their certificate, or move keys there.

gpg asks by status lines and is answered on a pipe (GnuPG's doc/DETAILS). A question that was not foreseen ends it.
Nothing secret is in its arguments, its environment or a file.
"""

import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping

from unlatch.errors import UnlatchError
from unlatch.gnupg import keyring
from unlatch.gnupg.card_init import Source, same_name
from unlatch.gnupg.homes import Home
from unlatch.gnupg.keyring import NoSuchKey
from unlatch.secret import Secret

# A slow card takes some minutes for one key of RSA 4096, and says nothing meanwhile.
SECONDS = 3600.0
LISTING_SECONDS = 60.0
MAX_LINE = 65536  # bytes
_ASKS = re.compile(r"\[GNUPG:\] GET_(LINE|BOOL|HIDDEN) (\S+)")
_NEW_KEY = "0" * 16  # the key id in NEED_PASSPHRASE of a key that does not exist yet
_RSA = "1"

Environ = Mapping[str, str]


class GpgFailed(UnlatchError):
    """gpg did not do it. ``said`` is the last that it said to people."""

    def __init__(self, purpose: str, said: str = "") -> None:
        super().__init__(f"gpg could not {purpose}" + (f": {said}" if said else ""))


class Talk:
    """A conversation with gpg. ``lines`` are those that it said outside of the protocol."""

    def __init__(self, words: list[str], environ: Environ, purpose: str) -> None:
        self._purpose = purpose
        self.lines: list[str] = []
        try:
            self._process = subprocess.Popen(
                ["gpg", "--no-tty", "--quiet", "--command-fd", "0", "--status-fd", "1", *words],
                env=environ, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: gpg must not die between a key and its certificate
            )  # fmt: skip
        except OSError as error:
            raise GpgFailed(purpose, (error.strerror or "it cannot be run").lower()) from None

    def run(self, answer: Callable[[str, str], "bytes | Secret | None"]) -> list[str]:
        """Let it ask, and ``answer`` each question by its kind and name; the status lines that it gave.

        Raises:
            GpgFailed: there was no answer to a question, or it failed.
        """
        status: list[str] = []
        try:
            for line in self._said():
                asked = _ASKS.match(line)
                if asked is None:
                    self._note(line, status)
                    continue
                given = answer(asked[1], asked[2])
                if given is None:
                    raise GpgFailed(self._purpose, self._last() or f"it asks for {asked[2]}")
                self._tell(given)
            if self._process.wait(SECONDS) != 0:
                raise GpgFailed(self._purpose, self._last())
        finally:
            self._end()
        return status

    def _tell(self, given: "bytes | Secret") -> None:
        assert self._process.stdin is not None
        data = bytearray(given.reveal() if isinstance(given, Secret) else given) + b"\n"
        try:
            os.write(self._process.stdin.fileno(), data)
        except OSError:
            raise GpgFailed(self._purpose, self._last()) from None
        finally:
            data[:] = bytes(len(data))

    def _said(self) -> Iterator[str]:
        assert self._process.stdout is not None
        descriptor, until, buffer = self._process.stdout.fileno(), time.monotonic() + SECONDS, b""
        while True:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise GpgFailed(self._purpose, "it said nothing any more")
            data = os.read(descriptor, 4096)
            if not data:
                return
            *lines, buffer = (buffer + data)[-MAX_LINE:].split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace").rstrip("\r")

    def _note(self, line: str, status: list[str]) -> None:
        if line.startswith("[GNUPG:] "):
            status.append(line.removeprefix("[GNUPG:] "))
        elif line.startswith("gpg: ") and not line.startswith("gpg: WARNING: unsafe"):
            self.lines.append(line.removeprefix("gpg: "))

    def _last(self) -> str:
        return self.lines[-1][:200] if self.lines else ""

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(2.0)  # at the end of its questions it leaves
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()


def environment(home: Home, environ: Environ, tty: str) -> dict[str, str]:
    """What gpg gets to know: besides the home, where its agent's pinentry may ask for the passphrase of a key."""
    kept = {name: environ[name] for name in ("TERM", "DISPLAY", "WAYLAND_DISPLAY", "GPG_TTY") if name in environ}
    return {**home.environment(), **kept, **({"GPG_TTY": tty} if tty else {})}


def generate(
    environ: Environ,
    owner: tuple[str, str, str],
    expires: str,
    pin: Secret,
    new_passphrase: Callable[[], Secret] | None,
) -> tuple[str, str]:
    """Make three keys on the card, and their certificate: its fingerprint, and the path of the backup ("" for none).

    The PIN and the admin PIN must have been verified, and the signature PIN not be forced. gpg all the same asks for
    the PIN, which is given where it can be nothing else that is asked for: before its own questions, and for a
    signature, of which it names the key. ``new_passphrase`` gives what the backup of the encryption key is protected
    with; None for no backup.

    Raises:
        GpgFailed
    """
    commands = iter((b"admin", b"generate", b"quit"))
    name, mail, comment = (part.encode() for part in owner)
    plain = {
        "cardedit.genkeys.backup_enc": b"y" if new_passphrase else b"n",
        "cardedit.genkeys.replace_keys": b"y",  # the caller has asked
        "keygen.valid": expires.encode(),
        "keygen.name": name,
        "keygen.email": mail,
        "keygen.comment": comment,
    }
    talk = _Watching(["--pinentry-mode", "loopback", "--allow-freeform-uid", "--card-edit"], environ, "make the keys")
    asked: set[str] = set()

    def answer(kind: str, question: str) -> "bytes | Secret | None":
        if question == "cardedit.prompt":
            return next(commands, None)
        if kind == "HIDDEN":
            if talk.key_id == _NEW_KEY:
                return new_passphrase() if new_passphrase else None
            return pin if talk.key_id or "keygen.valid" not in asked else None
        if question in asked:  # it did not like the first answer
            return None
        asked.add(question)
        return plain.get(question)

    status = talk.run(answer)
    created = _value(status, "KEY_CREATED")
    if not created:
        raise GpgFailed("make the keys", talk.last_word())
    backup = _value(status, "BACKUP_KEY_CREATED")
    return created[-1], " ".join(backup[1:])


def move(environ: Environ, primary: str, source: Source) -> None:
    """Move one key to the card by keytocard; what is on the disk becomes a stub.

    The admin PIN must have been verified. The passphrase of the key is asked for by the agent's own pinentry.

    Raises:
        GpgFailed
    """
    commands = [b"keytocard", b"save"] if not source.number else [b"key %d" % source.number, b"keytocard", b"save"]
    left = iter(commands)
    plain = {
        "keyedit.keytocard.use_primary": b"y",
        "cardedit.genkeys.storekeytype": b"%d" % source.slot,
        "cardedit.genkeys.replace_key": b"y",  # the caller has asked
    }
    talk = _Watching(["--edit-key", primary], environ, "move the key")

    def answer(kind: str, question: str) -> bytes | None:
        if question == "keyedit.prompt":
            return next(left, None)
        return None if kind == "HIDDEN" else plain.pop(question, None)

    status = talk.run(answer)
    if any(line.startswith("SC_OP_FAILURE") for line in status):
        raise GpgFailed("move the key", talk.last_word())


def sources(environ: Environ, what: str) -> tuple[str, tuple[Source, ...]]:
    """The primary key that somebody names, and which of its keys go where: of each use the newest that is good.

    Raises:
        NoSuchKey: there is no such secret key, or several.
    """
    listing = _list(environ, ["--list-secret-keys", "--with-keygrip", what])
    found = keyring.parse_listing(re.sub(r"^s(ec|sb):", lambda each: _PUBLIC[each[0]], listing, flags=re.MULTILINE))
    primaries = list(dict.fromkeys(key.primary for key in found))
    if len(primaries) != 1:
        raise NoSuchKey(what)
    rows = [line.split(":") for line in listing.splitlines() if line[:4] in ("sec:", "ssb:")]
    chosen: dict[int, Source] = {}
    for index, (key, row) in enumerate(zip(found, rows, strict=True)):
        for slot, use in ((1, "s"), (2, "e"), (3, "a")):
            if use in key.uses and not key.state and (slot not in chosen or index > 0):
                algorithm = f"rsa{row[2]}" if row[3] == _RSA else same_name(row[16])
                chosen[slot] = Source(slot, key.fingerprint, algorithm, index, row[14] not in ("", "+"))
    # keytocard moves a key once: one that signs and logs in is moved to log in with.
    taken = {each.fingerprint: each for each in chosen.values()}
    return primaries[0], tuple(sorted(taken.values(), key=lambda each: each.slot))


def certified(environ: Environ, fingerprints: list[str]) -> frozenset[str]:
    """Those of these keys that a certificate of the keyring names."""
    if not fingerprints:
        return frozenset()
    listing = _list(environ, ["--list-keys", *fingerprints])
    return frozenset(each for each in fingerprints if f":{each}:" in listing)


def primary_of(environ: Environ, fingerprint: str) -> str:
    """The fingerprint of the primary key that certifies this one; "" without a certificate."""
    listing = _list(environ, ["--list-keys", "--with-keygrip", fingerprint])
    return next((key.primary for key in keyring.parse_listing(listing) if key.fingerprint == fingerprint), "")


def export(environ: Environ, primary: str, path: str) -> None:
    """Write the whole secret key to a new file, protected with its passphrase; the agent's pinentry asks for that.

    Raises:
        GpgFailed
        OSError: the file is there, or cannot be made.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # Never --output: gpg 2.2 removes what it cannot write.
        done = subprocess.run(
            ["gpg", "--batch", "--no-tty", "--quiet", "--armor", "--export-secret-keys", primary],
            env=environ, cwd="/", stdin=subprocess.DEVNULL, stdout=descriptor, stderr=subprocess.PIPE,
            timeout=SECONDS, check=False, start_new_session=True,
        )  # fmt: skip
        _check(done, os.fstat(descriptor).st_size)
        os.fsync(descriptor)
    except BaseException:
        os.unlink(path)  # an empty or half file would pass for a backup
        raise
    finally:
        os.close(descriptor)


_PUBLIC = {"sec:": "pub:", "ssb:": "sub:"}


class _Watching(Talk):
    """Remembers of which key the next hidden question is: ``key_id``, "" for none."""

    key_id = ""

    def _note(self, line: str, status: list[str]) -> None:
        super()._note(line, status)
        if line.startswith("[GNUPG:] NEED_PASSPHRASE "):
            self.key_id = line.split()[2]

    def _tell(self, given: "bytes | Secret") -> None:
        self.key_id = ""
        super()._tell(given)

    def last_word(self) -> str:
        """The last that gpg said to people."""
        return self._last()


def _value(status: list[str], keyword: str) -> list[str]:
    """What stands behind the last status line of this name, in words."""
    found = [line.split()[1:] for line in status if line.split(" ")[0] == keyword]
    return found[-1] if found else []


def _list(environ: Environ, words: list[str]) -> str:
    """A listing for programs; an empty one if there is no such key."""
    try:
        done = subprocess.run(
            ["gpg", "--batch", "--no-tty", "--quiet", "--with-colons", "--fixed-list-mode", *words],
            env=environ, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=LISTING_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        raise GpgFailed("list the keys") from None
    return done.stdout.decode("utf-8", "replace")


def _check(done: "subprocess.CompletedProcess[bytes]", size: int) -> None:
    if done.returncode != 0 or not size:
        raise GpgFailed("export the key", _last_line(done.stderr))


def _last_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("gpg: ")[:200] if lines else ""
