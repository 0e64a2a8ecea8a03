"""Setup's hands: how files are read and replaced, with whose rights, and what the journal keeps to put them back."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real import absent

from unlatch import __version__
from unlatch.doctor.check import Situation
from unlatch.setup import changes, files, journal, showing
from unlatch.setup.changes import Change
from unlatch.setup.files import ABSENT, FileState
from unlatch.setup.hands import Hands, UsersHands, hands_for
from unlatch.setup.journal import Journal, Units
from unlatch.setup.places import find
from unlatch.setup.session import aside
from unlatch.setup.steps import Step
from unlatch.setup.undo import ChangedSince, Conflict, Undo

OTHER = 4242  # a uid that nobody has


def text_file(data: bytes, mode: int = 0o644) -> FileState:
    return FileState("file", data, mode, os.getuid(), os.getgid())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Content, mode and owner are as told; nothing else is left in the directory."""
    path = str(tmp_path / "conf")
    made = files.put(path, ABSENT, FileState("file", b"one\n", 0o640))
    assert made == text_file(b"one\n", 0o640)
    before = os.stat(path)
    assert files.put(path, made, text_file(b"two", 0o600)) == text_file(b"two", 0o600)
    assert os.stat(path).st_ino != before.st_ino  # renamed, not written over
    assert os.listdir(tmp_path) == ["conf"]
    assert files.put(path, files.look(path), ABSENT) == ABSENT
    assert os.listdir(tmp_path) == []


def test_what_was_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """A plan is good for the file that it was made for only."""
    path = tmp_path / "conf"
    path.write_bytes(b"theirs")
    with pytest.raises(files.Changed):
        files.put(str(path), text_file(b"planned"), text_file(b"ours"))
    with pytest.raises(files.Changed):
        files.put(str(path), ABSENT, text_file(b"ours"))
    assert path.read_bytes() == b"theirs"


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "large"])
def test_what_is_not_plain_is_neither_read_nor_replaced(tmp_path: Path, kind: str) -> None:
    """A link leads elsewhere, a fifo makes us wait, and nobody has a configuration of a megabyte."""
    path, target = tmp_path / "conf", tmp_path / "target"
    target.write_bytes(b"precious")
    match kind:
        case "link":
            path.symlink_to(target)
        case "dangling":
            path.symlink_to(tmp_path / "nothing")
        case "fifo":
            os.mkfifo(path)
        case "large":
            path.write_bytes(b"x" * (files.MAX_FILE + 1))
    with pytest.raises(files.NotPlain):
        files.look(str(path))
    with pytest.raises(files.NotPlain):
        files.put(str(path), ABSENT, text_file(b"ours"))
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()


def test_directories(tmp_path: Path) -> None:
    """They are made with their mode, and removed only when they are empty."""
    path = str(tmp_path / "new")
    made = files.put(path, ABSENT, FileState("directory", b"", 0o700))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    (tmp_path / "new" / "something").touch()
    with pytest.raises(OSError, match="not empty"):
        files.put(path, made, ABSENT)
    (tmp_path / "new" / "something").unlink()
    assert files.put(path, made, ABSENT) == ABSENT
    assert files.missing_above(f"{tmp_path}/a/b/c") == [f"{tmp_path}/a", f"{tmp_path}/a/b"]


