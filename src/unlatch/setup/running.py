"""Run a program of the system's, bounded in time and output, and never with a terminal of ours."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

SECONDS = 60.0  # systemctl waits for a unit to start; a busy machine needs some seconds
_MAX_SAID = 65536  # bytes
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Said(NamedTuple):
    """Exit code (of a program that is missing: 127, of one that takes too long: 124) and all that it printed."""

    code: int
    text: str

    @property
    def last(self) -> str:
        """The last line that says something."""
        return next((line.strip() for line in reversed(self.text.splitlines()) if line.strip()), "")


def which(program: str) -> str:
    """The path of a program, also where the shell lacks the sbin directories; "" without it."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{PATH}") or ""


def run(command: Sequence[str], environ: Mapping[str, str] | None = None, seconds: float = SECONDS) -> Said:
    """Run it with little of our environment, and ``environ`` besides."""
    program = which(command[0])
    if not program:
        return Said(127, f"{command[0]} is not installed")
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "XDG_RUNTIME_DIR") if name in os.environ}
    process = subprocess.Popen(
        [program, *command[1:]], env={"PATH": PATH, **kept, **(environ or {})}, cwd="/", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return Said(124, f"{command[0]} takes longer than {seconds:.0f} s")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Said(process.returncode, said[-_MAX_SAID:].decode("utf-8", "replace"))
