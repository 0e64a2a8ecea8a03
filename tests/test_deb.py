"""The Debian package as a file: the same twice, what lintian says, what it depends on, what shells complete."""

import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packages import EPOCH, PYTHON, ROOT, Packages, build, copy_of_checkout, run_build
from real import real
from terminal import Terminal

PREFIX = "usr/lib/unlatch"
VERSION = subprocess.run([PYTHON, "-ISc", "import sys; print('%d.%d' % sys.version_info[:2])"],
                         check=True, capture_output=True, text=True).stdout.strip()  # fmt: skip
COMMANDS = ["status", "config"]


@pytest.fixture(scope="module")
def tree(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, unpacked, with its control files in DEBIAN."""
    place = tmp_path_factory.mktemp("deb") / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", packages.current().deb, place], check=True)
    return place


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def contents(deb: Path, place: Path) -> dict[str, str]:
    """Every file of a package by its digest."""
    subprocess.run(["dpkg-deb", "--raw-extract", deb, place], check=True)
    files = (path for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(place)): digest(path) for path in files}


def test_two_builds_are_equal(packages: Packages, tmp_path: Path) -> None:
    """Another place, other times, another umask, zone and language: wheel and package are the same byte for byte."""
    checkout = copy_of_checkout(tmp_path / "elsewhere" / "unlatch", packages.checkout())
    for path in checkout.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    before = os.umask(0o077)
    try:
        again = build(checkout, tmp_path / "dist", TZ="Pacific/Auckland", LC_ALL="C", HOME=str(tmp_path))
    finally:
        os.umask(before)
    first = packages.current()
    assert (again.wheel.name, again.deb.name) == (first.wheel.name, first.deb.name)
    assert digest(again.wheel) == digest(first.wheel)
    if digest(again.deb) != digest(first.deb):
        assert contents(again.deb, tmp_path / "again") == contents(first.deb, tmp_path / "first")
        pytest.fail("the same files in another package")


def test_lintian_has_nothing_to_say(packages: Packages) -> None:
    """Errors, warnings and remarks are overridden with a reason or there are none."""
    done = subprocess.run(
        [real("lintian"), "--allow-root", "--info", "--display-info", "--pedantic", packages.current().deb],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_each_override_has_its_reason() -> None:
    """No override stands below another group's comment: every group begins with one."""
    text = (ROOT / "packaging/deb/lintian-overrides").read_text()
    assert text.startswith("# ")
    assert not re.search(r"^$", text.strip(), re.MULTILINE)
    assert {line.split()[0] for line in text.splitlines() if not line.startswith("#")} == {"unlatch:"}


def test_it_depends_on_the_one_python_it_was_made_for(tree: Path) -> None:
    """A distribution's upgrade to another Python cannot leave a pinentry behind that does not start."""
    control = (tree / "DEBIAN/control").read_text()
    assert re.search(
        rf"^Depends: python{VERSION}, libc6 \(>= [\d.]+\), libgcc-s1, libkeyutils1, libpam0g$", control, re.MULTILINE
    )
    assert (tree / PREFIX / "bin/python3").readlink() == Path(f"../../../bin/python{VERSION}")
    assert [path.name for path in (tree / PREFIX / "lib").iterdir()] == [f"python{VERSION}"]


def test_it_has_the_pam_module_where_libpam_looks(tree: Path) -> None:
    """``pam_unlatch.so`` in a line of /etc/pam.d is found without a path, and nobody's ``make pam`` is needed."""
    (module,) = tree.glob("usr/lib/*/security/*")
    assert (module.name, module.stat().st_mode & 0o7777) == ("pam_unlatch.so", 0o644)
    installed = [Path(f"/{module.parent.relative_to(tree)}", name) for name in ("pam_unix.so", "pam_permit.so")]
    assert any(path.exists() for path in installed)


def test_everything_is_roots(packages: Packages) -> None:
    """Every file belongs to root, nobody else may write to it, and none runs with more rights than its caller."""
    listing = subprocess.run(
        ["dpkg-deb", "--contents", packages.current().deb], check=True, capture_output=True, text=True
    )
    lines = listing.stdout.splitlines()
    assert len(lines) > 1000
    for line in lines:
        assert re.match(r"(-rw-r--r--|-rwxr-xr-x|drwxr-xr-x|lrwxrwxrwx) root/root ", line), line


def test_every_module_is_compiled(tree: Path) -> None:
    """No asker compiles anything, and none asks whether a source has changed."""
    sources = list((tree / PREFIX).rglob("*.py"))
    assert len(sources) > 500
    for source in sources:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", compiled  # PEP 552: by hash, unchecked


def test_paths_are_those_of_the_package(tree: Path) -> None:
    """Units, manual and guides say /usr/bin, and nothing tells where it was built."""
    for path in [*(tree / "usr/lib/systemd").rglob("*"), *(tree / "usr/share/doc").rglob("*.md")]:
        if path.is_file():
            assert not re.search(r"/usr/local/bin/(pinentry-)?unlatch\b", path.read_text()), path
    service = (tree / "usr/lib/systemd/system/unlatch.service").read_text()
    assert "ExecStart=/usr/bin/unlatch serve --system\n" in service
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert str(ROOT).encode() not in path.read_bytes(), path


def test_it_has_all_that_an_installation_by_hand_has(packages: Packages, tree: Path) -> None:
    """All commands, all units, all pages of the manual, all libraries of the lock file."""
    source = packages.checkout()
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    assert {path.name for path in (tree / "usr/bin").iterdir()} == {*project["scripts"], "pinentry-unlatch"}
    for manager in ("system", "user"):
        units = {path.name for path in (source / "systemd" / manager).glob("unlatch*")}
        assert {path.name for path in (tree / "usr/lib/systemd" / manager).iterdir() if path.is_file()} == units
    extended = {
        str(path.parent.relative_to(tree / "usr/lib/systemd"))
        for path in (tree / "usr/lib/systemd").rglob("*.d/unlatch.conf")
    }
    assert extended >= {"system/user-runtime-dir@.service.d", "user/gpg-agent.socket.d", "user/gpg-agent.service.d"}
    manual = {f"{path.name}.gz" for path in (source / "man").iterdir()}
    assert {path.name for path in (tree / "usr/share/man").rglob("*.gz")} == manual
    place = tree / PREFIX / f"lib/python{VERSION}/site-packages"
    libraries = {re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower() for path in place.glob("*.dist-info")}
    assert libraries == locked().keys() | {"unlatch"}


def locked() -> dict[str, str]:
    """The lock file: package and version."""
    return dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "packaging/requirements.txt").read_text(), re.MULTILINE))


