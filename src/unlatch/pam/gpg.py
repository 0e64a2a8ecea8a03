"""What gpg does for a login: find a key, judge it, encrypt to it. Never on the network, never by anybody's options.

Every function runs gpg and so belongs into a task of :mod:`unlatch.pam.as_user`, which bounds it. Keys are handed over
as open files (gpg(1), --enable-special-filenames), so there are none to clean up.
"""

import contextlib
import os
import resource
import shutil
import subprocess  # not late: who runs gpg may not be able to read our files any more
from collections.abc import Iterator, Sequence

from unlatch.pam import certificate, entry
from unlatch.pam.as_user import boottime, printable, read_most, reason
from unlatch.pam.certificate import Certificate
from unlatch.pam.errors import Spent, Unfit

MAX_LISTING = 1 << 20  # bytes; a certificate may carry many signatures and names
MAX_BLOCK = 49152  # bytes of one armoured key; rsa4096 with three subkeys and five names is 9 KiB
MAX_MESSAGE = 16384  # bytes; three rsa4096 recipients and an rsa4096 signature are 4 KiB
SECONDS = 60.0  # what stands around the task is shorter

_ALWAYS = (
    "--no-options", "--batch", "--no-tty", "--quiet", "--no-permission-warning", "--no-random-seed-file",
    "--no-auto-key-locate", "--no-auto-key-retrieve", "--disable-dirmngr", "--no-auto-check-trustdb", "--lock-never",
    "--no-encrypt-to", "--no-comments", "--no-emit-version", "--display-charset", "utf-8",
)  # fmt: skip
_ANY_TRUST = ("--trust-model", "always")


def find(homedir: str, word: str, *, trust: bool) -> tuple[str, bytes]:
    """Fingerprint and armoured block of the one key in a keyring that a word of an entry stands for.

    ``trust``: it must be fully valid by this keyring's own trust database.

    Raises:
        Unfit: there is none or more than one, nobody can encrypt to it, it is not valid.
    """
    model = () if trust else _ANY_TRUST
    key = _the_one(homedir, word, model)
    certificate.judge(key, word, "E")
    if trust:
        certificate.check_valid(key, word)
    export = ("--export-options", "export-minimal,no-export-attributes", "--armor", "--export", "--", key.fingerprint)
    block = _gpg(homedir, (*_ANY_TRUST, *export), f"gpg cannot export {key.fingerprint}", most=MAX_BLOCK, alone=True)
    if not block.startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"):
        raise Unfit(f"gpg did not export {key.fingerprint}")
    return key.fingerprint, block.rstrip(b"\n")


def check(work: str, keys: Sequence[tuple[str, bytes]]) -> bytes:
    """Say nothing if each block is the one key of its fingerprint, and somebody could encrypt to it now.

    Here and below ``work`` is a directory that does not exist yet, and does not afterwards.

    Raises:
        Unfit
    """
    with _directory(work):
        for fingerprint, block in keys:
            _check_block(work, fingerprint, block)
    return b""


def pick(work: str, content: bytes, word: str) -> tuple[str, bytes]:
    """Fingerprint and armoured block of the one key in a file, which must be the one that a word stands for.

    Raises:
        Unfit: the file holds no key, several, or another one; nobody can encrypt to it.
    """
    with _directory(work), contextlib.ExitStack() as opened:
        file = _memory_file(opened, content)
        key = _only(work, file, word)
        certificate.judge(key, word, "E")
        os.lseek(file, 0, os.SEEK_SET)
        options = ("--no-keyring", *_ANY_TRUST, "--enable-special-filenames", "--armor")
        importing = ("--import-options", "import-export,import-minimal", "--import", "--", f"-&{file}")
        block = _gpg(work, (*options, *importing), "gpg cannot read the key", most=MAX_BLOCK, files=[file])
    return key.fingerprint, block.rstrip(b"\n")


