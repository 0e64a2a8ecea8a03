"""Where the page listens and who may open it, containers that hide who comes, and what starts the broker at boot."""

import functools
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_host import CHECKS, finding, situation_of
from house import UNLATCH, House
from nginx import Nginx
from private_network import PrivateNetwork
from real import real
from test_doctor_host_page import HERE
from test_units import UNITS
from waiting import until

from unlatch.doctor.check import Finding
from unlatch.doctor.host import containers, interfaces, page_address, page_socket, units
from unlatch.doctor.host.containers import Allowed
from unlatch.doctor.host.interfaces import Network, container_networks
from unlatch.doctor.host.listeners import listeners
from unlatch.doctor.host.page_address import Place
from unlatch.doctor.host.units import Unit, User

NOWHERE = situation_of({"HOME": "/nonexistent"})
# tests/test_guides.py types it while prompts are open.
HOLD = "systemctl enable unlatch-page.socket\nsystemctl stop unlatch-page.socket\nsystemctl restart unlatch.service"


# The page's address


def page_at(house: House, listen: str, url: str = "https://unlock.test/") -> Finding:
    house.settings.write_text(f'public_url = "{url}"\nlisten = "{listen}"\n')
    return finding(house, "page-address")


def test_page_address_fails_where_others_can_take_it(house: House) -> None:
    """A broker that comes and goes must not have a TCP port behind an https name, nor a socket where others write."""
    found = page_at(house, "127.0.0.1:8420")
    assert (found.state, found.hint) == ("problem", f"vi {house.settings}")
    assert "any user of this host could take the page's port" in found.text
    folder = house.root / "open"
    folder.mkdir()
    folder.chmod(0o777)
    assert "other users may write" in page_at(house, f"unix:{folder}/page.sock").text


def test_page_address_fails_while_a_broker_that_stays_is_stopped(house: House) -> None:
    """It holds its port for as long as it runs, and no longer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    house.settings.write_text(f'public_url = "https://unlock.test/"\nlisten = "127.0.0.1:{port}"\n')
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    found = finding(house, "page-address")
    assert (found.state, f"any user of this host can take 127.0.0.1:{port}" in found.text) == ("warning", True)


@pytest.mark.parametrize(
    ("place", "state", "text"),
    [
        (Place("", "0.0.0.0", 8420), "warning", "on every address"),
        (Place("", "::", 8420, held=True), "warning", "on every address"),
        (Place("", "1.2.3.4", 8420, held=True), "problem", "without TLS at 1.2.3.4:8420, a public address"),
        (Place("", "10.9.0.3", 8420), "warning", "unlatch-page.socket"),
        (Place("", "10.9.0.3", 8420, held=True), "ok", "held by systemd"),
    ],
)
def test_page_address_fails_in_degrees(place: Place, state: str, text: str) -> None:
    """A wire that others may sit on is worse than a port that others may take."""
    found = page_address.judge(page_address.Facts("", True, (place,), "", proxied=True), NOWHERE)
    assert (found.state, text in found.text) == (state, True), found


def test_page_address_passes(house: House) -> None:
    """A Unix socket in a directory of one's own; and localhost without a proxy, as the threat model has it."""
    assert page_at(house, f"unix:{house.root}/page.sock").state == "ok"
    assert page_at(house, "127.0.0.1:8420", "http://localhost:8420/").state == "ok"
    house.configure()
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    assert finding(house, "page-address").text == f"{house.page} can be opened by the proxy only"


# The page's socket


@pytest.fixture
def town(tmp_path: Path) -> Iterator[PrivateNetwork]:
    """Sees its own processes only, so that no other test's proxy is taken for the host's."""
    network = PrivateNetwork(f"{HERE}/32", processes=True)
    yield network
    network.close()


@pytest.fixture
def nginx(town: PrivateNetwork, tmp_path: Path) -> Iterator[Nginx]:
    """With a worker of its own user, as packages have it."""
    real("nginx")
    # The worker's user must get to its folder, which pytest keeps private.
    folder = Path(f"/tmp/unlatch-nginx-{os.getpid()}")
    nginx = Nginx(town, folder, f"server {{ listen {HERE}:80; return 200; }}", user="daemon")
    yield nginx
    nginx.close()


def test_page_socket_fails(house: House, town: PrivateNetwork, nginx: Nginx) -> None:
    """nginx's worker is not in the socket's group: phones see 502. The socket must be passable, and all above it."""
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    house.root.chmod(0o755)
    found = see(house, town, "page-socket")
    text = f"nginx runs as daemon, which may not pass {house.page}: phones see 502"
    assert found == {"check": "page-socket", "state": "problem", "text": text, "hint": f"ls -ld {house.page}"}
    os.chown(house.page, -1, pwd.getpwnam("daemon").pw_gid)
    house.root.chmod(0o700)
    assert see(house, town, "page-socket")["text"].endswith(f"may not pass {house.root}: phones see 502")


