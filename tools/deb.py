"""Build the Debian package: dist/unlatch_VERSION_ARCHITECTURE.deb (make deb).

What it installs is a virtual environment of the system's Python at /usr/lib/unlatch, put together here from our own
wheel and the locked ones instead of by pip on the target: the same layout, and so the same code paths, as the one in
/opt that docs/installation.md describes. dpkg-deb makes a package of it without debhelper, which would add a dozen
packages and a second place to read, for the twenty lines of maintainer scripts in packaging/deb.

Two builds of the same tree are equal byte for byte: every time is SOURCE_DATE_EPOCH (or that of the last commit), the
compiled files carry no time of their own, and one thread compresses.
"""

import argparse
import base64
import configparser
import csv
import email.utils
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pam_module

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "packaging" / "requirements.txt"
DEB = ROOT / "packaging" / "deb"
WHEELS = ROOT / ".make" / "wheels"

MAINTAINER = "Unlatch developers <unlatch@localhost.localdomain>"
LIBC = "2.34"  # what the newest of the wheels' tags wants (manylinux_2_34); Debian 12 has 2.36
PREFIX = "usr/lib/unlatch"
COMPRESSION = ("-Zxz", "-z1", "--threads-max=1")  # -z6 saves a seventh of 12 MB and takes five times as long
COMMAND = """\
#!/{prefix}/bin/python3 -I
import sys

from {module} import {function}

sys.exit({function}())
"""
VENV = "home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/unlatch",
    "zsh": "usr/share/zsh/vendor-completions/_unlatch",
    "fish": "usr/share/fish/vendor_completions.d/unlatch.fish",
}
# Units of others that ours extend, by the file that extends them.
DROP_INS = {
    "system/agent-places.conf": ("system/user-runtime-dir@.service",),
    "user/one-agent.conf": ("user/gpg-agent.socket", "user/gpg-agent-.socket", "user/gpg-agent.service"),
}
APACHE = "The Apache License 2.0: /usr/share/common-licenses/Apache-2.0"
LOCAL = re.compile(r"/usr/local/bin/(?=(?:pinentry-)?unlatch\b)")  # what texts say for an installation by hand


class Target(NamedTuple):
    """What a package is built for. ``python`` is "3.11", ``interpreter`` its path here and there."""

    version: str
    python: str
    architecture: str
    epoch: int

    @property
    def interpreter(self) -> str:
        return f"/usr/bin/python{self.python}"

    @property
    def debian_version(self) -> str:
        """Pre-releases sort before their release, and the package for a later Python after that for an earlier one."""
        upstream = re.sub(r"\.?(a|b|rc|dev)(?=\d)", r"~\1", self.version)
        return f"{upstream}-1+py{self.python}"

    @property
    def packages(self) -> str:
        return f"{PREFIX}/lib/python{self.python}/site-packages"

    @property
    def wheels(self) -> Path:
        return WHEELS / f"{self.python}-{self.architecture}"


def main() -> None:
    """Build what the arguments say, and print where it is."""
    parser = argparse.ArgumentParser(prog="tools/deb.py", allow_abbrev=False)
    parser.add_argument("--wheel", type=Path, help="of Unlatch; one is built unless given")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--architecture", default="", help="amd64 or arm64 (this machine's)")
    arguments = parser.parse_args()
    os.umask(0o022)
    os.environ["SOURCE_DATE_EPOCH"] = epoch = os.environ.get("SOURCE_DATE_EPOCH") or last_commit()
    wheel = arguments.wheel or own_wheel(arguments.output)
    target = Target(
        wheel.name.split("-")[1],
        said("/usr/bin/python3", "-ISc", "import sys; print('%d.%d' % sys.version_info[:2])"),
        arguments.architecture or said("dpkg", "--print-architecture"),
        int(epoch),
    )
    with tempfile.TemporaryDirectory(prefix="unlatch-deb-") as directory:
        tree = Path(directory) / "tree"
        stage(tree, target, wheel)
        print(build(tree, target, arguments.output))


def last_commit() -> str:
    """The time of the last commit, in seconds: what a build without SOURCE_DATE_EPOCH calls now."""
    try:
        return said("git", "-C", str(ROOT), "log", "-1", "--format=%ct")
    except (OSError, subprocess.CalledProcessError):
        sys.exit("tools/deb: this is no clone: say SOURCE_DATE_EPOCH=SECONDS")


def own_wheel(output: Path) -> Path:
    """Build the wheel, whose times hatchling takes from SOURCE_DATE_EPOCH too."""
    with tempfile.TemporaryDirectory(prefix="unlatch-wheel-") as directory:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory],
            cwd=ROOT, check=True, capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        (built,) = Path(directory).iterdir()
        output.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(built, output))


