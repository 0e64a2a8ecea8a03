"""A session of ``unlatch setup``: finds out where it is, turns trouble into words, and rings at the end."""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from unlatch import runtime
from unlatch.cli import voice
from unlatch.doctor.check import Situation, command
from unlatch.errors import UnlatchError
from unlatch.settings import Unix
from unlatch.setup import first_ring, own_commands, places, showing
from unlatch.setup.agent_step import BadPinentry, NotTheirs
from unlatch.setup.files import Changed, NotPlain
from unlatch.setup.journal import Journal
from unlatch.setup.performing import NoGroup
from unlatch.setup.proxy_step import NoProxy
from unlatch.setup.questions import Questions
from unlatch.setup.run import Outcome, Scene, Setup
from unlatch.setup.target import NoSuchUser, target
from unlatch.setup.undo import ChangedSince, Conflict, Undo, Undoing
from unlatch.setup.units_step import CommandFailed, NotForService
from unlatch.setup.wishes import Wishes


class Session:
    """One call of the command."""

    def __init__(self, environ: Mapping[str, str], caller: int) -> None:
        self._environ = environ
        self._caller = caller
        own = target("", "", environ, caller)
        self._places = places.find(environ, caller, own.home)
        self._questions = Questions()

    def set_up(self, wishes: Wishes) -> int:
        """Set up, then ring; the exit code."""
        with _in_words():
            situation = self._situation(wishes)
            outcome = Setup(Scene(situation, self._places, self._environ), wishes, self._questions).run()
        if wishes.dry_run:
            return voice.OK
        code = self._ring(situation, wishes, outcome)
        if "matrix" in outcome.notifiers:
            code = self._matrix() or code
        if outcome.changed:
            as_user = f" --as {shlex.quote(situation.user)}" if situation.uid != self._caller else ""
            voice.tell(f'"unlatch doctor{as_user}" checks that it will work at night')
            voice.tell('"unlatch setup --undo" takes everything back')
        return code

    def undo(self, user: str, *, dry_run: bool, yes: bool) -> int:
        """Undo; the exit code."""
        with _in_words():
            journal = Journal(self._places.journal)
            undo = Undo(journal, self._places, self._environ, self._caller, user)
            planned = undo.plan()
            if not planned:
                voice.say("nothing to undo")
                return voice.OK
            for line in _undoings(planned, whole=dry_run):
                (voice.say if dry_run else voice.tell_plainly)(line)
            if dry_run:
                return voice.OK
            if not yes and not self._questions.agree("--yes", "Undo this?"):
                self._questions.check()
                voice.fail("nothing was changed")
            with journal.held():
                undo.perform(undo.plan(), lambda text: voice.tell(voice.clean(text)))
        voice.say("undone")
        return voice.OK

    def _situation(self, wishes: Wishes) -> Situation:
        user = wishes.user
        if user is None and self._caller == 0 and self._places.scope == "host":
            why = "Whose GnuPG shall ask through Unlatch? The user of the service that needs a key."
            user = self._questions.ask("--user USER", why, "user", lambda text: _known(text, self._environ), "root")
        situation = target(user or "", wishes.gnupghome or "", self._environ, self._caller)
        if self._caller not in (0, situation.uid):
            voice.fail(f"only root can set up another user's GnuPG: {user}", code=voice.USAGE)
        if not os.path.isdir(os.path.dirname(situation.gnupghome)):
            missing = os.path.dirname(situation.gnupghome)
            voice.fail(f"there is no directory {missing}", "name the GnuPG home with --gnupghome DIR")
        return situation

    def _ring(self, situation: Situation, wishes: Wishes, outcome: Outcome) -> int:
        ring = wishes.ring
        if ring is None:
            ring = (
                outcome.changed and self._questions.can_ask and self._questions.agree("--ring", "Ring now, as a test?")
            )
        if not ring:
            return voice.OK
        if missing := self._not_yet(outcome):
            voice.tell(f'it cannot ring yet: {missing}; then type "unlatch ring"')
            return voice.OK
        heard = {notifier.kind for notifier in outcome.settings.notifiers}
        by_terminal = self._places.scope == "own" and situation.uid == self._caller and heard <= {"terminal"}
        return first_ring.ring(situation, here=by_terminal, silent=heard <= {"terminal"} and not by_terminal)

    def _not_yet(self, outcome: Outcome) -> str:
        """What is still to be done by hand before a prompt could reach anybody; "" when nothing is."""
        listen = outcome.settings.listen
        if self._places.scope == "host" and outcome.units and not os.path.isdir(runtime.HOST_ASKERS):
            return "systemd has not started the broker"
        if self._places.scope == "own" and isinstance(listen, Unix) and not os.path.isdir(os.path.dirname(listen.path)):
            return f"root has to make {os.path.dirname(listen.path)}"
        return ""

    def _matrix(self) -> int:
        """Hand over to the command that sets Matrix up, as the broker's user; the exit code."""
        directory = "/var/lib/unlatch/matrix" if self._places.scope == "host" else ""
        words = ("matrix", "setup", *(("--directory", directory) if directory else ()))
        voice.tell("Matrix next: the bot logs in, makes a room, and you compare emoji on your phone")
        if not self._questions.can_ask or not self._questions.agree("", "Set it up now?"):
            by = "sudo -u unlatch " if directory else ""
            voice.tell_plainly(f"  later: {by}unlatch {' '.join(words)}")
            return voice.OK
        broker = target("unlatch" if directory else "", "", self._environ, self._caller)
        return own_commands.finish(own_commands.start(broker, *words))


