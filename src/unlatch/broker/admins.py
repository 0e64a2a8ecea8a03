"""The admin's socket: look at one's own prompts and answer them from the terminal; uid 0 sees all."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from typing import Any

from unlatch.broker.actions import Reply, Visitor
from unlatch.broker.connections import Connection, Crowd
from unlatch.broker.http import Held
from unlatch.broker.looks import LOOK_SECONDS, Arrival
from unlatch.broker.pace import Pace
from unlatch.broker.remote import LOCAL
from unlatch.broker.server import Broker

PER_UID = 64  # connections: people at terminals, and a monitoring program or two
BURST = 256  # lines of one user at once
MAX_ROWS = 10_000  # more than anybody reads


class Admins:
    """The side of :class:`~unlatch.broker.connections.Connection` for admins."""

    def __init__(self, broker: Broker) -> None:
        self.max_unread = 16_777_216  # a long list, as root sees it
        self.crowd = Crowd(PER_UID)
        self._pace = Pace(BURST)
        self._broker = broker
        self._waiting: dict[Connection, Held | None] = {}
        self._looking: dict[Connection, str] = {}

    def came(self, connection: Connection) -> None:
        room = self.crowd.enter(connection)
        self._broker.prepare()
        if connection.uid == self._broker.overflow_uid:
            connection.refuse("uid", "the kernel does not say who asks (a user namespace without a mapping)")
        elif not room:
            connection.refuse("quota", "this user has too many connections")

    def patience(self, connection: Connection) -> float:
        return self._pace.wait(self._broker.now(), connection.uid)

    def said(self, connection: Connection, line: bytes, *, first: bool) -> None:
        from unlatch.broker import messages

        pending, now = self._broker.pending, self._broker.now()
        match messages.decode_admin(line, first):
            case messages.Status():
                prompts = _rows(pending.prompts(now, connection.uid))
                whole = connection.uid in (0, os.geteuid())
                connection.send({**self._broker.status(whole=whole), "prompts": prompts})
            case messages.List():
                connection.send({"event": "list", "prompts": _rows(pending.links(now, connection.uid))})
            case messages.Page(ticket=ticket, verb=verb, body=body):

                def reply(answer: Reply) -> None:
                    connection.send({"event": "page", "status": answer.status, "body": answer.body})

                visitor = Visitor(LOCAL, connection.uid)
                self._waiting[connection] = self._broker.page(ticket, verb, bytes(body), visitor, reply)

            case messages.Look(ticket=ticket):
                self._look(connection, ticket)

    def _look(self, connection: Connection, ticket: str) -> None:
        def hear(arrival: Arrival) -> None:
            connection.send({"event": "arrived", **arrival._asdict()})

        if connection.uid not in (0, os.geteuid()):
            connection.refuse("uid", "only root and the broker's own user may do that")
        elif connection in self._looking or not self._broker.look(ticket, hear):
            connection.refuse("quota", "somebody looks at the page already")
        else:
            self._looking[connection] = ticket
            asyncio.get_running_loop().call_later(LOOK_SECONDS, connection.close)
            connection.send({"event": "looking", "listening": self._broker.listening})

    def refuse(self, connection: Connection, why: str, text: str) -> None:
        connection.refuse(why, text)

    def left(self, connection: Connection) -> None:
        self.crowd.leave(connection)
        held = self._waiting.pop(connection, None)
        if held is not None:
            held.gone()
        ticket = self._looking.pop(connection, "")
        if ticket:
            self._broker.look_away(ticket)
        self._broker.settle()


def _rows(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(itertools.islice(rows, MAX_ROWS))