def said(*command: str) -> str:
    """The one line that a program prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout.strip()


def stage(tree: Path, target: Target, wheel: Path) -> None:
    """Lay out all files of the package under ``tree``."""
    packages = tree / target.packages
    packages.mkdir(parents=True)
    scripts = tree / PREFIX / "bin"
    scripts.mkdir()
    for locked in locked_wheels(target):
        unpack(locked, packages)
    unpack(wheel, packages, scripts)
    for name, module, function in entry_points(packages):
        write(scripts / name, COMMAND.format(prefix=PREFIX, module=module, function=function), 0o755)
    write(tree / PREFIX / "pyvenv.cfg", VENV.format(python=target.python))
    commands = tree / "usr/bin"
    commands.mkdir()
    for script in sorted(scripts.iterdir()):
        (commands / script.name).symlink_to(f"../lib/unlatch/bin/{script.name}")
    (scripts / "python3").symlink_to(f"../../..{target.interpreter.removeprefix('/usr')}")
    compile_all(tree, target)
    modules = tree / "usr/lib" / pam_module.TRIPLETS[target.architecture] / "security"
    modules.mkdir(parents=True)
    pam_module.build(modules / pam_module.NAME, target.architecture).chmod(0o644)
    system_files(tree)
    manual_pages(tree)
    documentation(tree, target)
    completions(tree, target)


def locked_wheels(target: Target) -> list[Path]:
    """One wheel for each locked package, each with the sha256 that the lock file gives it; whoever fetched it.

    Exits with a hint if one is missing, changed, or there is more than one.
    """
    lock = re.findall(r"^([\w-]+)==(\S+)((?:\s*\\\n\s*--hash=sha256:[0-9a-f]{64})+)$", LOCK.read_text(), re.MULTILINE)
    found = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(target.wheels.glob("*.whl"))}
    chosen = []
    for name, version, hashes in lock:
        start = f"{name.replace('-', '_')}-{version}-"
        mine = [path for path, digest in found.items() if path.name.startswith(start) and digest in hashes]
        if len(mine) != 1:
            sys.exit(f"tools/deb: {len(mine)} wheels in {target.wheels} are {name} {version} by their sha256; one is "
                     f"needed: rm -r {target.wheels}; tools/setup deb")  # fmt: skip
        chosen += mine
    return chosen


def unpack(wheel: Path, packages: Path, scripts: Path | None = None) -> None:
    """Install a wheel (the binary distribution format of packaging.python.org): its packages, and its scripts.

    Scripts and data of other people's wheels are left out: the package offers two commands. Every file is held against
    the wheel's own record.
    """
    with zipfile.ZipFile(wheel) as archive:
        (record,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/RECORD", name))
        hashes = {row[0]: row[1] for row in csv.reader(archive.read(record).decode().splitlines())}
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            data = archive.read(entry)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            if entry.filename != record and hashes[entry.filename] != f"sha256={digest}":
                sys.exit(f"tools/deb: {wheel.name}: {entry.filename} is not what its record says")
            top, _, rest = entry.filename.partition("/")
            if not top.endswith(".data"):
                place = packages / entry.filename
                mode = 0o644
            elif scripts is not None and rest.startswith("scripts/"):
                place = scripts / rest.removeprefix("scripts/")
                mode = 0o755
            else:
                continue
            if not place.resolve().is_relative_to((scripts if mode == 0o755 and scripts else packages).resolve()):
                sys.exit(f"tools/deb: {wheel.name}: {entry.filename} leads out of the package")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            place.chmod(mode)


def entry_points(packages: Path) -> list[tuple[str, str, str]]:
    """Our commands: name, module and function; other people's libraries have some too, which nobody here needs."""
    (info,) = packages.glob("unlatch-*.dist-info")
    points = configparser.ConfigParser(delimiters=("=",))
    points.read(info / "entry_points.txt")
    parted = ((name, *target.partition(":")) for name, target in sorted(points["console_scripts"].items()))
    return [(name, module, function) for name, module, _, function in parted]


