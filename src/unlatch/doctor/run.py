"""Run the checks: the asker's each in a process of that user, the host's in this one."""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from unlatch.doctor import child, facts
from unlatch.doctor.check import Check, Checks, Finding, Situation
from unlatch.errors import Malformed

_REASON = re.compile(r"!(\w{1,60} at [\w.]{1,60}(:\d{1,6})?)\Z", re.ASCII)


def examine(asker: Checks, host: Checks, situation: Situation) -> Iterator[Finding]:
    """All findings, each as soon as it is there. ``situation`` is the asker's."""
    for check in asker:
        yield from _as_user(check, situation)
    here = situation._replace(environ=dict(os.environ))
    for check in host:
        yield from _here(check, here)


def _as_user(check: Check[Any], situation: Situation) -> list[Finding]:
    try:
        said = child.run_as(situation, lambda: facts.dump(check.probe(situation)))
        if said.startswith(child.FAILED):
            reason = _REASON.match(said.decode("ascii", "replace"))
            return check.failed(reason[1] if reason else "for a reason that cannot be read")
        found = facts.load(check.facts, said)
    except child.NotFinished as error:
        return check.failed(str(error))
    except Malformed:
        return check.failed("the answer cannot be read")
    return _judged(check, lambda: check.findings(found, situation))


def _here(check: Check[Any], situation: Situation) -> list[Finding]:
    return _judged(check, lambda: check.findings(check.probe(situation), situation))


def _judged(check: Check[Any], judge: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return judge()
    except Exception as error:  # one check that cannot cope takes no other with it; its text may quote anything
        return check.failed(f"{type(error).__name__} at {child.place(error)}")
