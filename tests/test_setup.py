"""tools/setup on machines that lack something: what it installs as root, and the one line that it says otherwise."""

import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[1] / "tools" / "setup"
ALWAYS_THERE = ("sh", "dirname", "sort", "cat", "find", "mkdir", "rm")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A checkout and a PATH with nothing but the most basic programs."""
    (tmp_path / "checkout" / "tools").mkdir(parents=True)
    shutil.copy(SETUP, tmp_path / "checkout" / "tools" / "setup")
    (tmp_path / "bin").mkdir()
    for program in ALWAYS_THERE:
        path = shutil.which(program)
        assert path is not None
        (tmp_path / "bin" / program).symlink_to(path)
    return tmp_path


def add(machine: Path, program: str, script: str) -> None:
    """Put a program on the machine."""
    path = machine / "bin" / program
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run_setup(machine: Path, what: str = "demo") -> "subprocess.CompletedProcess[str]":
    """Run the set-up of that checkout with that machine's programs."""
    return subprocess.run(
        [machine / "checkout" / "tools" / "setup", what],
        env={"PATH": str(machine / "bin")}, check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_without_root_it_says_what_to_type(machine: Path) -> None:
    """Packages are missing and this is not root: one line with the command, exit 1, nothing changed."""
    add(machine, "id", "echo 1000")
    add(machine, "apt-get", f"touch {machine}/touched")
    done = run_setup(machine)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    command = "apt-get update && apt-get install -y --no-install-recommends gnupg pass python3 python3-venv"
    assert line.endswith(f"as root: {command} util-linux")
    assert not (machine / "touched").exists()
    assert not (machine / "checkout" / ".venv").exists()


def test_root_installs_what_is_missing_and_no_more(machine: Path) -> None:
    """Root gets the missing packages without recommends and without questions."""
    add(machine, "id", "echo 0")
    add(machine, "gpg", "exit 0")
    add(machine, "apt-get", f'echo "$DEBIAN_FRONTEND $*" >>{machine}/log; case $1 in install) exit 100;; esac')
    done = run_setup(machine)
    assert done.returncode == 1
    assert (machine / "log").read_text().splitlines()[0].startswith("noninteractive update")
    install = (machine / "log").read_text().splitlines()[1].split()
    assert {"-y", "--no-install-recommends", "pass", "python3-venv"} <= set(install)
    assert "unlatch setup: error: apt-get could not install: " in done.stderr
    assert "unlatch setup: hint: apt-get update && " in done.stderr


def test_the_first_python_that_will_do_is_taken(machine: Path) -> None:
    """An old python3 comes first in PATH; the newer one behind it, which can make an environment, is used."""
    for program in ("gpg", "gpgconf", "gpg-connect-agent", "pass", "setsid"):
        add(machine, program, "exit 0")
    add(machine, "python3", "exit 1")
    add(machine, "python3.12", f'echo "$*" >>{machine}/log; case $* in *venv*--clear*) exit 7;; esac')
    done = run_setup(machine)
    assert done.returncode == 7
    assert (machine / "log").read_text().splitlines()[-1] == "-m venv --clear .venv"


def test_the_package_needs_little(machine: Path) -> None:
    """Who only builds the Debian package is not asked for browsers and homeservers."""
    add(machine, "id", "echo 1000")
    add(machine, "apt-get", "exit 1")
    done = run_setup(machine, "deb")
    assert done.returncode == 1
    wanted = done.stderr.replace(" libpam0g-dev", "")  # headers are looked for where this machine may have them
    assert wanted.endswith(" --no-install-recommends dpkg gcc git python3 python3-venv\n")


def test_wrong_use(machine: Path) -> None:
    """Anything but demo, test, bench or deb is refused with the usage."""
    done = run_setup(machine, "everything")
    assert (done.returncode, done.stderr) == (2, "usage: tools/setup demo | test | bench | pam | deb\n")
