"""The packages that people install, each built once for all workers of a run, without a network."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from real import absent, real

ROOT = Path(__file__).parents[1]
BUILDER = ROOT / ".make" / "build" / "bin" / "python"  # as "make deb" has it, with a locked hatchling
PYTHON = "/usr/bin/python3"  # the system's, which the Debian package is built for
SOURCES = (
    ".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "docs", "man", "packaging", "pam",
    "pyproject.toml", "scripts", "src", "systemd", "tools",
)  # fmt: skip
EPOCH = "1750000000"


class Built(NamedTuple):
    """What one build made; ``place`` may hold more."""

    wheel: Path
    deb: Path
    place: Path


class Packages:
    """A directory of builds, shared by the workers."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory

    def current(self) -> Built:
        """This checkout's, with all else that a release has."""
        return self._once("current", lambda output: build(self.checkout(), output, tool="release"))

    def checkout(self) -> Path:
        """What it is built from: as the checkout was when the first test wanted it."""
        with self._lock("checkout"):
            place = self._directory / "checkout"
            if not place.exists():
                copy_of_checkout(self._directory / "copying").rename(place)
            return place

    def old(self, version: str = "0.0.9") -> Built:
        """The same under an older version, as if it were an older release."""

        def make(output: Path) -> Built:
            checkout = copy_of_checkout(output / "checkout", self.checkout())
            init = checkout / "src" / "unlatch" / "__init__.py"
            init.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', init.read_text()))
            return build(checkout, output)

        return self._once(version, make)

    def _once(self, name: str, make: Callable[[Path], Built]) -> Built:
        output, done = self._directory / name, self._directory / f"{name}.done"
        with self._lock(name):
            if not done.exists():
                shutil.rmtree(output, ignore_errors=True)
                make(output)
                done.touch()
        return built(output)

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with open(self._directory / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def built(place: Path) -> Built:
    """What is in a directory."""
    return Built(next(place.glob("*.whl")), next(place.glob("*.deb")), place)


def copy_of_checkout(place: Path, checkout: Path = ROOT) -> Path:
    """All that a build needs, somewhere else, with other times on it."""
    place.mkdir(parents=True)
    for name in SOURCES:
        source = checkout / name
        if source.is_dir():
            shutil.copytree(
                source, place / name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile
            )
        else:
            shutil.copyfile(source, place / name)
    (place / "scripts/pinentry-unlatch").chmod(0o755)
    (place / ".make").symlink_to(ROOT / ".make")
    return place


def build(checkout: Path, output: Path, *, tool: str = "deb", **environ: str) -> Built:
    """Run tools/deb.py of a checkout as "make deb" does, or tools/release.py as "make release REHEARSE=1"."""
    for program in ("dpkg-deb", PYTHON):
        real(program)
    if not BUILDER.exists() or not any((ROOT / ".make" / "wheels").glob("*/*.whl")):
        absent("nothing to build packages with; tools/setup test fetches it")
    done = run_build(checkout, output, *(["--rehearse"] if tool == "release" else []), tool=tool, **environ)
    assert done.returncode == 0, done.stderr
    return built(output)


def run_build(
    checkout: Path, output: Path, *options: str, tool: str = "deb", **environ: str
) -> "subprocess.CompletedProcess[str]":
    """The same, whatever comes of it."""
    return subprocess.run(
        [BUILDER, checkout / "tools" / f"{tool}.py", "--output", output, *options],
        env={"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": EPOCH} | environ,
        capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def shell_block(heading: str, marker: str) -> str:
    """The shell block of docs/installation.md below a heading that has these words; not what apt would fetch."""
    sections = re.split(r"^#{2,3} ", (ROOT / "docs/installation.md").read_text(), flags=re.MULTILINE)
    (text,) = (section for section in sections if section.startswith(f"{heading}\n"))
    (found,) = (each for each in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if marker in each)
    return "".join(line for line in found.splitlines(keepends=True) if not line.startswith("apt "))
