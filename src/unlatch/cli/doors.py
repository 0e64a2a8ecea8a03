"""The two doors to a broker's pages: the admin socket of this machine, and HTTPS to another one.

Both bound what they read, in bytes and in time, because the other end may be anybody's.
"""

import contextlib
import http.client
import json
import os
import pwd
import signal
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from unlatch import runtime, seal, settings
from unlatch.answering import Reply
from unlatch.errors import Malformed, Refused, Unreachable
from unlatch.wire import lines

REPLY_SECONDS = 40.0  # a long poll is held for 25
MAX_BODY = 131_072  # bytes; details and stamp are 33 KiB each at most
MAX_LIST = 64 << 20  # bytes; ten thousand prompts, each with its texts


class Admin:
    """A connection to a broker's admin socket."""

    def __init__(self, place: runtime.Runtime, uid: int) -> None:
        """Connect.

        Raises:
            OSError: nobody listens there, or it is forbidden.
            Untrusted: somebody else does.
        """
        self.place = place
        self._connection = runtime.connect(place.admin, uid, host=place.host)
        self._connection.settimeout(REPLY_SECONDS)
        self._read = self._connection.makefile("rb")

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send one line and return the line that answers it.

        Raises:
            Unreachable: the broker went away, or says nothing.
            Refused: it serves no more of this user's connections, or none of this uid's.
            Malformed: what it said is no line of the protocol.
        """
        try:
            self._connection.sendall(lines.encode({"v": lines.VERSION, **message}))
            line = self._read.readline(MAX_LIST)
        except OSError as error:
            raise Unreachable(_why(error)) from None
        if not line.endswith(b"\n"):
            raise Unreachable("it went away")
        said = lines.decode(line)
        if said.get("event") == "refused":
            raise Refused(str(said.get("why")), str(said.get("text")))
        return said

    def close(self) -> None:
        """Hang up."""
        self._read.close()
        self._connection.close()


def find_admin() -> Admin | None:
    """Connect to the first broker that runs for this user: the host's, else their own; None when there is none.

    Raises:
        OSError, Untrusted: there is one, but not for us.
    """
    uid = os.geteuid()
    for place in runtime.candidates(uid, os.environ, home(uid)):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return Admin(place, uid)
    return None


def home(uid: int) -> str:
    """Where this user's own broker keeps its state; "/" for a uid without an account and without $HOME."""
    try:
        return os.environ.get("HOME") or pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"


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
        raise Unreachable(_why(error)) from None
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
            raise Unreachable(f"{self._authority}: {_why(error)}") from None
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


def _why(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()


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
