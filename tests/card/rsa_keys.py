"""RSA keys for emulated cards: each is generated once per run of the tests, whichever worker needs it first."""

import atexit
import fcntl
import functools
import shutil
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_EXPONENT = 65537
_shelf: Path | None = None


def keep_in(directory: Path) -> None:
    """Name the directory that all workers of this run share."""
    global _shelf  # noqa: PLW0603 - one run, one shelf
    directory.mkdir(mode=0o700, exist_ok=True)
    _shelf = directory


@functools.cache
def rsa_key(bits: int, number: int) -> rsa.RSAPrivateKey:
    """The key with this number among those of ``bits``; they protect nothing, so they may lie in a file."""
    path = _directory() / f"rsa{bits}-{number}.der"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            path.write_bytes(_der(rsa.generate_private_key(_EXPONENT, bits)))
    key = serialization.load_der_private_key(path.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def _directory() -> Path:
    if _shelf is None:
        own = Path(tempfile.mkdtemp(prefix="unlatch-cards-", dir="/tmp"))
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        keep_in(own)
    assert _shelf is not None
    return _shelf


def _der(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
