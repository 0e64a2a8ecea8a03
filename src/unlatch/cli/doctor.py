"""``unlatch doctor``: examine the whole way from a service's request to the phone, and say what to type."""

import json
import os
import pwd
import sys

import click

from unlatch import __version__
from unlatch.cli import voice
from unlatch.doctor import registry, report
from unlatch.doctor.check import Checks, Finding, Situation, State
from unlatch.doctor.run import examine
from unlatch.gnupg.homes import home_of_unit

CHOSEN = ("UNLATCH_CONFIG", "UNLATCH_RUNTIME_DIR")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # systemd.exec(5), for system services


def _complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
    return [check.name for check in registry.ALL if check.name.startswith(incomplete)]


@click.command(
    short_help="Check that unlocking will work, before it is needed.",
    epilog="""\b
Example, as root, for the services of the user api:
  # unlatch doctor --as api

\b
Exit codes: 0 all well or warnings only, 1 a problem or an error,
6 no problem, but something could not be found out.
""",
)
@click.argument("names", metavar="[CHECK]...", nargs=-1, shell_complete=_complete)
@click.option("--as", "user", metavar="USER", help="Run the asker's checks as this user; for root.")
@click.option(
    "--gnupghome", metavar="DIR", help="Look at this GNUPGHOME.  [default: $GNUPGHOME, else the user's ~/.gnupg]"
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of objects: check, state, text, hint.")
@click.option("--rehearse", "what", metavar="KEY|CARD", help="Lock this key or card, ring, unlock it, and prove it.")
@click.option("--yes", is_flag=True, help="With --rehearse: do not ask whether to go on.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.IntRange(10, 3600),
    default=300,
    help="With --rehearse: how long somebody has to answer, 10 to 3600.  [default: 300]",
)
def command(
    names: tuple[str, ...],
    user: str | None,
    gnupghome: str | None,
    as_json: bool,
    what: str | None,
    yes: bool,
    timeout: int,
) -> int:
    """Check everything between a service's request and the phone, or only each CHECK that is named.

    One line each, with what to type below it.

    The asker's checks run as the user whose services unlock something, with nothing but GNUPGHOME and PATH in their
    environment, as a service would. Nothing is changed, nobody is rung, and no PIN try is spent.
    """
    unknown = set(names) - {check.name for check in registry.ALL}
    if unknown:
        voice.fail(
            f"there is no check called {voice.clean(min(unknown))}", 'run "unlatch doctor" for all', code=voice.USAGE
        )
    if names and what:
        voice.fail("a rehearsal makes its own checks", "leave out either --rehearse or the names", code=voice.USAGE)
    situation = _situation(user, gnupghome)

    def show(finding: Finding) -> None:
        if not as_json:
            for line in report.lines(finding, voice.clean, _paint):
                voice.say(line)

    findings = []
    if what:
        from unlatch.cli.doctor_rehearse import rehearse  # cards and keys, which the checks do without

        findings = rehearse(situation, what, timeout, yes=yes, show=show)
    else:
        asker, host = (_chosen(checks, names) for checks in (registry.ASKER, registry.HOST))
        if situation.uid == 0 and not (names or user or gnupghome or os.path.isdir(situation.gnupghome)):
            voice.tell(
                "root has no GnuPG home, so this looks at the host only; --as USER looks at a user's services too"
            )
            asker = ()
        for finding in examine(asker, host, situation):
            findings.append(finding)
            show(finding)
    if as_json:
        voice.say(json.dumps([finding._asdict() for finding in findings]))
    elif not what:
        voice.say(report.summary(findings))
    return _code(findings)


def _chosen(checks: Checks, names: tuple[str, ...]) -> Checks:
    return tuple(check for check in checks if not names or check.name in names)


def _situation(name: str | None, gnupghome: str | None) -> Situation:
    """Whose services are examined.

    Raises:
        Problem: there is no such user, or the caller may not become that user.
    """
    caller = os.geteuid()
    entry = _account(name) if name else _caller(caller)
    if caller not in (0, entry.pw_uid):
        voice.fail(
            "only root can run the checks as another user",
            f'as root: "unlatch doctor --as {voice.clean(entry.pw_name)}"',
        )
    # Another user's home must not be guessed from our own environment.
    ours = os.environ.get("GNUPGHOME") if caller == entry.pw_uid else ""
    chosen = os.path.abspath(gnupghome or ours or home_of_unit(entry.pw_name) or f"{entry.pw_dir}/.gnupg")
    # What somebody chose for all of Unlatch's programs (``unlatch env`` gives it to jobs) is no accident of this shell.
    own = {name: os.environ[name] for name in CHOSEN if caller == entry.pw_uid and os.environ.get(name)}
    environ = {"GNUPGHOME": chosen, "PATH": PATH} | own
    return Situation(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, chosen, environ, caller, __version__)


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        hint = "a DynamicUser= exists only while its service runs"
        voice.fail(f"no user of this host is called {voice.clean(name)}", hint)


def _caller(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        home = os.environ.get("HOME") or "/"
        return pwd.struct_passwd((str(uid), "x", uid, os.getegid(), "", home, "/bin/sh"))


def _paint(text: str, state: State) -> str:
    """Colours for a terminal that has them (https://no-color.org)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return text
    return click.style(text, fg=report.COLOURS[state])


def _code(findings: list[Finding]) -> int:
    states = {finding.state for finding in findings}
    if "problem" in states:
        return voice.FAILED
    return voice.UNKNOWN if "unknown" in states else voice.OK
