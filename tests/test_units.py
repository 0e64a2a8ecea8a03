"""The systemd units: known to systemd without a murmur, and well sandboxed."""

import configparser
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from real import real

from unlatch import runtime
from unlatch.broker import systemd
from unlatch.cli import voice
from unlatch.gnupg.homes import AGENT, EXTRA, SSH, Home
from unlatch.pam.challenge import Places
from unlatch.pam.conversation import House
from unlatch.pam.service import SOCKET

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "systemd"
EXAMPLES = UNITS / "examples"
# Nobody waits for these: whoever is waited for is asleep.
GATES = ("unlatch-key@.service", "unlatch-card@.service", "unlatch-card.service")


def settings(path: Path, section: str) -> dict[str, str]:
    """One section of a unit file; of a key that stands there twice, the last."""
    unit = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    return dict(unit[section])


# How exposed each of the host's services may be, in tenths of what "systemd-analyze security" says. A new one gets its
# line on purpose. An agent is more so than the broker: what it starts needs the homes, and perhaps a card reader.
EXPOSURE = {
    "unlatch.service": 20, "unlatch-agent@.service": 26, "unlatch-agent-places@.service": 20,
    "unlatch-key@.service": 7, "unlatch-card@.service": 7, "unlatch-card-watch@.service": 7,
    "unlatch-systemd-agent.service": 10,
    "unlatch-pam.service": 29,  # it becomes whoever logs in
}  # fmt: skip


def services(manager: str) -> list[Path]:
    return sorted((UNITS / manager).glob("*.service"))


