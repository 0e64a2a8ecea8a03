"""``unlatch pam test``: walk through a login with the real module and the real service, and touch no login's files.

libpam reads a directory of our own in place of /etc/pam.d. It runs in a child: the module sits in C code while it waits
for a phone, where Python would not hear Ctrl-C; so there the child simply dies of it, as a login's program would.
"""

import os
import signal
import sys
import tempfile

import click

from unlatch import __version__, config
from unlatch.cli import pam_checks, pam_lines, voice
from unlatch.cli.pam_checks import Walk
from unlatch.doctor import report
from unlatch.doctor.check import Finding, Situation
from unlatch.doctor.host import pam_places
from unlatch.pam import libpam
from unlatch.pam.accounts import Account, find
from unlatch.pam.errors import Unfit
from unlatch.secret import Secret, forbid_core_dumps
from unlatch.settings import PAM_MODES, Settings

DENIED = voice.WRONG
_NO_PAM, _LEFT = 254, 255  # of the child; PAM's own codes end at 31
_SERVICE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")


@click.command(
    "test",
    short_help="Walk through a login, without touching a real service.",
    epilog="""\b
Example, as root, for the way in over ssh:
  # unlatch pam test alice --service sshd

\b
Exit codes: 0 the login would be let in, 1 it could not be tried, 3 denied.
""",
)
@click.argument("user")
@click.option("--service", metavar="NAME", default="sshd", help="As if this service asked.  [default: sshd]")
@click.option("--mode", type=click.Choice(PAM_MODES), help="In place of what the service's line, or [pam], says.")
@click.option("--module", metavar="PATH", help="Use this pam_unlatch.so, not the one that is installed.")
@click.option("--socket", metavar="PATH", default=pam_places.SOCKET, help="Ask the service at this socket.")
def command(user: str, service: str, mode: str | None, module: str | None, socket: str) -> int:
    """Walk through a login of USER: what is in place, then the conversation, then what PAM would say.

    For root, or for USER. The module and the service are the real ones, so a person may be rung; nobody is logged in,
    and neither /etc/pam.d nor a running sshd is touched. At the end it prints the lines that make a service ask.
    """
    try:
        account = find(user)
    except Unfit as error:
        voice.fail(f"{voice.clean(user)}: {error.why}", "getent passwd")
    if os.geteuid() not in (0, account.uid):
        name = voice.clean(account.name)
        voice.fail(f"only root and {name} can walk through a login of {name}", f'as root: "unlatch pam test {name}"')
    if not service or not set(service.lower()) <= _SERVICE_CHARACTERS or service.startswith("."):
        voice.fail("a service is the name of a file in /etc/pam.d", 'run "unlatch pam test --help"', code=voice.USAGE)
    loaded = config.load(None, os.environ, 0)
    walk = _walk(account, service.lower(), mode, module, socket, loaded.settings)
    terminal = _terminal(account.name)  # before anything is looked at: without one there is nobody to ask
    if not _in_place(walk, loaded.settings, loaded.path):
        voice.fail("there is nothing to walk through until that is mended")
    voice.say(f"\nwhat follows is what a login of {account.name} by {walk.service} shows; Ctrl-C ends it\n")
    code = _converse(walk, terminal)
    voice.say()
    return _verdict(code, walk, loaded.settings)


def _terminal(user: str) -> voice.Terminal:
    terminal = voice.Terminal()
    try:
        terminal.descriptor()
    except voice.Problem:
        text = "there is no terminal to show the login on"
        voice.fail(text, f"run it in a terminal; over ssh: ssh -t HOST unlatch pam test {voice.clean(user)}")
    return terminal


def _walk(
    account: Account, service: str, mode: str | None, module: str | None, socket: str, settings: Settings
) -> Walk:
    """The arguments are those of the service's own line if it has one, or as --mode says. What makes the caller of this
    command believable is worth a first factor: root, or the account itself.
    """
    own = next((use.arguments.split() for use in pam_places.uses() if use.service == service), [])
    kept = [word for word in own if word.partition("=")[0] not in ("mode", "after_first_factor", "socket", "timeout")]
    said = next((word.partition("=")[2] for word in own if word.startswith("mode=")), settings.pam_mode)
    chosen = mode or said
    arguments = (*kept, f"mode={chosen}", "after_first_factor", f"socket={socket}")
    return Walk(
        account, service, chosen, os.path.abspath(module) if module else pam_places.module_path(), socket, arguments
    )


