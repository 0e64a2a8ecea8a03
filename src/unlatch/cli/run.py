"""``unlatch run``: start a program with secrets in its variables, descriptors, or files that touch no disk."""

import os
from collections.abc import Sequence

import click

from unlatch.cli import fetching, handing, persons, voice
from unlatch.cli.spans import Span
from unlatch.secret import forbid_core_dumps


class _Pair(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.2 only
    """``VARIABLE=NAME``."""

    name = "variable=name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        variable, sign, name = value.partition("=")
        if not (sign and name and variable.isidentifier() and variable.isascii()):
            self.fail("accepted: VARIABLE=NAME, such as BORG_PASSPHRASE=borg", param, ctx)
        return variable, name


_PAIR = _Pair()


@click.command(
    short_help="Start a program with secrets, none on a disk.",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  $ unlatch run --fd BORG_PASSPHRASE_FD=borg -- borg create ::{now} /etc
  $ unlatch run --env RESTIC_PASSWORD=restic -- restic backup /srv
  $ unlatch run --file BORG_KEY_FILE=borg-key --fd BORG_PASSPHRASE_FD=borg -- borg list

\b
Exit codes: those of PROGRAM, which takes this process's place; and
  1    an error before PROGRAM was started
  2    wrong usage
  4    denied, expired or withdrawn
  126  PROGRAM cannot be executed
  127  PROGRAM was not found
""",
)
@click.option("--env", "variables", type=_PAIR, multiple=True, help="The secret itself in this variable.")
@click.option("--fd", "pipes", type=_PAIR, multiple=True, help="A pipe with the secret; its number in this variable.")
@click.option("--file", "files", type=_PAIR, multiple=True, help="A sealed file in memory; its path in this variable.")
@click.option(
    "--dir", "folders", type=_PAIR, multiple=True, help="A directory in memory that holds a file called NAME."
)
@click.option(
    "--for",
    "seconds",
    metavar="TIME",
    type=Span(),
    default=0,
    help="Keep the secrets usable without asking for that long.",
)
@persons.options
@click.argument("program", nargs=-1, required=True)
def command(
    variables: Sequence[tuple[str, str]],
    pipes: Sequence[tuple[str, str]],
    files: Sequence[tuple[str, str]],
    folders: Sequence[tuple[str, str]],
    seconds: int,
    from_stdin: bool,
    at_tty: bool,
    reason: str,
    timeout: int,
    program: Sequence[str],
) -> int:
    """Fetch secrets as "unlatch get" does, then become PROGRAM.

    PROGRAM takes the place of this process, so signals and the exit status are its own. A variable can be read by every
    process of the same user; prefer --fd and --file where the program takes them.
    """
    forbid_core_dumps()
    choice = persons.Choice(from_stdin, at_tty, reason, timeout)
    # In this order, which is that of the lines of --stdin.
    wanted = dict.fromkeys(name for _, name in (*variables, *pipes, *files, *folders))
    if not wanted:
        voice.fail("there is no secret to hand over: --env, --fd, --file or --dir VARIABLE=NAME", code=voice.USAGE)
    where = handing.find(program[0], os.environ)
    calling = f"unlatch run {os.path.basename(program[0])}"
    fetched = {name: fetching.fetch(name, fetching.Wishes(choice, calling, seconds=seconds)) for name in wanted}
    environ = dict(os.environ)
    for variable, name in variables:
        environ[variable] = handing.as_text(name, fetched[name])
    for variable, name in pipes:
        environ[variable] = str(handing.pipe(fetched[name]))
    for variable, name in files:
        environ[variable] = handing.memory_file(name, fetched[name])
    if folders:
        environ |= handing.folders([(variable, name, fetched[name]) for variable, name in folders])
    handing.become(where, program, environ)
