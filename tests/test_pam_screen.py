"""How large the terminal of a login is, and what a login that names something else gets to move."""

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from real import absent

from unlatch.pam import screen
from unlatch.pam.screen import Screen, measure, size_of

FALLBACK = (80, 24)
UNKNOWN = Screen(80, 24, raw=False)


@pytest.fixture
def terminal() -> Iterator[str]:
    """The name of a terminal of 132 columns and 43 rows."""
    near, far = pty.openpty()
    resize(far, 132, 43)
    yield os.ttyname(far)
    os.close(near)
    os.close(far)


def resize(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def test_a_terminal_is_measured(terminal: str) -> None:
    """Its size counts, named as login does or as sudo does, and it takes colours as they are."""
    assert measure(terminal, 0, FALLBACK) == Screen(132, 43, raw=True)
    assert measure(terminal.removeprefix("/dev/"), 0, FALLBACK) == Screen(132, 43, raw=True)


def test_who_asks_for_itself_names_only_its_own_terminal(terminal: str) -> None:
    """A program of some uid learns nothing of others' terminals; root may name any."""
    if os.geteuid() != 0:
        absent("only root gives a terminal away")
    assert measure(terminal, 4242, FALLBACK) == UNKNOWN
    os.chown(terminal, 4242, -1)
    assert measure(terminal, 4242, FALLBACK) == Screen(132, 43, raw=True)
    assert measure(terminal, 4243, FALLBACK) == UNKNOWN
    assert measure(terminal, 0, FALLBACK) == Screen(132, 43, raw=True)


@pytest.mark.parametrize(
    "name",
    [
        "ssh", "", ":0", "cron", "null", "/dev/null", "/dev/tty", "tty", "/dev/ptmx", "pts/ptmx", "/dev/pts/../null",
        "/dev/pts/9999999", "pts/99999999999", "../../etc/passwd", "/etc/passwd", "/dev//pts/0", "tty1\n", "pts/0\0",
        "/dev/pts/٣", "/dev/ttyXRUSB99999", "/dev/watchdog0", "/dev/sda1",
    ],
)  # fmt: skip
def test_what_is_no_terminal_is_not_opened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that no terminal has, or that none has here, end in what the administrator said."""
    opened: list[tuple[str, int]] = []
    real_open = os.open

    def watch(path: str, flags: int) -> int:
        opened.append((path, flags))
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", watch)
    assert measure(name, 0, FALLBACK) == UNKNOWN
    assert all(flags & os.O_PATH and path.startswith("/dev/") for path, flags in opened)


@pytest.mark.parametrize("size", [(0, 0), (80, 0), (19, 24), (80, 4), (1001, 50), (65535, 65535)])
def test_a_size_that_cannot_be_is_none(size: tuple[int, int]) -> None:
    """A serial line that nobody told its size, or a joke, is as good as unknown."""
    near, far = pty.openpty()
    resize(far, *size)
    assert measure(os.ttyname(far), 0, FALLBACK) == UNKNOWN
    os.close(near)
    os.close(far)


def test_only_a_terminal_is_opened(terminal: str, tmp_path: Path) -> None:
    """A pipe does not block, a link is not followed, a file and a device without a size say nothing."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(terminal)
    (tmp_path / "file").touch()
    for name in ("fifo", "link", "file", "missing", "."):
        assert size_of(str(tmp_path / name), 0) is None
    assert size_of("/dev/null", 0) is None
    assert size_of(terminal, 0) == (132, 43)


def test_it_does_not_become_the_controlling_terminal(terminal: str) -> None:
    """A service without a terminal, as units are, still has none afterwards: no Ctrl-C of a login reaches it."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        measured = measure(terminal, 0, FALLBACK).raw
        try:
            os.open("/dev/tty", os.O_RDONLY)
        except OSError:
            os._exit(0 if measured else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_console_that_draws_windows_has_no_size(terminal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a console in graphics mode the size in characters is not what anybody sees (there is none here to try)."""
    real_ioctl = fcntl.ioctl

    def graphics(descriptor: int, request: int, argument: bytes) -> bytes:
        is_mode = request == 0x4B3B  # KDGETMODE; 1 is KD_GRAPHICS
        return struct.pack("i", 1) if is_mode else real_ioctl(descriptor, request, argument)

    monkeypatch.setattr(screen.fcntl, "ioctl", graphics)
    assert measure(terminal, 0, FALLBACK) == UNKNOWN


def test_nothing_stays_open(terminal: str) -> None:
    """Measuring leaves no descriptor behind, whatever it found."""
    before = os.listdir("/proc/self/fd")
    for name in (terminal, "/dev/pts/9999999", "ssh", "/dev/tty0"):
        measure(name, 0, FALLBACK)
        measure(name, 4242, FALLBACK)
    assert os.listdir("/proc/self/fd") == before
