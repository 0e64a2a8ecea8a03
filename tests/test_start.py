"""A broker on demand: one, in a clean process of its own, owned by the user's systemd where there is one."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time

import pytest
from waiting import listens

from unlatch import runtime, start

UID = os.getuid()


@pytest.fixture
def place():
    """An empty runtime directory; whatever broker was started in it is ended."""
    with tempfile.TemporaryDirectory(prefix="unlatch-start-") as folder:
        place = runtime.own(UID, {"UNLATCH_RUNTIME_DIR": folder}, folder)
        yield place
        for pid in brokers_of(folder):
            os.kill(pid, signal.SIGTERM)
        until(lambda: not brokers_of(folder))


def environ_of(place):
    return {"UNLATCH_RUNTIME_DIR": place.state, "HOME": place.state, "SECRET_OF_THE_CALLER": "x", "PATH": "/bin"}


def brokers_of(folder):
    wanted = f"UNLATCH_RUNTIME_DIR={folder}".encode()
    found = []
    for entry in os.listdir("/proc"):
        try:
            environ = pathlib.Path("/proc", entry, "environ").read_bytes().split(b"\0")
            command = pathlib.Path("/proc", entry, "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
        if wanted in environ and b"unlatch.broker.main" in command:
            found.append(int(entry))
    return found


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, f"not true within {seconds} s"
        time.sleep(0.01)
    return result


def status(place):
    """The broker's own word, over its admin socket."""
    with runtime.connect(place.admin, UID, host=False) as admin:
        admin.settimeout(10)
        admin.sendall(b'{"v":1,"op":"status"}\n')
        return json.loads(admin.makefile("rb").readline())


def test_the_broker_is_a_clean_process_of_its_own(place):
    """Own session, nobody's child, no variable or descriptor of the caller's, nothing on its standard streams."""
    leak_reader, leak_writer = os.pipe()
    os.set_inheritable(leak_writer, True)
    with start.connect(place, UID, environ_of(place)):
        (pid,) = until(lambda: brokers_of(place.state))
        assert os.getsid(pid) != os.getsid(0)
        parent = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        assert int(parent) != os.getpid()
        environ = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
        assert b"SECRET_OF_THE_CALLER" not in environ
        targets = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
        assert os.readlink(f"/proc/self/fd/{leak_writer}") not in targets.values()
        assert targets["0"] == targets["1"] == "/dev/null"
        assert targets["2"].endswith("/broker.log")
    os.close(leak_reader)
    os.close(leak_writer)


def test_a_second_asker_finds_the_first_ones_broker(place):
    """Connecting again starts nothing."""
    with start.connect(place, UID, environ_of(place)), start.connect(place, UID, environ_of(place)):
        until(lambda: listens(place.admin))
        assert brokers_of(place.state) == [status(place)["broker"]["pid"]]


def test_a_socket_that_a_dead_broker_left_is_replaced(place):
    """A stale socket refuses connections; the next asker starts over."""
    os.makedirs(os.path.dirname(place.askers), mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(place.askers)
    with start.connect(place, UID, environ_of(place)):
        assert len(until(lambda: brokers_of(place.state))) == 1


def test_a_link_in_place_of_the_lock_is_refused(place):
    """The lock is never opened through a symbolic link."""
    os.makedirs(os.path.dirname(place.lock), mode=0o700, exist_ok=True)
    os.symlink("/etc/hostname", place.lock)
    with pytest.raises(OSError, match="symbolic"):
        start.connect(place, UID, environ_of(place))
    assert not os.path.exists(place.askers)


IN_A_PRIVATE_SYSTEMD = textwrap.dedent("""
    import json, os, pathlib, subprocess, sys, time
    from unlatch import runtime, start

    os.makedirs("/run/user/0", mode=0o700)
    os.makedirs("/run/systemd/system", exist_ok=True)
    environ = {"XDG_RUNTIME_DIR": "/run/user/0", "HOME": sys.argv[1], "PATH": "/usr/bin:/bin"}
    manager = subprocess.Popen(["/lib/systemd/systemd", "--user"], env=environ,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 90
    while subprocess.run(["systemctl", "--user", "is-system-running"], env=environ,
                         capture_output=True).stdout.strip() not in (b"running", b"degraded"):
        assert time.monotonic() < end, "no systemd --user within 90 s"
        time.sleep(0.05)
    place = runtime.own(0, {}, sys.argv[1])
    with start.connect(place, 0, environ) as connection:
        connection.sendall(b'{"v":1,"op":"nonsense"}\\n')
        connection.settimeout(20)
        reply = json.loads(connection.makefile("rb").readline())
        shown = subprocess.run(["systemctl", "--user", "show", "-p", "MainPID,ActiveState", "unlatch-broker.service"],
                               env=environ, capture_output=True, text=True).stdout
        pid = dict(line.split("=") for line in shown.split())["MainPID"]
        parent = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        print(json.dumps({"reply": reply["event"], "manager": manager.pid, "parent": int(parent)}))
    manager.terminate()
    manager.wait()
""")


def test_the_users_systemd_owns_the_broker(tmp_path):
    """Where the user has a systemd, the broker is its service, not a child of whatever service asked first."""
    if not os.path.exists("/lib/systemd/systemd"):
        assert not os.environ.get("CI"), "systemd is missing"
        pytest.skip("no systemd")
    script = tmp_path / "script.py"
    script.write_text(IN_A_PRIVATE_SYSTEMD)
    command = f"mount -t tmpfs tmpfs /run && exec {sys.executable} {script} {tmp_path}"
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    done = subprocess.run(
        [*namespaces, "sh", "-c", command],
        check=False, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["reply"] == "refused"
    assert seen["parent"] == seen["manager"]
