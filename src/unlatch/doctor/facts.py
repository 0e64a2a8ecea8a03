"""Facts as JSON and back, strictly: what comes back from another user's process is exactly what was declared."""

import json
import types
import typing
from typing import Any, TypeVar

from unlatch.errors import Malformed

F = TypeVar("F")

MAX_FACTS = 65536  # bytes of JSON; the longest list of facts has some dozens of paths
MAX_TEXT = 4096  # characters; PATH_MAX, limits.h
MAX_ITEMS = 256


def dump(facts: object) -> bytes:
    """Facts as JSON."""
    return json.dumps(_plain(facts), allow_nan=False).encode("ascii")


def load(kind: type[F], data: bytes) -> F:
    """Facts of this NamedTuple from JSON.

    Raises:
        Malformed: anything is not as declared, or larger than anybody needs.
    """
    if len(data) > MAX_FACTS:
        raise Malformed("facts")
    try:
        plain = json.loads(data.decode("ascii"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Malformed("facts") from None
    return typing.cast(F, _typed(kind, plain))


def _refuse(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _plain(value: object) -> object:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _typed(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _one_of(typing.get_args(kind), value)
    if origin is tuple:
        return _items(typing.get_args(kind), value)
    if isinstance(kind, type) and issubclass(kind, tuple):
        return _fields(kind, value)
    if kind in (None, type(None)):
        kind = type(None)
    # A bool is an int to isinstance(), and 1 is as good a float as 1.0.
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise Malformed("facts")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise Malformed("facts")
    return value


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return _typed(kind, value)
        except Malformed:
            continue
    raise Malformed("facts")


def _items(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise Malformed("facts")
    if kinds[-1] is Ellipsis:
        return tuple(_typed(kinds[0], each) for each in value)
    if len(kinds) != len(value):
        raise Malformed("facts")
    return tuple(_typed(kind, each) for kind, each in zip(kinds, value, strict=True))


def _fields(kind: Any, value: Any) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise Malformed("facts")
    return kind(**{name: _typed(hint, value[name]) for name, hint in hints.items()})
