"""A user's systemd of one's own: in private mount and process namespaces, for one script that a test runs in there."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from real import absent

SYSTEMD = "/lib/systemd/systemd"
# Lingering, as loginctl enable-linger makes it: this systemd does not end at anybody's logout.
_BEGIN = """
import json, os, pathlib, subprocess, sys, time
sys.path.insert(0, sys.argv[1])
os.makedirs("/run/user/0", mode=0o700)
os.makedirs("/run/systemd/system", exist_ok=True)
environ = {"XDG_RUNTIME_DIR": "/run/user/0", "HOME": sys.argv[2], "PATH": "/usr/bin:/bin"}
manager = subprocess.Popen(["/lib/systemd/systemd", "--user"], env=environ,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def systemctl(*arguments):
    return subprocess.run(["systemctl", "--user", *arguments], env=environ, capture_output=True, text=True).stdout

def timers():
    units = systemctl("list-units", "--all", "--plain", "--no-legend", "unlatch-grant-*.timer")
    return units.count("unlatch-grant")

end = time.monotonic() + 30
while systemctl("is-system-running").strip() not in ("running", "degraded"):
    assert time.monotonic() < end, "no systemd --user within 30 s"
    time.sleep(0.05)
"""
_END = """
manager.terminate()
manager.wait()
"""


_HOLD = """
print("ready", flush=True)
sys.stdin.read()
"""


class PrivateSystemd:
    """The same for a whole module of tests: ``enter`` is what brings a command to it. Directories stay as they are."""

    def __init__(self, folder: Path) -> None:
        script = _script(_HOLD, folder)
        self._process = subprocess.Popen(
            _inside(script, folder, lingers=True), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        # The first process of the namespace, which is a child of unshare.
        pid = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()[0]
        self.enter = ["nsenter", f"--target={pid}", "--mount", "--pid"]

    def timers(self) -> int:
        """How many timers will end a grant."""
        command = ["systemctl", "--user", "list-units", "--all", "--plain", "--no-legend", "unlatch-grant-*.timer"]
        reach = {"XDG_RUNTIME_DIR": "/run/user/0", "PATH": "/usr/bin:/bin"}
        done = subprocess.run([*self.enter, *command], env=reach, check=True, capture_output=True, text=True)
        return done.stdout.count("unlatch-grant")

    def close(self) -> None:
        """End it, and all that was started in it."""
        self._process.communicate(timeout=30)


def run(script: str, folder: Path, *, lingers: bool = True) -> Any:
    """Run a script beside a user's systemd; the JSON that it prints.

    It has ``environ``, ``systemctl(...)`` and ``timers()``, how many end a grant. ``folder`` is its home. The tests'
    own modules can be imported.
    """
    done = subprocess.run(
        _inside(_script(script, folder), folder, lingers=lingers),
        check=False, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _script(script: str, folder: Path) -> Path:
    if not os.path.exists(SYSTEMD) or os.getuid() != 0:
        absent("a private systemd needs systemd, and root")
    file = folder / "script.py"
    file.write_text(_BEGIN + textwrap.dedent(script) + _END)
    return file


def _inside(file: Path, folder: Path, *, lingers: bool) -> list[str]:
    mounts = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/systemd"
    linger = "mkdir -p /var/lib/systemd/linger && touch /var/lib/systemd/linger/root" if lingers else "true"
    command = f"{mounts} && {linger} && exec {sys.executable} {file} {Path(__file__).parent} {folder}"
    return ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", command]
