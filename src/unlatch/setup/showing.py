"""How a plan looks to a person: each step with what it is for, its files, and what follows. Pure, apart from colour."""

import os
import sys
import textwrap
from collections.abc import Iterator
from typing import TextIO

import click

from unlatch.cli import voice
from unlatch.setup import changes
from unlatch.setup.changes import Change
from unlatch.setup.steps import Step

_NAME = 12  # the longest name of a step
_INDENT = " " * (_NAME + 4)
_LABEL = 8


def lines(steps: list[Step], *, whole: bool, width: int) -> Iterator[str]:
    """The plan. A change of a file that is there is shown in full, always; a new one only if ``whole``."""
    for number, step in enumerate(steps, start=1):
        settled = step.idle and not step.shown and not step.notes
        says = _folded(step.says + (" (already so)" if settled else ""), width - len(_INDENT))
        yield f"{number:>2} {step.name:<{_NAME}} {says[0]}"
        yield from (_INDENT + line for line in says[1:])
        for change in step.changes:
            yield from _change(change, whole=whole)
        for effect in step.effects:
            text = f"{effect.text}:\n$ {effect.command}" if effect.command else effect.text
            yield from _labelled("then", text, width)
        for note in step.notes:
            yield from _labelled("note", note, width)
        yield from ("    " + line.replace("\t", "    ") for line in step.shown.splitlines())


def difference(change: Change, out: TextIO | None = None) -> Iterator[str]:
    """What a change changes, fit for a terminal, in the usual colours; "..." where lines are left out.

    ``out`` is where it is printed, standard error unless given.
    """
    begun = False
    for line in changes.diff(change):
        if line.startswith("@@ "):
            if begun:
                yield "..."
            begun = True
        elif begun or not line.startswith(("--- ", "+++ ")):
            yield _painted(voice.clean(line.replace("\t", "    ")), out or sys.stderr)


def _painted(line: str, out: TextIO) -> str:
    """For a terminal that has colours (https://no-color.org)."""
    plain = not out.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    colour = {"+": "green", "-": "red"}.get(line[:1])
    return line if plain or colour is None else click.style(line, fg=colour)


def _change(change: Change, *, whole: bool) -> Iterator[str]:
    label = "new" if changes.is_new(change) else "changes"
    kind = " (a directory)" if change.after.kind == "directory" else ""
    yield f"{_INDENT}{label:<{_LABEL}}{voice.clean(change.path)}{kind}"
    if not kind and (whole or not changes.is_new(change)):
        # A plan that is all there is to see goes to standard output, into a file or a pager perhaps.
        out = sys.stdout if whole else sys.stderr
        yield from (f"{_INDENT}  {line}" for line in difference(change, out))


def _labelled(label: str, text: str, width: int) -> Iterator[str]:
    """Sentences are folded; a command ("$ ...") never is, so that it can be copied."""
    for number, line in enumerate(_folded(text, width - len(_INDENT) - _LABEL)):
        yield f"{_INDENT}{label if number == 0 else '':<{_LABEL}}{line}"


def _folded(text: str, width: int) -> list[str]:
    folded: list[str] = []
    for line in voice.clean(text, lines=True).split("\n"):
        fits = [line] if line.startswith("$ ") else textwrap.wrap(
            line, width, break_on_hyphens=False, break_long_words=False
        )  # fmt: skip
        folded += fits or [""]
    return folded
