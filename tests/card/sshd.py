"""Real sshd on the loopback of a card's namespace: own configuration, own host keys, own user, own port.

Nothing of the machine's is read or written but the program: not /etc/ssh, not PAM, nobody's home. The user stands in an
/etc/passwd that only this sshd sees.
"""

import subprocess
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from real import real
from waiting import until

from card.house import CardHouse
from card.rsa_keys import rsa_key

UID = 4243
_OUR_RSA_KEY = 100  # a number that no card of a test comes to
USER = "vault"
_KEYS = Path("/run/sshd-keys")
PORT = 2222  # the namespace has no other daemon, and one test at a time
# Login by key only, with our host keys. StrictModes checks who owns the file of keys, as on a real server.
_CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
{host_keys}
PidFile none
AuthorizedKeysFile {keys}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes yes
PermitUserEnvironment no
PrintMotd no
LogLevel VERBOSE
"""
_CLIENT = (
    "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "PreferredAuthentications=publickey",
    "-o", "ConnectTimeout=10",
)  # fmt: skip
# sshd wants a directory of its own in /run, and to be called by its whole name.
_START = 'mkdir -p -m 755 /run/sshd && mount --bind "$0" /etc/passwd && exec "$@"'


class SSHServer:
    """A server that a card's key may log in to; ``host_key``: "ed25519", "rsa", "ed25519 and rsa".

    ``keys`` is the directory of its authorized_keys.
    """

    def __init__(self, house: CardHouse, host_key: str = "ed25519") -> None:
        for program in ("ssh", "ssh-add", "ssh-keygen"):
            real(program)
        self.house = house
        self.root = house.root / "sshd"
        self.root.mkdir(mode=0o755)
        # Not in the house: sshd reads the keys as the user that logs in, and trusts no file below /tmp.
        self.keys = house.pcsc.place.run / _KEYS.name
        self.keys.mkdir(mode=0o755)
        (self.keys / "authorized_keys").touch(mode=0o644)
        passwd = self.root / "passwd"
        passwd.write_text(f"{Path('/etc/passwd').read_text()}{USER}:x:{UID}:{UID}::/:/bin/sh\n")
        host_keys = [self._host_key(kind) for kind in host_key.split(" and ")]
        settings = self.root / "sshd_config"
        lines = "\n".join(f"HostKey {key}" for key in host_keys)
        settings.write_text(_CONFIGURATION.format(port=PORT, host_keys=lines, keys=_KEYS))
        self.log = self.root / "log"
        self._daemon = house.start(
            "unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", _START, passwd,
            real("sshd"), "-D", "-f", settings, "-E", self.log,
        )  # fmt: skip
        until(self._listens, "sshd")

    @property
    def pid(self) -> int:
        """sshd's."""
        return self._daemon.pid

    def allow(self, public: str, options: str = "restrict") -> None:
        """Let this public key log in; ``options`` as in authorized_keys."""
        with (self.keys / "authorized_keys").open("a") as keys:
            keys.write(f"{options} {public}\n")

    def command(self, *command: str, options: tuple[str, ...] = ()) -> list[str]:
        """The words of a program that logs in and runs a command; ``options`` are ssh's."""
        known = ["-o", f"UserKnownHostsFile={self.root}/known_hosts", "-p", str(PORT)]
        return ["ssh", *_CLIENT, *known, *options, f"{USER}@127.0.0.1", *command]

    def login(self, *command: str, socket: str, options: tuple[str, ...] = ()) -> "subprocess.Popen[bytes]":
        """Log in and run a command, with the agent at this socket."""
        return self.house.start(*self.command(*command, options=options), SSH_AUTH_SOCK=socket)

    def _host_key(self, kind: str) -> Path:
        """A new private host key, "ed25519" or "rsa" with 3072 bits as ssh-keygen makes it, which clients know."""
        key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else rsa_key(3072, _OUR_RSA_KEY)
        path = self.root / f"host_{kind}"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
        )
        with (self.root / "known_hosts").open("a") as known:
            known.write(f"[127.0.0.1]:{PORT} {self.house.run('ssh-keygen', '-y', '-f', path).decode()}")
        return path

    def _listens(self) -> bool:
        assert self._daemon.poll() is None, self._daemon.communicate()
        return self.log.exists() and "Server listening" in self.log.read_text()


def agent_socket(house: CardHouse) -> str:
    """The ssh socket of the house's gpg-agent, which runs from now on."""
    house.run("gpgconf", "--launch", "gpg-agent")
    return house.run("gpgconf", "--list-dirs", "agent-ssh-socket").decode().strip()


def card_key(house: CardHouse, socket: str) -> str:
    """The public key of the card, as ssh-add shows it."""
    keys = house.run("ssh-add", "-L", SSH_AUTH_SOCK=socket).decode().splitlines()
    return next(key for key in keys if " cardno:" in key)
