"""Add to the text of unlatch.toml what is missing in it; everything else stays byte for byte. Pure.

Whatever is written is read back and held against what was meant. A file that is written in a way that is not
understood here (an inline table, an array over several lines) is left alone, and the person is told what to add.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from unlatch import toml_lines

Value = str | bool | list[str]
Table = Mapping[str, Value]


class NotUnderstood(Exception):
    """The change cannot be made by editing the text."""


def add_key(text: str, key: str, value: Value) -> str:
    """Add a key above all tables, where none of this name may stand.

    Raises:
        NotUnderstood
    """
    lines = _lines(text)
    at = _above_tables(text, lines)
    entry = [f"{key} = {_toml(value)}{_end(text)}"]
    if at < len(lines) and lines[at].strip():
        entry.append(_end(text))
    if at and not lines[at - 1].endswith("\n"):
        entry.insert(0, _end(text))
    return _checked("".join([*lines[:at], *entry, *lines[at:]]), tomllib.loads(text) | {key: value})


def add_table(text: str, path: tuple[str, str], table: Table) -> str:
    """Add a table such as ("people", "alex") at the end.

    Raises:
        NotUnderstood
    """
    end = _end(text)
    body = [f"[{path[0]}.{_key(path[1])}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    gap = "" if not text else end if text.endswith("\n") else end * 2
    meant = tomllib.loads(text)
    outer = meant.setdefault(path[0], {})
    if not isinstance(outer, dict) or path[1] in outer:
        raise NotUnderstood
    outer[path[1]] = dict(table)
    return _checked(text + gap + end.join(body) + end, meant)


def add_to_list(text: str, path: tuple[str, ...], more: list[str]) -> str:
    """Add texts to the end of an array that stands on one line.

    Raises:
        NotUnderstood
    """
    lines = _lines(text)
    number = toml_lines.key_lines(text).get(path, 0)
    match = re.match(r"([^\[#]*\[[^\[\]#]*?)(,?\s*)(\].*)\Z", lines[number - 1], re.DOTALL) if number else None
    meant = tomllib.loads(text)
    found: Any = meant
    for name in path:
        found = found[name] if isinstance(found, dict) and name in found else None
    if match is None or not isinstance(found, list):
        raise NotUnderstood
    comma = ", " if found else ""
    lines[number - 1] = match[1] + comma + ", ".join(_toml(each) for each in more) + match[3]
    found += more
    return _checked("".join(lines), meant)


def _above_tables(text: str, lines: list[str]) -> int:
    """Before which line a plain key may be put: the first table's, or the comment's that belongs to it."""
    keys = toml_lines.key_lines(text).values()
    headers = [number for number in keys if lines[number - 1].lstrip().startswith("[")]
    at = min(headers, default=len(lines) + 1) - 1
    while headers and at and lines[at - 1].lstrip().startswith("#"):
        at -= 1
    key = at
    while key and not lines[key - 1].strip():
        key -= 1
    return key or at


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)  # splitlines() breaks at much that is no end of a line in TOML


def _checked(text: str, meant: Mapping[str, Any]) -> str:
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise NotUnderstood from None
    if read != meant:
        raise NotUnderstood
    return text


def _end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _key(name: str) -> str:
    return name if re.match(r"[A-Za-z0-9_-]+\Z", name) else _toml(name)


def _toml(value: Value) -> str:
    # A JSON text of printable characters is a TOML text too.
    return json.dumps(value, ensure_ascii=False)
