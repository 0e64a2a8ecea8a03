"""One question to a person, and what the person said: plain data that everybody shares.

The JSON forms are the "details" and the "answer" of docs/protocol.md section 2. Reading them is strict, because the
broker reads what an asker wrote and an asker reads what a stranger with the link may have written.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from unlatch import base64url
from unlatch.errors import Malformed
from unlatch.secret import Secret

KINDS = ("passphrase", "new-passphrase", "pin", "confirm", "notice", "challenge", "enrolment")
KEEPERS = ("agent", "program", "card", "none")
OUTCOMES = ("accepted", "wrong", "next", "denied", "failed", "unknown")

MAX_SECRET = 8192  # bytes; gpg-agent itself takes 255, a key file for LUKS is often 4096
MAX_TEXT = 4096  # characters in one field; a pinentry line has at most 1000
MAX_CHAIN = 16  # processes from the asker's caller up to the service

# The page shows the match words as its own, above all claims; so they can say nothing (the list is unlatch.words).
_WORD = re.compile(r"[a-z]{1,16}\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can spell it, UTF-8 cannot: it could not be sent on or printed

_T = TypeVar("_T")


class Process(NamedTuple):
    """One link of the process chain, as the host's /proc reports it."""

    pid: int
    name: str
    args: str


class AskerInfo(NamedTuple):
    """Who asks, as reported by the host; apart from uid and user, which only the kernel's word settles."""

    command: str = ""
    chain: tuple[Process, ...] = ()
    system_unit: str = ""
    user_unit: str = ""
    tty: str = ""
    user_data: str = ""


class Key(NamedTuple):
    """The key that the prompt is about: what a person calls it, its key id, its keygrip, its card's serial number."""

    name: str = ""
    id: str = ""
    grip: str = ""
    serial: str = ""


class Prompt(NamedTuple):
    """One question. Texts may be empty: not said. ``asked`` is seconds since 1970, shown and never computed with.

    ``keep`` offers that the keeper has the answer for so many seconds, also after the caller's end; 0 offers nothing.
    ``qr`` is a challenge's QR code, as the protocol packs it.
    """

    kind: str
    title: str
    words: tuple[str, str]
    asked: int
    asker: AskerInfo = AskerInfo()
    text: str = ""
    label: str = ""
    error: str = ""
    attempt: tuple[int, int] | None = None
    key: Key | None = None
    ok: str = ""
    cancel: str = ""
    notok: str = ""
    repeat: str = ""
    repeat_error: str = ""
    digits: bool = False
    keeper: str = "none"
    keep: int = 0
    qr: str = ""


class Answer(NamedTuple):
    """What the person gave. ``secret`` is there for "secret" only; ``digits`` for a "yes" that needs them.

    ``keep``: the person agreed that the secret is kept, which counts only where that was offered.
    """

    answer: str
    reply_key: bytes
    secret: Secret | None = None
    digits: str = ""
    keep: bool = False

    def __repr__(self) -> str:
        return "Answer(redacted)"


class Verdict(NamedTuple):
    """What became of an answer. ``next_link`` is ``(ticket, fragment)`` as texts when the page shall go on there."""

    outcome: str
    text: str = ""
    next_link: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"Verdict({self.outcome})"


def details_to_json(prompt: Prompt) -> bytes:
    """The details of docs/protocol.md section 2, not yet padded."""
    asker = prompt.asker._asdict() | {"chain": [process._asdict() for process in prompt.asker.chain]}
    fields = prompt._asdict() | {"asker": asker, "key": prompt.key and prompt.key._asdict()}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def details_from_json(data: bytes) -> Prompt:
    """Read details.

    Raises:
        Malformed: anything but exactly the fields, types and limits of the protocol.
    """
    fields = _object(_parse(data, "details"), "details", Prompt._fields)
    asker = _object(fields["asker"], "asker", AskerInfo._fields)
    chain = _list(asker["chain"], "chain", MAX_CHAIN)
    processes = (_object(item, "chain", Process._fields) for item in chain)
    texts = {name: _text(fields[name], name) for name in _PROMPT_TEXTS}
    return Prompt(
        kind=_one_of(fields["kind"], "kind", KINDS),
        keeper=_one_of(fields["keeper"], "keeper", KEEPERS),
        words=_pair(fields["words"], "words", _word),
        asked=_whole(fields["asked"], "asked"),
        attempt=None if fields["attempt"] is None else _pair(fields["attempt"], "attempt", _whole),
        digits=_bool(fields["digits"], "digits"),
        keep=_whole(fields["keep"], "keep"),
        key=None if fields["key"] is None else _key(fields["key"]),
        asker=AskerInfo(
            chain=tuple(
                Process(_whole(item["pid"], "pid"), _text(item["name"], "name"), _text(item["args"], "args"))
                for item in processes
            ),
            **{name: _text(asker[name], name) for name in AskerInfo._fields if name != "chain"},
        ),
        **texts,
    )


