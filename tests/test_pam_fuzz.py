"""libFuzzer, with AddressSanitizer and UBSan, at the module's reader of packets and at whole logins (make fuzz)."""

import re
import subprocess
from pathlib import Path

import pytest
from pam_build import FUZZED, ROOT, Workshop, pam_module
from real import absent, real

WORDS = ("say", "warn", "ask", "hide", "wait", "allow", "deny", "fail")


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Where inputs begin: a packet of each word, and logins of a few packets."""
    place = tmp_path / "seeds"
    place.mkdir()
    packets = [f"{word}\0".encode() + (b"text\0" if word in WORDS[:4] else b"") for word in WORDS]
    for number, packet in enumerate(packets):
        (place / f"packet-{number}").write_bytes(packet)
        records = [b"wait\0", packet, b"ask\0Response: \0", b"allow\0"]
        (place / f"large-{number}").write_bytes(b"\0" + bytes([len(packet), 1]) + packet)
        (place / f"login-{number}").write_bytes(b"\0" + b"".join(bytes([len(each), 0]) + each for each in records))
    (tmp_path / "dictionary").write_text("".join(f'"{word}\\x00"\n' for word in WORDS))
    return place


def fuzz(program: Path, seeds: Path, runs: int, longest: int) -> "subprocess.CompletedProcess[str]":
    """Let it try so many inputs."""
    return subprocess.run(
        [program, f"-runs={runs}", f"-max_len={longest}", f"-dict={seeds.parent}/dictionary", "-timeout=10", seeds],
        capture_output=True, text=True, timeout=1800, check=False, cwd=seeds.parent,
    )  # fmt: skip


def compiled(workshop: Workshop, name: str) -> Path:
    """A source of pam/ with libFuzzer around it."""
    clang = real("clang")
    library = subprocess.run([clang, "--print-runtime-dir"], capture_output=True, text=True, check=True).stdout.strip()
    if not list(Path(library).glob("libclang_rt.fuzzer*")):
        absent("no libFuzzer; tools/setup test installs it")
    return workshop.variant(name, FUZZED, f"{name}.c", "clang")


def compiled_broken(place: Path, fuzzer: str, source: str, before: str, after: str) -> Path:
    """The same, with a mistake made in one of the sources."""
    for file in (ROOT / "pam").glob("*.[ch]"):
        (place / file.name).write_text(file.read_text())
    text = (place / source).read_text()
    assert text.count(before) == 1
    (place / source).write_text(text.replace(before, after))
    pam_module.compile_with(real("clang"), place / "broken", FUZZED, place / fuzzer)
    return place / "broken"


def survived(done: "subprocess.CompletedProcess[str]", runs: int) -> None:
    """All inputs were tried, and none was a finding."""
    assert done.returncode == 0, done.stderr[-3000:]
    said = re.search(r"^Done (\d+) runs in (\d+) second", done.stderr, re.MULTILINE)
    assert said is not None
    assert int(said[1]) >= runs
    print(f"{Path(done.args[0]).name}: {said[1]} inputs in {said[2]} s, no finding")


def test_any_bytes(workshop: Workshop, seeds: Path) -> None:
    """No packet makes the reader read outside of it or take one thing for another."""
    survived(fuzz(compiled(workshop, "fuzz"), seeds, 500_000, 64), 500_000)


def test_any_login(workshop: Workshop, seeds: Path) -> None:
    """Whatever service and person do, memory is safe, and without an "allow" nobody is let in."""
    survived(fuzz(compiled(workshop, "fuzz_login"), seeds, 20_000, 400), 20_000)


@pytest.mark.slow
def test_ten_million_packets(workshop: Workshop, seeds: Path) -> None:
    """The same for as long as somebody may wait."""
    survived(fuzz(compiled(workshop, "fuzz"), seeds, 10_000_000, 256), 10_000_000)


@pytest.mark.slow
def test_a_million_logins(workshop: Workshop, seeds: Path) -> None:
    """The same for whole logins."""
    survived(fuzz(compiled(workshop, "fuzz_login"), seeds, 1_000_000, 1000), 1_000_000)


READER_BREAKS = {
    "a byte behind counts for nothing": ("return first == size ? word", "return first <= size ? word"),
    "no end is looked for": ("if (size == 0 || packet[size - 1] != '\\0')", "if (size == 0)"),
    "a text may end early": ("return first + second == size ?", "return first + second <= size ?"),
    "no text is looked for": ("if (first == size)", "if (0)"),
}


@pytest.mark.parametrize("broken", READER_BREAKS)
def test_a_broken_reader_is_found(workshop: Workshop, seeds: Path, tmp_path: Path, broken: str) -> None:
    """The fuzzer finds each of the mistakes that the reader could have: its silence means something."""
    compiled(workshop, "fuzz")
    program = compiled_broken(tmp_path, "fuzz.c", "fields.h", *READER_BREAKS[broken])
    assert fuzz(program, seeds, 500_000, 64).returncode != 0


LOGIN_BREAKS = {
    "a packet that is too large counts": ("return size <= MAX_PACKET ? (size_t)size : 0", "return (size_t)size"),
    "no is yes": ("case DENY:\n            return PAM_AUTH_ERR", "case DENY:\n            return PAM_SUCCESS"),
    "garbage is skipped": ("return unavailable(pamh);\n        }\n", "break;\n        }\n"),
    "answers are not freed": ("    free(typed);\n", ""),
}


@pytest.mark.parametrize("broken", LOGIN_BREAKS)
def test_a_broken_login_is_found(workshop: Workshop, seeds: Path, tmp_path: Path, broken: str) -> None:
    """The same for the module around the reader."""
    compiled(workshop, "fuzz_login")
    program = compiled_broken(tmp_path, "fuzz_login.c", "pam_unlatch.c", *LOGIN_BREAKS[broken])
    assert fuzz(program, seeds, 20_000, 400).returncode != 0
