"""What the service tells the journal: one line for each login, made of texts that strangers chose. Pure but ``write``.

    login denied: user=alice service=sshd from=203.0.113.5 uid=0: REASON
    login allowed: user=alice service=sudo from=pts/3 uid=0 by=challenge key=FINGERPRINT

A value has no blank and no "=", so that nobody can name himself into another field; the response is in none.
"""

import contextlib
import os

from unlatch.wire.pam import Hello

MAX_VALUE = 128  # characters of one value: an account's name has at most 32, a host's at most 255
MAX_REASON = 500


def allowed(hello: Hello, uid: int, by: str) -> str:
    """The line for a login that was let in. ``uid`` is the asking process's, ``by`` says how: "challenge key=..."."""
    return f"login allowed: {_who(hello, uid)} by={_printable(by, MAX_REASON)}"


def denied(hello: Hello, uid: int, why: str) -> str:
    """The line for one that was not."""
    return f"login denied: {_who(hello, uid)}: {_printable(why, MAX_REASON)}"


def noted(hello: Hello, uid: int, what: str) -> str:
    """The line for what went wrong in a login that goes on."""
    return f"login goes on: {_who(hello, uid)}: {_printable(what, MAX_REASON)}"


def refused(uid: int, why: str) -> str:
    """The line for a connection of which nobody knows yet for whom it asks."""
    return f"login denied: uid={uid}: {_printable(why, MAX_REASON)}"


def origin(hello: Hello) -> str:
    """Where a login comes from, as its program says: a remote host, else a terminal; and who was there before."""
    place = hello.rhost or hello.tty.removeprefix("/dev/")
    return f"{hello.ruser}@{place}" if hello.ruser and hello.ruser != hello.user else place


def write(line: str) -> None:
    """Put a line on standard error, which is the journal's under systemd. A full disk there stops no login."""
    with contextlib.suppress(OSError):
        os.write(2, line.encode("utf-8", "backslashreplace") + b"\n")


def _who(hello: Hello, uid: int) -> str:
    fields = {"user": hello.user, "service": hello.service, "from": origin(hello)}
    return " ".join(f"{name}={value(text)}" for name, text in fields.items()) + f" uid={uid}"


def value(text: str) -> str:
    """A stranger's text as one word: in a reason too, which could else hold what looks like another login's line."""
    shown = "".join(f"\\x{ord(each):02x}" if each in ' ="\\' else each for each in text[:MAX_VALUE])
    return _printable(shown, MAX_VALUE) or "-"


def _printable(text: str, most: int) -> str:
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."
