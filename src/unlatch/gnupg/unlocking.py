"""Unlock keys: ask a person first, then have the agent keep what fits, and ask again only for what it did not fit.

gpg-agent has one pinentry at a time, and whoever waits behind it dies after 60 s. So nobody waits here with the agent:
the person is asked, however long that takes, and only then the agent is talked to, for milliseconds.

One passphrase mostly opens several keys. What was typed is tried on every key that is still locked; the page goes on by
itself with those that are left.
"""

from collections.abc import Callable

from unlatch.ask import Released
from unlatch.errors import UnlatchError
from unlatch.frontends.asking import Person, Wanted
from unlatch.gnupg import keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import BadPassphrase
from unlatch.gnupg.keyring import HomeKey
from unlatch.prompt import Key, Verdict
from unlatch.secret import Secret

TRIES = 3  # in a row that fit nothing: as many as gpg-agent gives
MAX_TITLE = 120  # characters; it stands in a notification
MAX_NAMES = 8  # of keys on the page
MAX_NAME = 100


class WrongThreeTimes(UnlatchError):
    """Three passphrases in a row fitted none of the keys that are left."""


class Unlocking:
    """The keys to unlock, and what became of them."""

    def __init__(self, open_agent: Callable[[], Agent], wanted: list[HomeKey], *, until: str = "") -> None:
        """``until`` says on the page how long the keys stay unlocked."""
        self._open_agent = open_agent
        self._until = until
        self.locked = list(wanted)
        self.unlocked: list[HomeKey] = []
        self.elsewhere: list[HomeKey] = []  # by somebody else, meanwhile

    def run(self, person: Person, *, granting: Callable[[Agent, list[HomeKey]], None], seconds: int = 0) -> None:
        """Ask until every key is unlocked.

        ``granting`` is called with keys whose passphrase is known to be right, before the agent is given it: so the end
        of a grant is there before the grant is. ``seconds``: how long the person has each time, as in Person.ask.

        Raises:
            WrongThreeTimes
            NotKept, NotAllowed, AgentTrouble, and what ``granting`` raises: asking again would be of no use.
            Denied, Expired...: nobody answered, as :meth:`Person.ask`; what was unlocked before stays so.
        """
        wrong = 0
        while self.locked:
            try:
                secret = person.ask(self._wanted(wrong), coalesce=self.locked[0].grip, seconds=seconds)
            except Released:
                self._look_again()
                continue
            try:
                fits = self._try_all(secret, granting)
            except (UnlatchError, OSError) as error:
                person.judge(Verdict("failed", str(error)))
                raise
            finally:
                secret.wipe()
            wrong = 0 if fits else wrong + 1
            if wrong == TRIES:
                person.judge(Verdict("failed", f"{self._wrong()} This was the last try."))
                raise WrongThreeTimes
        person.judge(Verdict("accepted"))

    def _try_all(self, secret: Secret, granting: Callable[[Agent, list[HomeKey]], None]) -> bool:
        """Whether this passphrase opened any; those are unlocked."""
        with self._open_agent() as agent:
            fits = [key for key in self.locked if _fits(agent, key, secret)]
            if fits:
                granting(agent, fits)
            for key in fits:
                keys.keep(agent, key.grip, secret)
                self.locked.remove(key)
                self.unlocked.append(key)
        return bool(fits)

    def _look_again(self) -> None:
        """Somebody else asked for the first key, and is done: perhaps it is unlocked, and others with it."""
        with self._open_agent() as agent:
            done = [key for key in self.locked if is_unlocked(agent, key.grip)]
        self.elsewhere += done
        self.locked = [key for key in self.locked if key not in done]

    def _wrong(self) -> str:
        return "It opens none of these keys." if len(self.locked) > 1 else "It does not open this key."

    def _wanted(self, wrong: int) -> Wanted:
        first = self.locked[0]
        return Wanted(
            kind="passphrase",
            title=title(self.locked),
            text=self._text(),
            error=self._wrong() if wrong else "",
            attempt=(wrong + 1, TRIES) if wrong else None,
            key=Key(name=first.name[:MAX_NAME], id=first.certified.key_id if first.certified else "", grip=first.grip),
            keeper="agent",
        )

    def _text(self) -> str:
        parts = []
        done = self.unlocked + self.elsewhere
        if done:
            parts.append("Unlocked:\n" + "\n".join(names(done)) + "\n\nStill locked:\n" + "\n".join(names(self.locked)))
        elif len(self.locked) > 1:
            parts.append("One passphrase is tried on all of:\n" + "\n".join(names(self.locked)))
        if self._until:
            parts.append(self._until)
        return "\n\n".join(parts)


def _fits(agent: Agent, key: HomeKey, secret: Secret) -> bool:
    try:
        keys.verify(agent, key.grip, secret)
    except BadPassphrase:
        return False
    return True


def is_unlocked(agent: Agent, grip: str) -> bool:
    """Whether a key is usable without asking, by a signature or decryption that works.

    What the cache says alone is not enough: anybody can have preset a wrong passphrase.
    """
    known = keys.agent_key(agent, grip)
    return known is not None and HomeKey(known).usable and keys.works_unasked(agent, grip)


def title(wanted: list[HomeKey]) -> str:
    """What is asked for, in a line."""
    called = list(dict.fromkeys(key.name for key in wanted))
    room = MAX_TITLE - len("Unlock  and 999 more")
    more = f" and {len(called) - 1} more" if len(called) > 1 else ""
    return f"Unlock {called[0][:room]}{more}"


def names(some: list[HomeKey]) -> list[str]:
    """The names of keys, each once, with the ids of those that have the name; the last line counts what has no room."""
    by_name: dict[str, list[str]] = {}
    for key in some:
        by_name.setdefault(key.name[:MAX_NAME], []).append(key.certified.key_id if key.certified else "")
    lines = [f"{name} ({', '.join(filter(None, ids))})" if any(ids) else name for name, ids in by_name.items()]
    return lines if len(lines) <= MAX_NAMES else [*lines[:MAX_NAMES], f"and {len(lines) - MAX_NAMES} more"]
