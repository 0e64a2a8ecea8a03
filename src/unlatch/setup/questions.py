"""Questions to the person who runs setup. Each has an option that answers it where nobody can be asked."""

import textwrap
from collections.abc import Callable
from typing import TypeVar

from unlatch.cli import voice
from unlatch.secret import Secret

_T = TypeVar("_T")
WIDTH = 90  # characters; longer lines are hard to read


class Questions:
    """The terminal, where there is one; else a list of what would have had to be asked."""

    def __init__(self) -> None:
        self._terminal: voice.Terminal | None = voice.Terminal()
        self._missing: list[str] = []
        try:
            self._terminal.descriptor()
        except voice.Problem:
            self._terminal = None

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there."""
        return self._terminal is not None

    def ask(
        self, option: str, why: str, question: str, read: Callable[[str], _T], default: str | None = None
    ) -> _T | None:
        """What ``read`` makes of the answer; it is asked again while ``read`` raises ValueError. Enter is ``default``.

        None where nobody can be asked: :meth:`check` tells of all these at once.
        """
        if self._terminal is None:
            self._missing.append(option)
            return None
        _explain(why)
        while True:
            hint = "" if default is None else f" [{default or 'none'}]"
            typed = self._terminal.ask(f"  {question}{hint}:") or (default if default is not None else "")
            try:
                return read(typed)
            except ValueError as error:
                room = min(voice.width(), WIDTH)
                text = f"not taken: {voice.clean(str(error))}"
                voice.tell_plainly(
                    textwrap.fill(text, room, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
                )

    def ask_secret(self, option: str, why: str, question: str) -> Secret | None:
        """A line typed without echo."""
        if self._terminal is None:
            self._missing.append(option)
            return None
        _explain(why)
        while not (typed := self._terminal.ask_secret(f"  {question}:")):
            pass
        return typed

    def agree(self, option: str, question: str, default: bool = True) -> bool:
        """Yes or no."""
        if self._terminal is None:
            self._missing.append(option)
            return False
        answer = self.ask(option, "", f"{question} (yes/no)", yes_or_no, "yes" if default else "no")
        return bool(answer)

    def check(self) -> None:
        """See that nothing is missing.

        Raises:
            Problem: naming every option that is.
        """
        if self._missing:
            voice.fail(
                f"there is no terminal to ask on, and {'answers are' if len(self._missing) > 1 else 'an answer is'} "
                "missing",
                f"add {', '.join(self._missing)}",
                code=voice.USAGE,
            )


def _explain(why: str) -> None:
    """A sentence or two, folded; lines of a list, which begin with a space, stay as they are."""
    room = min(voice.width(), WIDTH)
    voice.tell_plainly("")
    for line in why.splitlines():
        voice.tell_plainly(line if line.startswith(" ") else textwrap.fill(line, room, break_on_hyphens=False))


def yes_or_no(text: str) -> bool:
    """Read a yes or no."""
    if text.lower() not in ("yes", "y", "no", "n"):
        raise ValueError("yes or no")
    return text.lower() in ("yes", "y")
