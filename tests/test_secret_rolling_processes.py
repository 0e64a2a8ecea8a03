"""Rolling among real processes: killed at every point, two at once, and on disks that take nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from real import absent, real

PROGRAM = Path(__file__).parent / "ctap" / "processes.py"


def run(*words: str | Path, before: tuple[str, ...] = ()) -> list[str]:
    """The lines that the program prints; it must succeed."""
    command = [*before, sys.executable, "-W", "error", str(PROGRAM), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_killed_at_every_point_of_a_roll(tmp_path: Path) -> None:
    """SIGKILL before and after every call that reaches the disk, and in the middle of writing.

    Each time the file is the old or the new one, the key opens it, what was left beside it is gone after that, and
    nothing that was recorded before fits any more.
    """
    lines = run("killed", tmp_path)
    names = [line for line in lines if not line.startswith("{")]
    deaths = [json.loads(line) for line in lines if line.startswith("{")]
    assert [death["at"] for death in deaths] == list(range(len(names)))
    for name in ("before unlink", "before fsync", "after fsync", "before rename", "after rename", "after closing"):
        assert name in names
    assert len([name for name in names if name.endswith("bytes")]) == 4
    renamed = names.index("after rename")
    assert [death["file"] for death in deaths] == ["old"] * renamed + ["new"] * (len(deaths) - renamed)
    torn = [death["left"] for name, death in zip(names, deaths, strict=True) if name.endswith("bytes")]
    assert torn == [[".borg.new"]] * 4
    assert all(death["left"] == [] for death in deaths[renamed:])


@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [
        ("roll", "roll", {"fido2"}),
        ("roll", "add", {"fido2", *(f"two {number}" for number in range(6))}),
        ("add", "add", {"fido2", *(f"{name} {number}" for name in ("one", "two") for number in range(6))}),
        ("roll", "remove", {"fido2"}),
        ("add", "remove", {"fido2", *(f"one {number}" for number in range(6))}),
    ],
)
def test_two_processes_at_once_lose_nothing(tmp_path: Path, first: str, second: str, labels: set[str]) -> None:
    """Both stand before the change at the same time, again and again: every slot is there in the end, and opens."""
    (line,) = run("together", tmp_path, first, second)
    left = json.loads(line)
    assert (len(left["labels"]), set(left["labels"])) == (len(labels), labels)


@pytest.mark.parametrize("other", ["roll", "add", "rotate"])
def test_rotating_and_something_else_at_once(tmp_path: Path, other: str) -> None:
    """Each edit goes through, or hears that somebody was faster; none is lost silently, and the secret opens."""
    *changed, last = run("together", tmp_path, "rotate", other)
    left = json.loads(last)
    assert set(changed) <= {"changed"}
    through = left["generation"] - 1 + len(left["labels"]) - 1
    assert through + len(changed) == (6 if other == "roll" else 12)
    assert through >= (0 if other == "roll" else 6)


READ_ONLY = """
mount --bind "$0" "$0"
$1 $2 make "$0"
mount -o remount,bind,ro "$0"
$1 $2 open "$0"
mount -o remount,bind,rw "$0"
$1 $2 open "$0"
"""
FULL = """
mount -t tmpfs -o size=16k,mode=700 tmpfs "$0"
$1 $2 make "$0"
cat /dev/zero 2>&- >"$0/more" || :
$1 $2 open "$0"
rm "$0/more"
$1 $2 open "$0"
"""


@pytest.mark.parametrize(
    ("script", "why"),
    [(READ_ONLY, "read-only file system"), (FULL, "no space left on device")],
    ids=["read-only", "full"],
)
def test_a_disk_that_takes_nothing(tmp_path: Path, script: str, why: str) -> None:
    """It opens, says that it was not rolled, and rolls when the disk takes something again."""
    if os.getuid() != 0:
        absent("only root can mount")
    apart = (real("unshare"), "--mount", "--propagation", "private", "sh", "-ec", script)
    done = subprocess.run(
        [*apart, str(tmp_path), sys.executable, str(PROGRAM)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    refused, taken = map(json.loads, done.stdout.splitlines())
    told = f"the keyslot fido2 could not be rolled ({why}): "
    told += "who recorded what the key said today can open this file until it is"
    assert refused == {"rolled": False, "told": [told]}
    assert taken == {"rolled": True, "told": []}
