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

UNITS = Path(__file__).parents[1] / "systemd"


def settings(path: Path, section: str) -> dict[str, str]:
    """One section of a unit file; of a key that stands there twice, the last."""
    unit = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    return dict(unit[section])


# How exposed each of the host's services may be, in tenths of what "systemd-analyze security" says. A new one gets its
# line on purpose. An agent is more so than the broker: what it starts needs the homes, and perhaps a card reader.
EXPOSURE = {"unlatch.service": 20, "unlatch-agent@.service": 26, "unlatch-agent-places@.service": 20}


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


def test_each_exception_of_the_brokers_sandbox_is_explained() -> None:
    """Whatever the analysis counts against it stands in a comment of the unit, with the reason."""
    service = UNITS / "system" / "unlatch.service"
    done = analyze("security", "--offline=true", "--json=short", "--no-pager", service)
    counted = {row["name"].split("=")[0] for row in json.loads(done.stdout) if row["exposure"]}
    assert {"PrivateUsers", "PrivateNetwork", "RestrictAddressFamilies"} <= counted
    comments = "".join(re.findall(r"^#.*\n", service.read_text(), re.MULTILINE))
    assert counted == set(re.findall(r"\b(\w+)=(?=[^\n]*:)", comments))


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