def test_the_lock_file_is_an_ordinary_one() -> None:
    """Names, versions and hashes, nothing else: no host, no option; and all that pyproject.toml wants is in it."""
    text = (ROOT / "packaging/requirements.txt").read_text()
    entry = r"[a-z0-9-]+==[\w.]+(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    assert re.fullmatch(rf"(?:#[^\n]*\n)*\n(?:{entry})+", text)
    assert "://" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["matrix"], *extras["apprise"]]:
        assert re.split(r"[<>=\[ ]", line)[0] in locked(), line


@pytest.mark.parametrize("spoil", ["changed", "missing"])
def test_another_wheel_than_the_locked_one_is_not_packed(tmp_path: Path, spoil: str) -> None:
    """One byte of a library differs, or it is not there: no package."""
    checkout = copy_of_checkout(tmp_path / "checkout")
    (checkout / ".make").unlink()
    wheels = checkout / ".make" / "wheels"
    shutil.copytree(ROOT / ".make" / "wheels", wheels)
    for victim in wheels.glob("*/h11-*.whl"):
        if spoil == "changed":
            data = bytearray(victim.read_bytes())
            data[len(data) // 2] ^= 1
            victim.write_bytes(data)
        else:
            victim.unlink()
    done = run_build(checkout, tmp_path / "dist")
    assert done.returncode == 1
    assert "h11" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "dist").glob("*.deb"))


