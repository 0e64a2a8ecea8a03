"""The ``unlatch`` command: finds the file of each subcommand, and turns whatever goes wrong into words and a code."""

import importlib
import signal
import sys

import click

from unlatch import __version__
from unlatch.cli import completion, voice

# As the help shows them: by what somebody is about to do.
GROUPS = {
    "Set up and check": ("setup", "config", "matrix", "ring", "doctor"),
    "Somebody waits": ("status", "answer", "log"),
    "Unlock before it is needed, and lock": ("key", "card", "lock"),
    "Secrets for programs": ("secret", "get", "run", "askpass", "env"),
    "Logins": ("pam",),
    "What systemd runs": ("serve", "agent", "systemd-agent"),
}
COMMANDS = tuple(sorted(name for names in GROUPS.values() for name in names))

EXAMPLE = """\b
Examples: a new host, as root; and a service waits, while you are logged in:
  # unlatch setup --user api
  $ unlatch answer
"""


class _Commands(click.Group):
    """One file per command, imported only when it is called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        found = importlib.import_module(f"unlatch.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The groups, their columns aligned with each other."""
        longest = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            room = formatter.width - 4 - longest
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{name:<{longest}}", each.get_short_help_str(room)) for name, each in found if each is not None]
                )


@click.group(
    cls=_Commands, no_args_is_help=False, epilog=EXAMPLE, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, message="unlatch %(version)s")
def cli() -> None:
    """Rings your phone when a server needs a secret that only you have."""


def main() -> None:
    """The entry point."""
    # Both unwind as exceptions do, so that a terminal gets its echo back; SIGINT may have come ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(completion.complete(cli) if completion.asked_for() else run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code. Nothing is raised, and a traceback is never shown."""
    try:
        # Not cli.main(): it would take broken pipes and interruptions into its own hands.
        with cli.make_context("unlatch", arguments) as context:
            code = cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except KeyboardInterrupt:
        voice.tell("interrupted")
        return voice.INTERRUPTED
    except BrokenPipeError:
        voice.silence_output()
        return voice.BROKEN_PIPE
    except Exception as error:
        problem = voice.explain(error)
        voice.complain(problem)
        return problem.code
    return code if isinstance(code, int) else voice.OK
