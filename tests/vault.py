"""A user of a whole Debian with the package on it: real logins and logouts, and jobs that run beside them."""

import re
import shlex
import subprocess

from machine import Done, Machine
from packages import Packages
from real_gnupg import AGENT, GPG, LOOPBACK, PASSPHRASE
from waiting import until

NAME = "vault"
OWNER = "Vault <vault@web03.example>"
PLAINTEXT = b"s3cr3t of the database\n"
UNIT = f"unlatch-agent@{NAME}.service"
PYTHON = "/usr/lib/unlatch/bin/python3"
# What a job of ours does: find the one agent, and say which and where; or why not.
FIND = """
import os, sys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.errors import AgentTrouble
from unlatch.gnupg.homes import Home
home = Home.find(os.environ, os.getuid(), os.path.expanduser("~"))
try:
    with Agent.open(home, start=False) as agent:
        print(agent.pid, agent.socket)
except AgentTrouble as error:
    print(type(error).__name__, error)
    print(getattr(error, "command", ""))
"""
PRESET = """
import os, sys
from unlatch.gnupg import keys
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.homes import Home
from unlatch.secret import Secret
home = Home.find(os.environ, os.getuid(), os.path.expanduser("~"))
with Agent.open(home, start=False) as agent:
    for grip in sys.argv[2:]:
        keys.keep(agent, grip, Secret(sys.argv[1].encode()))
"""


class Vault:
    """Its GnuPG home has a key for each purpose; ``home`` is not GnuPG's default if it is given."""

    def __init__(self, machine: Machine, packages: Packages, home: str = "") -> None:
        self.machine = machine
        self._session: subprocess.Popen[bytes] | None = None
        machine.run("dpkg", "--install", machine.copy(packages.current().deb, "/tmp/unlatch.deb"))
        # As systemd does on a host, though not in a container: sandboxes see what is mounted later, /run/user/UID too.
        machine.run("mount", "--make-rshared", "/")
        machine.add_user(NAME)
        self.uid = int(machine.run("id", "-u", NAME).out)
        # logind leaves a user's systemd running for ten seconds after the last logout; that is not what is tested.
        machine.write("/etc/systemd/logind.conf.d/test.conf", "[Login]\nUserStopDelaySec=0\n")
        machine.run("systemctl", "restart", "systemd-logind")
        self.gnupg = home or f"/home/{NAME}/.gnupg"
        self._environ = {"GNUPGHOME": home} if home else {}
        self._make_key()

    def _make_key(self) -> None:
        conf = AGENT.format(pinentry="/bin/false").replace("disable-scdaemon\n", "") + "allow-preset-passphrase\n"
        self.run("sh", "-c", f"mkdir -m 700 {self.gnupg}; cat >{self.gnupg}/gpg-agent.conf", feed=conf.encode())
        gpg = [*GPG, *LOOPBACK]
        self.run(*gpg, "--quick-gen-key", OWNER, "future-default", "default", "never", feed=PASSPHRASE)
        listing = self.run(*GPG, "--list-keys", "--with-keygrip", "--with-colons").out
        fingerprint = re.findall(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)[0]
        self.run(*gpg, "--quick-add-key", fingerprint, "ed25519", "auth", "never", feed=PASSPHRASE)
        listing = self.run(*GPG, "--list-keys", "--with-keygrip", "--with-colons").out
        self.grips = re.findall(r"^grp:+([0-9A-F]{40}):", listing, re.MULTILINE)
        self.run("sh", "-c", f"cat >>{self.gnupg}/sshcontrol", feed=f"{self.grips[-1]}\n".encode())
        secret = f"{' '.join(GPG)} --trust-model always -e -r {shlex.quote(OWNER)} >secret.gpg"
        self.run("sh", "-c", f"cd; {secret}", feed=PLAINTEXT)
        self.run("gpgconf", "--kill", "gpg-agent")
        until(lambda: not self.agents(), "the end of the agent that made the key")

    def run(self, *command: str, feed: bytes = b"", check: bool = True, **environ: str) -> Done:
        """What a cron job of this user would do: no session, next to no environment."""
        return self.machine.run(*command, user=NAME, feed=feed, check=check, **(self._environ | environ))

    def service(self, *command: str, **properties: str) -> Done:
        """What a service of this user would do, sandboxed with these properties."""
        wanted = [f"--property={name}={value}" for name, value in properties.items()]
        environ = [f"--setenv={name}={value}" for name, value in self._environ.items()]
        run = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--uid={NAME}", *wanted, *environ]
        return self.machine.run(*run, *command, check=False)

    def own(self) -> None:
        """What the administrator does once: the host's unit owns the agent."""
        self.machine.run("systemctl", "enable", "--now", UNIT)

    def login(self) -> None:
        """The first session of this user, up to its prompt."""
        assert self._session is None
        self._session = self.machine.start("su", "-l", NAME, "-c", "echo ready; cat")
        assert self._session.stdout is not None
        assert self._session.stdout.readline() == b"ready\n"
        assert self.is_logged_in()

    def logout(self) -> None:
        """The end of the last session, up to the end of /run/user/UID."""
        assert self._session is not None
        self._session.communicate(timeout=30)
        self._session = None
        until(lambda: not self.is_logged_in(), "the end of /run/user/UID")

    def is_logged_in(self) -> bool:
        return (self.machine.root / f"run/user/{self.uid}").exists()

    def agents(self) -> list[int]:
        """The pids of all agents."""
        names = self.machine.shell("grep -lx gpg-agent /proc/[0-9]*/comm || :").out
        return sorted(map(int, re.findall(r"/proc/(\d+)/", names)))

    def wait_for_end_of(self, pid: int) -> None:
        """Wait for the end of an agent."""
        until(lambda: pid not in self.agents(), "the agent's end")

    def find(self) -> str:
        """Which agent a job of ours finds, as "PID SOCKET"; or why none."""
        return self.run(PYTHON, "-IB", "-c", FIND).out.strip()

    def unlock(self) -> None:
        """What a person does: all keys are usable now."""
        self.run(PYTHON, "-IB", "-c", PRESET, PASSPHRASE.decode(), *self.grips)
        assert self.is_unlocked()

    def is_unlocked(self) -> bool:
        """Does a job's gpg get its plaintext without anybody who is asked?"""
        done = self.run(
            "sh", "-c", f"cd; exec {' '.join(GPG)} --pinentry-mode cancel --decrypt secret.gpg", check=False
        )
        return (done.code, done.out.encode()) == (0, PLAINTEXT)