def test_directories_above_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``UNLATCH_CONFIG`` may be one; it counts from where we are."""
    monkeypatch.chdir(tmp_path)
    assert files.missing_above("conf") == []
    assert files.missing_above("a/b/conf") == [f"{tmp_path}/a", f"{tmp_path}/a/b"]
    files.put("conf", ABSENT, FileState("file", b"one\n", 0o600))
    assert files.look("conf").data == b"one\n"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """An owner that cannot be given is found out before the old file is gone."""
    path = tmp_path / "conf"
    path.write_bytes(b"old")
    before = files.look(str(path))
    with pytest.raises(OverflowError):
        files.put(str(path), before, before._replace(data=b"new", gid=2**40))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["conf"]


@pytest.fixture
def vault() -> Iterator[Situation]:
    """Another user with a home of their own, and root to look at it."""
    if os.getuid() != 0:
        absent("only root has another user's hands")
    home = tempfile.mkdtemp(prefix="unlatch-", dir="/tmp")  # pytest's own directory lets nobody else in
    os.chown(home, OTHER, OTHER)
    yield Situation("vault", OTHER, OTHER, home, f"{home}/.gnupg", {"PATH": "/bin"}, 0, __version__)
    shutil.rmtree(home)


def test_in_a_users_home_everything_is_done_as_that_user(vault: Situation) -> None:
    """What root makes there belongs to the user; what only root can read stays unread."""
    hands = hands_for(vault)
    assert isinstance(hands, UsersHands)
    hands.put(vault.gnupghome, ABSENT, FileState("directory", b"", 0o700))
    path = f"{vault.gnupghome}/gpg-agent.conf"
    made = hands.put(path, ABSENT, FileState("file", b"x\n", 0o600))
    assert (made.uid, made.gid, made.mode) == (OTHER, OTHER, 0o600)
    secret = Path(vault.home) / "secret"
    secret.write_bytes(b"root's")
    secret.chmod(0o600)
    with pytest.raises(PermissionError):
        hands.look(str(secret))
    assert hands.do(lambda: str((os.getresuid(), os.getresgid(), os.getgroups())).encode()) == (
        f"(({OTHER}, {OTHER}, {OTHER}), ({OTHER}, {OTHER}, {OTHER}), [{OTHER}])".encode()
    )


@pytest.mark.parametrize(("planted", "refusal"), [("file", files.NotPlain), ("directory", PermissionError)])
def test_a_users_link_leads_root_nowhere(
    vault: Situation, tmp_path: Path, planted: str, refusal: type[Exception]
) -> None:
    """A link to root's files in place of gpg-agent.conf, or of the whole home, changes and shows nothing of them."""
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o700)
    (precious / "gpg-agent.conf").write_bytes(b"root's own\n")
    home = Path(vault.gnupghome)
    if planted == "file":
        home.mkdir()
        (home / "gpg-agent.conf").symlink_to(precious / "gpg-agent.conf")
    else:
        home.symlink_to(precious)
    os.lchown(home, OTHER, OTHER)
    hands, path = hands_for(vault), f"{vault.gnupghome}/gpg-agent.conf"
    with pytest.raises(refusal):
        hands.look(path)
    with pytest.raises(refusal):
        hands.put(path, ABSENT, FileState("file", b"theirs\n", 0o600))
    assert (precious / "gpg-agent.conf").read_bytes() == b"root's own\n"
    assert os.listdir(precious) == ["gpg-agent.conf"]


def test_what_a_users_process_says_is_read_strictly(vault: Situation) -> None:
    """Too much, or anything else than was agreed on, is an error and nothing more."""
    hands = hands_for(vault)
    assert hands.do(lambda: b"x" * 60_000) == b"x" * 60_000
    with pytest.raises(Exception, match="too long"):
        hands.do(lambda: b"x" * 70_000)
    with pytest.raises(Exception, match="malformed"):
        hands.do(lambda: str(1 // 0).encode())
    with pytest.raises(IsADirectoryError):
        hands.do(lambda: Path("/").read_bytes())


STATES = st.one_of(
    st.just(ABSENT),
    st.builds(text_file, st.binary(max_size=30), st.sampled_from([0o600, 0o644, 0o640])),
)


@settings(max_examples=30)  # each writes to the disk, and waits for it
@given(st.lists(st.tuples(st.integers(0, 2), STATES), max_size=6))
def test_the_journal_leads_back(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, FileState]]) -> None:
    """Whatever is done to some files, one after the other, undoing the entries from the newest leads back."""
    folder = tmp_path_factory.mktemp("tree")
    (folder / "1").write_bytes(b"there before")
    (folder / "1").chmod(0o604)
    first = {name: files.look(f"{folder}/{name}") for name in ("0", "1", "2")}
    directory = f"{folder}/state/journal"
    with Journal(directory).held():
        pass
    assert not os.path.exists(f"{folder}/state")  # an empty journal leaves nothing
    for number, state in steps:
        kept = Journal(directory)
        with kept.held():
            change = Change(f"{folder}/{number}", files.look(f"{folder}/{number}"), state)
            kept.record(change)
            kept.done(change, files.put(change.path, change.before, change.after))
    kept = Journal(directory)
    with kept.held():
        for entry in reversed(list(kept.entries)):
            assert entry.change is not None
            files.put(entry.change.path, entry.change.after, entry.change.before)
            kept.forget(entry)
    assert {name: files.look(f"{folder}/{name}") for name in first} == first
    assert not os.path.exists(f"{folder}/state")


def test_a_file_that_was_edited_between_two_setups(tmp_path: Path) -> None:
    """Undoing stops at what somebody else wrote, as a whole; with the first original in its place, all is undone."""
    conf = tmp_path / "conf"
    conf.write_bytes(b"original")
    directory = str(tmp_path / "journal")

    def by_setup(data: bytes) -> None:
        kept = Journal(directory)
        with kept.held():
            change = Change(str(conf), files.look(str(conf)), text_file(data))
            kept.record(change)
            kept.done(change, files.put(change.path, change.before, change.after))

    def undo() -> Undo:
        return Undo(Journal(directory), find({}, 1, str(tmp_path)), {}, os.getuid(), "")

    by_setup(b"first")
    conf.write_bytes(b"first, edited")
    by_setup(b"second")
    with pytest.raises(ChangedSince) as raised:
        undo().plan()
    assert conf.read_bytes() == b"second"
    (conflict,) = raised.value.conflicts
    assert (conflict.since.before.data, conflict.since.after.data) == (b"first", b"first, edited")
    subprocess.run(["cp", "-p", conflict.original, conf], check=True)
    planned = undo().plan()
    assert [each.change for each in planned] == [None, None]
    last = Journal(directory)
    with last.held():
        Undo(last, find({}, 1, str(tmp_path)), {}, os.getuid(), "").perform(planned, lambda text: None)
    assert conf.read_bytes() == b"original"
    assert not os.path.exists(directory)