def compile_all(tree: Path, target: Target) -> None:
    """Compile every module, so that an asker starts as fast as it can and root need not write to /usr later.

    The compiled files are part of the package: dpkg verifies them and removes them, and no maintainer script has to.
    "unchecked-hash": they carry no time (so that builds are reproducible), and Python uses them without a look at the
    source, which only dpkg changes. They name the places where they will be.
    """
    subprocess.run(
        [target.interpreter, "-ISm", "compileall", "-q", "-j1", "--invalidation-mode=unchecked-hash",
         "-s", tree, "-p", "/", tree / target.packages],
        check=True, env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def system_files(tree: Path) -> None:
    """Units, system user, directories, logrotate: as an installation by hand has them, but for the program's path."""
    for manager in ("system", "user"):
        for unit in sorted((ROOT / "systemd" / manager).glob("unlatch*")):
            write(tree / "usr/lib/systemd" / manager / unit.name, LOCAL.sub("/usr/bin/", unit.read_text()))
    for source, extended in DROP_INS.items():
        for name in extended:
            write(tree / f"usr/lib/systemd/{name}.d/unlatch.conf", (ROOT / "systemd" / source).read_text())
    write(tree / "usr/lib/sysusers.d/unlatch.conf", (ROOT / "systemd/unlatch.sysusers").read_text())
    write(tree / "usr/lib/tmpfiles.d/unlatch.conf", (ROOT / "systemd/unlatch.tmpfiles").read_text())
    write(tree / "etc/logrotate.d/unlatch", (DEB / "logrotate").read_text())
    (tree / "etc/unlatch").mkdir()


def manual_pages(tree: Path) -> None:
    """The manual, compressed without a time and a name in it."""
    for page in sorted((ROOT / "man").iterdir()):
        text = LOCAL.sub("/usr/bin/", page.read_text())
        write_gzip(tree / f"usr/share/man/man{page.suffix[1:]}/{page.name}.gz", text)


def documentation(tree: Path, target: Target) -> None:
    """The guides, for whoever has no network at 3 a.m., and what Debian wants to know of a package."""
    place = tree / "usr/share/doc/unlatch"
    for page in [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        write(place / page.relative_to(ROOT), LOCAL.sub("/usr/bin/", page.read_text()))
    examples = ROOT / "systemd/examples"
    write(place / "examples/proxy.conf", (ROOT / "systemd/system/proxy.conf").read_text())
    for example in sorted(path for path in examples.rglob("*") if path.is_file()):
        write(place / "examples" / example.relative_to(examples), LOCAL.sub("/usr/bin/", example.read_text()))
    write(place / "copyright", copyright_of(tree / target.packages))
    write_gzip(place / "changelog.gz", (ROOT / "CHANGELOG.md").read_text())
    date = email.utils.formatdate(target.epoch)
    entry = f"unlatch ({target.debian_version}) unstable; urgency=medium\n\n  * changelog.gz tells what is new.\n\n"
    write_gzip(place / "changelog.Debian.gz", f"{entry} -- {MAINTAINER}  {date}\n")
    write(tree / "usr/share/lintian/overrides/unlatch", (DEB / "lintian-overrides").read_text())


def copyright_of(packages: Path) -> str:
    """Our licence, and what every library says about its own; the two long ones are on each Debian system."""
    parts = [(DEB / "copyright").read_text().format(licence=(ROOT / "LICENSE").read_text().strip())]
    for info in sorted(packages.glob("*.dist-info")):
        if info.name.startswith("unlatch-"):
            continue
        files = sorted(path for path in info.rglob("*") if path.name.upper().startswith(("LICEN", "COPYING", "NOTICE")))
        texts = [path.read_text() for path in files if path.is_file()]
        if not texts:
            sys.exit(f"tools/deb: {info.name} tells no licence")
        shown = [APACHE if "Apache License\n" in text[:200] else text.strip("\n") for text in texts]
        parts.append("\n\n".join([f"\n{info.name.removesuffix('.dist-info')}\n{'-' * 70}", *shown]) + "\n")
    return "\n".join(parts)


def completions(tree: Path, target: Target) -> None:
    """What the shells complete: click's own scripts, which ask the command itself."""
    for shell, place in COMPLETIONS.items():
        script = subprocess.run(
            [target.interpreter, "-ISBc", "import sys; sys.path.append(sys.argv.pop()); "
             "from unlatch.cli.main import cli, completion; print(completion.script(cli, sys.argv[1]), end='')",
             shell, tree / target.packages],
            check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        ).stdout  # fmt: skip
        write(tree / place, script)


def build(tree: Path, target: Target, output: Path) -> Path:
    """Make the package of the tree."""
    control = tree / "DEBIAN"
    control.mkdir()
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(-(-path.stat().st_size // 1024) for path in files) + sum(1 for path in tree.rglob("*") if path.is_dir())
    sums = "".join(f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n" for path in files)
    fields = (DEB / "control").read_text().format(
        version=target.debian_version, architecture=target.architecture, maintainer=MAINTAINER, size=size,
        python=target.python, libc=LIBC,
    )  # fmt: skip
    write(control / "control", fields)
    write(control / "conffiles", "/etc/logrotate.d/unlatch\n")
    write(control / "md5sums", sums)
    for script in ("postinst", "prerm", "postrm"):
        write(control / script, (DEB / script).read_text(), 0o755)
    for path in [tree, *tree.rglob("*")]:
        os.utime(path, (target.epoch, target.epoch), follow_symlinks=False)
    output.mkdir(parents=True, exist_ok=True)
    package = output / f"unlatch_{target.debian_version}_{target.architecture}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", *COMPRESSION, "--build", tree, package],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return package


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """A file of the package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def write_gzip(path: Path, text: str) -> None:
    """A compressed file of the package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    path.chmod(0o644)


if __name__ == "__main__":
    main()
