"""``unlatch doctor --rehearse``: say what will be done, ask, and do it."""

import textwrap
from collections.abc import Callable

from unlatch.cli import voice
from unlatch.doctor.check import Finding, Situation
from unlatch.doctor.rehearsal import steps


def rehearse(
    situation: Situation, what: str, seconds: int, *, yes: bool, show: Callable[[Finding], None]
) -> list[Finding]:
    """Rehearse with a key or card, told step by step; all findings.

    Raises:
        Problem: nobody agreed.
    """
    try:
        rehearsal = steps.prepare(situation, what, seconds)
    except steps.Impossible as impossible:
        for finding in impossible.findings:
            show(finding)
        voice.tell("nothing was locked: mend this first")
        return impossible.findings
    voice.tell_plainly(f"A rehearsal for the services of {voice.clean(situation.user)}:")
    for number, line in enumerate(rehearsal.plan, start=1):
        voice.tell_plainly(textwrap.fill(f"  {number}. {voice.clean(line)}", voice.width(), subsequent_indent="     "))
    if not yes:
        _agree()
    findings = []
    for finding in rehearsal.steps():
        findings.append(finding)
        show(finding)
    return findings


def _agree() -> None:
    """Raises Problem."""
    terminal = voice.Terminal()
    try:
        terminal.descriptor()
    except voice.Problem:
        voice.fail("there is no terminal to agree on", "--yes agrees beforehand", code=voice.USAGE)
    if terminal.ask("go on? (yes/no) [no]").lower() not in ("y", "yes"):
        voice.fail("nothing was locked")
