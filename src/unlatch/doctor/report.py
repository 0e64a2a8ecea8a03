"""Findings as lines for people. Pure."""

import textwrap
from collections.abc import Callable, Iterable

from unlatch.doctor.check import Finding, State

WIDTH = 80
MARKS: dict[State, str] = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM", "unknown": "UNKNOWN"}
COLOURS: dict[State, str] = {"ok": "green", "warning": "yellow", "problem": "red", "unknown": "magenta"}
_NAME = 18  # the longest name of a check
_INDENT = " " * (7 + 1 + _NAME + 1)


def lines(finding: Finding, clean: Callable[[str], str], paint: Callable[[str, State], str]) -> list[str]:
    """Mark, name and sentence, then what to type. Sentences are folded; commands never are, so they can be copied."""
    head = f"{paint(f'{MARKS[finding.state]:<7}', finding.state)} {finding.check:<{_NAME}} "
    text = textwrap.wrap(clean(finding.text), WIDTH - len(_INDENT), break_on_hyphens=False) or [""]
    hints = [f"        $ {clean(line)}" for line in finding.hint.splitlines()]
    return [head + text[0], *(_INDENT + line for line in text[1:]), *hints]


def summary(findings: Iterable[Finding]) -> str:
    """One line for the end."""
    states = [finding.state for finding in findings]
    parts = [_count(states.count(state), state) for state in ("problem", "warning", "unknown") if state in states]
    return f"{len(states)} checked: {', '.join(parts) or 'all well'}"


def _count(number: int, state: str) -> str:
    return f"{number} {state}{'s' if number != 1 and state != 'unknown' else ''}"