def encrypt(work: str, text: bytes, keys: Sequence[tuple[str, bytes]], signing: str = "", sign_as: str = "") -> str:
    """``text`` as an armoured message for these keys (fingerprint, block) and no others, below a line that names those
    which can open it: a spare key that has expired must not shut out who has the other.

    ``signing`` is the home of the key that is named by ``sign_as``.

    Raises:
        Unfit: a block is not the one key of its fingerprint, nobody can encrypt to any of them, or gpg fails.
    """
    with _directory(work), contextlib.ExitStack() as opened:
        usable = _usable(work, keys)
        files = [_memory_file(opened, block) for _, block in usable]
        recipients = [word for file in files for word in ("--recipient-file", f"-&{file}")]
        how = ("--enable-special-filenames", "--compress-algo", "none", "--armor", *recipients)
        home, sign = (signing, _signing(signing, sign_as)) if sign_as else (work, ("--no-keyring",))
        arguments = (*_ANY_TRUST, *how, *sign, "--encrypt")
        said = _gpg(home, arguments, "gpg cannot encrypt", feed=text, most=MAX_MESSAGE, files=files)
    message = said.decode("ascii", "replace")
    if not message.startswith("-----BEGIN PGP MESSAGE-----\n") or not message.endswith("-----END PGP MESSAGE-----\n"):
        raise Unfit("gpg gave no message")
    return f"{' '.join(fingerprint for fingerprint, _ in usable)}\n{message}"


def clear(work: str) -> bytes:
    """Remove what a gpg that was killed left in its directory. It says nothing."""
    shutil.rmtree(work, ignore_errors=True)
    return b""


def make_signing_key(homedir: str, name: str) -> bytes:
    """Make a key of this name that signs and does nothing else. Nobody could type a passphrase, so it has none.

    Raises:
        Unfit
    """
    try:
        os.makedirs(homedir, 0o700, exist_ok=True)
        with open(os.path.join(homedir, "gpg-agent.conf"), "w") as conf:
            conf.write("disable-scdaemon\n")
    except OSError as error:
        raise Unfit(f"{homedir}: {reason(error)}") from None
    arguments = ("--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", "--", name)
    return _gpg(homedir, (*_ANY_TRUST, *arguments, "ed25519", "sign", "never"), "gpg cannot make the key")


def find_signing_key(homedir: str, sign_as: str) -> tuple[str, bytes] | None:
    """Fingerprint and armoured block of the server's key that signs as this; None if there is none.

    Raises:
        Unfit: there are several, or it cannot sign.
    """
    listing = _gpg(homedir, (*_ANY_TRUST, "--with-colons", "--list-keys"), "gpg cannot list the server's keys")
    found = [key for key in certificate.parse(listing) if certificate.is_named(key, sign_as)]
    if not found:
        return None
    if len(found) > 1:
        raise Unfit(f"{homedir}: {sign_as} stands for {len(found)} keys; name one by its full fingerprint")
    certificate.judge(found[0], sign_as, "S")
    arguments = (*_ANY_TRUST, "--armor", "--export", "--", found[0].fingerprint)
    return found[0].fingerprint, _gpg(homedir, arguments, "gpg cannot export the server's key", most=MAX_BLOCK)


@contextlib.contextmanager
def _directory(work: str) -> Iterator[None]:
    """A home for one run of gpg, which wants to make a trust database even where none plays a part."""
    try:
        os.mkdir(work, 0o700)
        yield
    except OSError as error:
        raise Unfit(f"{work}: {reason(error)}") from None
    finally:
        clear(work)


def _the_one(homedir: str, word: str, model: Sequence[str]) -> Certificate:
    term = word if entry.is_fingerprint(word) else f"<{word}>"
    arguments = (*model, "--with-colons", "--list-keys", "--", term)
    found = certificate.parse(_gpg(homedir, arguments, f"{homedir}: no key {word}", most=MAX_LISTING, alone=True))
    if entry.is_fingerprint(word):
        found = [key for key in found if word in key.fingerprints]
    if not found:
        raise Unfit(f"{homedir}: no key {word}")
    if len(found) > 1:
        raise Unfit(f"{homedir}: {word} stands for {len(found)} keys; name one by its full fingerprint")
    return found[0]


