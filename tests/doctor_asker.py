"""Doctor's checks of the asking user, made for a house; and the command itself for a service user of that house."""

import json
import pwd
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from house import PATH, UNLATCH, House
from service_user import NAME, ServiceUser

from unlatch import __version__
from unlatch.doctor.check import Check, Finding, Situation


def situation(house: House, **changes: Any) -> Situation:
    """The house's own user, who also calls doctor; its broker is found by the environment."""
    entry = pwd.getpwuid(house.uid)
    bare = {"GNUPGHOME": str(house.gnupg), "PATH": PATH}
    places = {"UNLATCH_RUNTIME_DIR": str(house.runtime), "UNLATCH_CONFIG": str(house.settings)}
    made = Situation(
        entry.pw_name, house.uid, entry.pw_gid, str(house.root), str(house.gnupg), bare | places, house.uid, __version__
    )
    return made._replace(**changes)


def look(check: Check[Any], house: House, **changes: Any) -> Finding:
    """What this check finds in the house: probe and judge."""
    here = situation(house, **changes)
    (finding,) = check.findings(check.probe(here), here)
    return finding


def configure_agent(house: House, *lines: str) -> Path:
    """Write gpg-agent.conf."""
    conf = house.gnupg / "gpg-agent.conf"
    conf.write_text("".join(f"{line}\n" for line in ("disable-scdaemon", *lines)))
    return conf


def start_agent(house: House) -> int:
    """Start the house's agent; its pid."""
    house.run("gpgconf", "--launch", "gpg-agent")
    return int(house.run("gpg-connect-agent", "GETINFO pid", "/bye").split()[1])


class Done(NamedTuple):
    """What doctor said: exit code, findings by the names of their checks (with --json), and its output."""

    code: int
    findings: dict[str, Finding]
    out: str
    err: str


class Patient(ServiceUser):
    """A service user, for whom root calls doctor where that user lives. The house's GNUPGHOME is its ~/.gnupg."""

    def __init__(self, house: House) -> None:
        house.gnupg = house.gnupg.rename(house.root / ".gnupg")
        super().__init__(house)

    def doctor(self, *arguments: str | Path) -> Done:
        """``unlatch doctor --json --as`` this user, called by root."""
        done = self.root(UNLATCH, "doctor", "--json", "--as", NAME, *arguments)
        found = [Finding(**each) for each in json.loads(done.stdout)] if done.stdout else []
        return Done(done.returncode, {each.check: each for each in found}, done.stdout, done.stderr)

    def start_as_root(self, *command: str | Path) -> "subprocess.Popen[bytes]":
        """Start a program as root where this user lives."""
        return subprocess.Popen(
            ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", *map(str, command)],
            env={"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}, cwd="/", start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def root(self, *command: str | Path, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run a program as root where this user lives."""
        return subprocess.run(
            ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", *map(str, command)],
            env={"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"} | environ, cwd="/", start_new_session=True,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
