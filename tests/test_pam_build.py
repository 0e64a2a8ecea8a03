"""The PAM module as a file: the same twice, hardened, and whom it names and needs; also for another processor."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pam_build import ROOT, Workshop
from pam_build import pam_module as builder
from pam_stack import SUCCESS, Stack
from real import real
from scripted_pam_service import ScriptedPamService

LIBC = (2, 36)  # Debian 12's


def said(*command: str | Path) -> str:
    """What a program prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_two_builds_are_equal(tmp_path: Path, pam_module: Path) -> None:
    """In another place, with another umask, language and time the module is the same byte for byte."""
    for name in ("pam", "tools"):
        (tmp_path / name).mkdir()
        for file in (ROOT / name).glob("*pam*" if name == "tools" else "*.[ch]"):
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    before = os.umask(0o077)
    try:
        done = subprocess.run(
            [sys.executable, "tools/pam_module.py", "--output", "out"], cwd=tmp_path, check=True, capture_output=True,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "Pacific/Auckland", "SOURCE_DATE_EPOCH": "1"},
        )  # fmt: skip
    finally:
        os.umask(before)
    assert done.stdout == b"out/pam_unlatch.so\n"
    other = (tmp_path / "out/pam_unlatch.so").read_bytes()
    assert hashlib.sha256(other).digest() == hashlib.sha256(pam_module.read_bytes()).digest()


def test_it_is_hardened(pam_module: Path) -> None:
    """Everything is bound at the start and read-only then, no stack can be run, and overruns are noticed."""
    dynamic = said(real("readelf"), "--dynamic", "--wide", pam_module)
    assert re.search(r"\(FLAGS\) +BIND_NOW", dynamic)
    assert "TEXTREL" not in dynamic
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    headers = said(real("readelf"), "--program-headers", "--wide", pam_module)
    assert "GNU_RELRO" in headers
    assert re.search(r"GNU_STACK .* RW +0x", headers)
    assert not re.search(r"LOAD .* RWE ", headers)
    used = said(real("nm"), "--dynamic", "--undefined-only", pam_module)
    assert "U __stack_chk_fail" in used
    assert re.search(r"U __(?!stack)\w+_chk", used)  # which ones is the compiler's choice


def test_what_it_names_and_needs(pam_module: Path) -> None:
    """Two functions for libpam, which it loads itself should the program have none; no other library, no new libc."""
    given = said(real("nm"), "--dynamic", "--defined-only", pam_module)
    assert re.findall(r" T (\w+)", given) == ["pam_sm_authenticate", "pam_sm_setcred"]
    needed = re.findall(r"NEEDED.*\[(.*)\]", said(real("readelf"), "--dynamic", pam_module))
    assert needed == ["libpam.so.0", "libc.so.6"]
    versions = re.findall(r"GLIBC_(\d+)\.(\d+)", said(real("objdump"), "--dynamic-syms", pam_module))
    assert max((int(major), int(minor)) for major, minor in versions) <= LIBC
    assert str(ROOT).encode() not in pam_module.read_bytes()


def test_it_never_reads_what_the_caller_of_sudo_sets(pam_module: Path) -> None:
    """No environment, no files, no programs: what it calls is short enough to be listed."""
    used = set(re.findall(r"U (\w+)@", said(real("nm"), "--dynamic", "--undefined-only", pam_module)))
    assert {name.removeprefix("__").removesuffix("_chk") for name in used} - {"stack_chk_fail", "errno_location"} <= {
        "abort", "clock_gettime", "close", "connect", "explicit_bzero", "fcntl", "free", "getsockopt", "lstat",
        "memcpy", "memset", "pam_get_item", "pam_get_user", "pam_getenv", "pam_prompt", "pam_syslog", "poll", "recv",
        "send", "sendmsg", "setsockopt", "sigismember", "sigpending", "socket", "strcmp", "strlen",
        "strncmp", "strrchr",
    }  # fmt: skip


def test_a_foreign_build_works(monkeypatch: pytest.MonkeyPatch, workshop: Workshop, tmp_path: Path) -> None:
    """Linked with the stand-in of libpam, as for another processor, it is loaded by the real one and lets in."""
    monkeypatch.setattr(platform, "machine", lambda: "another")
    architecture = said(real("dpkg"), "--print-architecture").strip()
    module = builder.build(tmp_path / "pam_unlatch.so", architecture)
    with ScriptedPamService(b"allow\0") as service:
        stack = Stack(module, workshop.shim(), f"socket={service.path}")
        assert stack.login().code == SUCCESS
        stack.close()


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    """For another processor without its compiler: one line, with what to install."""
    other = "arm64" if platform.machine() == "x86_64" else "amd64"
    done = subprocess.run(
        [sys.executable, ROOT / "tools/pam_module.py", "--output", tmp_path, "--architecture", other],
        capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"tools/pam_module: \S+-linux-gnu-gcc is missing: apt-get install gcc-.*\n", done.stderr)
    assert not list(tmp_path.iterdir())
