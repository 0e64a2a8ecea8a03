"""The lines and bodies of docs/protocol.md sections 3 to 5, read strictly.

Decoding raises ``Malformed`` with the name of the field and nothing of its value; ``Malformed("v")`` is a version that
this broker does not speak. Values that are bytes on paper stay base64url text here, but are checked.
"""

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from unlatch import seal

VERSIONS = (1,)  # the newest, and the one before once there is one
MAX_LINE = 65536  # bytes with the newline; details of 24 KiB are 32 KiB in base64url
MAX_BODY = 32768  # bytes; the largest sealed answer is 12 KiB, 16 KiB in base64url
VERBS = ("hello", "view", "answer", "wait")

Ticket = Annotated[str, Meta(min_length=22, max_length=22)]
Sealed = Annotated[str, Meta(max_length=(seal.MAX_SEALED * 4 + 2) // 3)]
Short = Annotated[str, Meta(max_length=256)]
Outcome = Literal["accepted", "wrong", "next", "denied", "failed"]


class Line(msgspec.Struct, tag_field="op", tag=str.lower, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One line of an asker or an admin; ``v`` is there on a connection's first line."""

    v: int = 0


class Register(Line):
    """Put a prompt to people. ``owner`` is the one secret here: it must not be kept."""

    owner: str
    fragment: str
    details: Sealed
    coalesce: Short = ""
    seconds: Annotated[int, Meta(ge=0, le=2**31)] = 0
    beside: Ticket | Literal[""] = ""
    after: Ticket | Literal[""] = ""
    rung: bool = False
    views: Annotated[tuple[str, ...], Meta(max_length=64)] = ()
    told: Annotated[tuple[Short, ...], Meta(max_length=64)] = ()


class Taken(Line):
    """The answer was opened."""

    ticket: Ticket


class Spoiled(Line):
    """The answer could not be opened."""

    ticket: Ticket


class Verdict(Line):
    """What became of the answer."""

    ticket: Ticket
    outcome: Outcome
    sealed: Sealed = ""


class Withdraw(Line):
    """No answer is needed any more."""

    ticket: Ticket
    why: Short = ""


class Status(Line):
    """How is the broker, what is open?"""


class List(Line):
    """Which links may this uid answer?"""


class Page(Line):
    """A page's request without HTTP; ``body`` goes to :func:`decode_body`."""

    ticket: Ticket
    verb: Literal["hello", "view", "answer", "wait"]
    body: msgspec.Raw


class Body(NamedTuple):
    """What a page sent, checked. ``proof`` is bytes; ``page`` and ``sealed`` stay base64url text."""

    page: str = ""
    proof: bytes = b""
    sealed: str = ""
    seen: int = 0


AskerLine = Register | Taken | Spoiled | Verdict | Withdraw
AdminLine = Status | List | Page


def decode_asker(line: bytes, first: bool) -> AskerLine:
    """Read one line from an asker; ``first``: of its connection, so it must name the version.

    Raises:
        Malformed
    """
    raise NotImplementedError


def decode_admin(line: bytes, first: bool) -> AdminLine:
    """Read one line from the admin socket.

    Raises:
        Malformed
    """
    raise NotImplementedError


def decode_body(verb: str, data: bytes) -> Body:
    """Read the body of a page's POST.

    Raises:
        Malformed
    """
    raise NotImplementedError