def test_page_socket_passes(house: House, town: PrivateNetwork, nginx: Nginx) -> None:
    """With its group it gets in."""
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    house.root.chmod(0o755)
    os.chown(house.page, -1, pwd.getpwnam("daemon").pw_gid)
    assert see(house, town, "page-socket")["text"] == f"nginx may open {house.page}"


def see(house: House, town: PrivateNetwork, name: str) -> dict[str, str]:
    program = Path(__file__).parent / "doctor_host.py"
    (found,) = json.loads(town.run(sys.executable, program, name, environ=house.environ()))
    return dict(found)


def test_page_socket_fails_where_it_is_missing() -> None:
    """systemd would make it."""
    facts = page_socket.Facts("/run/unlatch-page/page.sock", True, (), "", (), True)
    found = page_socket.judge(facts, NOWHERE)
    assert (found.state, found.hint) == ("problem", HOLD)


def test_page_socket_passes_without_one(house: House) -> None:
    """A page on TCP has none; and one whose proxy does not run is a matter for the check page."""
    house.settings.write_text('listen = "127.0.0.1:0"\n')
    assert finding(house, "page-socket").state == "ok"
    bars = (("/run/page.sock", 990, 33, 0o660),)
    facts = page_socket.Facts("/run/page.sock", False, bars, "www-data", (), False)
    assert page_socket.judge(facts, NOWHERE).state == "ok"
    assert page_socket.judge(facts._replace(group="root"), NOWHERE).state == "unknown"


# Containers


def test_container_ports_fails(tmp_path: Path) -> None:
    """A program of rootless Podman's name holds the public port: to the proxy behind it everybody is local."""
    facts = hidden_behind("rootlessport", tmp_path)
    found = containers.judge(facts, NOWHERE)
    assert found.state == "warning"
    assert found.text.startswith(f"port {facts.port} is published by rootlessport")
    assert found.hint == f"ss -ltnp 'sport = :{facts.port}'"


