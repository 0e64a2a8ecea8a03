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


def run(script: str, folder: Path, *, lingers: bool = True) -> Any:
    """Run a script beside a user's systemd; the JSON that it prints.

    It has ``environ``, ``systemctl(...)`` and ``timers()``, how many end a grant. ``folder`` is its home. The tests'
    own modules can be imported.
    """
    if not os.path.exists(SYSTEMD) or os.getuid() != 0:
        absent("a private systemd needs systemd, and root")
    file = folder / "script.py"
    file.write_text(_BEGIN + textwrap.dedent(script) + _END)
    mounts = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/systemd"
    linger = "mkdir -p /var/lib/systemd/linger && touch /var/lib/systemd/linger/root" if lingers else "true"
    tests = str(Path(__file__).parent)
    command = f"{mounts} && {linger} && exec {sys.executable} {file} {tests} {folder}"
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", command],
        check=False, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
