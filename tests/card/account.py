"""Who may spend PIN tries: a test announces each before it is spent, by name of the program; anything else is a fault.

So the whole suite proves that nothing but what was announced ever cost a try; pytest's summary tells the sum.
"""

import os
from collections import Counter

# Programs that may be announced. None of ours but those to which a person has just given a wrong PIN; real gpg and
# gpg-connect-agent only where the card itself is tested.
SPENDERS = frozenset({"unlatch card unlock", "unlatch card init", "unlatch card watch", "gpg", "gpg-connect-agent"})
NOBODY = "not announced"


class Account:
    """The tries of one card: announced, spent, and spent without being announced."""

    def __init__(self) -> None:
        self._announced: Counter[str] = Counter()
        self.spent: Counter[str] = Counter()  # by program
        self._faults: list[str] = []

    def expect(self, count: int, by: str) -> None:
        """Announce so many tries that ``by`` is about to spend."""
        assert by in SPENDERS, f"{by} may not spend a try"
        self._announced[by] += count

    def spend(self, running: list[list[str]]) -> None:
        """A try was spent while these programs ran."""
        for program, left in self._announced.items():
            if left and any(_is(program, words) for words in running):
                self._announced[program] -= 1
                self.spent[program] += 1
                return
        self.spent[NOBODY] += 1
        self._faults.append(f"a PIN try was spent, not announced, by one of {[' '.join(words) for words in running]}")

    def settle(self) -> None:
        """At the end of a test.

        Raises:
            AssertionError: a try was spent without an announcement, or announced and not spent.
        """
        faults = [*self._faults]
        faults += [
            f"{program} did not spend {left} announced tries" for program, left in self._announced.items() if left
        ]
        assert not faults, "; ".join(faults)


def _is(program: str, words: list[str]) -> bool:
    """Is this the program, by itself or as an interpreter's script, wherever it lies?"""
    wanted = program.split()
    return any(
        [os.path.basename(words[at]), *words[at + 1 : at + len(wanted)]] == wanted for at in range(min(3, len(words)))
    )
