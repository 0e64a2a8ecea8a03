"""Secrets that are kept elsewhere: what is read, what is refused, and that nothing of it is repeated."""

import os
from pathlib import Path

import pytest

from unlatch import credentials
from unlatch.credentials import MAX_SIZE, NoCredential, Source, read

SECRET = "canary-9be1"


def kept(folder: Path, content: bytes, mode: int = 0o600) -> Source:
    file = folder / "secret"
    file.write_bytes(content)
    file.chmod(mode)
    return Source("file", (str(file),))


def excuse(source: Source, **environ: str) -> str:
    with pytest.raises(NoCredential) as refusal:
        read(source, environ)
    assert SECRET not in refusal.value.why
    return refusal.value.why


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"canary", "canary"),
        (b"canary\n", "canary"),
        (b"canary\r\n", "canary"),
        (b" canary ", " canary "),
        ("kanári\n".encode(), "kanári"),
        (b"x" * MAX_SIZE + b"\n", "x" * MAX_SIZE),
    ],
)
def test_one_newline_goes_and_all_else_stays(tmp_path: Path, content: bytes, text: str) -> None:
    """As an editor leaves it, and as printf does."""
    assert read(kept(tmp_path, content), {}) == text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "holds nothing"),
        (b"\n", "holds nothing"),
        (b"canary-9be1\n\n", "holds something else than one line of text"),
        (b"canary-9be1\nmore", "holds something else than one line of text"),
        (b"canary-9be1\x00", "holds something else than one line of text"),
        (b"canary-9be1\xff", "holds something else than one line of text"),
        (b"x" * (MAX_SIZE + 1) + b"\n", f"holds more than {MAX_SIZE} bytes"),
    ],
)
def test_what_is_no_secret_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    """With the file's name, and nothing that is in it."""
    assert excuse(kept(tmp_path, content)).endswith(why)


@pytest.mark.parametrize(("mode", "may"), [(0o604, "read"), (0o644, "read"), (0o602, "write")])
def test_what_everybody_may_read_is_no_secret(tmp_path: Path, mode: int, may: str) -> None:
    """The hint is the command that mends it."""
    source = kept(tmp_path, SECRET.encode(), mode)
    assert excuse(source) == f'everybody may {may} {source.where[0]}; run "chmod o= {source.where[0]}"'
    assert credentials.exposure(source.where[0])


def test_a_group_may_read(tmp_path: Path) -> None:
    """root:unlatch 0640 is the usual way."""
    assert read(kept(tmp_path, SECRET.encode(), 0o640), {}) == SECRET


def test_what_is_no_file_does_not_block(tmp_path: Path) -> None:
    """Directories, fifos and devices are refused at once; a missing file is named."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path in (fifo, tmp_path):
        assert excuse(Source("file", (str(path),))).startswith(str(path))
    assert excuse(Source("file", (f"{tmp_path}/none",))) == f"{tmp_path}/none cannot be read: no such file or directory"


def test_a_credential_of_systemd(tmp_path: Path) -> None:
    """A name below $CREDENTIALS_DIRECTORY; without that there is a hint."""
    kept(tmp_path, SECRET.encode(), 0o400)
    assert read(Source("credential", ("secret",)), {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == SECRET
    assert "LoadCredential=" in excuse(Source("credential", ("secret",)))


def test_a_command_prints_it() -> None:
    """Without a shell, without our environment, and its standard error goes nowhere."""
    source = Source("command", ("/bin/sh", "-c", f"echo {SECRET}; env >&2; echo {SECRET} >&2"))
    assert read(source, {"HOME": "/h"}) == SECRET
    assert read(Source("command", ("/usr/bin/env",)), {"X": "1"}) == "PATH=/usr/local/bin:/usr/bin:/bin"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("/bin/sh", "-c", f"echo {SECRET}; exit 3"), "the command failed with exit status 3"),
        (("/nonexistent/program",), "the command cannot be started: No such file or directory"),
        (("/bin/true",), "the command printed nothing"),
        (("/usr/bin/yes",), f"the command printed more than {MAX_SIZE} bytes"),
    ],
)
def test_a_command_that_fails_is_named(command: tuple[str, ...], why: str) -> None:
    """And never believed: what it printed before it failed is no secret."""
    assert excuse(Source("command", command)) == why


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the caller has no limit of its own."""
    monkeypatch.setattr(credentials, "COMMAND_SECONDS", 0.05)
    assert excuse(Source("command", ("/bin/sleep", "1000"))) == "the command failed with exit status -9"
