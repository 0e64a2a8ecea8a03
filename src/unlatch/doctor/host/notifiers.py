"""Each notifier: would it ring? Tried as the broker's user short of sending; and what became of its last message."""

import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import NamedTuple

from unlatch.cli.voice import duration
from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem, unknown, warning
from unlatch.doctor.facts import MAX_FACTS, load
from unlatch.doctor.host.notifier_child import Said
from unlatch.doctor.host.parallel import side_by_side
from unlatch.doctor.host.served import Row, Served, served
from unlatch.doctor.host.shared import Shared
from unlatch.doctor.host.words import edit
from unlatch.errors import Malformed
from unlatch.notify.child import environment
from unlatch.notify.matrix_place import state_directory
from unlatch.settings import NotifierSettings

TRY_SECONDS = 8.0  # for a notifier; importing Apprise takes one of them on a busy machine
_TRY = (
    "import sys; sys.path[:] = sys.argv.pop(1).split(':'); from unlatch.doctor.host.notifier_child import main; main()"
)


class Look(NamedTuple):
    """``untried`` is why it could not be tried, or nothing. ``place`` is the Matrix state's directory."""

    name: str
    kind: str
    said: Said
    untried: str = ""
    place: str = ""

    @property
    def server(self) -> str:
        """The host that it talks to, if that is known."""
        return self.said.server


class Facts(NamedTuple):
    """``rows``: what the broker says of its notifiers; ``told``: it says anything. ``user`` is the broker's."""

    file: str
    looks: tuple[Look, ...]
    rows: tuple[Row, ...]
    told: bool
    user: str


def _try_all(situation: Situation) -> tuple[Look, ...]:
    found = served(situation)
    wanted = found.loaded.settings.notifiers
    looks = side_by_side(lambda each: _try(each, found), wanted, TRY_SECONDS + 0.5)
    late = f"no answer within {TRY_SECONDS:g} s"
    told = (look or Look(each.name, each.kind, Said(), late) for each, look in zip(wanted, looks, strict=True))
    return tuple(told)


notifier_looks = Shared(_try_all)


def _try(chosen: NotifierSettings, found: Served) -> Look:
    if chosen.kind == "terminal":
        return Look(chosen.name, chosen.kind, Said(note="prints at the terminal of unlatch serve"))
    value = chosen.options[chosen.kind]
    place = state_directory(value, found.environ) if chosen.kind == "matrix" else ""
    words = [place or value] if isinstance(value, str) else list(value)
    if found.uid != os.geteuid() and os.geteuid() != 0:
        return Look(chosen.name, chosen.kind, Said(), "only root can try it as the broker's user", place)
    task = {"kind": chosen.kind, "value": words, "plaintext": chosen.options.get("allow_plaintext_room", False)}
    try:
        said = load(Said, _run(json.dumps(task).encode("ascii"), found.uid, found.environ))
    except Malformed:
        return Look(chosen.name, chosen.kind, Said(), f"no answer within {TRY_SECONDS:g} s", place)
    except (OSError, subprocess.SubprocessError):
        return Look(chosen.name, chosen.kind, Said(), "the process for it cannot be started", place)
    return Look(chosen.name, chosen.kind, said, place=place)


def _run(task: bytes, uid: int, environ: Mapping[str, str]) -> bytes:
    """Run :mod:`notifier_child` as the broker's user; what it says, "" if it takes too long."""
    paths = ":".join(path for path in sys.path if path)
    identity: dict[str, object] = {}
    if uid not in (os.geteuid(), -1):
        account = pwd.getpwuid(uid)
        groups = os.getgrouplist(account.pw_name, account.pw_gid)
        identity = {"user": uid, "group": account.pw_gid, "extra_groups": groups}
    with subprocess.Popen(  # type: ignore[call-overload]
        [sys.executable, "-ISB", "-c", _TRY, paths],
        env=environment(environ), cwd="/", start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **identity,
    ) as process:  # fmt: skip
        limit = threading.Timer(TRY_SECONDS, process.kill)
        limit.start()
        try:
            process.stdin.write(task)
            process.stdin.close()
            return bytes(process.stdout.read(MAX_FACTS + 1))
        except BrokenPipeError:
            return b""
        finally:
            limit.cancel()
            process.kill()


def probe(situation: Situation) -> Facts:
    """Try them, and ask the broker."""
    found = served(situation)
    try:
        user = pwd.getpwuid(found.uid).pw_name if found.uid >= 0 else "unlatch"
    except KeyError:
        user = str(found.uid)
    return Facts(found.loaded.path, notifier_looks(situation), found.status.notifiers, found.status.whole, user)


def judge(facts: Facts, situation: Situation) -> list[Finding]:
    """One line for each."""
    if not facts.looks:
        return [warning("there is no notifier, so nobody is rung: prompts wait for unlatch answer", "man unlatch.toml")]
    rows = {row.name: row for row in facts.rows}
    found = []
    for look in facts.looks:
        finding = _judge_one(look, rows.get(look.name), facts, situation)
        found.append(finding._replace(text=f"{look.name} ({look.kind.partition('_')[0]}): {finding.text}"))
    return found


def _judge_one(look: Look, row: Row | None, facts: Facts, situation: Situation) -> Finding:
    said = look.said
    if said.trouble:
        return problem(said.trouble, _remedy(look, facts, situation))
    if row is not None and row.why:
        return problem(f"the last message was not delivered: {row.why}", "unlatch ring")
    if facts.told and row is None:
        return problem("the broker does not know it yet", situation.as_root("systemctl", "restart", "unlatch.service"))
    if look.untried:
        return unknown(look.untried, situation.as_root("unlatch", "doctor"))
    if said.partial or (row is not None and row.note):
        return warning(said.note if said.partial else str(row and row.note), _setup(look, facts, situation))
    return ok("; ".join(part for part in (said.note, _history(row)) if part) or "it can be used")


def _history(row: Row | None) -> str:
    if row is None:
        return ""
    if not row.delivered:
        return "not used since the broker's start"
    return f"last delivered {duration(row.last)} ago" if row.last >= 0 else ""


def _remedy(look: Look, facts: Facts, situation: Situation) -> str:
    said = look.said
    match said.remedy:
        case "install":
            extra = "matrix" if look.kind == "matrix" else "apprise"
            return situation.as_root(f"{sys.prefix}/bin/pip", "install", f"unlatch[{extra}]")
        case "setup":
            return _setup(look, facts, situation)
        case "server":
            return command("getent", "ahosts", said.server) if said.server else "unlatch ring"
        case "program":
            return "unlatch config check"
    return edit(situation, facts.file)


def _setup(look: Look, facts: Facts, situation: Situation) -> str:
    if look.kind != "matrix":
        return "unlatch ring"
    words = ("unlatch", "matrix", "setup", "--directory", look.place)
    if pwd.getpwuid(situation.caller).pw_name == facts.user:
        return command(*words)
    return (
        command("sudo", "-u", facts.user, *words)
        if situation.caller
        else command("runuser", "-u", facts.user, "--", *words)
    )


NOTIFIERS = Check(
    "notifiers",
    "each notifier could ring now, tried as the broker's user: the command may be run and has its interpreter; Apprise "
    "is installed, understands the URL, and its server takes connections; Matrix is logged in, its room encrypted, and "
    "an admin's verified device would get the keys. And its last message was delivered. Nothing is sent",
    "as printed; then `unlatch ring`, which is the only proof that it gets to the phone",
    Facts,
    probe,
    judge,
)
