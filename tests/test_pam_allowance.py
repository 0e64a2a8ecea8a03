"""How often an account's person may be rung about logins: counted before the ring, for an hour, over restarts."""

import multiprocessing
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlatch.pam import allowance
from unlatch.pam.errors import Unfit

UID = 1000
NOW = 50_000.0


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "approvals")


def take(place: str, *, uid: int = UID, own: bool = False, most: int = 3, now: float = NOW) -> bool:
    try:
        allowance.take(place, uid, own=own, most=most, now=now)
    except Unfit:
        return False
    return True


def test_so_many_within_an_hour(place: str) -> None:
    """The fourth of three is refused until the first is an hour old; what was refused does not count."""
    assert [take(place, now=NOW + at) for at in (0, 60, 120, 180, 3599.9)] == [True, True, True, False, False]
    assert [take(place, now=NOW + at) for at in (3600, 3601, 3660, 3661)] == [True, False, True, False]


def test_none_is_none(place: str) -> None:
    """approvals = 0 switches it off."""
    with pytest.raises(Unfit, match=r"rings without a yes in the last hour: 0, and \[pam\] approvals is 0"):
        allowance.take(place, UID, own=False, most=0, now=NOW)


def test_each_account_has_its_own(place: str) -> None:
    """One worn down does not shut out another."""
    assert [take(place, most=1), take(place, uid=1001, most=1), take(place, most=1)] == [True, True, False]


def test_what_runs_as_the_user_uses_up_nothing_of_roots(place: str) -> None:
    """A uid that asks for itself has a budget of its own, and the other way round."""
    assert [take(place, own=True, most=1), take(place, own=True, most=1)] == [True, False]
    assert [take(place, own=False, most=1), take(place, own=False, most=1)] == [True, False]


def test_a_restart_does_not_forget(place: str) -> None:
    """It stands in a file that only the service writes, and that says no name."""
    assert take(place, most=1)
    (file,) = Path(place).iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == (f"root-{UID}", 0o600)
    assert stat.S_IMODE(Path(place).stat().st_mode) == 0o700
    assert file.read_text() == f"{NOW!r}\n"


def test_a_boot_forgets(place: str) -> None:
    """CLOCK_BOOTTIME begins anew: what lies in the future was before it, and must not count for months."""
    assert take(place, most=1, now=5_000_000)
    assert take(place, most=1, now=100)
    assert not take(place, most=1, now=101)


def test_a_ring_that_did_not_happen_is_given_back(place: str) -> None:
    """Once: another one of the same account still counts."""
    assert take(place, now=NOW, most=2)
    assert take(place, now=NOW + 1, most=2)
    allowance.give_back(place, UID, own=False, at=NOW + 1)
    allowance.give_back(place, UID, own=False, at=NOW + 1)
    assert [take(place, now=NOW + 2, most=2), take(place, now=NOW + 3, most=2)] == [True, False]


def test_who_said_no_has_peace(place: str) -> None:
    """ssh asks again at once: for two minutes nobody is rung, whatever is left of the hour; then it counts as one."""
    assert take(place, now=NOW)
    allowance.leave_in_peace(place, UID, own=False, at=NOW, now=NOW + 30)
    (file,) = Path(place).iterdir()
    assert file.read_text() == f"{NOW + 30!r} no\n"
    with pytest.raises(Unfit, match="said no 119 s ago, and is not rung for 120 s"):
        allowance.take(place, UID, own=False, most=3, now=NOW + 149)
    assert take(place, own=True, now=NOW + 31)
    assert [take(place, now=NOW + 151 + at) for at in range(3)] == [True, True, False]


def _symlink(path: Path) -> None:
    (path.parent / "elsewhere").write_text("")
    path.symlink_to(path.parent / "elsewhere")


def _writable(path: Path) -> None:
    path.write_text("")
    path.chmod(0o622)


SPOILED: dict[str, Callable[[Path], object]] = {
    "words": lambda path: path.write_text("never\n"),
    "no line end": lambda path: path.write_text("1.0"),
    "not a number": lambda path: path.write_text("nan\n"),
    "without end": lambda path: path.write_text("inf\n"),
    "before time": lambda path: path.write_text("-1.0\n"),
    "another word": lambda path: path.write_text("1.0 yes\n"),
    "bytes": lambda path: path.write_bytes(b"\xff\0\n"),
    "too long": lambda path: path.write_text("1.0\n" * 2000),
    "symlink": _symlink,
    "directory": lambda path: path.mkdir(),
    "fifo": os.mkfifo,
    "writable by others": _writable,
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_what_cannot_be_counted_does_not_ring(place: str, spoil: str) -> None:
    """A file that this service did not write: nobody is rung, and the log hears which file it is."""
    Path(place).mkdir()
    path = Path(place) / f"root-{UID}"
    SPOILED[spoil](path)
    with pytest.raises(Unfit) as caught:
        allowance.take(place, UID, own=False, most=3, now=NOW)
    assert str(path) in caught.value.why
    assert caught.value.why.isprintable()


def test_an_empty_file_counts_nothing(place: str) -> None:
    """What a process that died at the wrong moment left behind."""
    Path(place).mkdir()
    (Path(place) / f"root-{UID}").write_text("")
    assert take(place, most=1)


def _take_without_room(place: str) -> list[bool]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    return [take(place), take("/proc/approvals")]


def test_a_full_disk_does_not_ring(place: str) -> None:
    """A ring that cannot be written down must not happen; once there is room, the next one does."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_take_without_room, [place]) == [False, False]
    assert take(place, most=1)


def test_a_lock_that_is_held_does_not_block_a_login(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody stopped in the middle: nobody is rung, after a moment."""
    import fcntl

    monkeypatch.setattr(allowance, "LOCK_SECONDS", 0.05)
    assert take(place)
    with (Path(place) / f"root-{UID}").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unfit, match="is locked by another process"):
            allowance.take(place, UID, own=False, most=3, now=NOW)
    assert take(place)


def _try(place: str) -> bool:
    return take(place, most=5)


def test_ten_at_once_ring_five_times(place: str) -> None:
    """Conversations are processes: none counts past another."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert sum(pool.map(_try, [place] * 20)) == 5


@given(
    times=st.lists(st.floats(0, 20_000), max_size=40).map(sorted),
    most=st.integers(0, 6),
)
def test_no_hour_has_more(times: list[float], most: int) -> None:
    """Whenever somebody asks: in no hour more are granted than may be, and one is refused only if that many were."""
    granted: tuple[allowance.Ring, ...] = ()
    for now in times:
        before = allowance.recent(granted, now)
        if len(before) < most:
            granted = (*before, allowance.Ring(now))
        else:
            assert sum(now - allowance.HOUR < ring.at <= now for ring in granted) == most
        assert len(allowance.recent(granted, now)) <= most
