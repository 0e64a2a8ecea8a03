"""Lines and bodies of the wire protocol: what is read, and that nothing of what is refused is repeated."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlatch import base64url
from unlatch.broker import messages
from unlatch.errors import Malformed

TICKET = base64url.encode(bytes(16))
REGISTER = {
    "v": 1, "op": "register", "owner": base64url.encode(bytes(32)), "fragment": base64url.encode(bytes(64)),
    "details": base64url.encode(bytes(300)), "coalesce": "", "seconds": 0, "beside": "", "after": "", "rung": False,
    "views": [], "told": [],
}  # fmt: skip
PROVEN = {"page": base64url.encode(bytes(16)), "proof": base64url.encode(bytes(32))}
SECRET = "hunter2-canary"


def asker(line: object, *, first: bool = False) -> messages.AskerLine:
    return messages.decode_asker(line if isinstance(line, bytes) else json.dumps(line).encode(), first)


def body(verb: str, fields: object) -> messages.Body:
    return messages.decode_body(verb, fields if isinstance(fields, bytes) else json.dumps(fields).encode())


def complaint(decode: object, *arguments: object, **more: object) -> str:
    assert callable(decode)
    with pytest.raises(Malformed) as caught:
        decode(*arguments, **more)
    assert caught.value.__context__ is None
    return caught.value.what


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (REGISTER, messages.Register),
        ({"op": "taken", "ticket": TICKET}, messages.Taken),
        ({"op": "spoiled", "ticket": TICKET}, messages.Spoiled),
        ({"op": "verdict", "ticket": TICKET, "outcome": "wrong", "sealed": ""}, messages.Verdict),
        ({"op": "withdraw", "ticket": TICKET, "why": "stopped"}, messages.Withdraw),
    ],
)
def test_each_line_of_an_asker_is_read(line: dict[str, object], kind: type) -> None:
    """The lines of section 4 become the struct named like their "op"."""
    assert isinstance(asker(line), kind)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"op": "status"}, messages.Status),
        ({"op": "list"}, messages.List),
        ({"op": "page", "ticket": TICKET, "verb": "view", "body": PROVEN}, messages.Page),
    ],
)
def test_each_line_of_an_admin_is_read(line: dict[str, object], kind: type) -> None:
    """The lines of section 5; the body of a page's request is read by its verb."""
    decoded = messages.decode_admin(json.dumps({"v": 1} | line).encode(), True)
    assert isinstance(decoded, kind)
    if isinstance(decoded, messages.Page):
        assert messages.decode_body(decoded.verb, decoded.body).page == PROVEN["page"]


def test_the_first_line_names_a_version_that_is_spoken() -> None:
    """No version, or one that this broker does not speak, is a mistake in "v", whatever else the line holds."""
    assert asker({"v": 1, "op": "taken", "ticket": TICKET}, first=True)
    assert complaint(asker, {"op": "taken", "ticket": TICKET}, first=True) == "v"
    assert complaint(asker, {"v": 2, "op": "entirely-new", "field": 1}, first=True) == "v"
    assert complaint(asker, {"v": 2, "op": "taken", "ticket": TICKET}) == "v"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"owner": None}, "owner"),
        ({"owner": "x" * 44}, "owner"),
        ({"details": "not base64!"}, "details"),
        ({"details": "a" * 32769}, "details"),
        ({"coalesce": "x" * 257}, "coalesce"),
        ({"seconds": -1}, "seconds"),
        ({"seconds": 1.5}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"beside": "short"}, "beside"),
        ({"after": TICKET + "\n"}, "after"),
        ({"rung": "yes"}, "rung"),
        ({"views": [TICKET] * 65}, "views"),
        ({"views": [SECRET]}, "views"),
        ({"told": "mail"}, "told"),
        ({"op": SECRET}, "op"),
        ({SECRET: 1}, "line"),
    ],
)
def test_a_mistake_is_named_by_its_field(change: dict[str, object], field: str) -> None:
    """What is wrong is named by the protocol's word for it; what the sender wrote there is not repeated."""
    assert complaint(asker, REGISTER | change) == field


def test_a_missing_field_is_named() -> None:
    """A line without its ticket says so."""
    assert complaint(asker, {"op": "taken"}) == "ticket"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{}x",
        b'{"op":"taken","ticket":"\xc3\x28"}',
        b'{"op":"withdraw","ticket":"AAAAAAAAAAAAAAAAAAAAAA","why":"\\ud800"}',
        b'{"v":1,"op":' + b"[" * 60000,
        b'{"v":1,"op":"taken","x":' + b'{"x":' * 10000,
        json.dumps(REGISTER).encode() + b" " * messages.MAX_LINE,
    ],
    ids=["empty", "list", "null", "bytes", "tail", "utf-8", "surrogate", "deep-list", "deep-object", "long"],
)
def test_what_is_no_line_is_refused_in_one_word(line: bytes) -> None:
    """Broken JSON, broken UTF-8, deep nesting and long lines are one documented error."""
    assert complaint(asker, line, first=line.startswith(b'{"v":1')) in ("line", "op")


@given(st.binary(max_size=300) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*REGISTER, "ticket"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_nothing_else_than_malformed_is_ever_raised(line: bytes) -> None:
    """Whatever arrives, it is read or refused."""
    for first in (False, True):
        for decode in (messages.decode_asker, messages.decode_admin):
            with contextlib.suppress(Malformed):
                decode(line, first)
    for verb in ("hello", "view", "answer", "wait"):
        with contextlib.suppress(Malformed):
            messages.decode_body(verb, line)


def test_each_body_of_a_page_is_read() -> None:
    """Proofs become bytes; the sealed answer goes through as it came."""
    assert body("hello", {}) == messages.Body()
    assert body("view", PROVEN) == messages.Body(PROVEN["page"], bytes(32))
    assert body("answer", PROVEN | {"sealed": "c2VhbGVk"}).sealed == "c2VhbGVk"
    assert body("wait", PROVEN | {"seen": 3}).seen == 3


@pytest.mark.parametrize(
    ("verb", "fields", "field"),
    [
        ("hello", {"page": PROVEN["page"]}, "body"),
        ("view", {"page": PROVEN["page"]}, "proof"),
        ("view", PROVEN | {"page": base64url.encode(bytes(15))}, "page"),
        ("view", PROVEN | {"page": PROVEN["page"][:-1] + "B"}, "page"),
        ("view", PROVEN | {"proof": PROVEN["proof"] + "="}, "proof"),
        ("view", PROVEN | {"seen": 0}, "body"),
        ("answer", PROVEN, "sealed"),
        ("answer", PROVEN | {"sealed": ""}, "sealed"),
        ("answer", PROVEN | {"sealed": "c2Vh bGVk"}, "sealed"),
        ("wait", PROVEN | {"seen": "0"}, "seen"),
        ("wait", PROVEN | {"seen": -1}, "seen"),
        ("answer", b" " * (messages.MAX_BODY + 1), "body"),
        ("delete", {}, "verb"),
    ],
)
def test_a_mistake_in_a_body_is_named_by_its_field(verb: str, fields: object, field: str) -> None:
    """Bodies are read as strictly as lines."""
    assert complaint(body, verb, fields) == field


def test_what_was_read_shows_nothing_of_itself() -> None:
    """A struct that ends in a log or a traceback keeps owner token, fragment, ticket and proof to itself."""
    shown = repr((asker(REGISTER), asker({"op": "taken", "ticket": TICKET}), body("view", PROVEN)))
    for value in (*REGISTER.values(), TICKET, *PROVEN.values()):
        assert not isinstance(value, str) or len(value) < 16 or value not in shown
