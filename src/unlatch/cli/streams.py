"""Standard input, output and error of a process that was started without them.

The kernel gives a new file the lowest free number. So without standard output the connection to the broker is
descriptor 1, and a secret that is printed goes there in clear; and Python prints on standard output what was meant for
a standard error that is not there, which sudo takes for the password. Both are settled before anything is opened.
"""

import io
import os
import sys

# Reading gives nothing; writing a result fails, so that nobody believes it arrived; talk goes nowhere.
_INSTEAD = ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY))


def settle() -> None:
    """Open what is closed of the three. To be called before any other file is opened."""
    for descriptor, flags in _INSTEAD:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # the lowest free number: this one
            os.set_inheritable(descriptor, True)  # by a program that "unlatch run" starts, which expects three
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # for the whole life
    if sys.stdout is None:
        sys.stdout = _writer(1)
    if sys.stderr is None:
        sys.stderr = _writer(2)


def _writer(descriptor: int) -> io.TextIOWrapper:
    # Unbuffered: what could not be written is not tried again when Python ends.
    return io.TextIOWrapper(open(descriptor, "wb", 0, closefd=False), encoding="utf-8", write_through=True)  # type: ignore[arg-type,unused-ignore]
