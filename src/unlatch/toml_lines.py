"""Where the keys of a TOML file stand, which tomllib does not tell. For text that tomllib has accepted already.

So nothing is checked here: a value is only skipped, by its quotes and brackets. Keys within an inline table, and the
rare quoted key with a backslash, are not looked up: they stand where the thing around them stands.
"""

import re

Path = tuple[str | int, ...]  # ("people", "anna", "notify"); an int is an index into an array of tables

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_NAME = re.compile(r"""[ \t]*(?:"((?:\\.|[^"\\])*)"|'([^']*)'|([A-Za-z0-9_-]+))[ \t]*(\.?)""")
# What can hide or end a value. A multi-line string may end in two quotes of its own before the three that close it.
_MARK = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:\\.|[^"\\])*"|' r"'[^']*'|" r"#[^\n]*|" r"[\[\]{}\n]",
    re.DOTALL,
)


def key_lines(text: str) -> dict[Path, int]:
    """The line, from 1, of every table and key, by its full path."""
    lines: dict[Path, int] = {}
    elements: dict[Path, int] = {}  # the index of the current element of each array of tables
    table: Path = ()
    line, counted = 1, 0
    position = _blank(text, 0)
    while position < len(text):
        line, counted = line + text.count("\n", counted, position), position
        brackets = 2 if text.startswith("[[", position) else 1 if text[position] == "[" else 0
        names, position = _dotted(text, position + brackets)
        if brackets:
            table = path = _table(names, elements, opens_element=brackets == 2)
            position += brackets
        else:
            path = table + names
            position = _after_value(text, position)
        for depth in range(1, len(path) + 1):
            lines.setdefault(path[:depth], line)
        position = _blank(text, position)
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a key, or of the nearest thing around it that has one; 0 is the file as a whole."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 0)


def _blank(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _dotted(text: str, position: int) -> tuple[tuple[str, ...], int]:
    names: list[str] = []
    while match := _NAME.match(text, position):
        position = match.end()
        names.append(match[1] or match[2] or match[3] or "")
        if not match[4]:
            break
    return tuple(names), position


def _table(names: tuple[str, ...], elements: dict[Path, int], *, opens_element: bool) -> Path:
    """The path of a header, with the index of each array of tables that it runs through."""
    path: Path = ()
    for depth, name in enumerate(names, start=1):
        path = (*path, name)
        if opens_element and depth == len(names):
            elements[path] = elements.get(path, -1) + 1
        if path in elements:
            path = (*path, elements[path])
    return path


def _after_value(text: str, position: int) -> int:
    depth = 0
    for mark in _MARK.finditer(text, position):
        if mark[0] in ("[", "{"):
            depth += 1
        elif mark[0] in ("]", "}"):
            depth -= 1
        elif mark[0] == "\n" and depth == 0:
            return mark.end()
    return len(text)
