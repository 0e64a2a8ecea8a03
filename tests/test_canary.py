"""A canary passphrase is searched for everywhere it must not be, while it is asked for and after it was given."""

import base64
import contextlib
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from house import PINENTRY, House
from real import absent
from real_gnupg import PLAINTEXT, Keyring, finish

CANARY = b"canary-7f3a91c04be2-sings"


def test_the_passphrase_is_nowhere_but_in_gnupg(house: House) -> None:
    """Not in files, logs, arguments or environments; not in the memory of the broker that carried the answer."""
    service = Keyring(house, CANARY).decrypt()
    ring = house.phone.ring()
    page = house.open(ring["link"])
    (broker,) = house.brokers()
    before = set(house.processes())
    assert found_in_proc(before) == []
    page.unlock(CANARY)
    assert found_in_proc(before) == []
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert found_in_proc(set(house.processes())) == []
    fragment = ring["link"].partition("#")[2].encode()
    memory = list(memory_of(broker))
    assert any(fragment in region for region in memory), "this search would not find anything"
    assert not any(spelling in region for region in memory for spelling in spellings(CANARY))
    assert found_in_files(house.root, spellings(CANARY)) == []


def test_neither_fragment_nor_owner_is_in_files_or_arguments(house: House) -> None:
    """Links are secrets: only the notifier is given one, on its standard input; nothing else shows it."""
    service = Keyring(house, CANARY).decrypt()
    ring = house.phone.ring()
    fragment = ring["link"].partition("#")[2].encode()
    for pid in house.processes():
        assert fragment not in read(Path(f"/proc/{pid}/cmdline")) + read(Path(f"/proc/{pid}/environ"))
    house.open(ring["link"]).unlock(CANARY)
    finish(service)
    written = found_in_files(house.root, [fragment])
    assert [path for path in written if path.parent != house.phone.directory] == []


def test_a_crashing_asker_leaves_no_core_file(house: House) -> None:
    """Where another program leaves a core file when it crashes, an asker with an open prompt leaves none."""
    if not core_left_by(house, start_crashing(house, "sh", "-c", "kill -ABRT $$")):
        absent("this machine keeps core files where this test cannot see them")
    asker = start_crashing(house, PINENTRY)
    assert asker.stdin is not None
    asker.stdin.write(b"SETDESC Please unlock\nGETPIN\n")
    asker.stdin.flush()
    house.phone.ring()
    with contextlib.suppress(PermissionError):  # not even if somebody lifts the limit that it set itself
        resource.prlimit(asker.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    asker.send_signal(signal.SIGABRT)
    assert not core_left_by(house, asker)
    assert house.phone.end()["outcome"] == "withdrawn"


def start_crashing(house: House, *command: str | Path) -> "subprocess.Popen[bytes]":
    """Start a program that may leave a core file in the house."""
    return subprocess.Popen(
        ["sh", "-c", 'ulimit -c unlimited && exec "$@"', "sh", *command],
        env=house.environ(), cwd=house.root, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def core_left_by(house: House, process: "subprocess.Popen[bytes]") -> bool:
    """Wait for the crash, and look for its core file (core(5): the name starts with "core" unless set otherwise)."""
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGABRT
    cores = list(house.root.glob("core*"))
    for core in cores:
        core.unlink()
    return bool(cores)


def spellings(secret: bytes) -> list[bytes]:
    """The secret as it is, and all that base64 makes of it at any offset."""
    shifted = [base64.urlsafe_b64encode(b"x" * shift + secret)[4 if shift else 0 : -4] for shift in range(3)]
    return [secret, *shifted]


def found_in_proc(pids: set[int]) -> list[int]:
    """The processes that show the canary to everybody, in their arguments or their environment."""
    shown = {pid: read(Path(f"/proc/{pid}/cmdline")) + read(Path(f"/proc/{pid}/environ")) for pid in pids}
    return [pid for pid, text in shown.items() if CANARY in text]


def found_in_files(root: Path, needles: list[bytes]) -> list[Path]:
    """The files below that hold any of these."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return [path for path in files if any(needle in path.read_bytes() for needle in needles)]


def memory_of(pid: int) -> Iterator[bytes]:
    """All writable memory of a process, as a debugger or a core file would see it (proc(5), /proc/PID/mem)."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            addresses, permissions = line.split()[:2]
            start, end = (int(address, 16) for address in addresses.split("-"))
            if permissions.startswith("rw"):
                memory.seek(start)
                yield memory.read(end - start)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
