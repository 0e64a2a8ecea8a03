"""How Unlatch talks to people. Nothing else in the package writes to a terminal or reads from one.

Results for scripts go to standard output; talk (questions, errors, hints) goes to standard error or the terminal.
click is not used for that: ``card check`` stands in front of every job and has no 50 ms for importing it.
Text that came from elsewhere passes :func:`clean` first: an asker must not be able to move somebody's cursor.
"""

import os
import sys
import termios
import textwrap
from collections.abc import Iterable, Iterator
from typing import NoReturn

from unlatch.errors import (
    BadConfig,
    Denied,
    Expired,
    LinkOver,
    Malformed,
    NoBroker,
    Refused,
    SealBroken,
    UnlatchError,
    Withdrawn,
)
from unlatch.runtime import Untrusted
from unlatch.secret import Secret

# Exit codes, as the man page lists them.
OK, FAILED, USAGE, WRONG, OVER, FURTHER, UNKNOWN, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 4, 5, 6, 130, 141
LOCKED, BLOCKED, NO_CARD = 7, 8, 9  # of a card or a key (unlatch-card(1), unlatch-key(1))

MAX_TYPED = 4096  # bytes; the kernel's line editor takes no more (termios(3), canonical mode)


class Problem(UnlatchError):
    """Something that a command has to tell before it ends: what, what to do about it, and the exit code."""

    def __init__(self, text: str, *hints: str, code: int = FAILED) -> None:
        super().__init__(text)
        self.text = text
        self.hints = hints
        self.code = code


def say(text: str = "") -> None:
    """A line of the result, on standard output."""
    print(text, flush=True)


def tell(text: str) -> None:
    """A line of talk, on standard error."""
    print(f"unlatch: {text}", file=sys.stderr, flush=True)


def tell_plainly(text: str) -> None:
    """A line of talk that needs no name in front: a list to choose from."""
    print(text, file=sys.stderr, flush=True)


def complain(problem: Problem) -> None:
    """An error and its hints, on standard error."""
    tell(f"error: {problem.text}")
    for hint in problem.hints:
        tell(f"hint: {hint}")


def fail(text: str, *hints: str, code: int = FAILED) -> NoReturn:
    """End the command with an error."""
    raise Problem(text, *hints, code=code)


_REFUSALS = {
    "people": 'add yourself to "users" of a [people.NAME] table in unlatch.toml',
    "user": "allow_users in unlatch.toml does not name you",
    "quota": 'too many prompts are open or were rung within the hour; "unlatch status" lists the open ones',
    "end-to-end": "a yes needs an end-to-end notifier, or confirm_by_link = true in unlatch.toml",
    "audit": '"unlatch status" says what is wrong with the audit trail; it takes 300 lines a minute of each user',
    "config": 'run "unlatch config check"',
    "version": "broker and asker are of different releases; restart the broker",
}


_LINK_OVER = {
    "used": "the link was answered already",
    "expired": "the link expired",
    "withdrawn": "the asker went away, and its prompt with it",
    "denied": "the prompt was denied",
    "replaced": "a newer link took the place of this one",
    "elsewhere": "the link was opened elsewhere as often as it may be",
    "answered": "somebody else has just answered",
    "unknown": "no broker knows this link",
}


def explain(error: Exception) -> Problem:
    """What to tell people about an exception. The texts of unforeseen ones stay untold: they may quote anything."""
    match error:
        case UnlatchError():
            return _explain_ours(error)
        case OSError():
            what = f"{clean(str(error.filename))}: " if error.filename else ""
            return Problem(f"{what}{(error.strerror or type(error).__name__).lower()}")
        case _:
            unforeseen = Problem(f"unforeseen {type(error).__name__} at {_place(error)}", "please report this line")
            return _explain_usage(error) or unforeseen


def _explain_usage(error: Exception) -> Problem | None:
    """What click has to say of a command line; None if it is not click's error."""
    import click

    match error:
        case click.UsageError():
            if "://" in error.format_message():
                return leaked_argument()
            command = error.ctx.command_path if error.ctx else "unlatch"
            return Problem(_sentence(error.format_message()), f'run "{command} --help"', code=USAGE)
        case click.ClickException():
            return Problem(_sentence(error.format_message()), code=error.exit_code)
        case _:
            return None


