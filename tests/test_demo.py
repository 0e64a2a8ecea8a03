"""The demonstration that newcomers run first: it works unattended, and it leaves nothing behind however it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import PATH
from real import real

DEMO = Path(__file__).parents[1] / "tools" / "demo.py"


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is free at this moment, and after the test again."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        number = int(trial.getsockname()[1])
    yield number
    with socket.socket() as trial:
        assert trial.connect_ex(("127.0.0.1", number)) != 0


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Where the demonstration makes its temporary directory; it must be empty afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="unlatch-", dir="/tmp"))
    yield directory
    directory.rmdir()


def start(port: int, temporary: Path, **more: str) -> "subprocess.Popen[str]":
    """Start the demonstration as make does, with nothing on standard input."""
    for program in ("gpg", "pass"):
        real(program)
    return subprocess.Popen(
        [sys.executable, DEMO],
        env={"PATH": PATH, "HOME": str(temporary), "TMPDIR": str(temporary), "PORT": str(port), **more},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def arguments(process: Path) -> bytes:
    """The arguments of a process under /proc; none when it has just ended."""
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_it_answers_itself(port: int, temporary: Path) -> None:
    """ANSWER=auto: exit 0, the password came out, link and port are gone, and so is everything else."""
    out, errors = start(port, temporary, ANSWER="auto").communicate(timeout=120)
    assert "the service has its password" in out, errors
    assert f"http://localhost:{port}/" in out
    assert f"nothing listens on port {port} any more" in out


def test_it_cleans_up_after_ctrl_c(port: int, temporary: Path) -> None:
    """Ctrl-C while it waits for a person: agent, broker, service, keys and store are gone."""
    demo = start(port, temporary)
    assert demo.stdout is not None
    seen = ""
    while "waiting for you" not in seen:
        line = demo.stdout.readline()
        assert line, demo.stderr and demo.stderr.read()
        seen += line
    assert re.search(rf"http://localhost:{port}/[\w-]{{22}}#[\w-]{{86}}", seen)
    assert "open sesame" in seen
    assert list(temporary.iterdir())
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does, to all that runs in the foreground
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if str(temporary).encode() in arguments(pid)]


def test_a_taken_port_names_the_command_to_type(port: int, temporary: Path) -> None:
    """The port is taken: one line says so, the next what to type, and nothing was started."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        out, errors = start(port, temporary, ANSWER="auto").communicate(timeout=60)
    assert out == ""
    assert errors.splitlines() == [
        f"unlatch demo: error: port {port}: address already in use",
        f"unlatch demo: hint: make demo PORT={port + 1}",
    ]
