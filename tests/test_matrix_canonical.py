"""Canonical JSON and signed objects: the specification's examples, and everything that has no canonical form."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vodozemac import Account

from unlatch.errors import Malformed
from unlatch.matrix import canonical
from unlatch.matrix.account import signer
from unlatch.matrix.errors import BadSignature

USER = "@bot:example.org"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ({"one": 1, "two": "Two"}, '{"one":1,"two":"Two"}'),
        ({"b": "2", "a": "1"}, '{"a":"1","b":"2"}'),
        ({"本": 2, "日": 1}, '{"日":1,"本":2}'),
        ({"a": "日本語"}, '{"a":"日本語"}'),
        ({"a": None, "b": True}, '{"a":null,"b":true}'),
        ({"a": [1, -2, {"c": 3}]}, '{"a":[1,-2,{"c":3}]}'),
        ({"a": '"\\/\n\u0001\u007f'}, '{"a":"\\"\\\\/\\n\\u0001\u007f"}'),
        (2**53 - 1, "9007199254740991"),
    ],
)
def test_one_spelling(value: object, text: str) -> None:
    """Keys are sorted by code point, nothing is escaped that need not be, no space is left."""
    assert canonical.encode(value) == text.encode()


@pytest.mark.parametrize(
    "value", [1.5, float("nan"), 2**53, -(2**53), {1: 2}, "\ud800", {"\ud800": 1}, b"x", object(), [{"a": 0.0}]]
)
def test_what_has_no_canonical_form(value: object) -> None:
    """Fractions, integers beyond 2^53 - 1, lone surrogates and foreign types are refused, at any depth."""
    with pytest.raises(Malformed):
        canonical.encode(value)


def test_depth_is_bounded() -> None:
    """A deeply nested value is malformed and not a RecursionError."""
    value: object = 1
    for _ in range(10_000):
        value = [value]
    with pytest.raises(Malformed):
        canonical.encode(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(json_values)
def test_it_is_still_json(value: object) -> None:
    """The canonical text means the same value, whatever order its keys had."""
    assert json.loads(canonical.encode(value)) == value


@settings(deadline=None)
@given(json_values, st.integers(0, 63))
def test_a_signature_covers_all_but_signatures_and_unsigned(value: object, bit: int) -> None:
    """A signed object verifies with other signatures and unsigned data in it, and not with another value."""
    account = Account()
    key = account.ed25519_key.to_base64()
    signed = canonical.sign({"value": value, "unsigned": {"age": 1}}, USER, "ed25519:A", signer(account))
    assert "unsigned" not in signed
    signed["unsigned"] = {"age": 2.5}
    signed["signatures"]["@other:example.org"] = {"ed25519:B": "x"}
    canonical.verify(signed, USER, "ed25519:A", key, "thing")
    for changed in (
        {**signed, "value": [value]},
        {**signed, "more": 1},
        {**signed, "signatures": {USER: {"ed25519:A": "A" * 86}}},
        {**signed, "signatures": {USER: {"ed25519:A": 5}}},
        {**signed, "signatures": {USER: []}},
        {**signed, "signatures": None},
        {**signed, "value": 1.5},
    ):
        with pytest.raises(BadSignature):
            canonical.verify(changed, USER, "ed25519:A", key, "thing")
    for user, key_id, other in ((USER, "ed25519:B", key), ("@x:y", "ed25519:A", key), (USER, "ed25519:A", "A" * 43)):
        with pytest.raises(BadSignature):
            canonical.verify(signed, user, key_id, other, "thing")


def test_signatures_add_up() -> None:
    """Signing keeps the signatures that are there."""
    first, second = Account(), Account()
    signed = canonical.sign({"a": 1}, USER, "ed25519:A", signer(first))
    signed = canonical.sign(signed, USER, "ed25519:B", signer(second))
    canonical.verify(signed, USER, "ed25519:A", first.ed25519_key.to_base64(), "thing")
    canonical.verify(signed, USER, "ed25519:B", second.ed25519_key.to_base64(), "thing")