def test_a_build_without_a_time_says_what_is_missing(tmp_path: Path) -> None:
    """Outside a clone nobody knows the last commit's time."""
    checkout = copy_of_checkout(tmp_path / "checkout")
    done = run_build(checkout, tmp_path / "dist", SOURCE_DATE_EPOCH="", GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert (done.returncode, done.stderr) == (1, "tools/deb: this is no clone: say SOURCE_DATE_EPOCH=SECONDS\n")


@pytest.mark.parametrize(
    ("version", "upstream"), [("0.1.0", "0.1.0"), ("1.0rc2", "1.0~rc2"), ("1.0.dev3", "1.0~dev3"), ("1.0a1", "1.0~a1")]
)
def test_versions_sort_as_people_think(monkeypatch: pytest.MonkeyPatch, version: str, upstream: str) -> None:
    """A pre-release before its release, and the package for a later Python after that for an earlier one."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    from deb import Target

    assert Target(version, "3.11", "amd64", 0).debian_version == f"{upstream}-1+py3.11"
    for earlier, later in ((("1.0rc2", "3.11"), ("1.0", "3.11")), (("1.0", "3.11"), ("1.0", "3.13"))):
        pair = [Target(*each, "amd64", 0).debian_version for each in (earlier, later)]
        assert subprocess.run(["dpkg", "--compare-versions", pair[0], "lt", pair[1]], check=False).returncode == 0


@pytest.fixture
def shells(tree: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has this package's ``unlatch`` in the PATH."""
    packages = tree / PREFIX / f"lib/python{VERSION}/site-packages"
    (tmp_path / "bin").mkdir()
    unlatch = tmp_path / "bin" / "unlatch"
    unlatch.write_text(
        f"#!/bin/sh\nPYTHONPATH={packages} exec {PYTHON} -c 'from unlatch.cli.main import main; main()' \"$@\"\n"
    )
    unlatch.chmod(0o755)
    return {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "ZDOTDIR": str(tmp_path),
    }


def test_bash_completes(tree: Path, shells: dict[str, str]) -> None:
    """Tab behind a few letters completes a command, and behind that its options."""
    script = tree / "usr/share/bash-completion/completions/unlatch"
    with Terminal([real("bash"), "--norc", "--noprofile", "-i"], shells) as bash:
        bash.type(f"PS1='ready '; . {script}\n")
        bash.expect("ready ")
        bash.type("unlatch stat\t--js\t")
        bash.expect("unlatch status --json")


def test_zsh_completes(tree: Path, shells: dict[str, str]) -> None:
    """The same in zsh, which finds the file by its name; each Tab completes, not just the first that loads it."""
    place = tree / "usr/share/zsh/vendor-completions"
    with Terminal([real("zsh"), "-f", "-i"], shells) as zsh:
        zsh.type(f"PS1='ready '; fpath+=({place}); autoload -U compinit; compinit -u -D; echo set\n")
        zsh.expect("\nset")
        zsh.type("unlatch stat\t")
        zsh.expect("unlatch status")
        zsh.type("--js\t")
        zsh.expect("--json")


def test_fish_completes(tree: Path, shells: dict[str, str]) -> None:
    """The same in fish, asked as its Tab asks."""
    script = tree / "usr/share/fish/vendor_completions.d/unlatch.fish"
    for typed, completed in (("unlatch stat", "status"), ("unlatch status --js", "--json")):
        done = subprocess.run(
            [real("fish"), "--no-config", "-c", f"source {script}; complete --do-complete '{typed}'"],
            env=shells, capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [completed]


def test_a_failed_completion_is_silent(shells: dict[str, str]) -> None:
    """Whatever a shell of another kind or release wants: nothing is printed into somebody's line."""
    for wanted in ("nonsense", "bash_nonsense", "tcsh_complete", "bash_complete"):
        done = subprocess.run(["unlatch"], env=shells | {"_UNLATCH_COMPLETE": wanted}, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_the_changelog_tells_the_version(tree: Path) -> None:
    """dpkg's version and the changelogs agree, at the time of the build."""
    import gzip

    version = re.search(r"^Version: (.*)$", (tree / "DEBIAN/control").read_text(), re.MULTILINE)
    assert version is not None
    entry = gzip.decompress((tree / "usr/share/doc/unlatch/changelog.Debian.gz").read_bytes()).decode()
    assert entry.startswith(f"unlatch ({version[1]}) ")
    assert int(
        subprocess.run(["date", "-d", entry.rpartition("  ")[2], "+%s"], check=True, capture_output=True).stdout
    ) == int(EPOCH)