def test_a_secret_is_not_kept_in_the_journal(tmp_path: Path) -> None:
    """A hash is enough to see whether it was changed since; the journal is nobody's but its owner's."""
    kept = Journal(str(tmp_path / "journal"))
    with kept.held():
        change = Change(f"{tmp_path}/url", ABSENT, FileState("file", b"tgram://TOKEN", 0o600), secret=True)
        kept.record(change)
        kept.done(change, files.put(change.path, change.before, change.after))
        kept.record_units(Units("system", ("a.service",), ("a.service",), ("/run/a",)))
    everything = [path.read_bytes() for path in (tmp_path / "journal").iterdir()]
    assert not any(b"TOKEN" in content for content in everything)
    assert "TOKEN" not in "".join(changes.diff(change))
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "journal").iterdir()} == {0o600}
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700
    again = Journal(str(tmp_path / "journal"))
    assert again.entries == kept.entries
    assert again.entries[1].units == Units("system", ("a.service",), ("a.service",), ("/run/a",))


def test_a_change_that_was_never_made_is_harmless(tmp_path: Path) -> None:
    """The entry is on the disk first: a crash between the two leaves one that has nothing to undo."""
    kept = Journal(str(tmp_path / "journal"))
    with kept.held():
        kept.record(Change(f"{tmp_path}/conf", ABSENT, text_file(b"x")))  # and here the power fails
    (entry,) = Journal(str(tmp_path / "journal")).entries
    assert entry.change is not None
    assert files.look(entry.change.path).same(entry.change.before)


def test_two_setups_do_not_work_at_once(tmp_path: Path) -> None:
    """The second one says so, and takes nothing of the first one's away."""
    first, second = Journal(str(tmp_path / "journal")), Journal(str(tmp_path / "journal"))
    with first.held():
        first.record(Change(f"{tmp_path}/conf", ABSENT, text_file(b"x")))
        with pytest.raises(journal.Busy), second.held():
            pass
    assert len(Journal(str(tmp_path / "journal")).entries) == 1


def test_a_journal_that_cannot_be_read_undoes_nothing(tmp_path: Path) -> None:
    """Nor is it taken for an empty one."""
    kept = Journal(str(tmp_path / "journal"))
    with kept.held():
        kept.record(Change(f"{tmp_path}/conf", text_file(b"original"), text_file(b"x")))
    (tmp_path / "journal" / "0001.before").unlink()
    with pytest.raises(Exception, match="malformed journal"):
        Journal(str(tmp_path / "journal"))
    (tmp_path / "journal" / "journal.json").write_text("{}")
    with pytest.raises(Exception, match="malformed journal"):
        Journal(str(tmp_path / "journal"))


def test_differences_are_shown_as_people_know_them() -> None:
    """Also a last line without its end, a mode, and text that is none."""
    lines = list(changes.diff(Change("/f", text_file(b"a\nb"), text_file(b"a\nb\n\xff\n", 0o600))))
    assert "-b (no newline at the end)" in lines
    assert "+\\xff" in lines
    assert lines[-1] == "mode of /f: 0644 to 0600"
    assert Hands().user == ""


def test_colours_are_for_the_terminal_that_they_are_printed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error may be one while the plan of a dry run goes into a file."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    step = Step("x", "y", (Change("/conf", text_file(b"a"), text_file(b"b")),))
    assert "\x1b" not in "".join(showing.lines([step], whole=True, width=80))
    assert "\x1b" in "".join(showing.lines([step], whole=False, width=80))


@pytest.mark.parametrize(
    ("original", "now", "typed"),
    [
        (b"", b"edited", "mv -T /conf /conf.mine"),
        (b"first", b"edited", "mv -T /conf /conf.mine && cp -p /journal/1 /conf"),
        (b"first", None, "cp -p /journal/1 /conf"),
    ],
)
def test_what_to_type_for_a_file_that_was_changed(original: bytes, now: bytes | None, typed: str) -> None:
    """Also for one that somebody removed, where there is nothing to put aside."""
    since = Change("/conf", text_file(b"by setup"), ABSENT if now is None else text_file(now))
    assert aside(Conflict(since, "/journal/1" if original else "")) == typed


def test_a_relative_path_is_undone_from_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The journal is read by who may be in another directory."""
    monkeypatch.chdir(tmp_path)
    assert find({"UNLATCH_CONFIG": "rel.toml"}, 1, str(tmp_path)).config == f"{tmp_path}/rel.toml"
