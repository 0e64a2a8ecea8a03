"""What serves the page of one login: a process of its own, behind ``web.open_page``."""

import asyncio
import contextlib
import gc
import hmac
import os
import socket
import ssl
from collections.abc import Iterable
from typing import NoReturn

from unlatch.broker import http
from unlatch.broker.listen import Acceptor
from unlatch.broker.remote import parse_networks
from unlatch.pam import web_page
from unlatch.pam.accounts import Account
from unlatch.pam.as_user import become
from unlatch.pam.errors import Unfit
from unlatch.pam.web import Tls
from unlatch.secret import Secret

# The administrator's address, port and firewall say who can come here; nothing is believed of where one comes from.
_EVERYBODY = parse_networks(["0.0.0.0/0", "::/0"])
_DESCRIPTORS = 2 * http.MAX_SILENT + 64  # connections, those still in a TLS handshake, and our own


class ChallengeSite:
    """Serves the page at ``path`` and the bare message at ``path.asc``, to everybody or to who sends ``token``.

    The token is asked for before anything else is said, also about paths.
    """

    def __init__(self, armour: str, path: str, token: str) -> None:
        self._files = {
            path: http.Response(200, web_page.HEADERS, web_page.document(armour, f"{path}.asc")),
            f"{path}.asc": http.Response(200, web_page.MESSAGE_HEADERS, armour.encode()),
        }
        self._token = token.encode()

    def nothing(self) -> http.Response:
        if self._token:
            return http.Response(401, (*web_page.HEADERS, web_page.ASK), web_page.WHO_ARE_YOU)
        return http.Response(404, web_page.HEADERS, web_page.NOTHING_HERE)

    def turn_away(self, request: http.Request) -> http.Response:  # noqa: ARG002 (nobody is)
        return self.nothing()

    def respond(self, request: http.Request, reply: http.Reply) -> None:
        if not self._is_known(request.authorization):
            reply(self.nothing())
        elif request.method in ("GET", "HEAD") and request.target in self._files:
            reply(self._files[request.target])
        else:
            reply(http.Response(404, web_page.HEADERS, web_page.NOTHING_HERE))

    def _is_known(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        return not self._token or (
            scheme.lower() == "basic" and hmac.compare_digest(token.strip().encode("latin-1"), self._token)
        )


def run(
    listener: socket.socket,
    lifeline: socket.socket,
    site: ChallengeSite,
    tls: Tls | None,
    server: Account,
    seconds: float,
    forget: Iterable[Secret],
) -> NoReturn:
    """Become the account ``server`` and serve until the login's end of ``lifeline`` is closed, or for ``seconds``. In a
    child.
    """
    try:
        gc.freeze()  # what the login's process had is never touched again: its descriptors are closed by number
        for secret in forget:
            secret.wipe()
        try:
            become(server, (listener.fileno(), lifeline.fileno()), seconds, descriptors=_DESCRIPTORS)
            context = _context(tls) if tls else None
        except Unfit as unfit:
            lifeline.send(unfit.why.encode())
        else:
            asyncio.run(_serve(listener, lifeline, site, context, seconds))
    finally:
        os._exit(0)


async def _serve(
    listener: socket.socket, lifeline: socket.socket, site: ChallengeSite, tls: ssl.SSLContext | None, seconds: float
) -> None:
    over = asyncio.Event()
    server = http.Server(site, _EVERYBODY)
    Acceptor(listener, server.connection, tls)
    asyncio.get_running_loop().add_reader(lifeline.fileno(), over.set)
    lifeline.send(b"ready")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), seconds)


def _context(tls: Tls) -> ssl.SSLContext:
    """Read the key and its certificate, which may be anything that a user has put there.

    Raises:
        Unfit: they cannot be used; without a word of what stands in them.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # OpenSSL reads files only. These are memory, and gone when this is done.
    key, certificate = _in_memory(tls.key.reveal()), _in_memory(tls.certificate)
    try:
        # A key with a passphrase cannot be used: nobody is to be asked, also not at the login's terminal.
        context.load_cert_chain(f"/proc/self/fd/{certificate}", f"/proc/self/fd/{key}", password=lambda: b"")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        why = (getattr(error, "reason", None) or "not readable").lower().replace("_", " ")
        raise Unfit(f"the TLS key and its certificate cannot be used: {why}") from None
    finally:
        os.close(key)
        os.close(certificate)
    return context


def _in_memory(content: bytes | memoryview) -> int:
    descriptor = os.memfd_create("unlatch-pam", os.MFD_CLOEXEC)
    with memoryview(content) as left:
        written = 0
        while written < len(left):
            written += os.write(descriptor, left[written:])
    return descriptor
