"""The broker: it answers on the admin's socket, without trouble, and is of this release, page included."""

from typing import NamedTuple

from unlatch.broker.page import fingerprint
from unlatch.cli.voice import duration
from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem
from unlatch.doctor.host.served import Status, served


class Facts(NamedTuple):
    """``host``: this is the host's broker. ``ours`` is the fingerprint of the page that is installed here."""

    host: bool
    status: Status
    ours: str


def probe(situation: Situation) -> Facts:
    """Ask it."""
    found = served(situation)
    return Facts(found.place.host, found.status, fingerprint())


def judge(facts: Facts, situation: Situation) -> Finding:
    """A user's own broker comes with the first asker; the host's must be there."""
    status = facts.status
    if status.absent and not facts.host:
        return ok("a broker of your own starts with the first prompt")
    if status.why:
        text = "the host's broker does not run" if status.absent else f"the broker does not answer: {status.why}"
        return problem(text, _look_at(facts, situation))
    if status.trouble:
        return problem(f'it runs, and says: "{status.trouble}"', command("unlatch", "status"))
    return ok(f"it runs: pid {status.pid}, up {duration(status.uptime)}")


def judge_version(facts: Facts, situation: Situation) -> Finding:
    """Another release may be mid-upgrade; links that were sent go on working over a restart."""
    status = facts.status
    if not status.version:
        return ok("no broker runs")
    if status.version != situation.version:
        text = f"the broker is version {status.version}, installed is {situation.version}; a restart loses no prompt"
        return problem(text, _restart(facts, situation))
    return ok(f"broker and command are version {situation.version}")


def judge_fingerprint(facts: Facts, situation: Situation) -> Finding:
    """The page is where secrets are typed: the one that is served must be the one that was installed."""
    served_page = facts.status.page
    if not served_page:
        return ok(f"the installed page has SHA-256 {_short(facts.ours)}")
    if served_page != facts.ours:
        text = f"the broker serves a page with SHA-256 {_short(served_page)}, installed is {_short(facts.ours)}"
        return problem(text, _restart(facts, situation))
    return ok(f"SHA-256 {_short(facts.ours)}, as installed; unlatch status has all of it, releases publish theirs")


def _short(fingerprint: str) -> str:
    """Enough to tell two apart on a line."""
    return f"{fingerprint[:16]}..."


def _look_at(facts: Facts, situation: Situation) -> str:
    if not facts.host:
        return command("unlatch", "status")
    return situation.as_root("systemctl", "status", "unlatch.service")


def _restart(facts: Facts, situation: Situation) -> str:
    if not facts.host:
        return command("kill", str(facts.status.pid))  # the askers register again with the next one
    return situation.as_root("systemctl", "restart", "unlatch.service")


BROKER = Check(
    "broker",
    "the broker answers on the admin's socket and reports no trouble; a user's own may not run yet",
    "`systemctl status unlatch.service`, or `unlatch status` for the trouble in full",
    Facts,
    probe,
    judge,
)
BROKER_VERSION = Check(
    "broker-version",
    "the broker is of the release that is installed",
    "`systemctl restart unlatch.service`: open prompts come back, sent links go on working",
    Facts,
    probe,
    judge_version,
)
PAGE_FINGERPRINT = Check(
    "page-fingerprint",
    "the page that the broker serves has the SHA-256 of the one that is installed",
    "restart the broker; if that does not help, compare the number with the release's and see who changed the package",
    Facts,
    probe,
    judge_fingerprint,
)
