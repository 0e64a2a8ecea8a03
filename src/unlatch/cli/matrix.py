"""``unlatch matrix``: what belongs to the Matrix notifier."""

import os
import signal
import sys
from importlib.util import find_spec

import click

from unlatch.cli import voice
from unlatch.config import load
from unlatch.notify.matrix_place import state_directory
from unlatch.secret import Secret, forbid_core_dumps


@click.group(no_args_is_help=False)
def command() -> None:
    """Set up rings over Matrix (unlatch matrix setup)."""


@command.command(
    epilog="""\b
Example:
  $ unlatch matrix setup --user @unlatch:example.org --admin @alex:example.org

\b
Each step can be run again: what is done already stays as it is.
""",
)
@click.option("--user", metavar="USER", help="The bot's own account, such as @unlatch:example.org.")
@click.option("--homeserver", metavar="URL", help="Its address, if the name in --user does not lead there.")
@click.option("--token", is_flag=True, help="Ask for an access token in place of the password.")
@click.option("--stdin", is_flag=True, help="Read password or token from a line of standard input.")
@click.option("--device-name", metavar="NAME", help="What the login is called; the host's name unless given.")
@click.option("--room", metavar="ROOM", help="Use this room (id or alias) in place of a new private one.")
@click.option("--admin", "admins", metavar="USER", multiple=True, help="Who is rung; may be repeated.")
@click.option("--forget", metavar="USER", multiple=True, help="Ring this admin no more; may be repeated.")
@click.option("--trust-first-use", is_flag=True, help="Do not compare emoji: believe the homeserver this once.")
@click.option("--reset-identity", is_flag=True, help="Replace the bot's own lost identity.")
@click.option("--directory", metavar="DIR", help="Where login and keys are kept, in place of the settings' place.")
@click.option("--dry-run", is_flag=True, help="Say what there is to do, and do nothing.")
def setup(
    user: str | None,
    homeserver: str | None,
    token: bool,
    stdin: bool,
    device_name: str | None,
    room: str | None,
    admins: tuple[str, ...],
    forget: tuple[str, ...],
    trust_first_use: bool,
    reset_identity: bool,
    directory: str | None,
    dry_run: bool,
) -> int:
    """Log the bot in, once; make a room; compare emoji with each admin; send a test.

    The password is not kept, only the login and the keys that it gives.
    """
    if find_spec("vodozemac") is None:
        voice.fail("Matrix needs vodozemac", 'run "pip install unlatch[matrix]"')
    from unlatch.cli.matrix_setup import Setup, Wishes

    forbid_core_dumps()
    # Not the default handler: asyncio would take it over, and a question at the terminal could not be left.
    signal.signal(signal.SIGINT, _interrupt)
    place = directory or _configured() or state_directory("", os.environ)
    wishes = Wishes(
        directory=os.path.abspath(place),
        user=user or "",
        homeserver=homeserver or "",
        by_token=token,
        device_name=device_name or "",
        room=room or "",
        admins=admins,
        forget=forget,
        trust_first_use=trust_first_use,
        reset_identity=reset_identity,
        dry_run=dry_run,
    )
    return Setup(wishes, Asking(stdin=stdin)).run()


class Asking:
    """Questions on the terminal; secrets, if told so, from standard input."""

    def __init__(self, *, stdin: bool) -> None:
        self._stdin = stdin
        self._terminal = voice.Terminal()

    def ask(self, question: str, option: str) -> str:
        """A line. ``option`` gives the answer where nobody can be asked."""
        if self._stdin:
            voice.fail(f"{option} is missing, and with --stdin nobody is asked", code=voice.USAGE)
        return self._terminal.ask(question)

    def ask_secret(self, question: str) -> Secret:
        """A password or token."""
        if not self._stdin:
            return self._terminal.ask_secret(question)
        line = sys.stdin.buffer.readline(voice.MAX_TYPED).rstrip(b"\r\n")
        if not line:
            voice.fail("standard input has no (further) line with a password or token", code=voice.USAGE)
        return Secret(line)

    def confirm(self, question: str) -> bool:
        """Yes or no; anything but a yes is a no."""
        return self.ask(f"{question} [yes/no]", "a yes or no").lower() in ("y", "yes")


def _configured() -> str:
    """The directory of the settings' one Matrix notifier, or nothing."""
    settings = load(None, os.environ, os.geteuid()).settings
    named = {
        state_directory(each.options["matrix"], os.environ) for each in settings.notifiers if each.kind == "matrix"
    }
    if len(named) > 1:
        voice.fail("the settings name several Matrix directories", "say which with --directory", code=voice.USAGE)
    return named.pop() if named else ""


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
