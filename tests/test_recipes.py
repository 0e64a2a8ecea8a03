"""docs/recipes: every block of every page, as it stands there, with the real program."""

import re
from collections.abc import Iterator

import pytest
from git_server import repository
from house import BIN, House
from real import real
from real_gnupg import finish
from recipe import PAGES, Recipe, Room, types
from secret_keeping import Keeping
from service_user import NAME
from sudoers import sudoer_of
from terminal import Terminal

PASSPHRASE = b"correct horse battery staple"


@pytest.fixture
def room(house: House) -> Iterator[Room]:
    room = Room(Keeping(house))
    yield room
    room.close()


def test_every_page_is_tested() -> None:
    """Each page has a test of its name below, which ends only when no block is left, and stands in the index."""
    names = {page.stem for page in PAGES.glob("*.md")} - {"README"}
    assert names == {name.removeprefix("test_recipe_") for name in globals() if name.startswith("test_recipe_")}
    assert names == set(re.findall(r"\]\((\w+)\.md\)", (PAGES / "README.md").read_text()))


def test_recipe_borg(room: Room) -> None:
    """Passphrase by command and by descriptor; key file and key directory in memory; a job and a unit."""
    real("borg")
    with Recipe("borg", room) as recipe:
        recipe.sh()
        recipe.sh()
        recipe.sh()
        assert room.type('ls -A "$HOME/.config/borg/keys"') == ""
        assert "first" in recipe.sh()
        recipe.cron()
        recipe.unit()
    listed = room.run("borg list --short /srv/backup", BORG_PASSCOMMAND="unlatch get borg").split()
    assert len(listed) == 4


def test_recipe_restic(room: Room) -> None:
    """Password by command, at a prompt, in a job and in a unit."""
    real("restic")
    with Recipe("restic", room) as recipe:
        recipe.sh()
        recipe.cron()
        recipe.unit()
    assert room.type("restic snapshots --json").count('"short_id"') == 3


def test_recipe_rclone(room: Room) -> None:
    """An encrypted configuration, by variable and by option."""
    real("rclone")
    with Recipe("rclone", room) as recipe:
        recipe.sh()
        config = room.house.root / ".config/rclone/rclone.conf"
        config.parent.mkdir(parents=True)
        config.write_text("[store]\ntype = alias\nremote = /srv/store\n")
        password = room.keeping.unlatch("get", "rclone").decode()
        with Terminal(["rclone", "config"], room.house.environ()) as terminal:
            for question, answer in (
                ("e/n/d/r/c/s/q>", "s"), ("a/q>", "a"), ("password:", password), ("password:", password),
                ("c/u/q>", "q"), ("e/n/d/r/c/s/q>", "q"),
            ):  # fmt: skip
                terminal.expect(question)
                terminal.type(f"{answer}\n")
            terminal.end()
        assert b"[store]" not in config.read_bytes()
        assert recipe.sh() == "store:\n"
        assert room.run("cat /srv/store/www/index.html") == "precious\n"
        recipe.cron()
        recipe.unit()


def test_recipe_ansible(room: Room) -> None:
    """A script as the vault password file, also of a job and a unit."""
    real("ansible-vault")
    room.write("/srv/www/secrets.yml", "token: 1\n")
    with Recipe("ansible", room) as recipe:
        recipe.sh()
        script = str(room.house.root / "vault-password")  # this house's /root
        assert recipe.cron(ANSIBLE_VAULT_PASSWORD_FILE=script) == "token: 1\n"
        assert recipe.unit(ANSIBLE_VAULT_PASSWORD_FILE=script) == "token: 1\n"


def test_recipe_luks(room: Room) -> None:
    """A volume takes the stored secret byte for byte; where there is no device mapper the key is only tried."""
    real("cryptsetup")
    with Recipe("luks", room) as recipe:
        recipe.sh()
        key = "--key-file=- /srv/volume.img"
        trial = (f"cryptsetup open {key} volume", f"cryptsetup open --test-passphrase {key}")
        recipe.unit(change=trial)
        wrong = f"printf x | {trial[1]} 2>&1 || echo refused"
        assert "refused" in room.run(wrong)


