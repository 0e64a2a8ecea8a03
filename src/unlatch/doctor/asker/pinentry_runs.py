"""The pinentry starts, greets, and is of the broker's release."""

from typing import NamedTuple

from unlatch import runtime
from unlatch.cli.admin import Admin
from unlatch.doctor.asker import conf
from unlatch.doctor.asker.pinentry_trial import Trial, trial
from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem, unknown
from unlatch.errors import UnlatchError


class Facts(NamedTuple):
    """``program`` is "" when the file names none; ``broker`` is the running broker's version, "" when not known."""

    program: str
    trial: Trial
    broker: str
    host: bool


def probe(situation: Situation) -> Facts:
    """Start it as gpg-agent would, and ask the broker."""
    program = conf.read(situation).options.get("pinentry-program", "")
    place = runtime.candidates(situation.uid, situation.environ, situation.home)[0]
    if not program.startswith("/"):
        return Facts("", Trial("", "", "", ""), "", place.host)
    return Facts(program, trial(program, situation.environ), _broker_version(place, situation.uid), place.host)


def _broker_version(place: runtime.Runtime, uid: int) -> str:
    try:
        admin = Admin(place, uid)
    except (OSError, UnlatchError):
        return ""
    try:
        broker = admin.ask({"op": "status"}).get("broker")
    except UnlatchError:
        return ""
    finally:
        admin.close()
    version = broker.get("version") if isinstance(broker, dict) else ""
    return version[:64] if isinstance(version, str) else ""


def judge(facts: Facts, situation: Situation) -> Finding:
    """All three releases must be one: command, pinentry, broker."""
    if not facts.program:
        return unknown("there is no pinentry to start: see pinentry-line", conf.setup(situation))
    found = facts.trial
    if found.why:
        # Another user's choice of a program is nothing for root to start.
        own = situation.caller == situation.uid
        return problem(
            f"{facts.program}: {found.why}", command(facts.program, "--version") if own else conf.setup(situation)
        )
    if found.flavor != "unlatch":
        text = f"{facts.program} is another pinentry ({found.flavor or 'unnamed'}): it rings nobody"
        return problem(text, conf.setup(situation))
    if found.version != situation.version:
        text = f"{facts.program} is version {found.version}, this command {situation.version}"
        return problem(text, conf.setup(situation))
    if facts.broker and facts.broker != found.version:
        text = f"the pinentry is version {found.version}, the broker {facts.broker}"
        restart = situation.as_root("systemctl", "restart", "unlatch.service")
        return problem(text, restart if facts.host else command("unlatch", "status"))
    same = ", as the broker's" if facts.broker else ""
    return ok(f"it starts and greets; version {found.version}{same}")


PINENTRY_RUNS = Check(
    "pinentry-runs",
    "the pinentry starts as the asking user with a bare environment, greets, is Unlatch's, and has the version of "
    "command and broker",
    "start it with `--version` and see what it says; after an upgrade of the system's Python, install again",
    Facts,
    probe,
    judge,
)
