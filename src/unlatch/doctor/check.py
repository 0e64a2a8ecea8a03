"""What a check is: a probe that collects facts, and a pure judge that says what they mean and what to type.

The two are apart for two reasons. A judge is a table of cases to test. And the asker's probes run as that user, in a
process that the user may disturb: so it reports facts, never sentences or commands for root to type.
"""

import os
import shlex
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, NamedTuple, TypeVar

State = Literal["ok", "warning", "problem", "unknown"]
STATES: tuple[State, ...] = ("ok", "warning", "problem", "unknown")


class Finding(NamedTuple):
    """What a check found. ``check`` is its name, filled in by who ran it; ``text`` a sentence without a full stop.

    ``hint`` is what to type next, one command a line, "" when all is well. "warning": it works, but may not go on so.
    "unknown": it matters here, and could not be found out; what does not apply is "ok".
    """

    check: str
    state: State
    text: str
    hint: str = ""


def ok(text: str) -> Finding:
    """All is well; say in what way."""
    return Finding("", "ok", text)


def warning(text: str, hint: str) -> Finding:
    """It works now, and this is why it may not go on so."""
    return Finding("", "warning", text, hint)


def problem(text: str, hint: str) -> Finding:
    """It does not work."""
    return Finding("", "problem", text, hint)


def unknown(text: str, hint: str) -> Finding:
    """It matters, and could not be found out."""
    return Finding("", "unknown", text, hint)


class Situation(NamedTuple):
    """Whose unlocking is examined: the asking user, and what its programs would know.

    ``environ`` is all that a probe may look at: for the asker's checks only GNUPGHOME and PATH, for the host's checks
    what the caller of doctor has. ``caller`` is that caller's uid, who will type the hints.
    """

    user: str
    uid: int
    gid: int
    home: str
    gnupghome: str
    environ: Mapping[str, str]
    caller: int
    version: str

    def as_user(self, *words: str) -> str:
        """A command for the hint that must run as the asking user, quoted for a shell."""
        places = [] if self.gnupghome == f"{self.home}/.gnupg" else [f"GNUPGHOME={self.gnupghome}"]
        if self.caller != self.uid:
            # runuser(1) keeps root's environment, and with it root's GNUPGHOME, unless told otherwise.
            words = ("runuser", "-u", self.user, "--", "env", f"HOME={self.home}", *places, *words)
            return command(*words)
        return " ".join([*map(_assignment, places), command(*words)])

    def as_root(self, *words: str) -> str:
        """A command for the hint that must run as root, quoted for a shell."""
        return command(*words) if self.caller == 0 else command("sudo", *words)

    def edit(self, path: str) -> str:
        """A command for the hint that opens a settings file. One outside of /etc may be another user's choice: root
        gives an editor that user's rights for it, a terminal of its own, and no word that begins with a dash.
        """
        if os.path.normpath(path).startswith("/etc/"):
            return self.as_root("vi", path)
        dashes = ["--"] if path.startswith("-") else []
        if self.caller == self.uid:
            return command("vi", *dashes, path)
        return command("runuser", "--pty", "-u", self.user, "--", "vi", *dashes, path)


def command(*words: str) -> str:
    """A command for a hint, quoted for a shell. It is one line whatever stands in the words: a second line would be
    another command, and paths may be of somebody's choice.
    """
    return " ".join(shlex.quote(word) if word.isprintable() else _ansi_c(word) for word in words)


def _ansi_c(word: str) -> str:
    """A word with control characters, as bash(1) quotes them under QUOTING."""
    escaped = word.encode("unicode_escape").decode("ascii")
    return "$'" + escaped.replace("'", "\\'") + "'"


def _assignment(text: str) -> str:
    name, _, value = text.partition("=")
    return f"{name}={shlex.quote(value)}"


F = TypeVar("F")


class Check(NamedTuple, Generic[F]):
    """One thing to know. ``name``: kebab case, 18 characters at most; ``proves`` and ``remedy`` are for docs/doctor.md.

    ``facts`` is the NamedTuple (of texts, numbers, flags, tuples and such NamedTuples) that ``probe`` returns.
    ``judge`` returns one finding; a list where several things are looked at (one for each notifier, say).
    A probe is bounded in time by itself; what it raises becomes "unknown".
    """

    name: str
    proves: str
    remedy: str
    facts: type[F]
    probe: Callable[[Situation], F]
    judge: Callable[[F, Situation], Finding | list[Finding]]

    def findings(self, facts: F, situation: Situation) -> list[Finding]:
        """What the facts mean, with this check's name on it."""
        found = self.judge(facts, situation)
        return [each._replace(check=self.name) for each in (found if isinstance(found, list) else [found])]

    def failed(self, why: str, situation: Situation) -> list[Finding]:
        """What to say when the probe itself failed: ``why`` is printable and quotes nothing."""
        user = ["--as", situation.user] if situation.caller != situation.uid else []
        again = command("unlatch", "doctor", *user, self.name)
        return [Finding(self.name, "unknown", f"could not be checked: {why}", again)]


Checks = tuple[Check[Any], ...]
