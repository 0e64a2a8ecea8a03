"""Do what was planned: each change is in the journal, with its original, before it is made."""

import grp

from unlatch.cli import voice
from unlatch.errors import UnlatchError
from unlatch.setup import changes
from unlatch.setup.changes import Change
from unlatch.setup.hands import Hands
from unlatch.setup.journal import Journal
from unlatch.setup.steps import Step


class NoGroup(UnlatchError):
    """A group that a file should get is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no group {name} on this host")


def perform(steps: list[Step], journal: Journal) -> None:
    """All steps in their order; each is said before it is done.

    Raises:
        UnlatchError, OSError: of the step that failed. What was done before stays, and is in the journal.
    """
    for number, step in enumerate(steps, start=1):
        if step.idle:
            continue
        place = f"{number}/{len(steps)} {step.name}"
        for change in step.changes:
            voice.tell(f"{place}: {'makes' if changes.is_new(change) else 'changes'} {voice.clean(change.path)}")
            _make(change, step, journal)
        for effect in step.effects:
            voice.tell(f"{place}: {voice.clean(effect.text)}")
            effect.do(journal)


def _make(change: Change, step: Step, journal: Journal) -> None:
    hands = step.hands if change.user else Hands()
    if change.group:
        try:
            change = change._replace(after=change.after._replace(gid=grp.getgrnam(change.group).gr_gid))
        except KeyError:
            raise NoGroup(change.group) from None
    journal.record(change, step.gnupghome if change.user == step.hands.user else "")
    journal.done(change, hands.put(change.path, change.before, change.after))
