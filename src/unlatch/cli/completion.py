"""What a shell completes: click's own scripts for bash, zsh and fish, which ask ``unlatch`` itself at each Tab.

The Debian package brings the scripts (tools/deb.py). Installed by hand: ``_UNLATCH_COMPLETE=bash_source unlatch``.
"""

import contextlib
import os

import click
from click.shell_completion import get_completion_class, shell_complete

PROGRAM = "unlatch"
VARIABLE = "_UNLATCH_COMPLETE"  # "bash_source", "zsh_complete" and so on; click's own name for it


def asked_for() -> bool:
    """Whether it is a shell that started this process, and wants to know what may be typed."""
    return VARIABLE in os.environ


def complete(cli: click.Command) -> int:
    """Tell the shell; whatever goes wrong is not worth a word in the middle of somebody's line."""
    with contextlib.suppress(Exception):
        return shell_complete(cli, {}, PROGRAM, VARIABLE, os.environ[VARIABLE])
    return 1


def script(cli: click.Command, shell: str) -> str:
    """The script of one shell, as a file for the directory where that shell looks.

    Raises:
        KeyError: click knows no such shell.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise KeyError(shell)
    source = kind(cli, {}, PROGRAM, VARIABLE).source()
    # click's last lines complete when zsh loads the file, and at the next Tab only register what they defined, with a
    # bell. In zsh's own directories a file is the body of a function: it has to complete each time.
    body, register, _ = source.partition("\nif [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n")
    return f'{body}\n_unlatch_completion "$@"\n' if register else source.rstrip("\n") + "\n"