def answer_to_json(answer: Answer) -> bytes:
    """The answer of docs/protocol.md section 2, not yet padded. What it returns holds the secret in clear."""
    fields: dict[str, Any] = {"answer": answer.answer, "reply_key": base64url.encode(answer.reply_key)}
    if answer.secret is not None:
        fields["secret"] = base64url.encode(bytes(answer.secret.reveal()))
    if answer.keep:
        fields["keep"] = True
    if answer.digits:
        fields["digits"] = answer.digits
    return json.dumps(fields).encode("ascii")


def answer_from_json(data: bytes) -> Answer:
    """Read an opened answer.

    Raises:
        Malformed: anything but the protocol's fields; the error never quotes the data.
    """
    fields = _parse(data, "answer")
    answer = _one_of(fields.get("answer"), "answer", ("secret", "yes", "no"))
    required = {"answer", "reply_key"} | ({"secret"} if answer == "secret" else set())
    optional = {"yes": {"digits"}, "secret": {"keep"}}.get(answer, set())
    if not required <= fields.keys() <= required | optional:
        raise Malformed("answer")
    reply_key = base64url.decode(fields["reply_key"], "reply_key", 32)
    if answer != "secret":
        return Answer(answer, reply_key, digits=_text(fields.get("digits", ""), "digits"))
    secret = base64url.decode(fields["secret"], "secret")
    if not 0 < len(secret) <= MAX_SECRET:  # GnuPG takes an empty one for "no passphrase", which nobody means here
        raise Malformed("secret")
    if fields.get("keep", True) is not True:
        raise Malformed("keep")
    return Answer(answer, reply_key, Secret(secret), keep="keep" in fields)


def verdict_to_json(verdict: Verdict) -> bytes:
    """The verdict of docs/protocol.md section 2, not yet padded."""
    link = verdict.next_link and dict(zip(("ticket", "fragment"), verdict.next_link, strict=True))
    return json.dumps({"outcome": verdict.outcome, "text": verdict.text, "next": link}).encode()


def verdict_from_json(data: bytes) -> Verdict:
    """Read an opened verdict.

    Raises:
        Malformed: anything but the protocol's fields.
    """
    fields = _object(_parse(data, "verdict"), "verdict", ("outcome", "text", "next"))
    link = None
    if fields["next"] is not None:
        names = _object(fields["next"], "next", ("ticket", "fragment"))
        link = (_text(names["ticket"], "ticket"), _text(names["fragment"], "fragment"))
    return Verdict(_one_of(fields["outcome"], "outcome", OUTCOMES), _text(fields["text"], "text"), link)


_PROMPT_TEXTS = ("title", "text", "label", "error", "ok", "cancel", "notok", "repeat", "repeat_error", "qr")


def _parse(data: bytes, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        # "from None": the parser's error would quote the data.
        raise Malformed(what) from None
    if not isinstance(fields, dict):
        raise Malformed(what)
    return fields


def _object(value: object, what: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise Malformed(what)
    return value


def _list(value: object, what: str, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(what)
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or _SURROGATE.search(value):
        raise Malformed(what)
    return value


def _word(value: object, what: str) -> str:
    text = _text(value, what)
    if not _WORD.match(text):
        raise Malformed(what)
    return text


def _whole(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**53:  # 2**53: what JavaScript counts exactly
        raise Malformed(what)
    return value


def _bool(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise Malformed(what)
    return value


def _one_of(value: object, what: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise Malformed(what)
    return str(value)


def _pair(value: object, what: str, read: Callable[[object, str], _T]) -> tuple[_T, _T]:
    items = _list(value, what, 2)
    if len(items) != 2:
        raise Malformed(what)
    return read(items[0], what), read(items[1], what)


def _key(value: object) -> Key:
    fields = _object(value, "key", Key._fields)
    return Key(**{name: _text(fields[name], name) for name in Key._fields})
