"""Which broker an asker may trust: the directory and the peer, checked before a prompt leaves the process."""

import os
import socket

import pytest

from unlatch import runtime

UID = os.getuid()


@pytest.fixture
def listener(tmp_path):
    folder = tmp_path / "askers"
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "broker.sock"))
        server.listen()
        yield folder


def test_the_chosen_directory_wins_over_every_other_place():
    """UNLATCH_RUNTIME_DIR is the only candidate when it is set."""
    places = runtime.candidates(1001, {"UNLATCH_RUNTIME_DIR": "/somewhere"}, "/home/api")
    assert [place.askers for place in places] == ["/somewhere/askers/broker.sock"]


def test_a_service_user_without_runtime_directory_uses_its_state_directory_never_tmp():
    """Without /run/user/UID the sockets lie under the home, in two directories."""
    place = runtime.own(4_000_000, {}, "/home/api")
    assert place.askers == "/home/api/.local/state/unlatch/run/askers/broker.sock"
    assert place.admin == "/home/api/.local/state/unlatch/run/admin/admin.sock"
    assert os.path.dirname(place.askers) != os.path.dirname(place.admin)


def test_a_trusted_socket_connects(listener):
    """Own directory, own peer: connected, and the kernel names the peer."""
    with runtime.connect(str(listener / "broker.sock"), UID, host=False) as connection:
        assert runtime.peer(connection).uid == UID
        assert runtime.peer(connection).pid == os.getpid()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(listener, mode):
    """Whoever may write to the directory may exchange the socket."""
    listener.chmod(mode)
    with pytest.raises(runtime.Untrusted):
        runtime.connect(str(listener / "broker.sock"), UID, host=False)


def test_a_directory_behind_a_symbolic_link_is_refused(listener, tmp_path):
    """The directory itself is opened, never what a link points to."""
    (tmp_path / "link").symlink_to(listener)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        runtime.connect(str(tmp_path / "link" / "broker.sock"), UID, host=False)


def test_a_directory_of_somebody_else_is_refused(listener):
    """A directory that belongs to neither the asker nor root is refused, unless root made it the host broker's."""
    if UID != 0:
        pytest.skip("only root can give a directory away")
    os.chown(listener, 54321, 54321)
    with pytest.raises(runtime.Untrusted):
        runtime.connect(str(listener / "broker.sock"), 1001, host=False)
    runtime.connect(str(listener / "broker.sock"), 1001, host=True).close()


def test_a_peer_that_is_somebody_else_is_refused(listener):
    """The peer must be the asker, root, or the host broker's own user: here only uid 1001 and root would do."""
    if UID != 0:
        pytest.skip("only root can give a directory away")
    path = str(listener / "other.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        os.seteuid(54321)  # the kernel notes who listens when listen(2) is called
        server.listen()
        os.seteuid(0)
        with pytest.raises(runtime.Untrusted, match="uid 54321"):
            runtime.connect(path, 1001, host=False)


def test_a_path_longer_than_a_socket_address_works(tmp_path):
    """The directory is held open and used through /proc, so 107 bytes are no limit."""
    folder = tmp_path / ("d" * 120)
    folder.mkdir(mode=0o700)
    holder = os.open(folder, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{holder}/broker.sock")
        server.listen()
        runtime.connect(str(folder / "broker.sock"), UID, host=False).close()
    os.close(holder)


def test_a_full_backlog_is_waited_for_with_a_bound(tmp_path, monkeypatch):
    """A broker that accepts nobody costs a bounded time and ends in a plain error."""
    monkeypatch.setattr(runtime, "CONNECT_SECONDS", 0.05)
    tmp_path.chmod(0o700)
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(0)
        with runtime.connect(path, UID, host=False), pytest.raises(TimeoutError):
            runtime.connect(path, UID, host=False)


def test_private_directories_are_made_once_and_checked(tmp_path):
    """make_private creates 0700 and refuses what others may write to."""
    folder = str(tmp_path / "a" / "b")
    runtime.make_private(folder, UID)
    runtime.make_private(folder, UID)
    assert os.stat(folder).st_mode & 0o777 == 0o700
    os.chmod(folder, 0o777)
    with pytest.raises(runtime.Untrusted):
        runtime.make_private(folder, UID)


def test_parents_are_as_private(tmp_path):
    """With umask 002 a first start makes no directory that a later check refuses: the state directory is a parent."""
    before = os.umask(0o002)
    try:
        runtime.make_private(str(tmp_path / "unlatch" / "run" / "askers"), UID)
    finally:
        os.umask(before)
    for folder in ("unlatch", "unlatch/run", "unlatch/run/askers"):
        runtime.make_private(str(tmp_path / folder), UID)
        assert os.stat(tmp_path / folder).st_mode & 0o777 == 0o700
