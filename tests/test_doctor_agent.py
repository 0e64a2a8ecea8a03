"""Doctor on GNUPGHOME and its gpg-agent: the user's own home, one agent that stays, and keeps what it was given."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_asker import Patient, configure_agent, look, situation, start_agent
from house import House
from machine import _cgroups
from real import absent
from service_user import NAME, UID
from waiting import until

from unlatch.doctor.asker import agent_stays, one_agent, presetting
from unlatch.doctor.asker.agent_stays import AGENT_STAYS
from unlatch.doctor.asker.cache_times import CACHE_TIMES
from unlatch.doctor.asker.gnupg_home import GNUPG_HOME
from unlatch.doctor.asker.one_agent import ONE_AGENT
from unlatch.doctor.asker.presetting import PRESETTING
from unlatch.doctor.asker.socket_path import MOST, SOCKET_PATH


@pytest.fixture
def patient(house: House) -> Iterator[Patient]:
    """A service user, for whom root calls doctor."""
    patient = Patient(house)
    yield patient
    patient.close()


# gnupg-home


def test_gnupg_home_passes(house: House) -> None:
    """The user's own, and mode 0700."""
    assert look(GNUPG_HOME, house).state == "ok"


def test_gnupg_home_fails_when_there_is_none(house: House) -> None:
    """It is made by the user, with the right mode, whoever types that."""
    missing = f"{house.root}/no/.gnupg"
    found = look(GNUPG_HOME, house, gnupghome=missing)
    assert (found.state, found.hint) == ("problem", f"GNUPGHOME={missing} mkdir -p -m 0700 {missing}")
    assert "no such file" in found.text


def test_gnupg_home_fails_when_others_look_in(house: House) -> None:
    """gpg itself only warns; so does doctor."""
    house.gnupg.chmod(0o750)
    found = look(GNUPG_HOME, house)
    assert found.state == "warning"
    assert "0750" in found.text
    assert found.hint.endswith(f"chmod 0700 {house.gnupg}")


def test_gnupg_home_fails_when_it_is_a_file(house: House) -> None:
    """The path exists and is no directory."""
    assert look(GNUPG_HOME, house, gnupghome=str(house.settings)).state == "problem"


def test_gnupg_home_fails_when_it_is_somebody_elses(house: House, patient: Patient) -> None:
    """As after a restore of a backup by root: the files are root's."""
    os.chown(house.gnupg, 0, 0)
    house.gnupg.chmod(0o755)
    found = patient.doctor("gnupg-home").findings["gnupg-home"]
    assert (found.state, found.hint) == ("problem", f"chown -R {UID}:{UID} {house.gnupg}")


# socket-path


@pytest.mark.parametrize(("length", "state"), [(MOST, "ok"), (MOST + 1, "problem")])
def test_socket_path_fails_where_gpg_agent_does(house: House, length: int, state: str) -> None:
    """86 bytes work, 87 do not: doctor and the real agent agree on the byte."""
    home = house.root / ("x" * (length - len(str(house.root)) - 1))
    house.gnupg = house.gnupg.rename(home)
    assert len(str(home)) == length
    configure_agent(house)
    assert look(SOCKET_PATH, house).state == state
    process = house.start("gpg-agent", "--daemon", "true")  # ends with the program that it starts
    assert process.wait(20) == (0 if state == "ok" else 2)


def test_socket_path_passes_and_counts_bytes(house: House) -> None:
    """A path is bytes to the kernel, whatever letters they are."""
    assert look(SOCKET_PATH, house, gnupghome="/srv/gnupg").state == "ok"
    assert look(SOCKET_PATH, house, gnupghome="/" + "é" * 43).state == "problem"


# one-agent


def test_one_agent_passes(house: House) -> None:
    """None, or one where GnuPG looks. Doctor itself starts none."""
    configure_agent(house)
    assert look(ONE_AGENT, house).text.startswith("none runs now")
    assert house.processes_called(b"gpg-agent") == []
    pid = start_agent(house)
    assert look(ONE_AGENT, house) == ("one-agent", "ok", f"pid {pid} at {house.gnupg}/S.gpg-agent", "")