def _in_place(walk: Walk, settings: Settings, file: str) -> bool:
    """Show what is in place, and say whether a conversation is possible."""
    account = walk.account
    home = f"{account.home}/.gnupg"
    where = (account.name, account.uid, account.gid, account.home, home, os.environ, os.geteuid(), __version__)
    situation = Situation(*where)
    way = list(pam_checks.way(walk, situation))
    for finding in way:
        _show(finding)
    if walk.mode != "approve":
        _show(pam_checks.entry(walk, settings, situation)._replace(check="key"))
    _show(pam_checks.rung(walk, settings, file, situation)._replace(check=f"mode {walk.mode}"))
    waits = pam_checks.patience(walk, settings, situation)
    if waits is not None:
        _show(waits._replace(check="patience"))
    _show(pam_checks.line(walk)._replace(check="line"))
    return not any(finding.state == "problem" for finding in way)


def _show(finding: Finding) -> None:
    for line in report.lines(finding, voice.clean, lambda text, _: text):
        voice.say(line)


class _Session:
    """What a login's program is to its person: texts are shown as they come, since only root's service has a say."""

    def __init__(self, terminal: voice.Terminal) -> None:
        self._terminal = terminal

    def show(self, text: str) -> None:
        os.write(self._terminal.descriptor(), text.encode() + b"\n")

    def ask(self, prompt: str, *, echo: bool) -> Secret:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            if echo:
                return Secret(self._terminal.ask(prompt.rstrip()).encode())
            return self._terminal.ask_secret(prompt.rstrip())
        finally:
            signal.signal(signal.SIGINT, before)


def _converse(walk: Walk, terminal: voice.Terminal) -> int:
    """PAM's own code for the login.

    Raises:
        KeyboardInterrupt: the person left.
    """
    # In /tmp, which is sticky, and not in TMPDIR, which su keeps: in a directory of the user's, he could exchange the
    # files, and root's libpam would load what they name.
    with tempfile.TemporaryDirectory(prefix="unlatch-pam-", dir="/tmp") as directory:
        # A bracket is how PAM quotes an argument; the words here have none but those that an administrator wrote.
        stack = " ".join(["auth required", walk.module, *walk.arguments])
        for name, text in ((walk.service, stack), ("other", "auth required pam_deny.so")):
            with open(f"{directory}/{name}", "w", encoding="utf-8") as file:
                file.write(text + "\n")
        sys.stdout.flush()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal's Ctrl-C the child hears too
        child = os.fork()
        if child == 0:
            os._exit(_child(walk, directory, terminal))
        try:
            return _code(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        except SystemExit:  # SIGTERM: the child must not sit at the terminal without us
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        finally:
            signal.signal(signal.SIGINT, before)


def _child(walk: Walk, directory: str, terminal: voice.Terminal) -> int:
    forbid_core_dumps()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # sshd knows no terminal while it authenticates, and says so with this word.
    tty = "ssh" if walk.service == "sshd" else next((os.ttyname(each) for each in (0, 1, 2) if os.isatty(each)), "")
    try:
        return libpam.authenticate(directory, walk.service, walk.account.name, tty, _Session(terminal))
    except libpam.NoPam as error:
        voice.complain(voice.Problem(str(error), "apt-get install libpam0g"))
        return _NO_PAM
    except KeyboardInterrupt:
        return _LEFT


def _code(status: int) -> int:
    if status in (_LEFT, -signal.SIGINT):
        raise KeyboardInterrupt
    if status == _NO_PAM or status < 0:
        voice.fail("libpam could not be asked" if status > 0 else f"libpam was ended by signal {-status}")
    return status


def _verdict(code: int, walk: Walk, settings: Settings) -> int:
    if code == libpam.SUCCESS:
        voice.say(f"{walk.account.name} would be let in (PAM_SUCCESS)")
        voice.say(f"\nwhat makes {walk.service} ask; keep a root session open while you try, see docs/logins.md:\n")
        there = os.path.exists(f"{pam_places.PAM_D}/{walk.service}")
        for line in pam_lines.lines(walk.service, settings.pam_seconds, there=there):
            voice.say(f"    {line}")
        return voice.OK
    log = 'the reason: "journalctl -u unlatch-pam.service -n 5"'
    if code == libpam.AUTH_ERR:
        voice.fail("the login is denied (PAM_AUTH_ERR)", log, code=DENIED)
    if code == libpam.AUTHINFO_UNAVAIL:
        text = "the login is denied: it could not be confirmed (PAM_AUTHINFO_UNAVAIL)"
        voice.fail(text, log, 'or, where no service answered: "journalctl -g pam_unlatch -n 5"', code=DENIED)
    text = f"PAM says {code} (/usr/include/security/_pam_types.h)"
    raise voice.Problem(text, f"see that libpam can load {voice.clean(walk.module)}", log)
