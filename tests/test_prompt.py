"""Details, answers and verdicts as JSON: what the protocol says is read, everything else is Malformed."""

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unlatch import base64url
from unlatch.broker import messages, pages
from unlatch.errors import Malformed
from unlatch.prompt import (
    KEEPERS,
    KINDS,
    MAX_CHAIN,
    MAX_SECRET,
    MAX_TEXT,
    OUTCOMES,
    Answer,
    AskerInfo,
    Key,
    Process,
    Prompt,
    Verdict,
    answer_from_json,
    answer_to_json,
    details_from_json,
    details_to_json,
    verdict_from_json,
    verdict_to_json,
)
from unlatch.secret import Secret

texts = st.text(max_size=30)  # never holds lone surrogates
words = st.text("abcxyz", min_size=1, max_size=16)
wholes = st.integers(0, 2**53 - 1)
askers = st.builds(
    AskerInfo,
    texts,
    st.lists(st.builds(Process, wholes, texts, texts), max_size=3).map(tuple),
    texts,
    texts,
    texts,
    texts,
)
prompts = st.builds(
    Prompt,
    kind=st.sampled_from(KINDS),
    title=texts,
    words=st.tuples(words, words),
    asked=wholes,
    asker=askers,
    text=texts,
    label=texts,
    error=texts,
    attempt=st.none() | st.tuples(wholes, wholes),
    key=st.none() | st.builds(Key, texts, texts, texts, texts),
    ok=texts,
    cancel=texts,
    notok=texts,
    repeat=texts,
    repeat_error=texts,
    digits=st.booleans(),
    keeper=st.sampled_from(KEEPERS),
    keep=wholes,
)
reply_keys = st.binary(min_size=32, max_size=32)
answers = st.one_of(
    st.tuples(
        st.just("secret"), reply_keys, st.binary(min_size=1, max_size=300).map(Secret), st.just(""), st.booleans()
    ),
    st.tuples(st.just("yes"), reply_keys, st.none(), texts),
    st.tuples(st.just("no"), reply_keys),
).map(lambda fields: Answer(*fields))
verdicts = st.builds(Verdict, st.sampled_from(OUTCOMES), texts, st.none() | st.tuples(texts, texts))
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)

PROMPT = Prompt(
    kind="passphrase",
    title="Unlock the key of zoë",
    words=("amber", "otter"),
    asked=1_750_000_000,
    asker=AskerInfo("pass sql-root", (Process(4711, "pass", "pass sql-root"),), "backup.service"),
    attempt=(1, 3),
    key=Key("Zoë <zoe@example.org>", "0123456789ABCDEF", "00" * 20),
    keeper="agent",
)
SECRET = Answer("secret", bytes(32), Secret(b"correct horse"))
KEPT = Answer("secret", bytes(32), Secret(b"correct horse"), keep=True)
YES = Answer("yes", bytes(32), digits="42")
NO = Answer("no", bytes(32))
NEXT = Verdict("wrong", "wrong passphrase", ("a ticket", "a fragment"))

READERS: tuple[Callable[[bytes], object], ...] = (details_from_json, answer_from_json, verdict_from_json)
WHOLE: list[tuple[Callable[[bytes], object], dict[str, Any]]] = [
    (details_from_json, json.loads(details_to_json(PROMPT))),
    (answer_from_json, json.loads(answer_to_json(SECRET))),
    (answer_from_json, json.loads(answer_to_json(KEPT))),
    (answer_from_json, json.loads(answer_to_json(YES))),
    (answer_from_json, json.loads(answer_to_json(NO))),
    (verdict_from_json, json.loads(verdict_to_json(NEXT))),
]
forms = st.sampled_from(WHOLE)


