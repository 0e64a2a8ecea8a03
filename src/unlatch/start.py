"""Start a user's broker on demand: exactly one, however many askers want it at once.

The asker that wins the lock binds and listens, and only then starts the broker and hands it the socket. So every other
asker can connect (the kernel queues it) before the broker runs, and there is never a moment to race for.
"""

import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Mapping

from unlatch import runtime

BACKLOG = 4096
_KEPT = ("HOME", "USER", "LOGNAME", "LANG", "XDG_CONFIG_HOME", "UNLATCH_RUNTIME_DIR", "UNLATCH_CONFIG")
_PATH = "/usr/local/bin:/usr/bin:/bin"
# -IS keeps site-packages and the environment out of the broker's imports; the asker's own path list is passed on.
_BOOT = "import sys; sys.path += sys.argv.pop(1).split(':'); from unlatch.broker.main import main; main(sys.argv[1:])"


def connect(place: runtime.Runtime, uid: int, environ: Mapping[str, str]) -> socket.socket:
    """Connect to the user's broker, starting it if nobody listens.

    Raises:
        OSError: the directories, the lock or the socket cannot be made, or no process can be started.
        Untrusted: the directories are somebody else's.
    """
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        return runtime.connect(place.askers, uid, host=False)
    for folder in (os.path.dirname(place.askers), os.path.dirname(place.admin), place.state):
        runtime.make_private(folder, uid)
    lock = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return runtime.connect(place.askers, uid, host=False)  # somebody was faster
        if not _start_by_systemd(place, uid, environ):
            _start_directly(place, environ)
        return runtime.connect(place.askers, uid, host=False)
    finally:
        os.close(lock)


def _start_directly(place: runtime.Runtime, environ: Mapping[str, str]) -> None:
    """Bind, listen, and start a broker that outlives us: own session, clean environment, only the socket inherited."""
    import subprocess

    folder, name = os.path.split(place.askers)
    holder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    log = os.open(f"{place.state}/broker.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            _unlink(place.askers)
            listener.bind(f"/proc/self/fd/{holder}/{name}")
            listener.listen(BACKLOG)
            number = listener.fileno()
            command = [*_command(), "--asker-fd", str(number), "--lock", place.lock]
            # The shell between us makes the broker nobody's child, so that no caller of ours ever sees it as its own.
            subprocess.run(
                ["/bin/sh", "-c", '"$0" "$@" &', *command],
                check=True, cwd="/", env=_environment(environ), start_new_session=True, pass_fds=(number,),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip
    finally:
        os.close(log)
        os.close(holder)


def _start_by_systemd(place: runtime.Runtime, uid: int, environ: Mapping[str, str]) -> bool:
    """Let the user's systemd own the broker, so that it does not die with the service that happened to ask first."""
    if not place.askers.startswith(f"/run/user/{uid}/") or not os.path.exists(f"/run/user/{uid}/systemd/private"):
        return False
    import subprocess

    kept = [f"--setenv={name}={value}" for name, value in _environment(environ).items()]
    command = [
        "systemd-run", "--user", "--quiet", "--collect", "--unit=unlatch-broker",
        f"--socket-property=ListenStream={place.askers}", "--socket-property=FileDescriptorName=askers",
        f"--socket-property=Backlog={BACKLOG}", "--socket-property=SocketMode=0600", *kept, *_command(),
    ]  # fmt: skip
    reach = {"XDG_RUNTIME_DIR": f"/run/user/{uid}", "PATH": _PATH}
    try:
        done = subprocess.run(command, check=False, env=reach, timeout=5, stdin=subprocess.DEVNULL, capture_output=True)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _command() -> list[str]:
    return [sys.executable, "-IS", "-c", _BOOT, ":".join(path for path in sys.path if path), "--on-demand"]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": _PATH} | {name: environ[name] for name in _KEPT if name in environ}


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
