"""Whom a command asks for a secret: the options that choose, and the person they stand for."""

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import click

from unlatch.cli import admin, voice
from unlatch.frontends import asking
from unlatch.prompt import Prompt
from unlatch.secret import forbid_core_dumps

_Command = TypeVar("_Command", bound=Callable[..., Any])


TIMEOUT_HELP = "How long the person has; 0 for the broker's default."


class Choice(NamedTuple):
    """What the command line says about who is asked."""

    from_stdin: bool
    at_tty: bool
    reason: str
    timeout: int


def options(command: _Command) -> _Command:
    """``--stdin --tty --reason --timeout``, received as ``from_stdin at_tty reason timeout``."""
    for option in (
        click.option(
            "--timeout",
            metavar="SECONDS",
            type=click.IntRange(0, 604_800),
            default=0,
            help=TIMEOUT_HELP,
        ),
        click.option("--reason", metavar="TEXT", default="", help="One more line for the page: why this is asked."),
        click.option("--tty", "at_tty", is_flag=True, help="Ask at this terminal; nobody is rung."),
        click.option(
            "--stdin", "from_stdin", is_flag=True, help="Read what one would type from standard input, by line."
        ),
    ):
        command = option(command)
    return command


def person(choice: Choice, command: str, *, moot: int = -1) -> asking.Person:
    """The person to ask; use it in ``with``. ``command`` is what the page calls the command, as it was typed.

    ``moot`` is a descriptor that becomes readable when nobody needs to answer any more.
    """
    if choice.from_stdin and choice.at_tty:
        voice.fail("--stdin and --tty exclude each other", code=voice.USAGE)
    forbid_core_dumps()
    terminal = voice.Terminal()
    local = asking.AtTerminal(lambda text: voice.tell_plainly(voice.clean(text, lines=True)), terminal.ask_secret)
    if choice.from_stdin and not sys.stdin.isatty():
        return asking.StandardInput()
    if choice.from_stdin or choice.at_tty:
        terminal.descriptor()  # before anything is begun: without a terminal there is nobody to ask
        return local
    uid = os.geteuid()
    return asking.Phone(
        command=command,
        uid=uid,
        environ=os.environ,
        home=admin.home(uid),
        reason=choice.reason,
        rung=_tell,
        local=local,
        moot=moot,
    )


def _tell(prompt: Prompt) -> None:
    voice.tell(f"ringing; the words are {' '.join(prompt.words)}; Ctrl-C takes it back")
