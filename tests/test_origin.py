"""Who asks: processes are read as they are, and what cannot be known is unknown, never dead."""

import os
import signal
import subprocess
import sys

import pytest
from real import real

from unlatch import origin
from unlatch.prompt import AskerInfo

HERE = os.uname().nodename


@pytest.fixture
def parent():
    """The process that runs this one, as an owner: it is older, and lives."""
    who = origin.owner(f"{os.getppid()} {HERE}", HERE)
    assert who is not None
    yield who
    os.close(who.pidfd)


@pytest.mark.parametrize(
    "option",
    [
        "",
        HERE,
        f"0 {HERE}",
        f"-1 {HERE}",
        f"1x {HERE}",
        f"१ {HERE}",
        f"99999999999999999999 {HERE}",
        f"{os.getppid()} another-host",
        f"/0 {HERE}",
    ],
)
def test_an_owner_that_cannot_be_ours_is_unknown(option):
    """No pid, no number, or another host's."""
    assert origin.owner(option, HERE) is None


@pytest.mark.parametrize("option", [f"{os.getppid()} {HERE}", f"{os.getppid()}/1000 {HERE}", f"{os.getppid()}"])
def test_the_owner_as_gnupg_names_it(option):
    """gpg-agent 2.2 says pid and host, later ones the uid too."""
    who = origin.owner(option, HERE)
    assert who is not None
    assert who.pid == os.getppid()
    assert not origin.ended(who.pidfd)
    os.close(who.pidfd)


def test_a_process_younger_than_this_one_is_not_the_owner():
    """gpg-agent had its client before it started us: such a pid means somebody else here."""
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            assert origin.owner(f"{child.pid} {HERE}", HERE) is None
        finally:
            child.kill()


def test_a_pid_that_is_nobody_here_is_unknown():
    """A dead process, or one of another namespace: unknown."""
    with subprocess.Popen(["true"]) as child:
        pass
    assert origin.owner(f"{child.pid} {HERE}", HERE) is None


