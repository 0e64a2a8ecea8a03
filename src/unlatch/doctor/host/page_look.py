"""A look at the page through the public address, as a phone on each of the name's addresses has it.

The broker serves the page for a ticket that we make up (docs/protocol.md section 5, ``look``), and tells what arrived.
Nobody is rung and no link is spent. Where we may not ask for that, a ticket that nobody knows must give the dead-link
page, which says less.
"""

import contextlib
import errno
import hashlib
import os
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from unlatch import base64url
from unlatch.broker import page
from unlatch.broker.probe import MAX_PAGE, clock_is_set, explain
from unlatch.cli.admin import Admin
from unlatch.doctor.check import Situation, command
from unlatch.doctor.host.names import Names, find
from unlatch.doctor.host.parallel import side_by_side
from unlatch.doctor.host.served import Served, connect, served
from unlatch.doctor.host.shared import Shared
from unlatch.errors import UnlatchError
from unlatch.settings import is_loopback

STEP_SECONDS = 4.0  # for a connection, and for each thing that is read from it
LOOK_SECONDS = 8.0  # for everything
MOST_HEADERS = 64
_GZIP = 16 + zlib.MAX_WBITS  # zlib's word for gzip's header
MAX_VALUE = 1000  # characters of a header; our longest, the content security policy, has 400
_NO_WAY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENETUNREACH)  # this host has no IPv6, mostly
_AGENT = {"User-Agent": "unlatch doctor", "Cache-Control": "no-cache"}


class Arrived(NamedTuple):
    """What the broker saw of a request: see :class:`unlatch.broker.looks.Arrival`."""

    target: str
    client: str
    refused: bool


class Reply(NamedTuple):
    """One answer. ``body``: "page" and "dead" are ours; "altered" is ours with changes; "other" is not.

    ``trouble`` is why there is no answer, and ``unreachable`` whether this host cannot send to such addresses at all.
    """

    trouble: str = ""
    unreachable: bool = False
    status: int = 0
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def header(self, name: str) -> str:
        """A header, several joined as HTTP allows; "" for none."""
        return ", ".join(value for each, value in self.headers if each == name)


class Answer(NamedTuple):
    """What one address answered. ``looked``: the broker watched, and saw ``arrivals`` of the first request.

    ``source`` is the address that we asked from. ``packed``, ``post`` and ``plain`` are the same page compressed, the
    answer to a POST, and what is at http://; they are asked only where the first answer was ours. ``ahead``: seconds by
    which our clock is ahead of the answer's.
    """

    address: str
    source: str = ""
    looked: bool = False
    arrivals: tuple[Arrived, ...] = ()
    first: Reply = Reply()
    packed: Reply | None = None
    post: Reply | None = None
    plain: Reply | None = None
    ahead: float | None = None


class PageLook(NamedTuple):
    """``file`` are the settings, ``probe`` is one of them. ``loopback``: the address is for this machine only, so there
    was nothing to look at.

    ``broker``: why the broker did not watch, or nothing. ``absent``: it is one that comes with the first prompt, and
    has not come.
    """

    url: str
    file: str
    probe: bool
    loopback: bool = False
    names: Names = Names(())
    answers: tuple[Answer, ...] = ()
    broker: str = ""
    absent: bool = False

    @property
    def host(self) -> str:
        """The name in the URL, without the port."""
        return urlsplit(self.url).hostname or ""

    @property
    def path(self) -> str:
        """What stands behind the name, from slash to slash."""
        return urlsplit(self.url).path

    def curl(self, answer: Answer) -> str:
        """A command that shows what this address answers."""
        port = urlsplit(self.url).port or (443 if self.url.startswith("https") else 80)
        return command("curl", "-sSi", "--resolve", f"{self.host}:{port}:{answer.address}", self.url)


def _look(situation: Situation) -> PageLook:
    found = served(situation)
    settings = found.loaded.settings
    host = (urlsplit(settings.public_url).hostname or "").strip("[]")
    if is_loopback(host) or host == "::1":
        return PageLook(settings.public_url, found.loaded.path, settings.probe, loopback=True)
    names = find(host)
    watcher = "" if found.status.whole else found.status.why or "it tells root and its own user only"
    return PageLook(
        settings.public_url,
        found.loaded.path,
        settings.probe,
        names=names,
        answers=_ask_all(names.addresses, found, situation),
        broker=watcher,
        absent=found.status.absent and not found.place.host,
    )


page_look = Shared(_look)


def _ask_all(addresses: tuple[str, ...], found: Served, situation: Situation) -> tuple[Answer, ...]:
    late = Reply(trouble=f"connection: no answer within {LOOK_SECONDS:g} s")
    answers = side_by_side(lambda address: _ask(address, found, situation), addresses, LOOK_SECONDS)
    return tuple(answer or Answer(address, first=late) for address, answer in zip(addresses, answers, strict=True))


