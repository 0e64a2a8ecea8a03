"""The askers' socket: put a prompt, hear what becomes of it. Nothing here lists, answers or withdraws for others.

The directory of this socket may be mounted into a container, whose root may be the host's uid 0. So uid 0 is nothing
special here, but for one thing: it may ask about a login, whose people are then rung. That the kernel names root as the
asker stands on the page all the same, and what they answer opens nothing but what that root runs.
"""

import pwd

from unlatch.broker.actions import Account, Peer
from unlatch.broker.connections import Connection, Crowd, user_name
from unlatch.broker.pace import Pace
from unlatch.broker.server import Broker

PER_PROMPT = 4  # connections that one uid may hold for each prompt that it may have open
AT_LEAST = 64  # connections of one uid, however few prompts: askers that come and go

PER_CONNECTION = 4  # lines at once: register, taken, verdict, and one more


class Askers:
    """The side of :class:`~unlatch.broker.connections.Connection` for askers."""

    def __init__(self, broker: Broker) -> None:
        self.max_unread = 262_144  # some answers, each at most 32 KiB
        self._broker = broker
        room = max(AT_LEAST, PER_PROMPT * broker.settings.quota_open)
        self.crowd = Crowd(room)
        self._pace = Pace(PER_CONNECTION * room)

    def came(self, connection: Connection) -> None:
        room = self.crowd.enter(connection)
        self._broker.prepare()
        if connection.uid == self._broker.overflow_uid:
            self.refuse(connection, "uid", "the kernel does not say who asks (a user namespace without a mapping)")
        elif not room:
            self.refuse(connection, "quota", "this user has too many connections")
        elif self._broker.refusal:
            self.refuse(connection, "config", self._broker.refusal)

    def patience(self, connection: Connection) -> float:
        return self._pace.wait(self._broker.now(), connection.uid)

    def said(self, connection: Connection, line: bytes, *, first: bool) -> None:
        from unlatch.broker import messages, trail

        pending, now = self._broker.pending, self._broker.now()
        peer = Peer(connection, connection.uid, connection.gid, user_name(connection.uid))
        match messages.decode_asker(line, first):
            case messages.Register(account=str(name)) as register if name and not peer.uid:
                account = _account(name)
                if account is not None and not self.crowd.move(connection, account.name):
                    self.refuse(connection, "quota", "too many connections ask about this account's logins")
                    return
                actions = pending.register(now, peer._replace(account=account), register)
            case messages.Register() as register:
                actions = pending.register(now, peer, register)
            case messages.Taken(ticket=ticket):
                actions = pending.taken(now, connection, ticket)
            case messages.Spoiled(ticket=ticket):
                actions = pending.spoiled(now, connection, ticket)
            case messages.Verdict(ticket=ticket, outcome=outcome, sealed=sealed):
                actions = pending.verdict(now, connection, ticket, outcome, sealed)
            case messages.Withdraw(ticket=ticket, why=why):
                actions = pending.withdraw(now, connection, ticket, why)
            case messages.Orphaned(ticket=ticket):
                actions = pending.orphaned(now, connection, ticket)
            case messages.Opened(secret=secret, by=by, unit=unit):
                actions = trail.opened(peer, secret, by, unit)
        self._broker.perform(actions)

    def refuse(self, connection: Connection, why: str, text: str) -> None:
        self._broker.audit.write(
            {
                "event": "refused",
                "uid": connection.uid,
                "user": user_name(connection.uid),
                "why": why,
                "text": text[:1000],
            }
        )
        connection.refuse(why, text)

    def left(self, connection: Connection) -> None:
        self.crowd.leave(connection)
        self._broker.asker_gone(connection)


def _account(name: str) -> Account | None:
    """What the user database knows under this name, in its own spelling."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: a NUL
        return None
    return Account(entry.pw_uid, entry.pw_name)
