"""The Secret type: nothing but reveal() shows it."""

import copy
import gc
import io
import json
import logging
import pickle
import pprint
import resource
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import pytest

from unlatch.prompt import Answer
from unlatch.secret import Secret

CANARY = b"canary-plover\xff\x00"
TRACES = ("canary", "plover", "63616e617279", "\\xff")  # as text, as hex, as an escape


def shown_anywhere(text: str) -> bool:
    return any(trace in text for trace in TRACES)


def test_only_reveal_shows_the_bytes() -> None:
    """reveal() gives the bytes as they were put in, for reading only."""
    view = Secret(CANARY).reveal()
    assert view.readonly
    assert bytes(Secret(CANARY).reveal()) == CANARY


@pytest.mark.parametrize("source", [CANARY, bytearray(CANARY), memoryview(CANARY)], ids=["bytes", "bytearray", "view"])
def test_a_secret_owns_its_bytes(source: bytes | bytearray | memoryview) -> None:
    """Wiping a secret does not reach into what it was made of."""
    Secret(source).wipe()
    assert bytes(source) == CANARY


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        format,
        lambda s: f"{s}{s!r}{s!s}{s!a}{s:>40}",
        lambda s: "{:x} {}".format(s, [s]),  # noqa: UP032 (str.format is what is tested)
        lambda s: "%s %r %a" % (s, s, (s,)),  # noqa: UP031 (so is %)
        lambda s: repr([s, {"passphrase": s}]),
        lambda s: pprint.pformat({"nested": [s]}),
        lambda s: repr(Answer("secret", bytes(32), s)) + str(Answer("secret", bytes(32), s)),
    ],
)
def test_no_way_of_printing_shows_it(show: object) -> None:
    """repr, str, format, f-strings, % and containers all print a placeholder."""
    assert callable(show)
    text = show(Secret(CANARY))
    assert "redacted" in text
    assert not shown_anywhere(text)


@pytest.mark.parametrize(
    "take",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        hash,
        bytes,
        list,
        len,
        lambda s: pickle.dumps(s, protocol=0),
        lambda s: copy.deepcopy([s]),
        lambda s: s.__reduce_ex__(2),
        lambda s: {s: 1},
        lambda s: s + b"x",
        lambda s: s < s,
        lambda s: "".join([s]),
    ],
)
def test_no_way_of_taking_it_along(take: object) -> None:
    """Pickling, copying, hashing, iterating, comparing by order: a TypeError that does not quote the secret."""
    assert callable(take)
    with pytest.raises(TypeError) as caught:
        take(Secret(CANARY))
    assert not shown_anywhere(str(caught.value))


def test_tracebacks_and_logs_do_not_show_it() -> None:
    """An exception that carries it, a traceback that prints local variables, and a log record stay silent."""
    out = io.StringIO()
    logger = logging.Logger("a test")
    logger.addHandler(logging.StreamHandler(out))
    secret = Secret(CANARY)
    try:
        int(secret)  # type: ignore[call-overload]
    except TypeError as error:
        error.add_note(f"tried with {secret}")
        logger.exception("failed with %s and %r", secret, [secret])
        lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
        out.writelines(lines)
    assert "redacted" in out.getvalue()
    assert "secret = " in out.getvalue()
    assert not shown_anywhere(out.getvalue())


def test_equality_tells_content_and_only_among_secrets() -> None:
    """Secrets compare by content with another secret, and never equal plain bytes."""
    assert Secret(CANARY) == Secret(CANARY)
    assert Secret(CANARY) != Secret(CANARY[:-1])
    assert Secret(CANARY) != Secret(CANARY[:-1] + b"\x01")
    assert Secret(CANARY) != CANARY
    assert Secret(b"") == Secret(b"")


def test_equality_is_left_to_compare_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison goes through what hmac.compare_digest is, whose time does not depend on the content."""
    monkeypatch.setattr("unlatch.secret._compare_digest", lambda a, b: (a, b) == (b"one", b"two"))
    assert Secret(b"one") == Secret(b"two")


def test_an_empty_secret_is_false() -> None:
    """Whether anything was typed can be asked without revealing it."""
    assert not Secret(b"")
    assert Secret(b"\x00")


def test_wipe_leaves_only_zeros() -> None:
    """Wiping overwrites in place, so that an earlier view sees zeros too."""
    secret = Secret(CANARY)
    view = secret.reveal()
    secret.wipe()
    assert bytes(view) == bytes(len(CANARY))
    assert bytes(secret.reveal()) == bytes(len(CANARY))


def test_a_collected_secret_is_wiped() -> None:
    """Dropping the last reference is enough."""
    secret = Secret(CANARY)
    view = secret.reveal()
    del secret
    gc.collect()
    assert bytes(view) == bytes(len(CANARY))


@pytest.mark.parametrize("wrong", ["canary-plover", None, 5, [7, 8]])
def test_what_is_not_bytes_is_refused_without_a_trace(wrong: object) -> None:
    """A wrong type is a TypeError that quotes nothing, and the half-made object dies quietly."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError) as caught:
            Secret(wrong)  # type: ignore[arg-type]
        gc.collect()
    assert not shown_anywhere(str(caught.value))


PROBE = """
import ctypes, os, resource, signal
from unlatch.secret import Secret, forbid_core_dumps
forbid_core_dumps()
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE
secret = Secret(b"in memory")
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGABRT)
"""


def test_core_dumps_are_off(tmp_path: Path) -> None:
    """After forbid_core_dumps() a crash leaves no core file and the kernel calls the process not dumpable."""
    child = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert child.stdout == "ready\n", child.stderr
    assert child.returncode == -6
    assert list(tmp_path.iterdir()) == []


def test_secrets_are_locked_into_memory() -> None:
    """Where the kernel allows it, the pages that hold a secret are not swapped (VmLck in /proc/self/status)."""
    code = (
        "import re; from unlatch.secret import Secret; s = Secret(b'x' * 4096);"
        "print(re.search(r'VmLck:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    allowed = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    assert int(child.stdout) >= 4 or allowed == 0