def _ask(address: str, found: Served, situation: Situation) -> Answer:
    url = found.loaded.settings.public_url
    ticket = base64url.encode(os.urandom(16))
    ours = {page.fingerprint(), found.status.page}
    with _watched(ticket, found, situation) as watch, contextlib.closing(Pinned(url, address)) as asking:
        first = ask(asking, "GET", ticket, ours)
        answer = Answer(address, asking.source, watch is not None, _arrivals(watch), first, ahead=_ahead(first))
        if first.body not in ("page", "dead", "altered"):
            return answer
        return answer._replace(
            packed=ask(asking, "GET", ticket, ours, packed=True),
            post=ask(asking, "POST", f"{ticket}/hello", ours),
            plain=_ask_plainly(url, address, ticket, ours),
        )


def _ask_plainly(url: str, address: str, ticket: str, ours: set[str]) -> Reply | None:
    """What http:// has at this name; nothing where https:// has a port of its own."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.port not in (None, 443):
        return None
    plainly = urlunsplit(("http", parts.netloc.removesuffix(":443"), parts.path, "", ""))
    with contextlib.closing(Pinned(plainly, address)) as asking:
        return ask(asking, "GET", ticket, ours)


@contextlib.contextmanager
def _watched(ticket: str, found: Served, situation: Situation) -> Iterator[Admin | None]:
    """Let the broker serve the page for this ticket and watch, if it does."""
    if not found.status.whole:
        yield None
        return
    try:
        admin = connect(found.place, situation)
    except (OSError, UnlatchError):
        yield None
        return
    try:
        try:
            watching = admin.ask({"op": "look", "ticket": ticket}).get("event") == "looking"
        except UnlatchError:  # an older broker, or one that is looked at by several
            watching = False
        yield admin if watching else None
    finally:
        admin.close()


def _arrivals(admin: Admin | None) -> tuple[Arrived, ...]:
    """What arrived so far: all that the broker said before it answers another question."""
    arrived: list[Arrived] = []
    if admin is None:
        return ()
    with contextlib.suppress(UnlatchError):
        said = admin.ask({"op": "list"})
        while said.get("event") == "arrived":
            arrived.append(Arrived(str(said["target"]), str(said["client"]), bool(said["refused"])))
            said = admin.hear()
    return tuple(arrived)


class Pinned(HTTPConnection):
    """HTTP to a URL's name at one of its addresses."""

    def __init__(self, url: str, address: str, context: ssl.SSLContext | None = None) -> None:
        """``context`` replaces the system's certificate authorities."""
        parts = urlsplit(url)
        self.name = (parts.hostname or "").strip("[]")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        super().__init__(parts.netloc, timeout=STEP_SECONDS)
        self.place = (address, port)
        self.prefix = parts.path
        self.source = ""
        self._tls = (context or ssl.create_default_context()) if parts.scheme == "https" else None

    def connect(self) -> None:
        """Connect to the address, whatever the name resolves to."""
        connection = socket.create_connection(self.place, timeout=STEP_SECONDS)
        self.source = str(connection.getsockname()[0])
        try:
            self.sock = self._tls.wrap_socket(connection, server_hostname=self.name) if self._tls else connection
        except BaseException:
            connection.close()
            raise


def ask(asking: Pinned, method: str, path: str, ours: set[str], *, packed: bool = False) -> Reply:
    """One request; ``ours`` are the fingerprints that a page of ours may have."""
    headers = _AGENT | {"Accept-Encoding": "gzip" if packed else "identity"}
    body = None
    if method == "POST":
        headers["Content-Type"] = "application/json"
        body = b"{}"
    try:
        asking.request(method, asking.prefix + path, body, headers)
        response = asking.getresponse()
        content = response.read(MAX_PAGE)
    except (OSError, HTTPException, ValueError) as error:
        asking.close()
        cannot = isinstance(error, OSError) and error.errno in _NO_WAY
        return Reply(trouble=explain(error, clock_is_set()), unreachable=cannot)
    return Reply(status=response.status, body=_whose(response, content, ours), headers=_headers(response))


def _headers(response: HTTPResponse) -> tuple[tuple[str, str], ...]:
    return tuple((name.lower(), value[:MAX_VALUE]) for name, value in response.getheaders()[:MOST_HEADERS])


def _whose(response: HTTPResponse, content: bytes, ours: set[str]) -> str:
    encoding = response.getheader("Content-Encoding", "identity").lower()
    if encoding == "gzip":
        try:
            content = zlib.decompressobj(_GZIP).decompress(content, MAX_PAGE)
        except zlib.error:
            return "altered"
    elif encoding != "identity":
        return "altered"
    if hashlib.sha256(content).hexdigest() in ours:
        return "page"
    if content == page.dead_document():
        return "dead"
    return "altered" if b"<title>Unlatch</title>" in content else "other"


def _ahead(reply: Reply) -> float | None:
    """By how many seconds our clock is ahead of the one that wrote the Date field (RFC 9110 section 6.6.1)."""
    try:
        return time.time() - parsedate_to_datetime(reply.header("date")).timestamp()
    except (TypeError, ValueError, OverflowError, OSError):
        return None
