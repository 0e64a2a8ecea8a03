"""A page with one challenge, on a listener of its own, for as long as one login waits.

The login's process takes the port, so that it is root's; the page is served by a child that has the rights of a system
user for just that, no descriptor but the port, and no response in its memory. It ends with the login, in whatever way
that ends.
"""

import base64
import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

from unlatch.pam.accounts import Account
from unlatch.pam.as_user import printable, reason
from unlatch.pam.entry import WEB
from unlatch.pam.errors import Unfit
from unlatch.pam.shown import Link
from unlatch.secret import Secret
from unlatch.settings import Settings

# 32 letters and digits that are told apart on a screen: a byte has five bits of one, without a bias.
READABLE = "abcdefghijkmnpqrstuvwxyz23456789"
PATH_LENGTH = 8  # keeps those who try the ports from learning whose login waits; it is no secret
NAME_LENGTH = 6
PASSWORD_LENGTH = 12  # 60 bits
START_SECONDS = 5.0
_MAX_SAID = 300
_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104
_BACKLOG = 128


class Tls(NamedTuple):
    """A key and its certificate chain, as PEM."""

    key: Secret
    certificate: bytes


class WebPage:
    """A page that is there: for a context, or until :meth:`close`."""

    def __init__(self, link: Link, pid: int, lifeline: socket.socket) -> None:
        self.link = link
        self._pid = pid
        self._lifeline = lifeline

    def __enter__(self) -> "WebPage":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The page is gone, and its port is free. May be called again."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)  # it is our child and not yet reaped: the number is still its own
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
        self._pid = 0
        self._lifeline.close()


def open_page(
    armour: str,
    web: str,
    tls: Tls | None,
    settings: Settings,
    *,
    server: Account,
    random: Callable[[int], bytes],
    seconds: float,
    forget: Iterable[Secret] = (),
) -> WebPage:
    """Serve a challenge for ``seconds`` at most; ``web`` is one of :data:`unlatch.pam.entry.WEB`.

    ``server`` is the account that serves it, ``random(n)`` gives n random bytes. ``forget`` is what the child wipes
    from its copy of this process's memory: the response.

    Raises:
        Unfit: no page. The login goes on without.
    """
    asks, encrypts = WEB[web]
    _check(settings)
    if encrypts and tls is None:
        raise Unfit("no page: there is no TLS key")
    path = f"/{_draw(random, PATH_LENGTH)}"
    name, password = (_draw(random, NAME_LENGTH), _draw(random, PASSWORD_LENGTH)) if asks else ("", "")
    listener = _listen(settings.pam_web_address, *settings.pam_web_ports)
    with listener:
        url = f"{'https' if encrypts else 'http'}://{_host(settings)}:{listener.getsockname()[1]}{path}"

        def serve(lifeline: socket.socket) -> NoReturn:
            from unlatch.pam import web_server  # asyncio and h11, which only this process needs

            site = web_server.ChallengeSite(armour, path, _token(name, password))
            web_server.run(listener, lifeline, site, tls if encrypts else None, server, seconds, forget)

        pid, lifeline = _fork(serve)
    page = WebPage(Link(url, name, password), pid, lifeline)
    said = _hear(lifeline)
    if said != "ready":
        page.close()
        raise Unfit(f"no page: {said}")
    return page


def _check(settings: Settings) -> None:
    if not settings.pam_web_address:
        raise Unfit("no page: [pam] web_address is not set")
    if not settings.pam_web_host and settings.pam_web_address in _EVERY_ADDRESS:
        raise Unfit("no page: [pam] web_host must say what links name when web_address is every address")


def _listen(address: str, first: int, last: int) -> socket.socket:
    """The first port that is free."""
    why = ""
    for port in range(first, last + 1):
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        # The last login's connections may be in TIME_WAIT. Nobody else can bind while we listen, with this or without.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            why = reason(error)
            if error.errno != errno.EADDRINUSE:
                break
        else:
            return listener
    raise Unfit(f"no page: cannot listen on {address}, ports {first} to {last}: {why}")


def _fork(serve: Callable[[socket.socket], NoReturn]) -> tuple[int, socket.socket]:
    """A child that serves, and our end of the socket at whose other end it sees that we are there."""
    ours, its = socket.socketpair()
    try:
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                serve(its)
            finally:
                os._exit(1)  # whatever went wrong: it never goes on as the login
    except OSError as error:
        ours.close()
        raise Unfit(f"no page: {reason(error)}") from None
    finally:
        its.close()
    return pid, ours


def _host(settings: Settings) -> str:
    host = settings.pam_web_host or settings.pam_web_address
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _draw(random: Callable[[int], bytes], length: int) -> str:
    return "".join(READABLE[byte % 32] for byte in random(length))


def _token(name: str, password: str) -> str:
    """What a browser sends for them (RFC 7617), or nothing."""
    return base64.b64encode(f"{name}:{password}".encode()).decode() if name else ""


def _hear(lifeline: socket.socket) -> str:
    lifeline.settimeout(START_SECONDS)
    try:
        said = lifeline.recv(_MAX_SAID).decode("utf-8", "replace")
    except OSError:
        return "it did not start in time"
    return printable(said) or "it did not start"
