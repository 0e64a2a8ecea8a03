"""Run the checks: the asker's each in a process of that user, the host's in this one."""

import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from unlatch import forked
from unlatch.doctor import child, facts
from unlatch.doctor.check import Check, Checks, Finding, Situation
from unlatch.errors import Malformed

F = TypeVar("F")

HOST_SECONDS = 10.0  # for all of the host's checks together; each has shorter limits of its own
_REASON = re.compile(r"!(\w{1,60} at [\w.]{1,60}(:\d{1,6})?)\Z", re.ASCII)


def examine(asker: Checks, host: Checks, situation: Situation) -> Iterator[Finding]:
    """All findings, each as soon as it is there. ``situation`` is the asker's."""
    for check in asker:
        yield from _as_user(check, situation)
    yield from _all_at_once(host, situation._replace(environ=dict(os.environ)))


def _as_user(check: Check[Any], situation: Situation) -> list[Finding]:
    try:
        found = fetch(situation, check.facts, lambda: check.probe(situation))
    except child.NotFinished as error:
        return check.failed(str(error), situation)
    return _judged(check, situation, lambda: check.findings(found, situation))


def fetch(situation: Situation, kind: type[F], work: Callable[[], F], seconds: float = child.SECONDS) -> F:
    """The facts that ``work`` finds when the asking user runs it.

    Raises:
        NotFinished: it found none; the text is printable and quotes nothing.
    """
    said = child.run_as(situation, lambda: facts.dump(work()), seconds)
    if said.startswith(child.FAILED):
        reason = _REASON.match(said.decode("ascii", "replace"))
        raise child.NotFinished(reason[1] if reason else "it failed for a reason that cannot be read")
    try:
        return facts.load(kind, said)
    except Malformed:
        raise child.NotFinished("the answer cannot be read") from None


def _all_at_once(checks: Checks, situation: Situation) -> Iterator[Finding]:
    """The host's probes wait for networks more than they compute, so each has a thread; told in the registry's order.

    The threads are daemons: a resolver that hangs for half a minute holds up neither the others nor our end. They are
    started when the asker's checks, which fork, are done.
    """
    found: list[queue.SimpleQueue[list[Finding]]] = [queue.SimpleQueue() for _ in checks]

    def work(check: Check[Any], done: queue.SimpleQueue[list[Finding]]) -> None:
        done.put(_judged(check, situation, lambda: check.findings(check.probe(situation), situation)))

    until = time.monotonic() + HOST_SECONDS
    for check, done in zip(checks, found, strict=True):
        threading.Thread(target=work, args=(check, done), daemon=True, name=check.name).start()
    for check, done in zip(checks, found, strict=True):
        try:
            yield from done.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            yield from check.failed(f"no answer within {HOST_SECONDS:.0f} s", situation)


def _judged(check: Check[Any], situation: Situation, judge: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return judge()
    except Exception as error:  # one check that cannot cope takes no other with it; its text may quote anything
        return check.failed(f"{type(error).__name__} at {forked.place(error)}", situation)
