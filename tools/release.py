"""Put everything of a release into dist/: wheel, source, Debian package, the page, and SHA256SUMS (make release).

docs/releasing.md is the playbook around it. The page is among the files so that its line in SHA256SUMS is what
"unlatch status" shows, and what anybody can compare with what a phone was served.
"""

import argparse
import datetime
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
PAGE = (
    "import sys; sys.path.insert(0, 'src'); from unlatch.broker import page; sys.stdout.buffer.write(page.document())"
)


def main() -> None:
    """Check that this is a release, build it, and print what there is."""
    parser = argparse.ArgumentParser(prog="tools/release.py", allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--rehearse", action="store_true", help="build what is not tagged; not to be published")
    arguments = parser.parse_args()
    version = version_of((ROOT / "src/unlatch/__init__.py").read_text())
    if not arguments.rehearse:
        check(version)
    os.environ["SOURCE_DATE_EPOCH"] = os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct")
    shutil.rmtree(arguments.output, ignore_errors=True)
    arguments.output.mkdir(parents=True)
    build(arguments.output, version)
    sums = "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(arguments.output.iterdir())
    )
    (arguments.output / "SHA256SUMS").write_text(sums)
    print(sums, end="")


def version_of(text: str) -> str:
    """What the package calls itself."""
    found = re.search(r'^__version__ = "(\S+)"$', text, re.MULTILINE)
    return found[1] if found else fail("src/unlatch/__init__.py tells no version")


def check(version: str) -> None:
    """What makes a release of a checkout; all that is missing is told at once."""
    missing = []
    if git("status", "--porcelain"):
        missing.append('the work tree is not clean: "git status"')
    if f"v{version}" not in git("tag", "--points-at", "HEAD").split():
        missing.append(f'this commit has no tag: "git tag --sign v{version}"')
    if not is_dated((ROOT / "CHANGELOG.md").read_text(), version):
        missing.append(f'CHANGELOG.md does not begin with "## {version} (YEAR-MONTH-DAY)"')
    if missing:
        fail("this is no release", *missing, 'to see what would be built: "make release REHEARSE=1"')


def is_dated(changelog: str, version: str) -> bool:
    """Whether the newest entry is this version's, with a date."""
    found = re.search(r"^## (\S+) \((\S+)\)$", changelog, re.MULTILINE)
    if not found or found[1] != version:
        return False
    try:
        datetime.date.fromisoformat(found[2])
    except ValueError:
        return False
    return True


def build(output: Path, version: str) -> None:
    """Everything but the sums. The Debian package is made of the very wheel that is published."""
    with tempfile.TemporaryDirectory(prefix="unlatch-release-") as directory:
        run(PYTHON, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", directory)
        for file in sorted(Path(directory).iterdir()):
            shutil.copy(file, output)
    run(PYTHON, "tools/deb.py", "--wheel", str(output / f"unlatch-{version}-py3-none-any.whl"), "--output", str(output))
    page = subprocess.run([PYTHON, "-ISBc", PAGE], cwd=ROOT, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    (output / f"unlatch-{version}-page.html").write_bytes(page.stdout)


def git(*arguments: str) -> str:
    """What git says of this checkout."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.strip()


def run(*command: str) -> None:
    """Run a build; what it says is told only if it fails."""
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        fail(f"{' '.join(command[1:3])} failed", *(done.stdout + done.stderr).splitlines()[-20:])


def fail(text: str, *hints: str) -> NoReturn:
    """End with an error."""
    print(f"tools/release: error: {text}", *(f"tools/release: {hint}" for hint in hints), sep="\n", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