def hidden_behind(name: str, tmp_path: Path) -> containers.Facts:
    """What is seen of the port of a real process of this name."""
    program = tmp_path / name
    shutil.copy(sys.executable, program)
    serve = (
        "import socket, sys; server = socket.create_server(('127.0.0.1', 0));"
        "print(server.getsockname()[1], flush=True); sys.stdin.read()"
    )
    environ = {"PYTHONHOME": sys.base_prefix}
    with subprocess.Popen([program, "-c", serve], stdin=-1, stdout=-1, env=environ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        (seen,) = listeners(port)
        assert (seen.program, seen.pid, seen.family) == (name, process.pid, 4)
        process.send_signal(signal.SIGTERM)
    return containers.Facts("", port, (seen.program,), False, (), named6=False, allowed=())


@pytest.mark.parametrize(
    ("facts", "state", "text"),
    [
        (
            containers.Facts("", 443, ("docker-proxy",), False, ("docker-proxy",), True, ()),
            "warning",
            "every client over IPv6",
        ),
        (containers.Facts("", 443, ("docker-proxy",), False, ("docker-proxy",), False, ()), "ok", ""),
        (
            containers.Facts(
                "/etc/unlatch/unlatch.toml",
                443,
                (),
                False,
                (),
                False,
                (Allowed("172.17.0.0/16", "docker0", True, False),),
            ),
            "warning",
            "every container on docker0 counts as your proxy",
        ),
        (
            containers.Facts(
                "/etc/unlatch/unlatch.toml",
                443,
                (),
                False,
                (),
                False,
                (Allowed("172.17.0.1/32", "docker0", False, True),),
            ),
            "warning",
            "this host's own address on docker0",
        ),
        (
            containers.Facts("", 443, (), False, (), False, (Allowed("172.17.0.5/32", "docker0", False, False),)),
            "ok",
            "",
        ),
    ],
)
def test_container_ports_fails_in_degrees(facts: containers.Facts, state: str, text: str) -> None:
    """docker-proxy hides only who comes over IPv6; of a container network one address may be the proxy's."""
    found = containers.judge(facts, NOWHERE)
    assert (found.state, text in found.text) == (state, True), found


def test_container_ports_passes(house: House) -> None:
    """A bridge of Docker's is there, and allow_from names one container on it."""
    network = PrivateNetwork()
    network.run("ip", "link", "add", "docker0", "type", "bridge")
    network.run("ip", "addr", "add", "172.17.0.1/16", "dev", "docker0")
    network.run("ip", "addr", "add", "2001:db8:17::1/64", "dev", "docker0", "nodad")
    network.run("ip", "link", "set", "docker0", "up")
    situation = situation_of(house.environ())
    try:
        seen = network.inside(lambda: container_networks("/proc/thread-self"))
        assert seen == (Network("docker0", "172.17.0.0/16"), Network("docker0", "2001:db8:17::/64"))
        for allow_from, state in (("172.17.0.5/32", "ok"), ("172.17.0.0/16", "warning"), ("172.17.0.1/32", "warning")):
            house.settings.write_text(f'allow_from = ["{allow_from}"]\n')
            allowed = network.inside(functools.partial(containers._allowed, (allow_from,), seen))
            facts = CHECKS["container-ports"].probe(situation)
            assert isinstance(facts, containers.Facts)
            assert containers.judge(facts._replace(allowed=allowed), situation).state == state, allow_from
    finally:
        network.close()


def test_only_bridges_of_containers_count() -> None:
    """A bridge for virtual machines, or one of your own, is a network as any other."""
    names = ("docker0", "br-0123456789ab", "podman1", "cni-podman0", "lxdbr0")
    assert all(interfaces._BRIDGE.match(name) for name in names)
    assert not any(interfaces._BRIDGE.match(name) for name in ("br0", "virbr0", "eth0", "br-lan", "dockerish"))


# Units


def test_units_fails(tmp_path: Path) -> None:
    """Installed and not enabled: after the next boot nobody is rung. systemctl itself says so, of another root."""
    root = installed(tmp_path)
    seen = units.ask(f"--root={root}")
    assert [unit.enabled for unit in seen] == ["disabled"] * 4
    found = units.judge(units.Facts(True, True, seen), NOWHERE)
    names = "unlatch.socket unlatch-admin.socket unlatch-page.socket unlatch.service"
    assert (found.state, found.hint) == ("problem", f"systemctl enable {names}\nsystemctl restart unlatch.service")


def test_units_passes(tmp_path: Path) -> None:
    """Enabled as the manual says; the service brings two of the sockets with it. The page's may be left out."""
    root = installed(tmp_path)
    enable = [real("systemctl"), f"--root={root}", "enable", "unlatch.service"]
    subprocess.run(enable, check=True, capture_output=True)
    found = units.judge(units.Facts(True, True, units.ask(f"--root={root}")), NOWHERE)
    assert (found.state, found.hint) == ("warning", HOLD)
    subprocess.run([*enable, "unlatch-page.socket"], check=True, capture_output=True)
    assert units.judge(units.Facts(True, True, units.ask(f"--root={root}")), NOWHERE).state == "ok"
    (root / "etc/systemd/system/sockets.target.wants/unlatch-page.socket").unlink()
    (root / "etc/systemd/system/unlatch-page.socket").unlink()
    assert units.judge(units.Facts(True, True, units.ask(f"--root={root}")), NOWHERE).state == "ok"


def installed(root: Path) -> Path:
    folder = root / "etc/systemd/system"
    folder.mkdir(parents=True)
    for unit in (UNITS / "system").glob("unlatch*"):
        shutil.copy(unit, folder)
    return root


def test_units_fails_for_one_that_failed(house: House) -> None:
    """What systemd gave up is not there, enabled or not. Without systemd somebody else has to start it."""
    failed = tuple(Unit(name, "enabled", "failed" if name == "unlatch.service" else "active") for name in units.UNITS)
    found = units.judge(units.Facts(True, True, failed), NOWHERE)
    assert (found.state, found.hint) == ("problem", "systemctl status unlatch.service")
    assert units.judge(units.Facts(True, False, ()), NOWHERE).state == "warning"
    assert units.judge(units.Facts(True, True, ()), NOWHERE).state == "unknown"
    assert finding(house, "units").state == "ok"  # a broker of one's own has none


def test_system_user_fails() -> None:
    """Without the account the unit cannot start; as root, or with a shell, it is more than it should be."""
    found = units.judge_user(User(True, -1, ""), NOWHERE)
    assert (found.state, found.hint) == ("problem", "systemd-sysusers unlatch.conf")
    assert units.judge_user(User(True, 0, "/bin/sh"), NOWHERE).state == "problem"
    assert units.judge_user(User(True, 990, "/bin/bash"), NOWHERE).state == "warning"


def test_system_user_passes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As sysusers.d makes it: an account of this machine stands in for it."""
    monkeypatch.setattr(units, "USER", "daemon")
    account = units.probe_user(NOWHERE)
    found = units.judge_user(account._replace(host=True), NOWHERE)
    assert (found.state, found.text) == ("ok", "the user daemon has uid 1 and no login")
    assert finding(house, "system-user").state == "ok"
