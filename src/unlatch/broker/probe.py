"""Can a link be opened, as far as this host can see? A GET through ``public_url`` finds out, and spends nothing.

At boot the broker may be up before the network, the clock or the proxy's certificate. The ring goes out all the same:
the person may log in and use ``unlatch answer``. But the message says what is wrong, and is edited when it is mended.

The look is a plain blocking function in a daemon thread: nothing here can hold up the broker, or its end, and nobody
needs a second HTTP client in asyncio. It follows no redirect and uses no proxy of the environment.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

PROBE_SECONDS = 8.0  # for a whole look
FIRST_LOOK_SECONDS = 0.5  # a ring waits no longer than this for the first look; later news edits the message
FINE_SECONDS = 600.0  # a page that was reachable so short a time ago is not waited for
BACKOFF = (2.0, 5.0, 15.0, 30.0, 60.0)  # seconds between looks; the last one again and again
MAX_PAGE = 65_536  # bytes; ours has half of that
_SYNCHRONIZED = "/run/systemd/timesync/synchronized"  # made by systemd-timesyncd(8)
_STA_UNSYNC = 0x40  # adjtimex(2)
_AGENT = {"User-Agent": "unlatch", "Accept-Encoding": "identity", "Connection": "close"}

Look = Callable[[str], Awaitable[str]]


class PageWatch:
    """Looks at the page while links are open, until it is there once for each ring.

    ``trouble`` is why it cannot be reached, or nothing.
    """

    def __init__(
        self,
        look: Look,
        link: Callable[[], str],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``link`` gives an open link, or nothing; ``changed`` is called when trouble comes or ends."""
        self.trouble = ""
        self._look = look
        self._link = link
        self._changed = changed
        self._clock = clock
        self._fine_at: float | None = None
        self._seen = asyncio.Event()
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Somebody is about to be rung: look, and wait a moment for the result, unless all was well lately."""
        self._seen.clear()
        self._again.set()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())
            self._task.add_done_callback(self._ended)
        if self._fine_at is not None and self._clock() - self._fine_at < FINE_SECONDS:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                await self._seen.wait()

    def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        failures = 0
        while link := self._link():
            self._again.clear()
            self._note(await self._look(link.partition("#")[0]))
            if not self.trouble:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BACKOFF[min(failures, len(BACKOFF) - 1)]):
                    await self._again.wait()
            failures += 1
        self.trouble = ""  # nothing is open, so nothing has to be reachable

    def _note(self, trouble: str) -> None:
        before, self.trouble = self.trouble, trouble
        self._fine_at = None if trouble else self._clock()
        self._seen.set()
        if bool(before) != bool(trouble):
            self._changed()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled():
            task.exception()  # seen; there is none that we know of


async def look(url: str) -> str:
    """Why this address does not give the page, or nothing. Takes at most ``PROBE_SECONDS``."""
    loop = asyncio.get_running_loop()
    seen: asyncio.Future[str] = loop.create_future()

    def tell(trouble: str) -> None:
        if not seen.done():
            seen.set_result(trouble)

    def work() -> None:
        trouble = look_now(url)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            loop.call_soon_threadsafe(tell, trouble)

    # Not the loop's executor: asyncio.run() waits for that at the end, and a resolver may take half a minute.
    threading.Thread(target=work, daemon=True, name="probe").start()
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await seen
    except TimeoutError:
        return f"connection: no answer within {PROBE_SECONDS:g} s"


def look_now(url: str, *, context: ssl.SSLContext | None = None) -> str:
    """The look itself; blocks. ``context`` replaces the system's certificate authorities."""
    from unlatch.broker import page

    address = urlsplit(url)
    host = address.hostname or ""
    connection: HTTPConnection
    if address.scheme == "https":
        trusted = context or ssl.create_default_context()
        connection = HTTPSConnection(host, address.port, timeout=PROBE_SECONDS / 2, context=trusted)
    else:
        connection = HTTPConnection(host, address.port, timeout=PROBE_SECONDS / 2)
    try:
        connection.request("GET", address.path, headers=_AGENT)
        response = connection.getresponse()
        body = response.read(MAX_PAGE)
    except (OSError, HTTPException, ValueError) as error:
        return explain(error, clock_is_set())
    finally:
        connection.close()
    if response.status == 200 and body == page.document():
        return ""
    return explain_status(response.status)


def explain(error: Exception, clock: bool | None) -> str:
    """What went wrong on the way to the page, without a word of the other side's."""
    unset = "; this host's clock is not synchronised" if clock is False else ""
    match error:
        case socket.gaierror():
            return "name: it cannot be resolved"
        case ssl.SSLCertVerificationError():
            return f"certificate: {error.verify_message.rstrip('.')}{unset}"
        case ssl.SSLError():
            return f"certificate: no TLS connection can be made{unset}"
        case TimeoutError():
            return "connection: no answer in time"
        case OSError():
            return f"connection: {(error.strerror or 'failed').lower()}"
    return "connection: what answers does not speak HTTP"


def explain_status(status: int) -> str:
    """What an answer means that is not the page."""
    if status == 200:
        return "proxy: another page than ours is served there"
    if status in (502, 503, 504):
        return f"proxy: answers {status}, so it does not reach the broker"
    if 300 <= status < 400:
        return f"proxy: redirects elsewhere ({status})"
    if status == 404:
        return "proxy: answers 404, so it leads elsewhere, or its address is not in allow_from"
    return f"proxy: answers {status}"


class _Timex(ctypes.Structure):
    # struct timex of <sys/timex.h>, as far as status; the rest is room for what the kernel writes behind it.
    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_char * 512),
    )  # fmt: skip


def clock_is_set(synchronized: str = _SYNCHRONIZED) -> bool | None:
    """Whether this host's clock follows a time server; None: it cannot be known (a sandbox may forbid to ask)."""
    if os.path.exists(synchronized):
        return True
    state = _Timex(modes=0)  # change nothing
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
        return None
    return not state.status & _STA_UNSYNC
