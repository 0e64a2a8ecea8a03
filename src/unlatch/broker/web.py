"""The page's addresses: docs/protocol.md section 3 between HTTP and the pending table."""

import gzip
import json
import re
from collections.abc import Callable
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from unlatch.broker import http, page
from unlatch.broker.actions import Reply, Visitor
from unlatch.broker.looks import Arrival

_JSON_HEADERS = (
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
_PLACE = re.compile(r"/([A-Za-z0-9_-]{22})(?:/(hello|view|answer|wait))?\Z")


class Desk(Protocol):
    """Who knows the prompts: the broker."""

    def knows(self, ticket: str) -> bool:
        """Whether this ticket has a page."""

    def arrived(self, arrival: Arrival) -> None:
        """A request, whatever becomes of it."""

    def page(
        self, ticket: str, verb: str, body: bytes, visitor: Visitor, reply: Callable[[Reply], None]
    ) -> http.Held | None:
        """One request of a page. ``reply`` is called once, perhaps later; returns as :meth:`http.Site.respond` does."""


class Place(NamedTuple):
    """What a request is about. ``verb`` is empty for the page itself."""

    ticket: str
    verb: str


def find_place(target: str, prefix: str) -> Place | None:
    """Read a request's target. A proxy may have taken the prefix of the public address away, or not.

    A query makes it another place: links have none, and what a chat program appends to one is no business of ours.
    """
    path = target.removeprefix(prefix) if target.startswith(prefix + "/") else target
    match = _PLACE.match(path)
    return Place(match[1], match[2] or "") if match else None


class PageSite:
    """Serves the one document for every ticket, and carries the page's requests to the desk."""

    def __init__(self, public_url: str, desk: Desk) -> None:
        self._prefix = urlsplit(public_url).path.rstrip("/")
        self._desk = desk
        headers = tuple(page.headers())
        self._plain = http.Response(200, headers, page.document())
        packed = (*headers, ("Content-Encoding", "gzip"))
        self._gzipped = http.Response(200, packed, gzip.compress(page.document(), 9, mtime=0))
        self._nothing = http.Response(404, headers, page.dead_document())

    def nothing(self) -> http.Response:
        return self._nothing

    def turn_away(self, request: http.Request) -> http.Response:
        self._desk.arrived(Arrival(request.target, request.remote, refused=True))
        return self._nothing

    def respond(self, request: http.Request, reply: http.Reply) -> http.Held | None:
        self._desk.arrived(Arrival(request.target, request.remote, refused=False))
        place = find_place(request.target, self._prefix)
        if place and place.verb and request.method == "POST":
            visitor = Visitor(request.remote)
            return self._desk.page(
                place.ticket, place.verb, request.body, visitor, lambda answer: reply(self._response(answer))
            )
        if place and not place.verb and request.method == "GET" and self._desk.knows(place.ticket):
            reply(self._gzipped if request.gzip else self._plain)
        else:
            reply(self._nothing)
        return None

    def _response(self, answer: Reply) -> http.Response:
        if answer.status == 404:
            return self._nothing
        return http.Response(answer.status, _JSON_HEADERS, json.dumps(answer.body).encode("ascii"))