def analyze(*arguments: str | Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """systemd-analyze, without the machine's own systemd."""
    return subprocess.run(
        [real("systemd-analyze"), *arguments],
        env={"PATH": os.environ["PATH"]} | environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def as_unit(source: Path) -> tuple[str, str]:
    """Name and text of a unit to be verified; what a drop-in says is verified as part of the smallest one."""
    text = source.read_text().replace("/usr/local/bin/unlatch", shutil.which("true") or "")
    if source.suffix != ".conf":
        return source.name, text
    if "[Socket]" in text:
        return f"{source.stem}.socket", f"{text}[Socket]\nListenStream=/run/x\nService=unlatch.service\n"
    return f"{source.stem}.service", f"{text}[Service]\nExecStart=/bin/true\n"


@pytest.mark.parametrize("manager", ["system", "user"])
def test_systemd_has_nothing_to_say(tmp_path: Path, manager: str) -> None:
    """``systemd-analyze verify`` exits with 0 on unknown keys: it must also be silent, about each unit and drop-in."""
    units = dict(map(as_unit, (UNITS / manager).iterdir()))
    assert len(units) == len(list((UNITS / manager).iterdir()))
    for name, text in units.items():
        (tmp_path / name).write_text(text)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = analyze("verify", "--man=no", f"--{manager}", *(tmp_path / name for name in units), **environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("service", services("system"), ids=lambda path: path.name)
def test_the_hosts_services_are_sandboxed(service: Path) -> None:
    """``systemd-analyze security`` says at most 2.0 for the broker; each service has its limit."""
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE[service.name]}", "--no-pager", service)
    assert done.returncode == 0, done.stdout


EXPLAINED = ("unlatch.service", "unlatch-key@.service", "unlatch-card@.service", "unlatch-card-watch@.service",
             "unlatch-pam.service")  # fmt: skip


@pytest.mark.parametrize("name", EXPLAINED)
def test_each_exception_of_a_sandbox_is_explained(name: str) -> None:
    """Whatever the analysis counts against it stands in a comment of the unit, with the reason."""
    service = UNITS / "system" / name
    done = analyze("security", "--offline=true", "--json=short", "--no-pager", service)
    counted = {row["name"].split("=")[0] for row in json.loads(done.stdout) if row["exposure"]}
    assert {"PrivateUsers", "RestrictAddressFamilies"} <= counted
    _, _, sandbox = service.read_text().partition("# The sandbox.")
    comments = "".join(re.findall(r"^#.*\n", sandbox, re.MULTILINE))
    explained = set(re.findall(r"\b(\w+)=(?=[^\n]*:)", comments))
    # Of a unit that starts early, without the defaults, the analysis does not count these two, although they hold.
    assert counted == explained - (
        set()
        if name in ("unlatch.service", "unlatch-pam.service")
        else {"ProtectHome", "ProtectSystem", "RootDirectory"}
    )


@pytest.mark.parametrize("service", [*services("system"), *services("user")], ids=lambda path: path.stem)
def test_no_service_hides_who_asks(service: Path) -> None:
    """Under PrivateUsers= every peer looks like nobody to the broker, and every broker like nobody to an asker."""
    assert "PrivateUsers" not in settings(service, "Service")


def test_the_units_and_the_askers_agree_on_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sockets are where askers look for them, with the names by which the broker knows them."""
    monkeypatch.setattr(os.path, "isdir", lambda path: path == "/run/user/1000")
    users = runtime.own(1000, {}, "/home/zoe")
    for manager, place, run in (("system", runtime.host_runtime(), ""), ("user", users, "/run/user/1000")):
        for unit, name, path in (("unlatch", "askers", place.askers), ("unlatch-admin", "admin", place.admin)):
            listener = settings(UNITS / manager / f"{unit}.socket", "Socket")
            assert listener["FileDescriptorName"] == name
            assert listener["ListenStream"].replace("%t", run) == path


def test_the_unit_and_the_module_agree_on_the_logins_socket() -> None:
    """Packets, in the directory of the service's own default, under the name by which the service knows it."""
    listener = settings(UNITS / "system" / "unlatch-pam.socket", "Socket")
    assert listener["ListenSequentialPacket"] == SOCKET
    assert f'"{SOCKET}"' in (ROOT / "pam" / "pam_unlatch.c").read_text()
    assert (listener["FileDescriptorName"], listener["SocketMode"], listener["DirectoryMode"]) == (
        "pam",
        "0666",
        "0755",
    )
    unit = settings(UNITS / "system" / "unlatch-pam.service", "Service")
    assert f"/run/{unit['RuntimeDirectory']}" == House().approvals
    # The socket's directory is none of the service's, which would take it away when it ends.
    assert os.path.basename(os.path.dirname(SOCKET)) not in unit["RuntimeDirectory"].split()
    made = (UNITS / "unlatch.tmpfiles").read_text()
    places = Places()
    assert f"d {places.work} 0700 {places.worker} {places.worker} -\n" in made
    assert f"d {os.path.dirname(places.signing)} 0700 {places.worker} {places.worker} -\n" in made
    assert f"d {places.records} 0755 root root -\n" in made
    assert unit["ReadWritePaths"].split() == [places.work, os.path.dirname(places.signing)]


def test_the_units_and_homes_agree_on_the_agents_sockets() -> None:
    """They are where our client looks, under the names by which gpg-agent knows them; and where the drop-ins look."""
    mine = Home.find({}, os.getuid(), "/root")
    user = os.path.basename(os.path.dirname(mine.owned()))
    for unit, name, socket in (("", "std", AGENT), ("-ssh", "ssh", SSH), ("-extra", "extra", EXTRA)):
        listener = settings(UNITS / "system" / f"unlatch-agent{unit}@.socket", "Socket")
        assert listener["FileDescriptorName"] == name
        assert listener["ListenStream"].replace("%i", user) == mine.owned(socket)
        assert (listener["SocketMode"], listener["SocketUser"]) == ("0600", "%i")
    condition = settings(UNITS / "user" / "one-agent.conf", "Unit")["ConditionPathExists"]
    assert condition.replace("%u", user) == f"!{mine.owned()}"
    hook = settings(UNITS / "system" / "agent-places.conf", "Service")["ExecStartPost"]
    assert mine.owned().replace(f"/{user}/", "/$$name/") in hook
    for unit in ("unlatch-agent@", "unlatch-agent-places@"):
        other_home = settings(UNITS / "system" / f"{unit}.service", "Service")["EnvironmentFile"]
        assert other_home.replace("%i", user) == f"-{mine.unit_settings()}"


def test_systemd_holds_the_pages_address() -> None:
    """The broker knows the socket by its name; it is the proxy's group that may open it, and it is there before us."""
    page = settings(UNITS / "system" / "unlatch-page.socket", "Socket")
    assert page["FileDescriptorName"] in systemd.NAMES
    assert page["SocketMode"] == "0660"
    assert settings(UNITS / "system" / "proxy.conf", "Socket").keys() == {"SocketGroup"}
    service = settings(UNITS / "system" / "unlatch.service", "Service")
    # Only where it is enabled: else "listen" says where the page is.
    assert "unlatch-page.socket" not in service["Sockets"].split()
    assert page["Service"] == "unlatch.service"
    install = settings(UNITS / "system" / "unlatch-page.socket", "Install")
    assert install["WantedBy"].split() == ["sockets.target", "unlatch.service"]
    # A service's directory is removed and made anew with it, and whatever it holds.
    assert os.path.basename(os.path.dirname(page["ListenStream"])) != service.get("RuntimeDirectory")


@pytest.mark.parametrize("manager", ["system", "user"])
def test_a_gate_holds_up_nobody_who_does_not_say_so(manager: str) -> None:
    """It may last till morning: systemd does not end it, and no target is ordered after it (systemd.target(5))."""
    gates = [path for path in services(manager) if path.name in GATES]
    assert len(gates) == 2
    for gate in gates:
        assert settings(gate, "Unit")["DefaultDependencies"] == "no"
        service = settings(gate, "Service")
        assert (service["Type"], service["TimeoutStartSec"]) == ("oneshot", "infinity")
        # Else it would be "active" for ever, and a service that starts anew would pass a gate that is shut.
        assert "RemainAfterExit" not in service


@pytest.mark.parametrize("card", ["system/unlatch-card@.service", "user/unlatch-card.service"])
def test_nobody_is_asked_again_who_said_no(card: str) -> None:
    """Denied, a wrong PIN, too few tries, wrong usage: such an unlocking is not started anew. Other failures are."""
    never = settings(UNITS / card, "Service")["RestartPreventExitStatus"].split()
    assert set(map(int, never)) == {voice.USAGE, voice.WRONG, voice.OVER, voice.BLOCKED}


EXAMPLE_UNITS = sorted(path for path in EXAMPLES.iterdir() if path.is_file())


def test_systemd_has_nothing_to_say_about_the_examples(tmp_path: Path) -> None:
    """With the units that they name beside them, and another program where theirs may not be installed."""
    for path in (*(UNITS / "system").glob("unlatch*"), *EXAMPLE_UNITS):
        text = re.sub(r"(?<==)/usr/(?:local/)?bin/\w+", shutil.which("true") or "", path.read_text())
        (tmp_path / path.name).write_text(text)
    (tmp_path / "api.service").write_text("[Service]\nExecStart=/bin/true\n")
    shutil.copytree(EXAMPLES / "api.service.d", tmp_path / "api.service.d")
    names = [path.name for path in EXAMPLE_UNITS] + ["api.service"]
    assert len(names) == 7
    units = [tmp_path / name for name in names]
    done = analyze("verify", "--man=no", "--system", *units, SYSTEMD_UNIT_PATH=f"{tmp_path}:/lib/systemd/system")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "job", [path for path in EXAMPLE_UNITS if path.suffix == ".service"], ids=lambda path: path.stem
)
def test_an_example_job_looks_at_the_card_first(job: Path) -> None:
    """It is skipped while the card is locked, and finds the one agent of its user."""
    service = settings(job, "Service")
    assert service["ExecCondition"] == "/usr/local/bin/unlatch card check"
    owned = settings(UNITS / "system" / "unlatch-agent-ssh@.socket", "Socket")["ListenStream"]
    assert f"SSH_AUTH_SOCK={owned.replace('%i', service['User'])}" in job.read_text()
    assert job.with_suffix(".timer").exists()


def test_every_unit_that_is_named_exists() -> None:
    """Documentation, manual, messages and units name none that is neither here nor shown to be written."""
    ours = {path.name for path in UNITS.rglob("unlatch*") if path.is_file()} | {"unlatch-grant-*.timer"}
    texts = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("man/*"), *ROOT.glob("src/unlatch/**/*.py")]
    texts += [path for path in UNITS.rglob("*") if path.is_file()]
    ours |= {name for path in texts for name in re.findall(r"`/etc/systemd/\w+/(unlatch[\w@.-]+)`", path.read_text())}
    named: dict[str, str] = {}
    for path in texts:
        for prefix, instance, kind in re.findall(
            r"(?<![\w./-])(unlatch[a-z-]*)(@[^\s\"'`,;:()*<>]*?)?\.(service|socket|timer)\b", path.read_text()
        ):
            named[f"{prefix}{'@' if instance else ''}.{kind}"] = path.name
    assert len(named) >= 10
    assert {name: place for name, place in named.items() if name not in ours} == {}
