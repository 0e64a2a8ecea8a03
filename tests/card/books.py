"""The sum of all PIN tries of a run, over all of its workers: told at the end, a failure if one was not announced."""

from collections import Counter
from typing import Any

import pytest

from card.account import NOBODY

TRIES: Counter[str] = Counter()  # spent on cards in readers, by program
_KEY = "card-tries"


def enter(spent: Counter[str]) -> None:
    """Add what one card's tries were spent on in one test."""
    TRIES.update(spent)


class Books:
    """A pytest plugin: workers send their sum, the one who runs them adds up."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist has ended; one that crashed has no output."""
        enter(Counter(getattr(node, "workeroutput", {}).get(_KEY, {})))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_KEY] = dict(TRIES)
        elif TRIES[NOBODY]:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if TRIES:
            terminalreporter.write_sep("=", "PIN tries spent on emulated cards")
            for program, number in sorted(TRIES.items()):
                terminalreporter.write_line(f"{number:5}  {program}")
