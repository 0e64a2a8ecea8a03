"""A release: what makes one, that its files are all there and built of each other, and that their sums are true."""

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
from packages import BUILDER, EPOCH, ROOT, copy_of_checkout
from real import absent, real

from unlatch.broker import page

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
ENVIRON = {"PATH": PATH, "HOME": "/nonexistent", "GIT_CONFIG_GLOBAL": "/dev/null", "SOURCE_DATE_EPOCH": EPOCH} | WHO


def run(*command: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, env=ENVIRON, capture_output=True, text=True, timeout=120, check=False)


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
    (place / ".gitignore").write_text((ROOT / ".gitignore").read_text() + ".make\n")
    for command in ("init -q", "add .", "commit -q -m all", "tag v3.2.1"):
        assert run(real("git"), *command.split(), cwd=place).returncode == 0
    return place


def test_a_release_is_whole(clone: Path, tmp_path: Path) -> None:
    """Wheel, source, package and page, nothing else; their sums hold, and the page's is what the broker tells."""
    done = run(BUILDER, "tools/release.py", "--output", tmp_path / "dist", cwd=clone)
    assert done.returncode == 0, done.stderr
    dist = tmp_path / "dist"
    names = sorted(file.name for file in dist.iterdir())
    assert names[:4] == [
        "SHA256SUMS",
        "unlatch-3.2.1-page.html",
        "unlatch-3.2.1-py3-none-any.whl",
        "unlatch-3.2.1.tar.gz",
    ]
    assert re.fullmatch(r"unlatch_3\.2\.1-1\+py3\.\d+_\w+\.deb", names[4])
    assert len(names) == 5
    checked = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=dist)
    assert checked.stdout.splitlines() == [f"{name}: OK" for name in names[1:]]
    assert done.stdout == (dist / "SHA256SUMS").read_text()
    assert f"{page.fingerprint()}  unlatch-3.2.1-page.html\n" in done.stdout
    # The package holds the published wheel.
    run("dpkg-deb", "--extract", dist / names[4], tmp_path / "tree", cwd=tmp_path)
    (init,) = (tmp_path / "tree").rglob("site-packages/unlatch/__init__.py")
    assert '"3.2.1"' in init.read_text()


def test_the_source_makes_the_same_wheel(clone: Path, tmp_path: Path) -> None:
    """Who has only the source archive builds what was published."""
    build = [BUILDER, "-m", "hatchling", "build", "-d", tmp_path]
    assert run(*build, "-t", "wheel", "-t", "sdist", cwd=clone).returncode == 0
    published = tmp_path / "unlatch-3.2.1-py3-none-any.whl"
    before = hashlib.sha256(published.read_bytes()).digest()
    run("tar", "--extract", "--file", tmp_path / "unlatch-3.2.1.tar.gz", "-C", tmp_path, cwd=tmp_path)
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
