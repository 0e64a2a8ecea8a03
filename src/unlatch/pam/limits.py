"""How many conversations there may be. Pure; the clock is passed in.

Root's logins come from strangers (sshd's clients, whoever calls su) and share the most: one of them cannot take them
all, nor keep an account from being logged in to elsewhere. Local users may talk to the service as well: they have few,
and may not come and go as fast as they like, since each conversation is a line in the log.
"""

import ipaddress
from collections import Counter, deque
from typing import NamedTuple

from unlatch.wire.pam import Hello

ALL = 200
OTHERS = 100  # of all, for everybody but root
PER_LOGIN = 16  # of root's, for one account from one origin: a remote address (of IPv6 its /64), or who called su here
PER_ORIGIN = 64  # of root's, from one origin for whatever accounts
PER_UID = 4  # of each other uid
STARTS = 30  # of each other uid, within
WITHIN_SECONDS = 60.0


class Key(NamedTuple):
    """Who asks, and for whom from where (``remote`` user and host). All are empty until a hello has said so."""

    uid: int
    account: str = ""
    remote: tuple[str, str] = ("", "")


def key_of(uid: int, hello: Hello) -> Key:
    """Who asks, once a hello has said for whom."""
    return Key(uid, hello.user, (hello.ruser, _network(hello.rhost)))


def _network(rhost: str) -> str:
    """One origin's part of the Internet: of IPv6 everybody has 2^64 addresses at least (RFC 6177)."""
    try:
        address = ipaddress.IPv6Address(rhost.partition("%")[0])
    except ValueError:  # a name, an IPv4 address, or nothing
        return rhost
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address, 64), strict=False))


class Limits:
    """The conversations that there are."""

    def __init__(self) -> None:
        self._open: Counter[Key] = Counter()
        self._starts: dict[int, deque[float]] = {}
        self._told: dict[int, float] = {}

    def full(self, key: Key, now: float) -> str:
        """Why there may not be one more, as one printable line; "" when there may. ``now`` is in seconds."""
        if self._open.total() >= ALL:
            return f"{ALL} logins are open"
        if key.uid == 0:
            return self._full_for_root(key)
        if sum(count for each, count in self._open.items() if each.uid) >= OTHERS:
            return f"{OTHERS} logins of users other than root are open"
        if sum(count for each, count in self._open.items() if each.uid == key.uid) >= PER_UID:
            return f"{PER_UID} logins of this uid are open"
        if len(self._recent(key.uid, now)) >= STARTS:
            return f"this uid began {STARTS} logins within a minute"
        return ""

    def _full_for_root(self, key: Key) -> str:
        if not key.account:  # nobody has said yet for whom it is
            return ""
        if self._open[key] >= PER_LOGIN:
            return f"{PER_LOGIN} logins of this account are open from there"
        mine = [
            count for each, count in self._open.items() if each.uid == 0 and each.remote == key.remote and each.account
        ]
        if sum(mine) >= PER_ORIGIN:
            return f"{PER_ORIGIN} logins are open from there"
        return ""

    def enter(self, key: Key, now: float) -> None:
        """One more began. Whoever lets it in has asked :meth:`full`."""
        self._open[key] += 1
        if key.uid:
            self._recent(key.uid, now).append(now)

    def rename(self, before: Key, after: Key) -> None:
        """A connection that was let in has said for whom it asks."""
        self.leave(before)
        self._open[after] += 1

    def leave(self, key: Key) -> None:
        """One of them ended."""
        self._open[key] -= 1
        self._open += Counter()  # forgets those that are zero

    def worth_telling(self, uid: int, now: float) -> bool:
        """Whether a refusal shall be logged: root's always, another uid's once a minute."""
        if uid == 0:
            return True
        self._told = {each: when for each, when in self._told.items() if when > now - WITHIN_SECONDS}
        return self._told.setdefault(uid, now) == now

    def _recent(self, uid: int, now: float) -> "deque[float]":
        self._starts = {
            each: starts for each, starts in self._starts.items() if starts and starts[-1] > now - WITHIN_SECONDS
        }
        recent = self._starts.setdefault(uid, deque())
        while recent and recent[0] <= now - WITHIN_SECONDS:
            recent.popleft()
        return recent
