"""The systemd units: known to systemd without a murmur, and well sandboxed."""

import configparser
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


@pytest.mark.parametrize(("manager", "count"), [("system", 4), ("user", 3)])
def test_systemd_has_nothing_to_say(tmp_path: Path, manager: str, count: int) -> None:
    """``systemd-analyze verify`` exits with 0 on unknown keys: it must also be silent."""
    for unit in UNITS.joinpath(manager).glob("unlatch*"):
        text = unit.read_text().replace("/usr/local/bin/unlatch", shutil.which("true") or "")
        (tmp_path / unit.name).write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    units = sorted(tmp_path.glob("unlatch*"))
    assert len(units) == count
    done = subprocess.run(
        [real("systemd-analyze"), "verify", f"--{manager}", *units],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_hosts_broker_is_sandboxed() -> None:
    """``systemd-analyze security`` says at most 2.0; and no PrivateUsers=, under which every peer looks like nobody."""
    service = UNITS / "system" / "unlatch.service"
    done = subprocess.run(
        [real("systemd-analyze"), "security", "--offline=true", "--threshold=20", "--no-pager", service],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
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
    assert "unlatch-page.socket" in service["Sockets"].split()
    # A service's directory is removed and made anew with it, and whatever it holds.
    assert os.path.basename(os.path.dirname(page["ListenStream"])) != service.get("RuntimeDirectory")
