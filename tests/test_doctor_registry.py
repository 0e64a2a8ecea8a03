"""All of doctor's checks: each has a name, a line in the manual, and tests that make it fail and make it pass."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from unlatch.doctor import registry
from unlatch.doctor.check import Check

TESTS = Path(__file__).parent
ROOT = TESTS.parent
CHECKS = pytest.mark.parametrize("check", registry.ALL, ids=lambda check: check.name)


def written() -> dict[str, ast.FunctionDef]:
    """The test functions of all tests/test_doctor_*.py by name."""
    found = {}
    for file in TESTS.glob("test_doctor_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name] = node
    return found


def row(check: Check[Any]) -> str:
    """A check's line in docs/doctor.md."""
    return f"| `{check.name}` | {check.proves} | {check.remedy} |"


@CHECKS
def test_a_check_has_a_test_that_makes_it_fail_and_one_that_makes_it_pass(check: Check[Any]) -> None:
    """Functions called test_NAME_fails... and test_NAME_passes..., which assert something, so none can be forgotten."""
    tests = written()
    for outcome in ("fails", "passes"):
        start = f"test_{check.name.replace('-', '_')}_{outcome}"
        mine = [test for name, test in tests.items() if name == start or name.startswith(f"{start}_")]
        assert mine, f"no test is called {start}..."
        assert all(any(isinstance(node, ast.Assert) for node in ast.walk(test)) for test in mine)


@CHECKS
def test_a_check_is_called_what_fits_on_its_line(check: Check[Any]) -> None:
    """Kebab case, and short enough for the column of names; the words for the manual are one line of a table."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", check.name)
    assert len(check.name) <= 18
    for words in (check.proves, check.remedy):
        assert words
        assert not set(words) & set("\n|")


def test_names_are_unique() -> None:
    """A name in a ticket means one check."""
    names = [check.name for check in registry.ALL]
    assert sorted(names) == sorted(set(names))


def test_the_manual_lists_every_check() -> None:
    """The tables in docs/doctor.md are the registry, in its order, group by group."""
    page = (ROOT / "docs/doctor.md").read_text()
    listed = [line for line in page.splitlines() if line.startswith("| `")]
    assert listed == [row(check) for check in registry.ALL], "\n".join(map(row, registry.ALL))