def _undoings(planned: list[Undoing], *, whole: bool) -> Iterator[str]:
    for entry, change in planned:
        if entry.units is not None:
            yield f"stops, and starts no more at boot: {' '.join(entry.units.started or entry.units.enabled)}"
        elif change is not None:
            removed = change.after.kind == "absent"
            keep = ", if nothing else is in it" if removed and change.before.kind == "directory" else ""
            yield f"{'removes' if removed else 'changes'} {voice.clean(change.path)}{keep}"
            if whole or not removed:
                yield from (f"  {line}" for line in showing.difference(change, sys.stdout if whole else sys.stderr))
        elif entry.change is not None:
            user = entry.change.user
            state = f"stays: there is no user {user} any more" if Undo.is_gone(entry) else "is as it was already"
            yield voice.clean(f"{entry.change.path} {state}")


def _known(name: str, environ: Mapping[str, str]) -> str:
    try:
        return target(name, "", environ, 0).user
    except NoSuchUser as error:
        raise ValueError(str(error)) from None


@contextmanager
def _in_words() -> Iterator[None]:
    """Every way in which setup can be stopped, with what to do about it."""
    try:
        yield
    except ValueError as error:
        voice.fail(voice.clean(str(error)), 'run "unlatch setup --help"', code=voice.USAGE)
    except ChangedSince as changed:
        _explain_conflicts(changed)
    except UnlatchError as error:
        if hint := _hint(error):
            voice.fail(voice.clean(str(error)), hint)
        raise


def _hint(error: UnlatchError) -> str:
    match error:
        case NotPlain():
            return "make it a plain file or directory; setup follows no links and opens no devices"
        case NotTheirs():
            return f"chown {shlex.quote(error.path)}, if that is right"
        case BadPinentry():
            return "install Unlatch where every user can run it: the Debian package, or a virtual environment in /opt"
        case NotForService():
            return "install Unlatch in /opt or by its package; or leave the broker to each user with --no-units"
        case NoProxy():
            return f"install {error.proxy} first, or choose --proxy none"
        case CommandFailed() | Changed() | NoGroup():
            return "run setup again to go on, or with --undo to take back what was done"
    return ""


def _explain_conflicts(changed: ChangedSince) -> None:
    hints = []
    for conflict in changed.conflicts:
        voice.tell_plainly(f"{voice.clean(conflict.since.path)}, since setup wrote it:")
        for line in showing.difference(conflict.since):
            voice.tell_plainly(f"  {line}")
        hints.append(aside(conflict))
    voice.fail(
        f"{voice.clean(str(changed))}: nothing was undone",
        "keep your version aside and run --undo again:",
        *hints,
    )


def aside(conflict: Conflict) -> str:
    """The commands that put somebody's version aside and the original in its place, joined for a shell.

    In another user's home they run as that user, and the original, which that user cannot reach, goes through the
    shell's hands: there each of the names may be a link that leads root's own mv and cp to any place of the host.
    """
    path, user, now = conflict.since.path, conflict.since.user, conflict.since.after
    become = ("runuser", "-u", user, "--") if user else ()
    steps = []
    if now.kind != "absent":
        steps.append(command(*become, "mv", "-T", path, f"{path}.mine"))
    if conflict.original and user:
        install = command(*become, "install", "-m", f"{conflict.since.before.mode:04o}", "/proc/self/fd/0", path)
        steps.append(f"{install} < {command(conflict.original)}")
    elif conflict.original:
        steps.append(command("cp", "-p", conflict.original, path))
    return " && ".join(steps)
