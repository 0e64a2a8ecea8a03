"""A release: what makes one, that its files are all there and built of each other, and that their sums are true."""

import hashlib
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
from packages import BUILDER, EPOCH, ROOT, Packages, copy_of_checkout
from real import absent, real

import unlatch
from unlatch.broker import page

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
ENVIRON = {"PATH": PATH, "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null", "SOURCE_DATE_EPOCH": EPOCH} | WHO


def run(*command: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, env=ENVIRON, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this project with one commit, that has a version, a date and a tag."""
    if not BUILDER.exists():
        absent("nothing to build a release with; tools/setup test fetches it")
    place = copy_of_checkout(tmp_path_factory.mktemp("release") / "unlatch")
    init = place / "src/unlatch/__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', '__version__ = "3.2.1"', init.read_text()))
    changelog = place / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## 3.2.1 (2026-02-28)\n\n" + changelog.read_text())
    with open(place / ".gitignore", "a") as ignored:
        ignored.write(".make\n")  # here it is a link, and ".make/" are directories only
    for command in ("init -q", "add .", "commit -q -m all", "tag v3.2.1"):
        assert run(real("git"), *command.split(), cwd=place).returncode == 0
    return place


def test_a_release_is_whole(packages: Packages, tmp_path: Path) -> None:
    """Wheel, source, package and page, nothing else; their sums hold, and the page's is what the broker tells."""
    release = packages.current()
    version = unlatch.__version__
    files = [f"unlatch-{version}-page.html", f"unlatch-{version}-py3-none-any.whl", f"unlatch-{version}.tar.gz"]
    assert sorted(file.name for file in release.place.iterdir()) == ["SHA256SUMS", *files, release.deb.name]
    checked = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=release.place)
    assert checked.stdout.splitlines() == [f"{name}: OK" for name in (*files, release.deb.name)]
    assert f"{page.fingerprint()}  {files[0]}\n" in (release.place / "SHA256SUMS").read_text()
    # The package holds the published wheel, file by file.
    run("dpkg-deb", "--extract", release.deb, tmp_path, cwd=tmp_path)
    (packed,) = tmp_path.glob("usr/lib/unlatch/lib/python3*/site-packages")
    with zipfile.ZipFile(release.wheel) as wheel:
        names = [name for name in wheel.namelist() if name.startswith("unlatch/")]
        assert len(names) > 100
        assert all((packed / name).read_bytes() == wheel.read(name) for name in names)


def test_a_tagged_and_dated_commit_is_a_release(clone: Path) -> None:
    """Nothing is missing."""
    check = "import sys; sys.path.insert(0, 'tools'); import release; release.check('3.2.1')"
    done = run(BUILDER, "-Bc", check, cwd=clone)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_source_makes_the_same_wheel(clone: Path, tmp_path: Path) -> None:
    """Who has only the source archive builds what was published, and finds the units where the guides say."""
    build = [BUILDER, "-m", "hatchling", "build", "-d", tmp_path]
    assert run(*build, "-t", "wheel", "-t", "sdist", cwd=clone).returncode == 0
    published = tmp_path / "unlatch-3.2.1-py3-none-any.whl"
    before = hashlib.sha256(published.read_bytes()).digest()
    run("tar", "--extract", "--file", tmp_path / "unlatch-3.2.1.tar.gz", "-C", tmp_path, cwd=tmp_path)
    assert (tmp_path / "unlatch-3.2.1" / "systemd" / "system" / "unlatch.service").is_file()
    assert run(*build, "-t", "wheel", cwd=tmp_path / "unlatch-3.2.1").returncode == 0
    assert hashlib.sha256(published.read_bytes()).digest() == before


def test_what_is_no_release_is_not_built(clone: Path, tmp_path: Path) -> None:
    """No tag, no date, something uncommitted: all is told at once, and an earlier dist is left as it was."""
    place = tmp_path / "clone"
    assert run("cp", "-a", clone, place, cwd=tmp_path).returncode == 0
    init = place / "src/unlatch/__init__.py"
    init.write_text('__version__ = "3.3.0"\n')
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "earlier").touch()
    done = run(BUILDER, "tools/release.py", "--output", tmp_path / "dist", cwd=place)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "tools/release: error: this is no release",
        'tools/release: the work tree is not clean: "git status"',
        'tools/release: this commit has no tag: "git tag --sign v3.3.0"',
        'tools/release: CHANGELOG.md does not begin with "## 3.3.0 (YEAR-MONTH-DAY)"',
        'tools/release: to see what would be built: "make release REHEARSE=1"',
    ]
    assert [file.name for file in (tmp_path / "dist").iterdir()] == ["earlier"]


@pytest.mark.parametrize(
    ("changelog", "dated"),
    [
        ("# Changelog\n\n## 1.2.3 (2026-02-28)\n\n## 1.2.2 (2025-01-01)\n", True),
        ("## 1.2.3 (unreleased)\n", False),
        ("## 1.2.3 (2026-02-30)\n", False),
        ("## 1.3.0 (2026-02-28)\n## 1.2.3 (2026-02-01)\n", False),
        ("", False),
    ],
)
def test_a_release_has_a_day(monkeypatch: pytest.MonkeyPatch, changelog: str, dated: bool) -> None:
    """The newest entry is this version's, and its date is one."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    from release import is_dated

    assert is_dated(changelog, "1.2.3") is dated
