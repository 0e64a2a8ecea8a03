"""libgpg-error's numbers and our names: held against the library itself."""

import ctypes
import errno

import pytest

from unlatch.gnupg import errors
from unlatch.gnupg.errors import GpgError, gpg_error

_library = ctypes.CDLL("libgpg-error.so.0")
_library.gpg_strerror.restype = ctypes.c_char_p
# What the library calls each number that has a name here.
TEXTS = {
    "BadPassphrase": {"Bad passphrase"},
    "BadPin": {"Bad PIN"},
    "PinBlocked": {"PIN blocked"},
    "NoCard": {"Card not present"},
    "CardRemoved": {"Card removed"},
    "CardReset": {"Card reset required"},
    "CardChanged": {"Wrong card"},
    "CardFault": {"Card error"},
    "NoDevice": {"No such device"},
    "NoSecretKey": {"No secret key"},
    "Cancelled": {"Operation cancelled", "Operation fully cancelled", "IPC call has been cancelled"},
    "NotConfirmed": {"Not confirmed"},
    "TimedOut": {"Timeout"},
    "Forbidden": {"Forbidden"},
    "NoPinentry": {"No pinentry", "pinentry error"},
    "NoCardDaemon": {"No SmartCard daemon", "SmartCard daemon error"},
    "BrokenPipe": {"Broken pipe"},
    "CardDaemonEnded": {"End of file"},
    "NotSupported": {"Not supported", "Not implemented"},
    "NoData": {"No data"},
    "NotFound": {"Not found"},
    "InvalidId": {"Invalid ID"},
    "InvalidName": {"Invalid name"},
    "InvalidValue": {"Invalid value", "Provided object is too short", "Provided object is too large", "Invalid length"},
    "UnknownCommand": {"Unknown command", "Unknown IPC command"},
    "BadParameter": {"IPC syntax error", "IPC parameter error"},
}


def text_of(number: int) -> str:
    said: bytes = _library.gpg_strerror(number)
    return said.decode()


def test_every_name_stands_for_what_the_library_means() -> None:
    """And no name stands for nothing."""
    named: dict[str, set[str]] = {}
    for number, kind in errors.NAMED.items():
        named.setdefault(kind.__name__, set()).add(text_of(number))
    assert named == TEXTS


def test_system_errors_have_the_librarys_numbers() -> None:
    """They are not errno's."""
    for number, kind in ((errno.ENODEV, errors.NoDevice), (errno.EPIPE, errors.BrokenPipe)):
        assert errors.NAMED[_library.gpg_err_code_from_errno(number)] is kind


@pytest.mark.parametrize(
    ("code", "kind", "source"),
    [
        (100663383, errors.BadPin, 6),
        (100663426, errors.PinBlocked, 6),
        (100696144, errors.NoDevice, 6),
        (100663406, errors.CardRemoved, 6),
        (100663414, errors.InvalidId, 6),
        (100663387, errors.CardChanged, 6),
        (67108963, errors.Cancelled, 4),
        (67108949, errors.NoPinentry, 4),
        (67141741, errors.BrokenPipe, 4),
        (83886142, errors.TimedOut, 5),
        (67109038, GpgError, 4),
        (0, GpgError, 0),
        (2**32 - 1, GpgError, 127),
    ],
)
def test_what_was_measured(code: int, kind: type[GpgError], source: int) -> None:
    """The whole numbers that gpg-agent 2.2.40 was seen to say."""
    error = gpg_error(code, "text")
    assert type(error) is kind
    assert (error.code, error.error, error.source, str(error)) == (code, code & 0xFFFF, source, "text")
