"""Put back everything that setup changed, byte for byte; or nothing at all, when somebody changed it since."""

import hashlib
import pwd
from collections.abc import Callable, Mapping
from typing import NamedTuple

from unlatch.errors import UnlatchError
from unlatch.setup import agent_conf, agent_step, units_step
from unlatch.setup.changes import AGENT, CADDY, NGINX, SYSTEMD, Change
from unlatch.setup.files import FileState
from unlatch.setup.hands import Hands, hands_for
from unlatch.setup.journal import Entry, Journal
from unlatch.setup.places import Places
from unlatch.setup.target import target


class Conflict(NamedTuple):
    """A file that is neither as setup left it nor as it was before. ``since`` is what was changed since."""

    since: Change
    original: str  # the path of the original's copy, "" when there was none


class ChangedSince(UnlatchError):
    """Some files were changed since: nothing was undone."""

    def __init__(self, conflicts: list[Conflict]) -> None:
        super().__init__(f"{' and '.join(conflict.since.path for conflict in conflicts)} changed since setup wrote it")
        self.conflicts = conflicts


class Undoing(NamedTuple):
    """One entry that is to be undone, and the change that does it; None for units, and where nothing is to be done."""

    entry: Entry
    change: Change | None


# They are written without a journal of their own, into a file that setup changed before: no change of somebody else's.
KEY_OPTIONS = ("allow-preset-passphrase", "max-cache-ttl")


class Undo:
    """Undo all of a journal, or what was done in one user's home."""

    def __init__(self, journal: Journal, places: Places, environ: Mapping[str, str], caller: int, user: str) -> None:
        self._journal = journal
        self._places = places
        self._environ = environ
        self._caller = caller
        self._user = user

    def plan(self) -> list[Undoing]:
        """What there is to undo, newest first.

        Raises:
            ChangedSince
            UnlatchError, OSError: something cannot be looked at.
        """
        entries = [entry for entry in reversed(self._journal.entries) if not self._user or self._is_theirs(entry)]
        owners = {key: entry for entry in entries if (key := _key(entry)) and not self.is_gone(entry)}
        present = {key: self._hands(entry).look(key[1]) for key, entry in owners.items()}
        settled = _settled(entries, present)
        planned, conflicts = [], []
        for entry in entries:
            change, key = entry.change, _key(entry)
            if change is None or key is None or entry.number in settled or self.is_gone(entry):
                planned.append(Undoing(entry, None))
            elif is_as_left(present[key], change):
                planned.append(Undoing(entry, change._replace(before=present[key], after=change.before)))
            else:
                original = self._journal.original(entry) if change.before.kind == "file" else ""
                conflicts.append(Conflict(change._replace(before=change.after, after=present[key]), original))
            if change is not None and key in present:
                present[key] = change.before
        if conflicts:
            raise ChangedSince(conflicts)
        return planned

    def perform(self, planned: list[Undoing], tell: Callable[[str], None]) -> None:
        """Undo it; what was undone is forgotten, so an interrupted undo can go on.

        Raises:
            UnlatchError, OSError
        """
        told = set()
        for entry, change in planned:
            if entry.units is not None:
                tell(f"stops {' '.join(entry.units.started)} and starts them no more at boot")
                units_step.stop(self._places, entry.units)
            elif change is not None:
                self._put_back(entry, change, tell)
                told.add(change.tells)
            self._journal.forget(entry)
        if SYSTEMD in told:
            units_step.reload(self._places)
        for proxy in sorted(told & {CADDY, NGINX}):
            tell(f'{proxy} has to be told: "systemctl reload {proxy}"')

    def _put_back(self, entry: Entry, change: Change, tell: Callable[[str], None]) -> None:
        # A directory may be a GnuPG home that has keys by now: its removal is told when it is done, and not before.
        folder = change.before.kind == "directory"
        removes = f"{'removes' if change.after.kind == 'absent' else 'puts back'} {change.path}"
        if not folder:
            tell(removes)
        try:
            self._hands(entry).put(change.path, change.before, change.after)
        except OSError:
            if not folder:
                raise
            tell(f"{change.path} is not empty, and stays")
        else:
            if folder:
                tell(removes)
        if change.tells == AGENT:  # at once: the broker that it would ask through may be stopped next
            situation = target(change.user, entry.gnupghome, self._environ, self._caller)
            tell(f"{situation.user}'s gpg-agent reads its file anew, and forgets every passphrase that it keeps")
            agent_step.reload(self._hands(entry), situation)

    @staticmethod
    def is_gone(entry: Entry) -> bool:
        """Whether its user was removed from this host: nobody's gpg-agent reads that file any more."""
        if entry.change is None or not entry.change.user:
            return False
        try:
            pwd.getpwnam(entry.change.user)
        except KeyError:
            return True
        return False

    def _is_theirs(self, entry: Entry) -> bool:
        return bool(entry.gnupghome) and entry.change is not None and entry.change.user == self._user

    def _hands(self, entry: Entry) -> Hands:
        if entry.change is None or not entry.change.user:
            return Hands()
        return hands_for(target(entry.change.user, entry.gnupghome, self._environ, self._caller))


def _key(entry: Entry) -> tuple[str, str] | None:
    """Whose hands, and which path."""
    return None if entry.change is None else (entry.change.user, entry.change.path)


def _settled(entries: list[Entry], present: dict[tuple[str, str], FileState]) -> set[int]:
    """The numbers of the changes that are undone already, newest first: a path may be as it was before an older one."""
    settled: set[int] = set()
    for key, state in present.items():
        own = [entry for entry in entries if _key(entry) == key]
        befores = [entry.change.before for entry in own if entry.change is not None]
        done = max((number for number, before in enumerate(befores, start=1) if state.same(before)), default=0)
        settled |= {entry.number for entry in own[:done]}
    return settled


def is_as_left(present: FileState, change: Change) -> bool:
    """Whether a path is as setup left it."""
    if change.secret and present.kind == "file":
        present = present._replace(data=hashlib.sha256(present.data).digest())
    if change.tells == AGENT and present.kind == change.after.kind == "file":
        present = present._replace(data=_without_ours(present.data, change.after.data))
    return present.same(change.after)


def _without_ours(present: bytes, after: bytes) -> bytes:
    """A gpg-agent.conf as setup left it, if what came since is what ``unlatch key unlock --configure`` writes."""
    said = agent_conf.values(present)
    ours = {name: said[name] for name in KEY_OPTIONS if name in said}
    return after if agent_conf.edit(after, ours) == present else present
