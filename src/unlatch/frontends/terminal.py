"""The terminal of the asking session: the one place to show what a stranger with a link cannot see."""

import os


def open_terminal(name: str) -> int | None:
    """The terminal that ``OPTION ttyname`` names, open for writing; None when it is none or is not to be opened."""
    if not name.startswith("/"):
        return None
    try:
        # O_NONBLOCK: a terminal that was stopped with Ctrl-S must not stop us.
        descriptor = os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    if not os.isatty(descriptor):
        os.close(descriptor)
        return None
    return descriptor


def is_terminal(name: str) -> bool:
    """Whether there is a terminal of this name that we may write to."""
    descriptor = open_terminal(name)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def show_digits(name: str, digits: str, uid: int) -> bool:
    """Show two digits to whoever sits there; False if nobody of ours does.

    The terminal must belong to ``uid``: a name that the caller made up must not carry the digits to another user.
    """
    descriptor = open_terminal(name)
    if descriptor is None:
        return False
    text = f"\r\nunlatch: type {digits} on the page to say yes\r\n".encode()
    try:
        return os.fstat(descriptor).st_uid == uid and os.write(descriptor, text) == len(text)
    except OSError:
        return False
    finally:
        os.close(descriptor)