def test_one_agent_fails_after_the_first_login(house: House, patient: Patient) -> None:
    """An agent from before /run/user/UID is warned of; the second one, from after it, is a problem with its command."""
    configure_agent(house)
    os.chown(house.gnupg / "gpg-agent.conf", UID, UID)
    patient.run("gpgconf", "--launch", "gpg-agent")
    early = int(patient.run("gpg-connect-agent", "GETINFO pid", "/bye").split()[1])
    assert patient.doctor("one-agent").findings["one-agent"].state == "ok"
    patient.root("sh", "-c", f"mkdir -p /run/user/{UID} && chown {UID} /run/user/{UID} && chmod 0700 /run/user/{UID}")
    alone = patient.doctor("one-agent").findings["one-agent"]
    assert alone.state == "warning"
    assert alone.hint == f"runuser -u {NAME} -- env HOME={house.root} kill {early}"
    # A second agent, as any program of a login makes it: its socket is where GnuPG looks now.
    patient.run("gpgconf", "--launch", "gpg-agent")
    late = int(patient.run("gpg-connect-agent", "GETINFO pid", "/bye").split()[1])
    assert late != early
    done = patient.doctor("one-agent")
    both = done.findings["one-agent"]
    assert (done.code, both.state) == (1, "problem")
    assert str(early) in both.text
    assert str(late) in both.text
    # The hint does what it promises.
    assert both.hint.endswith(f"kill {early}")
    patient.root("sh", "-c", both.hint)
    until(lambda: patient.doctor("one-agent").findings["one-agent"].state == "ok", "a single agent")
    patient.run("gpgconf", "--kill", "gpg-agent")


def test_one_agent_fails_when_it_hangs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that accepts and says nothing keeps nobody waiting for long."""
    monkeypatch.setattr(one_agent, "SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(house.gnupg / "S.gpg-agent"))
        deaf.listen()
        assert look(ONE_AGENT, house).state == "unknown"


# agent-stays


@pytest.fixture
def machine_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where systemd notes who lingers and what is enabled, for this test only."""
    monkeypatch.setattr(agent_stays, "LINGER", str(tmp_path / "linger"))
    monkeypatch.setattr(agent_stays, "WANTS", str(tmp_path / "units"))
    monkeypatch.setattr(presetting, "WANTS", str(tmp_path / "units"))
    for name in ("linger", "units"):
        (tmp_path / name).mkdir()
    return tmp_path


@contextlib.contextmanager
def agent_in(house: House, unit: str) -> Iterator[int]:
    """An agent whose control group is that of this unit, as if systemd had put it there."""
    if os.getuid() != 0:
        absent("only root can make control groups")
    group = _cgroups() / f"{house.root.name}-{unit}" if "@" not in unit else _cgroups() / unit
    group.mkdir()
    try:
        script = f'echo $$ > "{group}/cgroup.procs" && exec gpgconf --launch gpg-agent'
        house.run("sh", "-c", script)
        yield int(house.run("gpg-connect-agent", "GETINFO pid", "/bye").split()[1])
        house.run("gpgconf", "--kill", "gpg-agent")
    finally:
        until(lambda: _gone(group), "the end of what is in the control group")


def _gone(group: Path) -> bool:
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def enable(machine_files: Path, unit: str) -> None:
    """What ``systemctl enable`` does."""
    wants = machine_files / "units" / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / unit).symlink_to("/dev/null")


def test_agent_stays_passes_when_our_unit_starts_it(house: House, machine_files: Path) -> None:
    """Enabled, it is there before anybody asks; running, it is nobody else's."""
    configure_agent(house)
    enable(machine_files, f"unlatch-agent@{situation(house).user}.service")
    assert look(AGENT_STAYS, house).state == "ok"
    with agent_in(house, f"unlatch-agent@{house.root.name}.service"):
        assert look(AGENT_STAYS, house).text.startswith("it belongs to unlatch-agent@")


def test_agent_stays_fails_when_none_is_kept(house: House, machine_files: Path) -> None:
    """Whoever asks first starts it, and takes it along."""
    configure_agent(house)
    found = look(AGENT_STAYS, house)
    assert found.state == "warning"
    assert "systemctl enable --now unlatch-agent@" in found.hint


def test_agent_stays_fails_when_a_service_owns_it(house: House, machine_files: Path) -> None:
    """A restart of that service would lock everything."""
    configure_agent(house)
    with agent_in(house, "backup.service") as pid:
        found = look(AGENT_STAYS, house)
        assert (found.state, "backup.service" in found.text) == ("warning", True)
        assert found.hint.splitlines()[0].endswith(f"kill {pid}")