def paths(value: object, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Where every value in a JSON text stands."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [here, *(path for name, child in inner for path in paths(child, (*here, name)))]


def with_at(value: Any, path: tuple[str | int, ...], new: object) -> Any:
    """A copy of a JSON value with one part replaced."""
    if not path:
        return new
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_at(value[path[0]], path[1:], new)
    return copy


def malformed(read: Callable[[bytes], object], data: bytes) -> bool:
    """Whether a reader refuses; any exception but Malformed is the test's failure."""
    try:
        read(data)
    except Malformed:
        return True
    return False


@given(prompts)
def test_details_survive(prompt: Prompt) -> None:
    """What an asker writes, the broker and the page read."""
    assert details_from_json(details_to_json(prompt)) == prompt


@given(answers)
def test_answers_survive(answer: Answer) -> None:
    """What the page writes, the asker reads; padding does not matter."""
    assert answer_from_json(answer_to_json(answer) + b"   ") == answer


@given(verdicts)
def test_verdicts_survive(verdict: Verdict) -> None:
    """What the asker writes, the page reads."""
    assert verdict_from_json(verdict_to_json(verdict)) == verdict


@given(st.sampled_from(READERS), st.binary(max_size=200))
@example(details_from_json, b"[" * 60_000)  # RecursionError inside json
@example(details_from_json, b'{"asked":' + b"9" * 5000 + b"}")  # ValueError: more digits than Python converts
@example(answer_from_json, b'{"answer":"no","reply_key":"\xff"}')
@example(verdict_from_json, b"\xef\xbb\xbf{}")  # a byte order mark
@example(verdict_from_json, b"")
def test_arbitrary_bytes_are_malformed(read: Callable[[bytes], object], data: bytes) -> None:
    """Whatever a stranger sends, the only exception is Malformed."""
    assert malformed(read, data)


@given(st.sampled_from(READERS), any_json)
def test_arbitrary_json_is_malformed(read: Callable[[bytes], object], value: object) -> None:
    """JSON of another shape is Malformed, NaN and huge numbers included."""
    assert malformed(read, json.dumps(value).encode())


@given(st.data(), forms, any_json)
def test_a_changed_part_is_malformed_or_means_what_it_says(
    data: st.DataObject, form: tuple[Callable[[bytes], object], dict[str, Any]], new: object
) -> None:
    """Any part replaced by any JSON is refused with Malformed, or still within the types of the protocol."""
    read, whole = form
    where = data.draw(st.sampled_from(paths(whole)))
    malformed(read, json.dumps(with_at(whole, where, new)).encode())


@pytest.mark.parametrize(("read", "whole"), WHOLE)
def test_every_field_is_needed_and_no_other_is_taken(read: Callable[[bytes], object], whole: dict[str, Any]) -> None:
    """Each object must have exactly the protocol's fields, at every depth."""
    objects = [path for path in paths(whole) if isinstance(value_at(whole, path), dict)]
    for path in objects:
        fields = value_at(whole, path)
        assert malformed(read, json.dumps(with_at(whole, path, fields | {"extra": ""})).encode())
        for name in fields:
            rest = {key: value for key, value in fields.items() if key != name}
            optional = (whole.get("answer"), name) in (("yes", "digits"), ("secret", "keep"))
            assert malformed(read, json.dumps(with_at(whole, path, rest)).encode()) != optional, (path, name)


def value_at(value: Any, path: tuple[str | int, ...]) -> Any:
    for name in path:
        value = value[name]
    return value


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("kind",), "password"),
        (("keeper",), ["agent"]),
        (("asked",), -1),
        (("asked",), True),
        (("asked",), 1.0),
        (("asked",), 2**53),
        (("digits",), 1),
        (("keep",), -1),
        (("keep",), None),
        (("keep",), True),
        (("attempt",), [1]),
        (("attempt",), [1, 2, 3]),
        (("words",), ["only"]),
        (("words",), "am"),
        (("words", 0), ""),
        (("words", 0), "Amber"),
        (("words", 0), "amber: root"),
        (("words", 1), "é"),
        (("words", 1), "x" * 17),
        (("words", 1), "amber\n"),
        (("title",), "x" * (MAX_TEXT + 1)),
        (("title",), None),
        (("title",), "\ud800"),  # json.dumps writes an escape; no UTF-8 has it, so nobody could show or send it on
        (("asker", "chain"), [{"pid": 1, "name": "", "args": ""}] * (MAX_CHAIN + 1)),
        (("asker", "chain", 0, "pid"), "4711"),
        (("key", "grip"), "\udfff"),
    ],
)
def test_details_within_their_limits(path: tuple[str | int, ...], wrong: object) -> None:
    """One wrong type, size or number in otherwise good details is Malformed."""
    assert malformed(details_from_json, json.dumps(with_at(WHOLE[0][1], path, wrong)).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"answer": "maybe"},
        {"answer": "yes"},  # with a secret
        {"answer": "no"},
        {"digits": "42"},  # with a secret
        {"keep": False},
        {"keep": 1},
        {"keep": None},
        {"reply_key": base64url.encode(bytes(31))},
        {"reply_key": base64url.encode(bytes(32)) + "="},
        {"secret": None},
        {"secret": "YQ=="},
        {"secret": ""},
        {"secret": base64url.encode(bytes(MAX_SECRET + 1))},
    ],
)
def test_answers_within_their_limits(change: dict[str, object]) -> None:
    """An answer carries what its kind carries, in its one spelling and size, or is Malformed."""
    assert malformed(answer_from_json, json.dumps(WHOLE[1][1] | change).encode())


def test_the_largest_secret_is_taken() -> None:
    """8192 bytes of any value pass, so that a key file does."""
    largest = Answer("secret", bytes(32), Secret(bytes(range(256)) * (MAX_SECRET // 256)))
    assert answer_from_json(answer_to_json(largest)) == largest


def test_what_no_utf8_has_is_written_as_a_question_mark() -> None:
    """A command line that is no UTF-8 (os.fsdecode makes surrogates of it) is shown, not refused."""
    broken = b"pass \xff".decode("utf-8", "surrogateescape")
    written = details_from_json(details_to_json(PROMPT._replace(asker=AskerInfo(broken))))
    assert written.asker.command == "pass ?"


def test_errors_and_reprs_do_not_quote() -> None:
    """Neither the error about an answer nor the repr of a good one holds any of it."""
    broken = answer_to_json(SECRET)[:-1]
    with pytest.raises(Malformed) as caught:
        answer_from_json(broken)
    assert caught.value.__suppress_context__
    assert str(caught.value) == "malformed answer"
    assert repr(SECRET) == "Answer(redacted)"
    assert repr(NEXT) == "Verdict(wrong)"


def test_the_outcomes_are_the_brokers_too() -> None:
    """Broker and asker have the same outcomes, and the other pages of a prompt hear something for each."""
    assert set(get_args(messages.Outcome)) == set(pages.WORDS) == set(OUTCOMES)
