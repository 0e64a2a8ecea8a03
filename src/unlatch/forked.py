"""A process and the child that it forks: a pipe between them, who dies with whom, and where the child went wrong.

What the child then does is the business of who forks: the doctor's probes, and logins, which look as an account.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import time

END_SECONDS = 2.0  # for a process that was killed
_PAUSE = 0.001
_PR_SET_PDEATHSIG = 1  # prctl(2)
_libc = ctypes.CDLL(None, use_errno=True)


def pipe() -> tuple[int, int]:
    """Its ends, to read and to write: not among the standard descriptors, should the caller have closed those."""
    low = os.pipe2(os.O_CLOEXEC)
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in low)
    for end in low:
        os.close(end)
    return high[0], high[1]


def write(descriptor: int, data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def end_with_parent(number: signal.Signals) -> None:
    """Have the kernel send this signal when the parent ends. A change of uid takes it back (prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def end(pid: int) -> None:
    """End the child and what it left in its process group.

    One that waits for a file system (fuse(4), NFS) which does not answer may end for nobody, and such a file system may
    be the user's own: it is left behind then, and reaped by init.
    """
    for target in (-pid, pid):  # it may not have had its own session yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(target, signal.SIGKILL)
    until = time.monotonic() + END_SECONDS
    with contextlib.suppress(ChildProcessError):  # the caller lets the kernel reap
        while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < until:
            time.sleep(_PAUSE)


def place(error: BaseException) -> str:
    """Where it was raised: file and line, nothing of what it says."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "start"