def leaked_argument() -> Problem:
    """What to say about an argument that may be a link or a secret; it is not repeated."""
    return Problem(
        "this command takes no argument, and a link is never one",
        "a link that was typed here now stands in the shell's history and in the process list: consider it leaked",
        'deny it with "unlatch answer --deny", or answer it at once, and clear the history',
        code=USAGE,
    )


def _explain_ours(error: UnlatchError) -> Problem:
    match error:
        case Problem():
            return error
        case NoBroker():
            return Problem("no broker could be reached", *map(clean, error.why))
        case Refused():
            hints = [_REFUSALS[error.why]] if error.why in _REFUSALS else []
            return Problem(f"the broker refused: {clean(error.text) or error.why}", *hints)
        case BadConfig():
            return Problem("the configuration has mistakes", *map(clean, error.mistakes))
        case LinkOver():
            hints = ["if it was not you, deny the fresh link that was sent"] if error.state == "elsewhere" else []
            return Problem(_LINK_OVER[error.state], *hints, code=OVER)
        case Denied() | Expired() | Withdrawn():
            outcome = {Denied: "was denied", Expired: "expired", Withdrawn: "was withdrawn"}[type(error)]
            return Problem(f"the prompt {outcome}", code=OVER)
        case Untrusted():
            return Problem(clean(str(error)), "only you, root or the broker's own user may own it")
        case SealBroken() | Malformed():
            return Problem(str(error), "the other side speaks another version, or somebody changed it on the way")
        case _:
            return Problem(clean(str(error)))


def _sentence(text: str) -> str:
    return clean(text[:1].lower() + text[1:]).rstrip(".")


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "start"


def clean(text: str, *, lines: bool = False) -> str:
    """Text from elsewhere, fit for a terminal: the unprintable is shown as its escape; ``lines`` keeps line breaks."""
    return "".join(
        character if character.isprintable() or (lines and character == "\n") else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return " " if character in "\n\t" else character.encode("unicode_escape").decode("ascii")


def duration(seconds: float) -> str:
    """A time span as people say it, in its two largest units at most."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    hours, minutes = divmod(whole // 60, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def columns(rows: Iterable[tuple[str, str]], *, mark: str = "", width: int = 0) -> list[str]:
    """Names and what they stand for, aligned; rows without a value are left out, further lines go below the first.

    ``mark`` stands before each line. With ``width`` values are broken into lines that fit: where a terminal broke them,
    they would go on at its edge, and a value could pose as a row of its own.
    """
    shown = [(name, value) for name, value in rows if value]
    names = max((len(name) for name, _ in shown), default=0)
    room = max(8, width - len(mark) - names - 2)
    return [
        f"{mark}{name if number == 0 else '':<{names}}  {line}"
        for name, value in shown
        for number, line in enumerate(_fold(value, room) if width else value.split("\n"))
    ]


def _fold(text: str, room: int) -> Iterator[str]:
    for line in text.split("\n"):
        # What is not ASCII may take two cells of a terminal.
        yield from textwrap.wrap(line, room if line.isascii() else room // 2) or [""]


def width() -> int:
    """How many characters fit on a line of standard error's terminal; 80 when it is none, or does not know."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


class Terminal:
    """The terminal of this session, whatever standard input and output are connected to."""

    def __init__(self) -> None:
        self._opened = -1

    def descriptor(self) -> int:
        """The open terminal.

        Raises:
            Problem: this session has none.
        """
        if self._opened < 0:
            try:
                self._opened = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:
                fail(
                    "there is no terminal to ask on",
                    'run "unlatch answer" in a terminal, or give link and secret on standard input with --stdin',
                )
        return self._opened

    def ask(self, question: str) -> str:
        """A line typed with echo."""
        return self._line(question).decode("utf-8", "replace").strip()

    def ask_secret(self, question: str) -> Secret:
        """A line typed without echo, as its very bytes. Input that was typed ahead is thrown away."""
        terminal = self.descriptor()
        before = termios.tcgetattr(terminal)
        silent = [*before]
        silent[3] &= ~(termios.ECHO | termios.ECHONL)
        try:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
            return Secret(self._line(question))
        finally:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
            os.write(terminal, b"\n")

    def _line(self, question: str) -> bytes:
        os.write(self.descriptor(), f"{question} ".encode())
        line = os.read(self.descriptor(), MAX_TYPED)
        if not line:
            raise KeyboardInterrupt  # Ctrl-D: the person left, as with Ctrl-C
        return line.removesuffix(b"\n")


def silence_output() -> None:
    """Send what is still to be written nowhere, so that Python's last flush meets no broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
