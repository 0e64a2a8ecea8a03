"""The whole command, as root, on a host that is set up as the manual says: the broker has a user and a directory of its
own, and a proxy before it.
"""

import json
import subprocess
from collections.abc import Iterator

import pytest
from certificates import self_signed
from house import PATH, UNLATCH, House
from nginx import Nginx
from private_network import PrivateNetwork
from real import real
from service_user import NAME, UID, ServiceUser
from test_doctor_host_page import HERE, PASS
from waiting import until

from unlatch.doctor import registry

SETTINGS = """
public_url = "https://{here}/web03/"
listen = "unix:{root}/page/page.sock"
[people.alex]
users = ["*"]
notify = ["phone"]
[notify.phone]
command = ["{root}/ring"]
[audit]
file = "{root}/log/audit.jsonl"
"""
# What is so here, and no mistake: no second way to a phone, the proxy on this host, no systemd; the clock is this
# machine's, and the asker's checks have tests of their own.
WARNINGS = {"one-notifier", "boot-order", "units", "clock"}


class Server:
    """A machine of its own, as far as files, users and network go; its broker is the host's, and runs as ``vault``."""

    def __init__(self, house: House) -> None:
        real("nginx")
        self.house = house
        self.certificate = self_signed(house.root, names=(HERE,))
        house.root.chmod(0o755)
        for name in ("log", "page", "etc"):
            (house.root / name).mkdir(mode=0o755)
        (house.root / "ring").write_text("#!/bin/sh\ncat >/dev/null\n")
        (house.root / "ring").chmod(0o755)
        self.user = ServiceUser(house)
        self.network = PrivateNetwork(f"{HERE}/32")
        passwd = f"unlatch:x:{UID}:{UID}::/:/usr/sbin/nologin"
        self.root(
            "mkdir -p /run/etc/upper /run/etc/work && cp /etc/passwd /run/passwd"
            " && mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc"
            f" && echo '{passwd}' | cat - /run/passwd > /etc/passwd && mkdir -p /etc/unlatch"
            f" && mkdir /run/unlatch /run/unlatch-admin && chown {UID}:{UID} /run/unlatch /run/unlatch-admin"
        )
        self.write(SETTINGS.format(here=HERE, root=house.root))
        location = f"location /web03/ {{ {PASS} }}".replace("{page}", f"{house.root}/page/page.sock")
        server = f"server {{ listen {HERE}:443 ssl; ssl_certificate {self.certificate};"
        server += f" ssl_certificate_key {self.certificate}; {location.replace('{path}', '/')} }}"
        self.nginx = Nginx(self.network, house.root / "nginx", server)
        self.broker = self.user.start("env", f"PATH={PATH}", "HOME=/", UNLATCH, "serve", "--system")
        until(lambda: self.root("test -S /run/unlatch-admin/admin.sock && echo yes || true"), "the broker")

    def write(self, settings: str) -> None:
        (self.house.root / "etc" / "unlatch.toml").write_text(settings)
        self.root(f"cp {self.house.root}/etc/unlatch.toml /etc/unlatch/ && chmod 644 /etc/unlatch/unlatch.toml")

    def root(self, script: str) -> str:
        """What root's shell says in there."""
        done = subprocess.run(
            ["nsenter", f"--mount=/proc/{self.user._holder.pid}/ns/mnt", "sh", "-ec", script],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def doctor(self, *arguments: str) -> dict[str, dict[str, str]]:
        """What ``unlatch doctor`` finds, by check."""
        words = [
            "nsenter", f"--mount=/proc/{self.user._holder.pid}/ns/mnt", f"--net=/proc/{self.network._pid}/ns/net",
            "env", "-i", f"PATH={PATH}", "HOME=/nonexistent", f"SSL_CERT_FILE={self.certificate}",
            str(UNLATCH), "doctor", "--json", *arguments,
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        return {each["check"]: each for each in json.loads(done.stdout)}

    def close(self) -> None:
        self.nginx.close()
        self.network.close()
        self.broker.terminate()
        self.broker.communicate(timeout=20)
        self.user.close()


@pytest.fixture
def server(house: House) -> Iterator[Server]:
    server = Server(house)
    yield server
    server.close()


def test_a_host_as_the_manual_has_it(server: Server) -> None:
    """Every check of the host's is told once or more, all is well but for what is known, and nobody was rung."""
    found = server.doctor("--as", NAME)
    assert {check.name for check in registry.HOST} <= found.keys()
    wrong = {check.name: found[check.name] for check in registry.HOST if found[check.name]["state"] != "ok"}
    assert wrong.keys() <= WARNINGS, wrong
    assert not any(each["state"] == "problem" for each in wrong.values()), wrong
    assert found["config"]["text"] == "/etc/unlatch/unlatch.toml has no mistakes"
    assert found["storage"]["text"].startswith("unlatch may write where it must; ")
    assert found["notifiers"]["text"] == "phone (command): not used since the broker's start"
    assert found["page-socket"]["text"].endswith(f" may open {server.house.root}/page/page.sock")
    assert "the proxy (203.0.113.7) is this very host" in found["boot-order"]["text"]
    assert server.root(f"cat {server.house.root}/log/audit.jsonl || true") == ""


def test_what_the_brokers_user_may_not_do_is_a_problem(server: Server) -> None:
    """Root could do all of it: run the program, write the log, read the file."""
    root = server.house.root
    server.root(f"chown 0:0 {root}/ring {root}/log && chmod 700 {root}/ring && chmod 700 {root}/log")
    server.root("chmod 600 /etc/unlatch/unlatch.toml")
    found = server.doctor("--as", NAME)
    assert found["notifiers"]["state"] == "problem"
    assert found["notifiers"]["text"] == f"phone (command): the broker's user may not run {root}/ring"
    assert (found["storage"]["state"], found["storage"]["hint"]) == ("problem", f"ls -ld {root}/log")
    assert found["config"]["state"] == "problem"
    assert found["config"]["hint"] == "chmod o+r /etc/unlatch/unlatch.toml"


def test_a_hosts_broker_that_is_down(server: Server) -> None:
    """Everything that hangs on it says so; what does not, is still judged."""
    server.broker.terminate()
    server.broker.communicate(timeout=20)
    found = server.doctor("--as", NAME)
    assert (found["broker"]["state"], found["broker"]["hint"]) == ("problem", "systemctl status unlatch.service")
    assert found["page"]["state"] == "problem"
    assert "answers 502" in found["page"]["text"]
    assert found["page-socket"]["state"] == "problem"
    assert found["certificate"]["state"] == "ok"
