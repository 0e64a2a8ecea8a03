"""What a program that runs an askpass helper wants: SSH_ASKPASS, SUDO_ASKPASS, GIT_ASKPASS. Pure.

All of them give a text as the one argument, and only ssh says more, by SSH_ASKPASS_PROMPT (ssh(1)): "confirm" wants an
exit code, "none" shows a text until ssh kills the helper. ssh's question about an unknown host comes without it.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

MAX_TEXT = 1000  # characters of the caller's text that are shown

_HOST_KEY = re.compile(r"\(yes/no(?:/\[fingerprint\])?\)\? *\Z")
_AGAIN = re.compile(r"Bad passphrase, try again for |Permission denied, please try again|Sorry, try again")
_USER = re.compile(r"Username for '")
_PIN = re.compile(r"Enter (?:PIN|authenticator PIN)\b")


class Request(NamedTuple):
    """What is wanted: ``kind`` is "secret", "user" (a user name), "pin", "confirm", "host-key" or "notice".

    ``again`` says that the answer before was wrong.
    """

    kind: str
    title: str
    text: str
    again: bool = False


def request(text: str, environ: Mapping[str, str]) -> Request:
    """Read the caller's text."""
    shown = " ".join(text.split())[:MAX_TEXT]
    title = shown.rstrip(": ")[:120] or "A program asks for a secret"
    hint = environ.get("SSH_ASKPASS_PROMPT", "")
    if hint == "confirm":
        return Request("confirm", title, text[:MAX_TEXT])
    if hint == "none":
        return Request("notice", title, text[:MAX_TEXT])
    if _HOST_KEY.search(text):
        return Request("host-key", "Connect to a host that ssh does not know?", text[-MAX_TEXT:])
    kind = "user" if _USER.match(shown) else "pin" if _PIN.match(shown) else "secret"
    return Request(kind, title, text[:MAX_TEXT], again=_AGAIN.search(shown) is not None)


def same(text: str) -> str:
    """The caller's text without what only says that it asks again: the same for every try."""
    return _AGAIN.sub("Enter passphrase for ", " ".join(text.split()))[:200]