def test_agent_stays_fails_at_logout_without_linger(house: House, machine_files: Path) -> None:
    """The user's own systemd ends with the last logout, unless the user lingers."""
    configure_agent(house)
    with agent_in(house, f"user@{house.root.name}.service"):
        found = look(AGENT_STAYS, house)
        assert found.state == "warning"
        assert "enable-linger" in found.hint
        (machine_files / "linger" / situation(house).user).touch()
        assert look(AGENT_STAYS, house).state == "ok"


def test_agent_stays_fails_when_a_login_owns_it(house: House, machine_files: Path) -> None:
    """Somebody typed gpg in a shell, and that session ends."""
    configure_agent(house)
    with agent_in(house, "session-7.scope"):
        assert "session-7.scope" in look(AGENT_STAYS, house).text


# cache-times


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ((), "10 min after its last use, 2 h at most"),
        (("default-cache-ttl 600", "max-cache-ttl 86400"), "10 min after its last use, 24 h at most"),
        (("default-cache-ttl 86400",), "2 h after its last use, 2 h at most"),
        (("default-cache-ttl 86400", "max-cache-ttl 99999", "max-cache-ttl 60"), "1 min after its last use, 1 min at"),
    ],
)
def test_cache_times_fails_with_defaults_and_below(house: House, lines: tuple[str, ...], text: str) -> None:
    """Both times count, the later line wins, and the hint raises them."""
    configure_agent(house, *lines)
    found = look(CACHE_TIMES, house)
    assert found.state == "warning"
    assert text in found.text
    assert found.hint.startswith("unlatch setup")


def test_cache_times_fails_when_it_is_no_number(house: House) -> None:
    """gpg-agent takes such a value for zero, and keeps nothing."""
    configure_agent(house, "default-cache-ttl 8h", "max-cache-ttl 86400")
    assert look(CACHE_TIMES, house).state == "problem"


def test_cache_times_passes(house: House) -> None:
    """Eight hours after the last use, a day at most."""
    configure_agent(house, "default-cache-ttl 28800", "max-cache-ttl 86400")
    assert look(CACHE_TIMES, house).text == "a passphrase is kept 8 h after its last use, 24 h at most"


# presetting


def test_presetting_passes_where_nothing_is_unlocked_ahead(house: House, machine_files: Path) -> None:
    """Then it is better not allowed."""
    configure_agent(house)
    assert look(PRESETTING, house).state == "ok"


def test_presetting_fails_until_file_and_agent_allow_it(house: House, machine_files: Path) -> None:
    """A unit unlocks keys at boot: first the line is missing, then the running agent does not know of it."""
    enable(machine_files, f"unlatch-key@{situation(house).user}.service")
    conf = configure_agent(house)
    conf.write_text(conf.read_text().rstrip("\n"))  # some editors leave it so, and then so does setup
    written = conf.read_text().splitlines()
    start_agent(house)
    missing = look(PRESETTING, house)
    assert missing.state == "problem"
    house.run("sh", "-c", missing.hint.splitlines()[0])  # the hint, but for the reload
    assert [line for line in conf.read_text().splitlines() if line] == [*written, "allow-preset-passphrase"]
    unread = look(PRESETTING, house)
    assert unread.state == "problem"
    assert unread.hint.endswith("gpgconf --reload gpg-agent")
    house.run("sh", "-c", unread.hint)
    assert look(PRESETTING, house).state == "ok"


def test_presetting_fails_where_a_service_requires_the_gate(house: House, machine_files: Path) -> None:
    """By its drop-in; the gate of another user, whose name begins alike, is none of this one's."""
    configure_agent(house)
    drop_in = machine_files / "units" / "api.service.d" / "unlatch.conf"
    drop_in.parent.mkdir(parents=True)
    gate = f"unlatch-key@{situation(house).user}"
    drop_in.write_text(f"[Unit]\nRequires={gate}2.service\nAfter={gate}2.service\n")
    assert look(PRESETTING, house).state == "ok"
    drop_in.write_text(f"[Unit]\nRequires={gate}.service\nAfter={gate}.service\n")
    assert look(PRESETTING, house).state == "problem"


def test_presetting_fails_where_loopback_is_forbidden(house: House, machine_files: Path) -> None:
    """Passphrases are tried before they are preset, and trying needs it."""
    enable(machine_files, f"unlatch-key@{situation(house).user}.service")
    conf = configure_agent(house, "allow-preset-passphrase", "no-allow-loopback-pinentry")
    found = look(PRESETTING, house)
    assert found.state == "problem"
    house.run("sh", "-c", found.hint.splitlines()[0])
    assert "no-allow" not in conf.read_text()
    assert look(PRESETTING, house).state == "ok"
