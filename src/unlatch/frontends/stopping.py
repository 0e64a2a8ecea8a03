"""SIGINT, SIGTERM and SIGHUP, turned into an exception where one is welcome, and kept for later where it is not."""

import signal
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(BaseException):
    """Somebody wants this process to end now. Not an Exception, so that nobody takes it for a failure."""


class Stopping:
    """``with stopping:`` is where a signal may interrupt; outside of it, one that came is raised at the next entry.

    So a reply to gpg-agent is never cut in half, while connecting, importing and waiting end at once.
    """

    def __init__(self) -> None:
        self._welcome = False
        self._came = False
        for number in _SIGNALS:
            signal.signal(number, self._arrived)

    def _arrived(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (the signature of handlers)
        again, self._came = self._came, True
        if self._welcome and not again:
            raise Stop

    def __enter__(self) -> None:
        if self._came:
            raise Stop
        self._welcome = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._welcome = False
