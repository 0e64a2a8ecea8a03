"""The guides of docs/guides, typed as they stand into whole Debians with systemd, and out again.

The guide of backups over SSH has tests/test_guide_card_backups.py. Settings, Caddyfiles, commands and links of all are
held against the code by tests/test_docs.py.
"""

import contextlib
import hashlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from guide import GUIDES, Walk, blocks
from machine import PATH, Machine
from packages import Packages
from phone import Phone
from real import real
from real_gnupg import PASSPHRASE as KEY
from real_gnupg import PLAINTEXT, finish
from tenant import Tenant, open_on_host
from terminal import Terminal
from test_setup_host import CADDYFILE, FETCH, with_caddy
from waiting import listens, until

PASSPHRASE = b"correct horse battery 5taple"
SECRET = "the password of the database\n"
UNITS = ["unlatch.service", "unlatch.socket", "unlatch-admin.socket", "unlatch-page.socket"]
# Guides whose blocks all are typed below, but for these, by heading: what is not, and why.
NOT_TYPED = {
    "first-ring.md": {"5. After each boot": "systemctl reboot: this systemd may not, and its files are in memory"},
    "many-hosts.md": {},
    "no-public-name.md": {"C. Nothing but ssh": "ssh -t and ssh -L wait for a person; test_answering.py answers so"},
    "other-users.md": {},
    "containers.md": {
        "Run": "docker build and docker run need an engine and an image; a namespace does the same below"
    },
    "boot-order.md": {"3. ssh, and an answer": "ssh -t waits for a person; test_answering.py answers so"},
    "upgrade.md": {},
    "removal.md": {},
}
BY_OTHERS = {"README.md", "backups-over-ssh-with-a-card.md"}


def host_with(machine: Machine, packages: Packages) -> tuple[Phone, dict[str, str]]:
    """A bare host with the package in root's home; the phone, and what stands for the world that is not there."""
    machine.copy(packages.current().deb, f"/root/{packages.current().deb.name}")
    (machine.root / "var/lib/unlatch").mkdir()  # the one place where the broker's sandbox lets it write
    phone = Phone(machine.root / "var/lib/unlatch/phone", "/var/lib/unlatch/phone")
    phone.directory.chmod(0o777)
    machine.write("/usr/local/bin/ring", f"#!/bin/sh\nexec {shlex.join(phone.command)}\n", 0o755)
    instead = {
        "apt install caddy gnupg": "apt-get install --yes --reinstall",
        "apt install ./": "apt-get install --yes --reinstall ./",
        '"ntfy=$topic"': "command=/usr/local/bin/ring",
        "ntfy=https://ntfy.example.org/unlatch-alex": "command=/usr/local/bin/ring",
    }
    return phone, instead


def with_name(machine: Machine) -> None:
    """In the place of DNS and a public authority: the machine resolves the name, and trusts its Caddy's authority."""
    machine.shell("echo 127.0.0.1 unlock.example.org >>/etc/hosts")
    root = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"
    machine.shell(f"cp {root} /usr/lib/ssl/cert.pem && chmod 644 /usr/lib/ssl/cert.pem")


def states(machine: Machine, question: str) -> list[str]:
    return machine.run("systemctl", question, *UNITS, check=False).out.split()


def everything_typed(*walks: Walk) -> None:
    """But for what is left out on purpose."""
    assert [block for walk in walks for block in walk.left] == []


def test_no_guide_is_forgotten() -> None:
    """Each guide is typed by a test, and each of its blocks says where it is typed and as whom; the index has it."""
    names = {path.name for path in GUIDES.glob("*.md")}
    assert names == NOT_TYPED.keys() | BY_OTHERS
    index = (GUIDES / "README.md").read_text()
    for name in names - {"README.md"}:
        assert f"]({name})" in index
    for name, left_out in NOT_TYPED.items():
        headings = {block.heading for block in blocks(name)}
        assert left_out.keys() <= headings, name


