#!/usr/bin/env python3
"""Renew the lock files in packaging/, each file held by its sha256: what the Debian package carries besides Unlatch
(requirements.txt), and what builds the wheel (build.txt), so that anybody can build the same again.

    make lock

Asks the package index that pip is set up for, for every Python and processor that a package may be built for, and
wants the same versions for all of them. Only wheels: nothing of others is compiled or run while a package is built.
Read the difference and the changelogs of what changed before you commit it; a version that is a few days old has had
more eyes on it than one of today.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "packaging" / "requirements.txt"
BUILD = ROOT / "packaging" / "build.txt"
PYTHONS = ("3.11", "3.12", "3.13")  # Debian 12, Ubuntu 24.04, Debian 13
PROCESSORS = ("x86_64", "aarch64")
EXTRAS = ("apprise", "fido2", "matrix")  # whatever the documentation calls a notifier works in the package
HEAD = f"""\
# What the Debian package carries besides Unlatch, for Python {", ".join(PYTHONS)} on {" and ".join(PROCESSORS)}.
# Written by tools/lock.py; to renew it: make lock
"""
BUILD_HEAD = """\
# What builds the wheel. Its version stands in there, so the same wheel needs the same.
# Written by tools/lock.py; to renew it: make lock
"""

Pins = dict[str, tuple[str, set[str]]]


def main() -> None:
    """Resolve for every target and write the lock files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    pins: Pins = {}
    for python in PYTHONS:
        for processor in PROCESSORS:
            print(f"python {python}, {processor}", file=sys.stderr)
            merge(pins, resolve(wanted, pins, python, processor))
    LOCK.write_text(text_of(HEAD, pins))
    build: Pins = {}
    merge(build, resolve(["hatchling>=1.26"], build, PYTHONS[0], PROCESSORS[0]))
    BUILD.write_text(text_of(BUILD_HEAD, build))


def resolve(wanted: list[str], pins: Pins, python: str, processor: str) -> list[tuple[str, str, str]]:
    """What pip would install there: name, version and sha256 of each; nothing is installed."""
    with tempfile.TemporaryDirectory() as directory:
        constraints = Path(directory) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, (version, _) in pins.items()))
        report = Path(directory) / "report.json"
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--report", report,
             "--target", directory, "-c", constraints, *target(python, processor), *wanted],
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        found = json.loads(report.read_text())["install"]
    return [
        (canonical(each["metadata"]["name"]), each["metadata"]["version"],
         each["download_info"]["archive_info"]["hashes"]["sha256"])
        for each in found
    ]  # fmt: skip


def target(python: str, processor: str) -> list[str]:
    """pip's options for one Python on one processor; wheels for any glibc up to Debian 12's."""
    platforms = [f"manylinux_2_{minor}_{processor}" for minor in range(36, 16, -1)] + [f"manylinux2014_{processor}"]
    return [
        "--only-binary=:all:", "--implementation=cp", f"--python-version={python}",
        *(f"--platform={platform}" for platform in platforms),
    ]  # fmt: skip


def merge(pins: Pins, found: list[tuple[str, str, str]]) -> None:
    """Add what one target needs; a package for some targets only would be a surprise worth a look."""
    if pins and {name for name, _, _ in found} != pins.keys():
        sys.exit(f"tools/lock: other packages than before: {sorted({name for name, _, _ in found} ^ pins.keys())}")
    for name, version, digest in found:
        pins.setdefault(name, (version, set()))[1].add(digest)


def text_of(head: str, pins: Pins) -> str:
    """A requirements file as pip reads it: one package each, with the hashes of all its wheels."""
    lines = [head]
    for name, (version, digests) in sorted(pins.items()):
        lines.append(f"{name}=={version}" + "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(digests)))
    return "\n".join(lines) + "\n"


def canonical(name: str) -> str:
    """One spelling for each name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
