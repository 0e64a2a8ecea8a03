"""Where ``unlatch`` starts. The checks that stand in front of every job run without what all other commands need.

Importing click takes 45 to 60 ms, three times bare Python's start, and all that a check has to do takes ten
(tools/bench_card.py). So a command line that is plainly one of :data:`QUICK` goes straight to its module, whose
``quickly(arguments)`` gives the exit code, or None for what only the real parser understands: ``--help``, a mistake.
Both ways end in the same function.
"""

import os
import sys
from importlib import import_module

from unlatch.cli import streams

QUICK = {"card check": "unlatch.cli.card_check", "key check": "unlatch.cli.key_check"}


def main() -> None:
    """The entry point."""
    streams.settle()
    code = _quickly(sys.argv[1:])
    if code is not None:
        sys.exit(code)
    from unlatch.cli.main import main as parse_and_run

    parse_and_run()


def _quickly(arguments: list[str]) -> int | None:
    module = QUICK.get(" ".join(arguments[:2]))
    if module is None or "_UNLATCH_COMPLETE" in os.environ:  # a shell that completes a command line
        return None
    try:
        code: int | None = import_module(module).quickly(arguments[2:])
    except KeyboardInterrupt:
        return 130  # as in unlatch(1)
    except Exception as error:
        from unlatch.cli import voice

        problem = voice.explain(error)
        voice.complain(problem)
        return problem.code
    return code