@pytest.mark.parametrize("name", sorted(name for name in NOT_TYPED if "```nginx" in (GUIDES / name).read_text()))
def test_nginx(name: str, tmp_path: Path) -> None:
    """nginx takes each location in a server block, as the guide says."""
    for block in blocks(name):
        if block.language == "nginx":
            file = tmp_path / "nginx.conf"
            site = f"http {{ server {{ listen unix:{tmp_path}/s; {block.text} }} }}"
            file.write_text(f"pid {tmp_path}/pid; error_log {tmp_path}/log; events {{ }} {site}")
            command = [real("nginx"), "-t", "-c", str(file), "-e", f"{tmp_path}/log"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            assert done.returncode == 0, done.stderr


def test_from_the_first_ring_to_removal(machine: Machine, packages: Packages) -> None:
    """Ten minutes on a bare host with Caddy; a new version; then out again, and gpg works as before."""
    with_caddy(machine)
    with_name(machine)
    phone, instead = host_with(machine, packages)
    walk = Walk(machine, "first-ring.md", instead)
    walk.type_in("1. Install")

    setting_up = walk.start("2. Set up")
    ring = phone.ring()
    assert ring["link"].startswith("https://unlock.example.org/web03/")
    path = ring["link"].removeprefix("https://unlock.example.org").partition("#")[0]
    assert machine.run("python3", "-c", FETCH, path).out == "200 True\n"
    open_on_host(machine, ring["link"]).allow()
    code, out, err = finish(setting_up)
    assert (code, out.splitlines()[-1]) == (0, b"answered (command delivered it)"), err

    walk.type_in("2. Set up")
    making = walk.start("3. The first passphrase")
    page = open_on_host(machine, phone.ring(2)["link"])
    page.unlock(PASSPHRASE)
    assert finish(making)[0] == 0
    walk.type_in("3. The first passphrase")
    asking = walk.start("3. The first passphrase")
    answer(machine, phone, 3)
    assert finish(asking)[:2] == (0, SECRET.encode())
    rings = len(phone.messages("ring"))
    assert machine.run("runuser", "-l", "api", "-c", "gpg --batch --decrypt sql-root.gpg").out == SECRET
    assert len(phone.messages("ring")) == rings

    doctor = walk.type_in("4. Will it work tonight?")
    said = re.findall(r"^(WARNING|PROBLEM|UNKNOWN) +(\S+)", doctor.out, re.M)
    # This machine has no time server, and its name is in /etc/hosts. The others are those that the guide expects.
    expected = ["clock", "one-notifier", "page", "boot-order"]
    assert (doctor.code, said) == (0, [("WARNING", name) for name in expected]), doctor.out
    rehearsal = walk.start("4. Will it work tonight?")
    answer(machine, phone, 4)
    assert finish(rehearsal)[0] == 0

    unlocking = walk.start("5. After each boot")
    answer(machine, phone, 5)
    assert finish(unlocking)[0] == 0
    walk.type_in("5. After each boot")
    walk.leave_out("5. After each boot")
    machine.shell("unlatch lock", user="api")
    machine.run("systemctl", "start", "--no-block", "unlatch-key@api.service")
    answer(machine, phone, 6)
    until(lambda: machine.run("unlatch", "key", "check", "api@web03", user="api", check=False).code == 0, "the key")
    unit = walk.shown("ini", "5. After each boot")[0]
    assert verified(machine, "job.service", f"{unit}[Service]\nExecStart=/bin/true\n") == ""
    everything_typed(walk)

    boot_order(machine, instead)
    upgrade(machine, packages, phone, instead)
    remove(machine, instead)


def answer(machine: Machine, phone: Phone, number: int) -> None:
    """Give the passphrase on the phone."""
    page = open_on_host(machine, phone.ring(number)["link"])
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"


def verified(machine: Machine, name: str, text: str) -> str:
    """What systemd murmurs about a unit."""
    machine.write(f"/etc/systemd/system/{name}", text)
    done = machine.run("systemd-analyze", "verify", "--man=no", f"/etc/systemd/system/{name}")
    return done.out + done.err


def boot_order(machine: Machine, instead: dict[str, str]) -> None:
    """Nothing waits for a key that must not; and the key is unlocked at a terminal without a broker."""
    walk = Walk(machine, "boot-order.md", instead)
    said = walk.type_in("1. Find out what waits for whom").out
    assert "less /usr/share/doc/unlatch/docs/guides/boot-order.md" in said
    assert (machine.root / "usr/share/doc/unlatch/docs/guides/boot-order.md").exists()
    assert "caddy waits for no key" in said
    machine.write("/etc/systemd/system/caddy.service.d/key.conf", "[Unit]\nRequires=unlatch-key@api.service\n")
    machine.run("systemctl", "daemon-reload")
    again = Walk(machine, "boot-order.md", instead).type_in("1. Find out what waits for whom").out
    assert "caddy waits for no key" not in again
    assert "unlatch-key@api.service" in again
    machine.shell("rm -r /etc/systemd/system/caddy.service.d; systemctl daemon-reload")
    walk.leave_out("3. ssh, and an answer")

    machine.shell("unlatch lock", user="api")
    machine.run("systemctl", "stop", *UNITS)
    script = walk.leave_out("4. Break glass")
    # Not "runuser -l api -c", which takes the terminal away.
    become = ["setpriv", "--reuid=api", "--regid=api", "--init-groups", "--", "sh", "-c", script]
    console: list[str | Path] = ["nsenter", f"--target={machine.pid}", "--all", "--", *become]
    with Terminal(console, {"PATH": PATH, "TERM": "dumb", "HOME": "/home/api", "LANG": "C.UTF-8"}) as terminal:
        terminal.expect("assphrase:")
        terminal.type(f"{PASSPHRASE.decode()}\n")
        assert terminal.end() == 0, terminal.screen
    machine.run("unlatch", "key", "check", "api@web03", user="api")
    machine.run("systemctl", "start", "unlatch.service")
    walk.type_in("5. Rehearse")
    everything_typed(walk)


def upgrade(machine: Machine, packages: Packages, phone: Phone, instead: dict[str, str]) -> None:
    """A prompt is open all the while."""
    machine.shell("unlatch lock", user="api")
    job = machine.start("runuser", "-l", "api", "-c", "gpg --batch --decrypt sql-root.gpg")
    link = phone.ring(7)["link"]
    before = machine.run("systemctl", "show", "-P", "MainPID", "unlatch.service").out
    walk = Walk(machine, "upgrade.md", instead)
    said = walk.type_in("A new version").out
    assert "broker-version" in said
    assert machine.run("systemctl", "show", "-P", "MainPID", "unlatch.service").out != before
    walk.type_in("unlatch.toml")
    assert states(machine, "is-active") == ["active"] * 4
    # What it says of enabling the page's socket while the broker runs.
    machine.run("systemctl", "disable", "--now", "unlatch-page.socket")
    machine.run("systemctl", "start", "unlatch.service")
    assert machine.run("systemctl", "enable", "--now", "unlatch-page.socket", check=False).code != 0
    walk.type_in("unlatch-page.socket")
    assert states(machine, "is-active") == ["active"] * 4
    assert states(machine, "is-enabled") == ["enabled"] * 4
    page = until(lambda: open_on_host(machine, link), "the link on the new broker")
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(job)[:2] == (0, SECRET.encode())
    everything_typed(walk)


def remove(machine: Machine, instead: dict[str, str]) -> None:
    """What the guide finds, and nothing of ours afterwards."""
    walk = Walk(machine, "removal.md", {"apt install pinentry-curses": "true"})
    # "key unlock --configure" completed gpg-agent.conf, which is no change of somebody else's; this one is.
    machine.shell("runuser -l api -c 'echo \"# mine\" >>.gnupg/gpg-agent.conf'")
    refused = walk.type_in("1. What setup did", check=False)
    assert (refused.code, "nothing was undone" in refused.err) == (1, True), refused
    machine.shell(re.findall(r"hint: (.*mv .*)", refused.err)[-1])
    walk = Walk(machine, "removal.md", walk.instead)
    assert walk.type_in("1. What setup did").out.endswith("undone\n")
    assert states(machine, "is-active") == ["inactive"] * 4
    walk.type_in("1. What setup did")
    walk.type_in("2. What you did by hand")
    walk.type_in("2. What you did by hand")
    walk.type_in("3. The package")
    walk.type_in("4. gpg works as before")
    walk.type_in("4. gpg works as before")
    left = machine.shell("find / -xdev -path /proc -prune -o -name '*unlatch*' -print 2>/dev/null").out.splitlines()
    assert [path for path in left if not path.startswith(("/root/", "/var/cache", "/run/systemd"))] == []
    assert [command for command in machine.commands() if "unlatch" in command] == []
    loopback = "gpg --batch --pinentry-mode loopback --passphrase-fd 0 --decrypt sql-root.gpg"
    assert machine.run("runuser", "-l", "api", "-c", loopback, feed=PASSPHRASE).out == SECRET
    everything_typed(walk)


def test_many_hosts_and_no_public_name(machine: Machine, packages: Packages) -> None:
    """The loop, over a real sshd, and a proxy in another network; then the ways without a name of one's own."""
    with_caddy(machine)
    with_name(machine)
    machine.shell("echo 127.0.0.1 web03 web03.vpn.example.org >>/etc/hosts")
    phone, instead = host_with(machine, packages)
    machine.add_user("api")
    # 10.9.0.3 is web03's address, and what comes to it comes from the proxy's.
    for words in (
        "addr add 10.9.0.1/32",
        "addr add 10.9.0.3/32",
        "route replace local 10.9.0.3 table local src 10.9.0.1",
    ):
        enter = [real("nsenter"), f"--target={machine.pid}", "--net", real("ip")]  # it has no ip(8) of its own
        subprocess.run([*enter, *words.split(), "dev", "lo"], check=True, timeout=30)
    machine.shell(
        "ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519 && cp ~/.ssh/id_ed25519.pub ~/.ssh/authorized_keys"
    )
    machine.shell("systemctl start ssh; ssh-keyscan -t ed25519 web03 unlock.example.org >~/.ssh/known_hosts")

    walk = Walk(machine, "many-hosts.md", instead, place="/root/fleet")
    machine.shell("mkdir /root/fleet; mv /root/unlatch_*.deb /root/fleet")
    (hosts, *_) = walk.shown("", "1. The hosts")
    machine.write("/root/fleet/hosts.txt", hosts.splitlines(keepends=True)[0])
    (settings,) = walk.shown("toml")
    machine.write(
        "/root/fleet/unlatch.toml.in", re.sub("^apprise.*", 'command = ["/usr/local/bin/ring"]', settings, flags=re.M)
    )
    (page,) = walk.shown("ini")
    machine.write("/root/fleet/page.conf.in", page)
    walk.type_in("2. The loop")
    assert states(machine, "is-active") == ["active"] * 4
    assert states(machine, "is-enabled") == ["enabled"] * 4
    walk.type_in("3. The proxy")
    generated = (machine.root / "etc/caddy/unlatch.caddyfile").read_text()
    assert generated == walk.shown("caddyfile")[0].replace(
        "\thandle_path /db01/* {\n\t\treverse_proxy 10.9.0.4:8420\n\t}\n", ""
    )
    walk.type_in("3. The proxy")
    with ringing(machine, phone, 1) as path:
        assert through_proxy(machine, path) == "200 True\n"
        ticket = path.removeprefix("/web03")
        assert machine.run("python3", "-c", DIRECT, "10.9.0.1", ticket).out == "200\n"
        assert "200" not in machine.run("python3", "-c", DIRECT, "10.9.0.3", ticket, check=False).out
    assert walk.type_in("4. All of them, tonight").out == ""
    assert "page-address" in (machine.root / "root/fleet/doctor-web03.txt").read_text()
    everything_typed(walk)
    no_public_name(machine, phone, instead)


def no_public_name(machine: Machine, phone: Phone, instead: dict[str, str]) -> None:
    """In the VPN, through a Unix socket that ssh lends, and with ssh alone."""
    walk = Walk(machine, "no-public-name.md", instead)
    in_vpn, lent = walk.shown("caddyfile")
    start_anew(machine, CADDYFILE)
    walk.type_in("A. The phone is in your VPN")
    machine.write("/etc/caddy/unlatch.caddyfile", in_vpn)
    walk.type_in("A. The phone is in your VPN")
    with ringing(machine, phone, 2) as path:
        name, place = "web03.vpn.example.org", "10.9.0.3"
        assert until(lambda: through_proxy(machine, path, name, place), "Caddy's certificate") == "200 True\n"

    machine.shell("unlatch setup --undo --yes 2>&1 || true")
    start_anew(machine, CADDYFILE)
    machine.write("/etc/caddy/unlatch.caddyfile", lent)
    walk.type_in("B. The host reaches out, with ssh")
    said = walk.type_in("B. The host reaches out, with ssh").out
    (key,) = re.findall("^ssh-ed25519 .*", said, re.M)
    assert machine.run("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").out.split()[1] in said
    walk.instead["PUBLIC-KEY"] = key
    walk.type_in("B. The host reaches out, with ssh")
    walk.write_units()
    verify = machine.run("systemd-analyze", "verify", "--man=no", "unlatch-tunnel.service")
    assert verify.out + verify.err == ""
    walk.type_in("B. The host reaches out, with ssh")
    machine.shell("echo import unlatch.caddyfile >>/etc/caddy/Caddyfile; systemctl reload caddy")
    until(lambda: listens(machine.root / "srv/unlatch/web03.sock"), "the far end of the tunnel")
    with ringing(machine, phone, 3) as path:
        assert until(lambda: through_proxy(machine, path), "the tunnel") == "200 True\n"
    # Nobody else on that machine reaches it, and the key is good for nothing else.
    machine.add_user("mallory")
    assert machine.run("ls", "/srv/unlatch/web03.sock", user="mallory", check=False).code != 0
    login = "ssh -i /var/lib/unlatch-tunnel/key -o UserKnownHostsFile=/var/lib/unlatch-tunnel/known_hosts"
    assert machine.shell(f"{login} unlatch-guest@unlock.example.org id", check=False).out.count("uid=") == 0

    machine.shell("systemctl disable --now unlatch-tunnel.service; unlatch setup --undo --yes 2>&1 || true")
    start_anew(machine, CADDYFILE)
    walk.type_in("C. Nothing but ssh")
    ring = machine.start("runuser", "-l", "api", "-c", "unlatch ring")
    assert phone.ring(4)["link"].startswith("http://localhost:8420/")
    machine.run("unlatch", "answer", "--deny")
    assert finish(ring)[0] == 4
    walk.leave_out("C. Nothing but ssh")
    walk.leave_out("C. Nothing but ssh")
    everything_typed(walk)


def start_anew(machine: Machine, caddyfile: str) -> None:
    """As on a host that was never set up, but for the gpg-agents."""
    machine.run("systemctl", "disable", "--now", *reversed(UNITS))
    machine.shell("rm -f /etc/unlatch/unlatch.toml")
    machine.shell(
        "rm -rf /etc/systemd/system/unlatch-page.socket.d /etc/caddy/unlatch.caddyfile /var/lib/unlatch-setup"
    )
    machine.write("/etc/caddy/Caddyfile", caddyfile)
    machine.shell("systemctl daemon-reload; systemctl restart caddy")


# Not through the proxy, but from this address.
DIRECT = """\
import http.client, sys
connection = http.client.HTTPConnection("10.9.0.3", 8420, timeout=10, source_address=(sys.argv[1], 0))
connection.request("GET", sys.argv[2])
print(connection.getresponse().status)
"""


@contextlib.contextmanager
def ringing(machine: Machine, phone: Phone, number: int) -> Iterator[str]:
    """A ring is open; the path of its link."""
    ring = machine.start("runuser", "-l", "api", "-c", "unlatch ring")
    yield urlsplit(phone.ring(number)["link"]).path
    machine.run("unlatch", "answer", "--deny")
    assert finish(ring)[0] == 4


def through_proxy(machine: Machine, path: str, name: str = "unlock.example.org", place: str = "127.0.0.1") -> str:
    """What a browser gets: the status, and whether it is ours; nothing without an answer."""
    script = FETCH.replace("unlock.example.org", name).replace("127.0.0.1", place)
    return machine.run("python3", "-c", script, path, check=False).out


def test_services_containers_and_boots(machine: Machine, packages: Packages) -> None:
    """Sandboxed units get what they decrypt, and those that the guide calls hopeless do not; so does a container."""
    phone, _ = host_with(machine, packages)
    machine.run("sh", "-c", "dpkg --install /root/unlatch_*.deb")
    api = Tenant(machine)
    machine.run("unlatch", "setup", "--user", "api", "--public-url", "none", "--proxy", "none", "--person", "alex",
                "--notify", "command=/usr/local/bin/ring", "--cache-hours", "8", "--yes")  # fmt: skip
    api.shell("cp secret.gpg sql-root.gpg")
    walk = Walk(machine, "other-users.md")
    walk.type_in("What works")
    drop_in = next(block for block in blocks("other-users.md") if block.path.endswith("/home.conf"))
    walk.write_units()
    machine.shell(f"rm {drop_in.path}; systemctl daemon-reload")
    units = [Path(block.path).name for block in blocks("other-users.md") if block.path.endswith(".service")]
    said = machine.run("systemd-analyze", "verify", "--man=no", *units)
    assert said.out + said.err == ""

    # The one agent is outside of the unit's sandbox: what was unlocked stays unlocked.
    services = Services(machine, phone)
    assert services.decrypts("api.service") == 1
    assert services.decrypts("api.service") == 0
    machine.write(drop_in.path, drop_in.text)
    machine.run("systemctl", "daemon-reload")
    said = machine.run("systemd-analyze", "verify", "--man=no", "api.service")
    assert said.out + said.err == ""
    assert services.decrypts("api.service") == 0
    gpg = ("gpg", "--batch", "--decrypt", "/home/api/secret.gpg")
    for fine in ("TemporaryFileSystem=/run -p BindPaths=/run/unlatch-agent", "PrivateUsers=yes", "PrivateNetwork=yes"):
        machine.run("systemd-run", "--wait", "--pipe", "--quiet", "--uid=api", "-p", *fine.split(), *gpg)
    for hopeless in ("RestrictAddressFamilies=AF_INET", "TemporaryFileSystem=/run", "ProtectHome=yes"):
        done = machine.run("systemd-run", "--wait", "--pipe", "--quiet", "--uid=api", "-p", hopeless, *gpg, check=False)
        assert (done.code != 0, done.out) == (True, ""), hopeless
    machine.run("systemctl", "restart", "unlatch-agent-places@api.service")  # as the guide says of /run
    assert services.decrypts("api.service") == 0

    # Keys that are in no home.
    walk.type_in("ProtectHome=yes")
    machine.shell("cp -r /home/api/.gnupg/[pt]* /var/lib/api-keys")
    machine.shell("cp /home/api/secret.gpg /var/lib/api-keys/sql-root.gpg; chown -R api:api /var/lib/api-keys")
    assert services.decrypts("api-keys.service") == 1
    assert services.decrypts("api-keys.service") == 0

    walk.type_in("DynamicUser=")
    report = "/var/lib/private/report"
    machine.shell(f"cp -r /var/lib/api-keys/[pt]* {report}/gnupg; cp /home/api/secret.gpg {report}/sql-root.gpg")
    assert services.decrypts("report.service") == 1
    assert services.decrypts("report.service") == 1
    everything_typed(walk)
    container(machine, services)


class Services:
    """Units that are started, and a person who answers as often as they ring."""

    def __init__(self, machine: Machine, phone: Phone) -> None:
        self.machine = machine
        self.phone = phone

    def decrypts(self, unit: str) -> int:
        """Start it: it gets its secret. How often that rang."""
        starting = self.machine.start("systemctl", "start", unit)
        rings = self.answer(starting)
        assert finish(starting)[0] == 0
        assert hashlib.sha256(PLAINTEXT).hexdigest() in self.machine.run("journalctl", "-u", unit).out
        return rings

    def answer(self, running: "subprocess.Popen[bytes]") -> int:
        """Answer until it ends."""
        before = len(self.phone.messages("ring"))
        until(lambda: running.poll() is not None or len(self.phone.messages("ring")) > before, "a ring, or the end")
        rings = len(self.phone.messages("ring")) - before
        if rings:
            link = self.phone.messages("ring")[-1]["link"]
            self.machine.run("unlatch", "answer", "--stdin", feed=f"{link}\n".encode() + KEY)
        return rings


def container(machine: Machine, services: Services) -> None:
    """What "docker run" does for this, without an engine: namespaces of its own, the volume, and a user by number."""
    walk = Walk(machine, "containers.md", {"/usr/sbin/nologin api": "/usr/sbin/nologin boxed"})
    walk.type_in("A user that the host knows")
    run = walk.leave_out("Run")
    assert "--user 1500 " in run
    (source, target) = re.findall(r"--volume (/[^:]+):(\S+)", run)[0]
    machine.shell("cp -r /var/lib/private/report/gnupg /srv/keys; chown -R 1500:1500 /srv/keys")
    inside = f"""
        mkdir /srv/volume; mount --bind {source} /srv/volume; mount -t tmpfs tmpfs /run
        mkdir {target}; mount --bind /srv/volume {target}; mount -t tmpfs tmpfs /etc/unlatch
        export HOME=/srv GNUPGHOME=/srv/keys
        exec setpriv --reuid=1500 --regid=1500 --clear-groups gpg --batch --decrypt /var/tmp/secret.gpg
    """
    machine.shell("install -m 0644 /home/api/secret.gpg /var/tmp/secret.gpg")
    box = machine.start("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--mount-proc",
                        "sh", "-euc", inside)  # fmt: skip
    assert services.answer(box) == 1, finish(box)
    assert finish(box)[:2] == (0, PLAINTEXT)
    assert (services.phone.messages("ring")[-1]["user"], services.phone.messages("ring")[-1]["uid"]) == ("boxed", 1500)
    everything_typed(walk)
    (socket,) = walk.shown("ini")
    machine.write("/etc/systemd/system/unlatch-page.socket.d/proxy.conf", socket)
    machine.run("systemctl", "daemon-reload")
    said = machine.run("systemd-analyze", "verify", "--man=no", "unlatch-page.socket")
    assert said.out + said.err == ""
