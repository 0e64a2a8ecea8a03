"""``unlatch agent own``: both places lead to the sockets of the unit, and no other agent is left; with real agents."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import UNLATCH, House
from real import real
from waiting import until

from unlatch.gnupg import finding, homes, owning
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import NoAgent
from unlatch.gnupg.homes import AGENT, EXTRA, SSH, Home

# What systemd does for the unit: the sockets are descriptors from 3 on (sd_listen_fds(3)).
SUPERVISE = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=std exec gpg-agent --supervised 3<&0 0</dev/null"


@pytest.fixture
def home(house: House, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home for which a unit may own the agent, whose sockets lie in the house."""
    for program in ("gpgconf", "gpg-agent"):
        real(program)
    (house.gnupg / "gpg-agent.conf").write_text("disable-scdaemon\n")
    units = house.root / "units"
    for module in (homes, finding):
        monkeypatch.setattr(module, "HOST_AGENTS", str(units))
    home = Home.find(house.environ(), os.getuid(), str(house.root))
    os.makedirs(os.path.dirname(home.owned()))
    return home


@pytest.fixture
def owned(house: House, home: Home) -> Iterator[int]:
    """The agent of the unit; its pid."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(home.owned())
        listener.listen(64)
        process = subprocess.Popen(
            ["sh", "-c", SUPERVISE], env=house.environ(), stdin=listener.fileno(), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        yield process.pid
        process.kill()
        process.wait()


def started(house: House) -> list[int]:
    """The agents that GnuPG itself started."""
    return house.processes_called(b"--homedir")


def test_another_agent_is_ended_and_the_places_lead_to_the_owned_one(house: House, home: Home, owned: int) -> None:
    """GnuPG's own programs then find it, and so do we; done again, there is nothing to do."""
    house.run("gpgconf", "--launch", "gpg-agent")
    (other,) = started(house)
    said = list(owning.own(home))
    assert f"another gpg-agent (pid {other}) was ended" in said
    assert started(house) == []
    for name in (AGENT, SSH, EXTRA):
        assert os.readlink(home.sockets(name)[0]) == home.owned(name)
    assert f"D {owned}\n".encode() in house.run("gpg-connect-agent", "GETINFO pid", "/bye")
    with Agent.open(home, start=False) as agent:
        assert agent.pid == owned
        assert finding.is_owned(agent.socket)
    assert list(owning.own(home)) == []


def test_an_agent_that_cannot_end_is_told_of_and_left_alone(
    house: House, home: Home, owned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs, or has a prompt open: nobody waits for it for ever, and new clients come to the owned one."""
    monkeypatch.setattr(owning, "END_SECONDS", 0.2)
    monkeypatch.setattr(owning, "_TELL_SECONDS", 0.2)
    house.run("gpgconf", "--launch", "gpg-agent")
    (other,) = started(house)
    os.kill(other, signal.SIGSTOP)
    said = "\n".join(owning.own(home))
    assert "could not be ended: the gpg-agent at" in said
    assert f"another gpg-agent (pid {other}) was told to end, and still has something to do" in said
    with Agent.open(home, start=False) as agent:
        assert agent.pid == owned
    os.kill(other, signal.SIGCONT)
    until(lambda: not started(house), "the other agent's end")


def test_the_agent_of_another_home_is_not_touched(house: House, home: Home, owned: int) -> None:
    """A user may have several homes; the unit owns one."""
    elsewhere = house.root / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    other = Home.find(house.environ(GNUPGHOME=str(elsewhere)), os.getuid(), str(house.root))
    with Agent.open(other) as agent:
        assert list(owning.own(home))
        assert agent.ask("GETINFO pid") == str(agent.pid).encode()
        assert agent.pid != owned


def test_an_old_socket_gives_way(house: House, home: Home) -> None:
    """Nobody listens on it; a link that leads nowhere is no agent either, and no obstacle for GnuPG."""
    house.run("gpgconf", "--launch", "gpg-agent")
    (other,) = started(house)
    os.kill(other, signal.SIGKILL)
    until(lambda: not started(house), "the agent's end")
    list(owning.own(home))
    assert Path(home.sockets()[0]).is_symlink()
    with pytest.raises(NoAgent):
        Agent.open(home, start=False)
    with Agent.open(home) as agent:
        assert [agent.pid] == started(house)


def test_without_the_unit_nothing_is_done(house: House) -> None:
    """The command is for the unit; typed by hand before there is one, it says how to make one."""
    before = sorted(house.gnupg.iterdir())
    process = house.start(UNLATCH, "agent", "own")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, b"")
    first, second = err.decode().splitlines()
    assert first.startswith("unlatch: error: no unit owns the gpg-agent of ")
    assert "systemctl enable --now unlatch-agent@" in second
    assert sorted(house.gnupg.iterdir()) == before