def _only(homedir: str, file: int, word: str) -> Certificate:
    arguments = ("--no-keyring", "--enable-special-filenames", "--with-colons", "--show-keys", "--", f"-&{file}")
    found = certificate.parse(_gpg(homedir, arguments, "gpg can read no key", files=[file]))
    if len(found) != 1:
        raise Unfit(f"there is not one key, but {len(found)}: export it alone (gpg --export FINGERPRINT)")
    if not certificate.is_named(found[0], word):
        raise Unfit(f"the key is not {word}, but {found[0].fingerprint}")
    return found[0]


def _usable(homedir: str, keys: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Those of the keys to which somebody can encrypt now; each must be the one that its fingerprint says."""
    usable: list[tuple[str, bytes]] = []
    spent = Spent("there is no key")
    for fingerprint, block in keys:
        try:
            _check_block(homedir, fingerprint, block)
            usable.append((fingerprint, block))
        except Spent as error:
            spent = error
    if not usable:
        raise spent
    return usable


def _check_block(homedir: str, fingerprint: str, block: bytes) -> None:
    arguments = ("--no-keyring", "--with-colons", "--show-keys")
    found = certificate.parse(
        _gpg(homedir, arguments, f"gpg cannot read the key {fingerprint}", feed=block, most=MAX_LISTING)
    )
    if len(found) != 1 or found[0].fingerprint != fingerprint:
        raise Unfit(f"what should be the key {fingerprint} is another one, or none")
    certificate.judge(found[0], fingerprint, "E")


def _signing(homedir: str, sign_as: str) -> tuple[str, ...]:
    found = find_signing_key(homedir, sign_as) if os.path.isdir(homedir) else None
    if found is None:
        raise Unfit(f"{homedir}: no key {sign_as} to sign with (unlatch pam sign-key)")
    return ("--disable-signer-uid", "--local-user", found[0], "--sign")


def _gpg(
    homedir: str,
    arguments: Sequence[str],
    failed: str,
    *,
    feed: bytes = b"",
    most: int = MAX_LISTING,
    files: Sequence[int] = (),
    alone: bool = False,
) -> bytes:
    """Run gpg once; ``feed`` must fit into a pipe. Its messages name keys and files, never what it was fed with.

    ``alone``: it can start no process. A home's common.conf, which --no-options does not keep out, may name a keyboxd,
    and that would be any program of the account's, for as long as it likes, among those of the service.
    """
    with contextlib.ExitStack() as opened:
        errors = _memory_file(opened, b"")
        taken, given = os.pipe2(os.O_CLOEXEC)
        opened.callback(os.close, taken)
        try:
            _feed(given, feed)
        finally:
            os.close(given)
        try:
            process = subprocess.Popen(
                ["gpg", "--homedir", homedir, *_ALWAYS, *arguments],
                stdin=taken,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=files,
                preexec_fn=_forbid_processes if alone else None,  # noqa: PLW1509  # there are no threads here
            )
        except OSError as error:
            raise Unfit(f"gpg cannot be run: {reason(error)}") from None
        with process:
            said = _output(process, most)
        if said is None or process.returncode != 0:
            raise Unfit(f"{failed}: {'too much output' if said is None else _last_line(errors)}")
    return said


def _forbid_processes() -> None:
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _feed(given: int, feed: bytes) -> None:
    os.set_blocking(given, False)
    if feed and os.write(given, feed) != len(feed):
        raise Unfit("gpg cannot be fed: too much")


def _output(process: subprocess.Popen[bytes], most: int) -> bytes | None:
    assert process.stdout is not None
    said = read_most(process.stdout.fileno(), most, boottime() + SECONDS)
    if said is None:
        process.kill()
    return said


def _last_line(errors: int) -> str:
    os.lseek(errors, 0, os.SEEK_SET)
    lines = os.read(errors, 65536).decode("utf-8", "replace").strip().splitlines()
    return printable(lines[-1].removeprefix("gpg: ")) if lines else "it said nothing"


def _memory_file(opened: contextlib.ExitStack, content: bytes) -> int:
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    opened.callback(os.close, descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