def in_child(code, *wrapper):
    """What ``code`` prints in a fresh Python, which is younger than everything here."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-c", f"import os\nfrom unlatch import origin\n{code}"],
        check=True, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_pid_of_another_namespace_is_unknown():
    """Inside a container the host's pids mean nothing: our own pid is no owner there."""
    unshare = real("unshare")
    code = f"print(origin.owner('{os.getpid()} {HERE}', {HERE!r}))"
    assert in_child(code) != "None"
    try:
        subprocess.run([unshare, "-Urpf", "--mount-proc", "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        pytest.skip("namespaces are not allowed here")
    assert in_child(code, unshare, "-Urpf", "--mount-proc") == "None"


def test_the_owners_end_is_seen():
    """The pidfd is readable as soon as the process has ended, and not before."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as owner:
        code = (
            f"who = origin.owner('{owner.pid} {HERE}', {HERE!r})\n"
            "print(origin.ended(who.pidfd), flush=True)\n"
            f"os.kill({owner.pid}, {int(signal.SIGKILL)})\n"
            "import select; select.select([who.pidfd], [], [], 20)\n"
            "print(origin.ended(who.pidfd), origin.asker_info(who).chain)"
        )
        assert in_child(code).split("\n") == ["False", "True ()"]


def test_the_chain_goes_up_to_what_started_it():
    """From the owner upwards; a script is called by its file's name, and what was typed is kept."""
    chain = "import os; from unlatch import origin; h = os.uname().nodename\n"
    chain += "who = origin.owner(f'{os.getppid()} {h}', h); print(origin.asker_info(who).chain)"
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1"; true', sys.executable, chain], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("(Process(pid=")
    assert "name='sh', args='sh -c " in done.stdout
    assert f"pid={os.getpid()}," in done.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "shown"),
    [
        ("bash", ["bash", "bin/pass", "sql-root"], "pass"),
        ("python3.11", ["/usr/bin/python3", "{here}/bin/borg", "create"], "borg"),
        ("python3.11", ["python3", "secret"], "python3.11"),
        ("bash", ["bash", "-c", "secret"], "bash"),
        ("bash", ["bash", "--secret"], "bash"),
        ("bash", ["bash"], "bash"),
        ("bash", [""], "bash"),
        ("sh", ["sh", "/"], "sh"),
        ("sh", ["sh", "x\ud800"], "sh"),
        ("python-backup", ["python-backup", "bin/pass"], "python-backup"),
        ("shush", ["shush", "bin/pass"], "shush"),
        ("gpg", ["gpg", "bin/pass"], "gpg"),
    ],
)
def test_a_script_has_its_own_name(name, arguments, shown, tmp_path, monkeypatch):
    """The person knows "pass", not what it is written in; what is no script's file may be a secret and is no name."""
    (tmp_path / "bin").mkdir()
    for script in ("pass", "borg"):
        (tmp_path / "bin" / script).touch()
    (tmp_path / "-x").touch()
    monkeypatch.chdir(tmp_path)
    assert origin._name(os.getpid(), name, [text.replace("{here}", str(tmp_path)) for text in arguments]) == shown


@pytest.mark.parametrize(("reused", "length"), [(10, 0), (11, 1), (12, 2), (0, 3)])
def test_a_pid_that_was_given_away_cuts_the_chain(reused, length, monkeypatch):
    """Each process is still the one that it was, by its start time, after it and its parent were read."""
    looks = dict.fromkeys((10, 11, 12), 0)

    def stat(pid):
        looks[pid] += 1
        return origin._Stat("sh", 1 if pid == 12 else pid + 1, 5 + (pid == reused and looks[pid] > 1))

    monkeypatch.setattr(origin, "_stat", stat)
    assert [process.pid for process in origin._chain(origin.Owner(10, -1))] == [10, 11, 12][:length]


def test_an_unknown_owner_is_told_as_unknown():
    """Terminal and user data stay, as the agent said them."""
    assert origin.asker_info(None, tty="/dev/pts/1", user_data="x") == AskerInfo(tty="/dev/pts/1", user_data="x")


def test_nothing_unprintable_reaches_the_page(parent):
    """Control characters and names that are not UTF-8 are replaced."""
    info = origin.asker_info(parent, tty="/dev/\udcff\x1b", user_data="a\nb\u202e")
    assert info.tty == "/dev/\ufffd\ufffd"
    assert info.user_data == "a\ufffdb\ufffd"
    assert info.chain[0].pid == os.getppid()


def test_what_is_shown_is_bounded():
    """A terminal's name and user data of any length fit on the page."""
    info = origin.asker_info(None, tty="/" * 9999, user_data="x" * 9999)
    assert len(info.tty) == len(info.user_data) == origin.MAX_SHOWN


@pytest.mark.parametrize(
    ("cgroup", "named"),
    [
        ("0::/system.slice/backup.service\n", ("backup.service", "")),
        ("0::/system.slice/backup.service/payload\n", ("backup.service", "")),
        ("0::/system.slice/system-backup.slice/backup@db.service\n", ("backup@db.service", "")),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", ("session-3.scope", "")),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/b.service\n", ("user@1000.service", "b.service")),
        ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", ("user@1000.service", "init.scope")),
        ("12:pids:/x\n1:name=systemd:/system.slice/old.service\n0::/\n", ("old.service", "")),
        ("1:name=systemd:/system.slice/old.service\n", ("old.service", "")),
        ("0::/system.slice/a:b.service\n", ("a:b.service", "")),
        ("0::/docker/0123\n", ("", "")),
        ("0::/\n", ("", "")),
        ("", ("", "")),
        ("garbage\n::\n", ("", "")),
    ],
)
def test_units(cgroup, named):
    """The system's unit and the user's own apart, in both cgroup layouts; subgroups are no units."""
    assert origin.units(cgroup) == named