def test_recipe_ssh(room: Room) -> None:
    """ssh-add rings, a key with -c rings at each use, and a job and a unit find their way to the phone."""
    room.house.configure(end_to_end=True)
    ssh = room.house.root / ".ssh"
    ssh.mkdir(mode=0o700)
    for name in ("id_ed25519", "id_backup"):
        room.house.run("ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE.decode(), "-f", ssh / name)
    with Recipe("ssh", room) as recipe:
        recipe.sh(types(PASSPHRASE))
        recipe.sh(types(PASSPHRASE), lambda page: page.allow(), rings=1)
        assert "BEGIN SSH SIGNATURE" in room.run("cat /srv/www/index.html.sig")
        found = re.search(r"SSH_AUTH_SOCK='?([^'\n]+)", room.type("export -p"))
        assert found is not None
        recipe.cron(types(PASSPHRASE), rings=3, SSH_AUTH_SOCK=found[1])
        recipe.unit(types(PASSPHRASE), rings=4, SSH_AUTH_SOCK=found[1])
        room.type("ssh-agent -k")


def test_recipe_sudo(house: House) -> None:
    """sudo -A asks on the phone, from a shell, a job and a unit of an ordinary user."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", (PAGES / "sudo.md").read_text(), re.MULTILINE | re.DOTALL)
    typed, job, unit = (text for _, text in blocks)
    assert f"{[language for language, _ in blocks]}" == "['sh', 'crontab', 'ini']"
    helper = f"SUDO_ASKPASS={BIN}/unlatch-askpass"  # of this checkout, for /usr/bin
    asked = "SUDO_ASKPASS=/usr/bin/unlatch-askpass"
    assert asked in job
    assert f"Environment={asked}\n" in unit
    started = [
        ["env", f"PATH={BIN}:/usr/bin:/bin", "sh", "-euc", typed],
        ["env", helper, "PATH=/usr/bin:/bin", "sh", "-c", job.splitlines()[1].split("  ", 1)[1]],
        ["env", helper, *re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)[0].split()],
    ]
    with sudoer_of(house, PASSPHRASE) as user:
        for number, command in enumerate(started, 1):
            becoming = user.start(*command, may_gain=True)
            ring = house.phone.ring(number)
            assert ring["user"] == NAME
            house.open(ring["link"]).unlock(PASSPHRASE)
            code, out, err = finish(becoming)
            assert (code, out) == (0, b"0\n"), err


def test_recipe_git(room: Room) -> None:
    """User name and password are asked for apart; a stored token needs nobody."""
    with repository(room.house, {"alex": "correct horse battery staple"}) as url, Recipe("git", room) as recipe:
        # As typed it is git.example.org, which is elsewhere.
        room.house.run(
            "git", "config", "--global", f"url.{url.removesuffix('site.git')}.insteadOf", "https://git.example.org/"
        )
        recipe.sh(types(b"alex"), types(PASSPHRASE))
        room.write("/srv/token", f"{PASSPHRASE.decode()}\n")
        recipe.sh()
        recipe.cron()
        recipe.unit()
        assert len(room.house.phone.messages("ring")) == 2


NGINX = """
pid /run/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log off;
  server {{
    listen 127.0.0.1:443 ssl;
    {recipe}
  }}
}}
"""
APACHE = """
ServerName web03.example
Listen 127.0.0.1:443
PidFile /run/apache2.pid
DefaultRuntimeDir /run
ErrorLog /dev/stderr
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
User www-data
Group www-data
{recipe}
<VirtualHost *:443>
  SSLEngine on
  SSLCertificateFile /etc/ssl/web03.pem
  SSLCertificateKeyFile /etc/ssl/web03.key
</VirtualHost>
"""
# A network and a /run of its own, in which the server has the port that it wants.
SERVED = """
unshare --mount --net sh -euc '
ip link set lo up
mount -t tmpfs tmpfs /run
{start}
asked() {{ curl --silent --output /dev/null --cacert /etc/ssl/web03.pem \\
  --retry 50 --retry-connrefused --retry-delay 0 --resolve web03.example:443:127.0.0.1 https://web03.example/; }}
until pid=$(cat {pid} 2>/dev/null) && [ "$pid" ]; do :; done
asked && echo serving
{reload}
{wait}
asked && echo serving
{check}
kill $pid
while kill -0 $pid 2>/dev/null; do :; done
'
"""


def test_recipe_tls(room: Room) -> None:
    """nginx and apache start with an encrypted key whose passphrase is on no disk, and survive a reload."""
    for program in ("nginx", "apache2", "curl", "ip", "openssl"):
        real(program)
    with Recipe("tls", room) as recipe:
        recipe.sh()
        assert "ENCRYPTED" in room.run("cat /etc/ssl/web03.key")
        room.write("/etc/nginx/nginx.conf", NGINX.format(recipe=recipe.next("nginx")))
        unit = recipe.next("ini")
        recipe.verify(unit)
        (start,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
        (reload,) = re.findall(r"^ExecReload=(.+)$", unit, re.MULTILINE)
        room.write("/srv/start", f"#!/bin/sh\nexec {start.replace('$$', '$')}\n")
        served = SERVED.format(
            start="sh /srv/start",
            pid="/run/nginx.pid",
            reload=f"worker=$(pgrep -P $pid); {reload.replace('$MAINPID', '$pid')}",
            wait="while kill -0 $worker 2>/dev/null; do :; done",
            check="nginx -t 2>/dev/null || echo no second one",
        )
        assert room.run(served) == "serving\nserving\nno second one\n"
        apache = APACHE.format(recipe=recipe.next("apache"))
        room.write("/etc/apache2/apache2.conf", apache)
        recipe.sh()
        recipe.verify(recipe.next("ini"))
        before = _openings(room)
        served = SERVED.format(
            start="apache2 -f /etc/apache2/apache2.conf -k start",
            pid="/run/apache2.pid",
            reload="worker=$(pgrep -P $pid | head -1); kill -USR1 $pid",
            wait="while kill -0 $worker 2>/dev/null; do :; done",
            check="",
        )
        assert room.run(served) == "serving\nserving\n"
        assert _openings(room) == before + 1


def _openings(room: Room) -> int:
    return (room.house.runtime / "audit.jsonl").read_text().count('"opened"')
