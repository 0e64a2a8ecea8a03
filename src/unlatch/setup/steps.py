"""A step of setup: what it is for in one sentence, the changes of files that it makes, and what follows from them.

A step is planned without touching anything: planning it again after it was done gives a step with nothing to do.
"""

from collections.abc import Callable
from typing import NamedTuple

from unlatch.setup.changes import Change
from unlatch.setup.hands import Hands
from unlatch.setup.journal import Journal


class Effect(NamedTuple):
    """Something that is done besides files: ``text`` says it in a sentence, ``command`` as one would type it."""

    text: str
    do: Callable[[Journal], None]
    command: str = ""


class Step(NamedTuple):
    """``says`` is one sentence; ``notes`` are what the person has to know, or to do by hand, whether or not anything is
    changed; ``shown`` is text for a file that is not ours to write.
    """

    name: str
    says: str
    changes: tuple[Change, ...] = ()
    effects: tuple[Effect, ...] = ()
    notes: tuple[str, ...] = ()
    shown: str = ""
    hands: Hands = Hands()
    gnupghome: str = ""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.changes and not self.effects
