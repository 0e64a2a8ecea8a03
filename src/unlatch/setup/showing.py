"""How a plan looks to a person: each step with what it is for, its files, and what follows. Pure, apart from colour."""

import os
import sys
import textwrap
from collections.abc import Iterator

import click

from unlatch.cli import voice
from unlatch.setup import changes
from unlatch.setup.changes import Change
from unlatch.setup.steps import Step

_NAME = 12  # the longest name of a step
_INDENT = " " * (_NAME + 4)


def lines(steps: list[Step], *, whole: bool, width: int = 100) -> Iterator[str]:
    """The plan. A change of a file that is there is shown in full, always; a new one only if ``whole``."""
    for number, step in enumerate(steps, start=1):
        says = voice.clean(step.says) + (" (already so)" if step.idle and not step.shown and not step.notes else "")
        wrapped = textwrap.wrap(says, width - len(_INDENT), break_on_hyphens=False, break_long_words=False)
        yield f"{number:>2} {step.name:<{_NAME}} {wrapped[0]}"
        yield from (_INDENT + line for line in wrapped[1:])
        for change in step.changes:
            yield from (_INDENT + line for line in _change(change, whole=whole))
        for effect in step.effects:
            yield from _labelled("then", effect.text, width)
        for note in step.notes:
            yield from _labelled("note", note, width)
        yield from ("    " + line for line in step.shown.splitlines())


def paint(line: str) -> str:
    """A line of a diff in the colours that everybody knows, for a terminal that has them (https://no-color.org)."""
    mark = line.strip()[:1]
    if mark not in ("+", "-") or not sys.stderr.isatty() or os.environ.get("NO_COLOR"):
        return line
    return line if os.environ.get("TERM", "dumb") == "dumb" else click.style(line, fg="green" if mark == "+" else "red")


def difference(change: Change) -> Iterator[str]:
    """What a change changes, fit for a terminal; "..." where lines are left out."""
    begun = False
    for line in changes.diff(change):
        if line.startswith("@@ "):
            if begun:
                yield "..."
            begun = True
        elif begun or not line.startswith(("--- ", "+++ ")):
            yield voice.clean(line.replace("\t", "    "))


def _change(change: Change, *, whole: bool) -> Iterator[str]:
    if not whole and changes.is_new(change):
        kind = " (a directory)" if change.after.kind == "directory" else ""
        yield f"new     {voice.clean(change.path)}{kind}"
        return
    label = {"absent": "new", change.after.kind: "changes"}.get(change.before.kind, "changes")
    yield f"{label:<7} {voice.clean(change.path)}"
    yield from ("  " + line for line in difference(change))


def _labelled(label: str, text: str, width: int) -> Iterator[str]:
    wrapped = textwrap.wrap(voice.clean(text), width - len(_INDENT) - 8, break_on_hyphens=False, break_long_words=False)
    for number, line in enumerate(wrapped):
        yield f"{_INDENT}{label if number == 0 else '':<7} {line}"
