"""The two doors to a broker's pages: the admin socket of this machine, and HTTPS to another one.

Both bound what they read, in bytes and in time, because the other end may be anybody's.
"""

import contextlib
import http.client
import json
import signal
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from unlatch import seal, settings
from unlatch.answering import Reply
from unlatch.cli.admin import REPLY_SECONDS, Admin, find_admin, why
from unlatch.errors import Malformed, Unreachable
from unlatch.wire import lines

MAX_BODY = 131_072  # bytes; details and stamp are 33 KiB each at most


class AdminDoor:
    """Pages through the admin socket, whose views do not count. Connects anew when the broker was replaced."""

    def __init__(self, admin: Admin) -> None:
        self._admin: Admin | None = admin

    def post(self, ticket: str, verb: str, body: Mapping[str, Any]) -> Reply:
        """See :class:`unlatch.answering.Door`."""
        said = self._ask({"op": "page", "ticket": ticket, "verb": verb, "body": dict(body)})
        status, fields = said.get("status"), said.get("body")
        if said.get("event") != "page" or type(status) is not int or not isinstance(fields, dict):
            raise Malformed("reply")
        return Reply(status, fields)

    def _ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self._admin = self._admin or _find_again()
        try:
            return self._admin.ask(message)
        except Unreachable:
            self._admin.close()
            self._admin = None
            raise


def _find_again() -> Admin:
    try:
        admin = find_admin()
    except OSError as error:
        raise Unreachable(why(error)) from None
    if admin is None:
        raise Unreachable("none is running")
    return admin


class RemoteLink(NamedTuple):
    """A whole link: where its broker is, and the link itself."""

    public_url: str
    link: seal.Link


def parse_remote(text: str) -> RemoteLink:
    """Read ``PUBLIC_URL/TICKET#FRAGMENT``.

    Raises:
        Malformed: it is no link, or one that would send the answer in clear over a network.
    """
    address, _, fragment = text.partition("#")
    base, _, ticket = address.rpartition("/")
    try:
        return RemoteLink(settings.public_url(base + "/"), seal.parse_link(ticket, fragment))
    except settings.Unacceptable:
        raise Malformed("link: it must start with https://, or with http:// and a loopback address") from None


class RemoteDoor:
    """Pages over HTTPS. Follows no redirect, uses no proxy from the environment, and keeps no connection."""

    def __init__(self, public_url: str, ca_file: str | None) -> None:
        """``ca_file`` is trusted instead of the system's authorities.

        Raises:
            OSError: it cannot be read, or holds no certificate.
        """
        scheme, _, rest = public_url.partition("://")
        self._authority, _, path = rest.partition("/")
        self._path = "/" + path
        self._tls = ssl.create_default_context(cafile=ca_file) if scheme == "https" else None

    def post(self, ticket: str, verb: str, body: Mapping[str, Any]) -> Reply:
        """See :class:`unlatch.answering.Door`."""
        connection = self._connection()
        try:
            with _deadline(REPLY_SECONDS):
                connection.request(
                    "POST", f"{self._path}{ticket}/{verb}", json.dumps(body), {"Content-Type": "application/json"}
                )
                response = connection.getresponse()
                data = response.read(MAX_BODY + 1)
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(f"{self._authority}: its certificate is not trusted: {error.verify_message}") from None
        except OSError as error:
            raise Unreachable(f"{self._authority}: {why(error)}") from None
        except http.client.HTTPException as error:  # its text may quote the path, and so the ticket
            raise Unreachable(f"{self._authority}: no HTTP: {type(error).__name__}") from None
        finally:
            connection.close()
        return _reply(response.status, data)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._authority, timeout=REPLY_SECONDS)
        return http.client.HTTPSConnection(self._authority, timeout=REPLY_SECONDS, context=self._tls)


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Cut the whole exchange: a socket's own time limit begins anew with every byte. For the main thread only."""

    def cut(*_: object) -> None:
        raise TimeoutError("timed out")

    before = signal.signal(signal.SIGALRM, cut)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _reply(status: int, data: bytes) -> Reply:
    if 300 <= status < 400:
        raise Malformed("reply: a redirect, which might lead anywhere, is not followed")
    if status in (502, 503, 504):
        raise Unreachable(f"the proxy before it says {status}")
    if len(data) > MAX_BODY:
        raise Malformed("reply: too long")
    if status == 404:
        return Reply(404, {})
    return Reply(status, lines.decode(data))
