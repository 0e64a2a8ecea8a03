"""What people install: the built wheel, in its own environment, called through a symlink, exchanged while in use."""

import fcntl
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from house import House
from real_gnupg import PASSPHRASE, PLAINTEXT, Keyring, finish
from waiting import until

ROOT = Path(__file__).parents[1]
PURELIB = Path(sysconfig.get_path("purelib"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once for all workers, without network: the build backend is among the tests' requirements."""
    shared = tmp_path_factory.getbasetemp()
    directory = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "wheel"
    directory.mkdir(exist_ok=True)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return next(directory.glob("unlatch-*.whl"), None) or build(directory)


def build(directory: Path) -> Path:
    """Build the wheel into a directory."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory],
        cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return next(directory.glob("unlatch-*.whl"))


@pytest.fixture
def installed(wheel: Path, house: House) -> Path:
    """A fresh virtual environment with the wheel; its dependencies are links to ours, so that no index is needed."""
    environment = house.root / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-index", "--no-deps", wheel], check=True)
    packages = next((environment / "lib").glob("python3*")) / "site-packages"
    for entry in PURELIB.iterdir():
        ours = entry.name.startswith(("unlatch", "_unlatch", "__editable__", "pip", "_virtualenv", "distutils"))
        if not ours and entry.suffix != ".pth" and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    return environment


def packages_of(environment: Path) -> Path:
    return next((environment / "lib").glob("python3*")) / "site-packages"


def linked_pinentry(house: House, environment: Path) -> Path:
    """pinentry-unlatch as an administrator links it: somewhere else, under another name."""
    link = house.root / "pinentry"
    link.symlink_to(environment / "bin" / "pinentry-unlatch")
    return link


def test_the_wheel_has_everything_and_nothing_else(installed: Path) -> None:
    """The package with its page, both commands with their modes; no tests, no tools."""
    packages = packages_of(installed)
    assert (packages / "unlatch" / "broker" / "page" / "page.html").is_file()
    assert (packages / "unlatch" / "setup" / "systemd" / "system" / "unlatch.service").is_file()
    for command in ("unlatch", "pinentry-unlatch"):
        assert os.access(installed / "bin" / command, os.X_OK)
    assert not (packages / "tests").exists()
    assert not (packages / "tools").exists()
    python = installed / "bin" / "python"
    version = subprocess.run([python, "-c", "import unlatch; print(unlatch.__version__, unlatch.__file__)"],
                             check=True, capture_output=True, text=True).stdout.split()  # fmt: skip
    assert version == [importlib.metadata.version("unlatch"), str(packages / "unlatch" / "__init__.py")]


def test_the_installed_pinentry_works_through_a_symlink(house: House, installed: Path) -> None:
    """gpg-agent is told a symlink to the script of the wheel: it finds its own environment, and so does its broker."""
    service = Keyring(house, pinentry=linked_pinentry(house, installed)).decrypt()
    page = house.open(house.phone.ring()["link"])
    for pid in [*house.brokers(), *house.processes_called(b"pinentry")]:
        assert str(ROOT / "src") not in Path(f"/proc/{pid}/maps").read_text()
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, PLAINTEXT)


def test_a_package_that_disappears_during_a_prompt(house: House, installed: Path) -> None:
    """An upgrade has removed every file of ours while somebody is being asked: the answer still arrives."""
    service = Keyring(house, pinentry=linked_pinentry(house, installed)).decrypt()
    page = house.open(house.phone.ring()["link"])
    package = packages_of(installed) / "unlatch"
    shutil.rmtree(package)
    package.mkdir()
    (package / "__init__.py").write_text('raise SystemExit("a half-installed upgrade")\n')
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, PLAINTEXT)


def test_an_upgrade_that_restarts_the_broker_during_a_prompt(house: House, installed: Path) -> None:
    """Package exchanged and broker restarted while somebody is being asked: the old link works on the new broker."""
    service = Keyring(house, pinentry=linked_pinentry(house, installed)).decrypt()
    ring = house.phone.ring()
    page = house.open(ring["link"])
    package = packages_of(installed) / "unlatch"
    shutil.copytree(package, package.with_name("upgrade"), ignore=shutil.ignore_patterns("__pycache__"))
    package.rename(package.with_name("old"))
    package.with_name("upgrade").rename(package)
    (package / "__init__.py").write_text('__version__ = "99.0"\n')
    shutil.rmtree(package.with_name("old"))
    (broker,) = house.brokers()
    until(house.rings_are_told, "the asker's knowledge of the ring")
    os.kill(broker, signal.SIGKILL)
    until(lambda: house.answers_on(page), "the old link on the new broker")
    assert house.ask_admin({"op": "status"})["broker"]["version"] == "99.0"
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert len(house.phone.messages("ring")) == 1
