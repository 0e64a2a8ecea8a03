"""The lines and bodies of docs/protocol.md sections 3 to 5, read strictly.

Decoding raises ``Malformed`` with the name of the field and nothing of its value; ``Malformed("v")`` is a version that
this broker does not speak. Values that are bytes on paper stay base64url text here; who needs the bytes decodes them.
"""

import re
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from unlatch import base64url
from unlatch.errors import Malformed

VERSIONS = (1,)  # the newest, and the one before once there is one
MAX_LINE = 65536  # bytes with the newline; details of 24 KiB are 32 KiB in base64url
MAX_BODY = 32768  # bytes; the largest sealed answer is 12 KiB, 16 KiB in base64url
PAGE_SIZE = 16  # bytes of a page id and of a nonce
PROOF_SIZE = 32

Ticket = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22}\Z")]
MaybeTicket = Annotated[str, Meta(pattern=r"^(?:[A-Za-z0-9_-]{22})?\Z")]
Tickets = Annotated[tuple[Ticket, ...], Meta(max_length=64)]
Sealed = Annotated[str, Meta(max_length=MAX_BODY, pattern=r"^[A-Za-z0-9_-]*\Z")]
Short = Annotated[str, Meta(max_length=256)]
Outcome = Literal["accepted", "wrong", "next", "denied", "failed", "unknown"]
Verb = Literal["hello", "view", "answer", "wait"]

_T = TypeVar("_T")


class Line(msgspec.Struct, tag_field="op", tag=str.lower, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One line of an asker or an admin; ``v`` is there on a connection's first line."""

    v: int | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(redacted)"


class Register(Line, frozen=True):
    """Put a prompt to people. Nobody keeps ``owner``: it is there to prove that the ticket is this asker's.

    ``account``: whose login root asks about, so that this account's own people are rung. ``silent``: nobody is rung.
    """

    owner: Annotated[str, Meta(max_length=43)]
    fragment: Annotated[str, Meta(max_length=86)]
    details: Sealed
    coalesce: Short = ""
    seconds: Annotated[int, Meta(ge=0, le=2**31)] = 0
    beside: MaybeTicket = ""
    after: MaybeTicket = ""
    rung: bool = False
    views: Tickets = ()  # page ids have a ticket's length
    told: Annotated[tuple[Short, ...], Meta(max_length=64)] = ()
    account: Short = ""
    silent: bool = False


class Taken(Line, frozen=True):
    """The answer was opened."""

    ticket: Ticket


class Spoiled(Line, frozen=True):
    """The answer could not be opened."""

    ticket: Ticket


class Verdict(Line, frozen=True):
    """What became of the answer."""

    ticket: Ticket
    outcome: Outcome
    sealed: Sealed = ""


class Withdraw(Line, frozen=True):
    """No answer is needed any more."""

    ticket: Ticket
    why: Short = ""


class Orphaned(Line, frozen=True):
    """The program that asked has ended; the asker waits on, for an answer that may be kept."""

    ticket: Ticket


class Opened(Line, frozen=True):
    """A stored secret was opened, by which slot or grant; for the audit trail. ``unit`` is the asker's claim."""

    secret: Short
    by: Short
    unit: Short = ""


class Status(Line, frozen=True):
    """How is the broker, what is open?"""


class List(Line, frozen=True):
    """Which links may this uid answer?"""


class Page(Line, frozen=True):
    """A page's request without HTTP; ``body`` goes to :func:`decode_body`."""

    ticket: Ticket
    verb: Verb
    body: msgspec.Raw


class Look(Line, frozen=True):
    """Serve the page for a ticket that no prompt has, and tell what comes of requests for it."""

    ticket: Ticket


AskerLine = Register | Taken | Spoiled | Verdict | Withdraw | Orphaned | Opened
AdminLine = Status | List | Page | Look


class Body(NamedTuple):
    """What a page sent, checked; what its verb does not carry is empty."""

    page: str = ""
    proof: bytes = b""
    sealed: str = ""
    seen: int = 0

    def __repr__(self) -> str:
        return "Body(redacted)"


def decode_asker(line: bytes, first: bool) -> AskerLine:
    """Read one line from an asker; ``first``: of its connection, so it must name the version.

    Raises:
        Malformed
    """
    return _decode_line(_ASKER, line, first)


def decode_admin(line: bytes, first: bool) -> AdminLine:
    """Read one line from the admin socket.

    Raises:
        Malformed
    """
    return _decode_line(_ADMIN, line, first)


def decode_body(verb: str, data: bytes | msgspec.Raw) -> Body:
    """Read the body of a page's POST.

    Raises:
        Malformed
    """
    if verb not in _BODIES:
        raise Malformed("verb")
    fields = _decode(_BODIES[verb], bytes(data), "body", MAX_BODY)
    if not isinstance(fields, _Proven):
        return Body()
    base64url.decode(fields.page, "page", PAGE_SIZE)
    proof = base64url.decode(fields.proof, "proof", PROOF_SIZE)
    if isinstance(fields, _AnswerBody):
        base64url.decode(fields.sealed, "sealed")
        return Body(fields.page, proof, sealed=fields.sealed)
    return Body(fields.page, proof, seen=fields.seen if isinstance(fields, _WaitBody) else 0)


class _HelloBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


class _Proven(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    page: str
    proof: str


class _AnswerBody(_Proven, frozen=True):
    sealed: Annotated[str, Meta(min_length=1)]


class _WaitBody(_Proven, frozen=True):
    seen: Annotated[int, Meta(ge=0, le=2**53)]


class _Opening(msgspec.Struct):
    """A first line as far as every version agrees: unknown fields belong to a version that we may not speak."""

    v: int


_ASKER: msgspec.json.Decoder[AskerLine] = msgspec.json.Decoder(AskerLine)
_ADMIN: msgspec.json.Decoder[AdminLine] = msgspec.json.Decoder(AdminLine)
_OPENING = msgspec.json.Decoder(_Opening)
_BODIES: dict[str, msgspec.json.Decoder[Any]] = {
    "hello": msgspec.json.Decoder(_HelloBody),
    "view": msgspec.json.Decoder(_Proven),
    "answer": msgspec.json.Decoder(_AnswerBody),
    "wait": msgspec.json.Decoder(_WaitBody),
}

# msgspec names the field in its message only: "... - at `$.ticket`" or "... missing required field `owner`". Unknown
# fields carry the sender's own words and are not repeated.
_FIELD = re.compile(r"(?:missing required field `|at `\$\.)([a-z_]{1,16})[`\[.]")


def _decode_line(decoder: "msgspec.json.Decoder[_T]", line: bytes, first: bool) -> _T:
    if first and _decode(_OPENING, line, "line", MAX_LINE).v not in VERSIONS:
        raise Malformed("v")
    decoded = _decode(decoder, line, "line", MAX_LINE)
    if getattr(decoded, "v", None) not in (None, *VERSIONS):
        raise Malformed("v")
    return decoded


def _decode(decoder: "msgspec.json.Decoder[_T]", data: bytes, whole: str, most: int) -> _T:
    if len(data) > most:
        raise Malformed(whole)
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        field = _FIELD.search(str(error)) if isinstance(error, msgspec.ValidationError) else None
    # Outside the handler: the parser's error, which may quote the data, must not hang on as the context.
    raise Malformed(field[1] if field else whole)
