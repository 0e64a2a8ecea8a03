"""The Debian package installed and removed, in a machine without systemd: what works, what is refused, what is left."""

import re
from pathlib import Path

import pytest
from machine import Done, Machine
from packages import Packages
from real_gnupg import PASSPHRASE, PLAINTEXT, finish
from tenant import PINENTRY, Tenant

NAMED = f"pinentry-program {PINENTRY}\n"
ANYWAY = {"UNLATCH_REMOVE": "anyway"}


def install(machine: Machine, deb: Path) -> Done:
    """dpkg -i, without a network."""
    return machine.run("dpkg", "--install", machine.copy(deb, "/tmp/unlatch.deb"))


def remove(machine: Machine, how: str = "--remove", **environ: str) -> Done:
    """dpkg --remove or --purge; it may refuse."""
    return machine.run("dpkg", how, "unlatch", check=False, **environ)


def is_installed(machine: Machine) -> bool:
    return machine.run("dpkg-query", "-Wf", "${db:Status-Eflag} ${db:Status-Status}", "unlatch").out == "ok installed"


@pytest.fixture
def installed(bare_machine: Machine, packages: Packages) -> Machine:
    """A machine that has the package."""
    install(bare_machine, packages.current().deb)
    return bare_machine


def test_it_works_without_systemd(bare_machine: Machine, packages: Packages) -> None:
    """No systemd at all, as in a container: gpg decrypts through /usr/bin/pinentry-unlatch and a broker of the user's.

    Then everything is taken away again, and nothing is left.
    """
    machine = bare_machine
    machine.run("dpkg", "--purge", "logrotate", "libpam-systemd", "systemd-sysv", "systemd", "dbus")
    users, before = machine.shell("cat /etc/passwd /etc/group").out, machine.files()
    install(machine, packages.current().deb)
    assert machine.run("dpkg", "--verify", "unlatch").out == ""
    assert machine.shell("id -nG unlatch").out == "unlatch\n"
    api = Tenant(machine)
    phone = api.with_broker()
    service = api.decrypt()
    page = api.open(phone.ring()["link"])
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert remove(machine).code != 0
    api.shell("rm .gnupg/gpg-agent.conf; gpgconf --kill gpg-agent")
    assert remove(machine, "--purge").code == 0
    machine.run("userdel", "--remove", "api")
    assert machine.files() - {"/etc/subuid-", "/etc/subgid-"} == before  # what userdel keeps of its own
    assert machine.shell("cat /etc/passwd /etc/group").out == users


def test_apt_never_takes_the_interpreter_alone(installed: Machine) -> None:
    """Whoever removes this Python, as an upgrade of the distribution may, is told that Unlatch goes with it."""
    python = installed.run("readlink", "-f", "/usr/lib/unlatch/bin/python3").out.strip().rpartition("/")[2]
    plan = installed.run("apt-get", "--simulate", "remove", python).out
    assert "Remv unlatch " in plan
    broken = installed.run("dpkg", "--remove", python, check=False)
    assert broken.code != 0
    assert f"unlatch depends on {python}" in broken.err


def test_removal_is_refused_while_an_agent_names_it(installed: Machine) -> None:
    """Whose gpg would break is said, and how to undo it; everything is still there. Undone, it goes."""
    installed.add_user("anna")
    installed.shell(f"cd; mkdir -m 700 .gnupg; echo '{NAMED}' >.gnupg/gpg-agent.conf", user="anna")
    refused = remove(installed)
    assert refused.code != 0
    lines = [line for line in refused.err.splitlines() if line.startswith("unlatch: ")]
    assert lines[0] == f"unlatch: /home/anna/.gnupg/gpg-agent.conf (of anna) names {PINENTRY}"
    assert lines[1].startswith("unlatch: error: without this pinentry ")
    assert "unlatch: hint: unlatch setup --undo --user anna" in lines
    assert lines[-1] == "unlatch: hint: to remove it all the same: UNLATCH_REMOVE=anyway dpkg --remove unlatch"
    assert is_installed(installed)
    assert installed.run("dpkg", "--verify", "unlatch").out == ""
    installed.shell("sed -i 's/^pinentry/#&/' ~/.gnupg/gpg-agent.conf", user="anna")
    assert remove(installed).code == 0


def test_removal_can_be_had_all_the_same(installed: Machine) -> None:
    """Automation that knows better says so in the environment, also to apt."""
    installed.add_user("anna")
    installed.shell(f"cd; mkdir -m 700 .gnupg; echo '{NAMED}' >.gnupg/gpg-agent.conf", user="anna")
    assert installed.run("apt-get", "purge", "--yes", "unlatch", check=False).code != 0
    installed.run("apt-get", "purge", "--yes", "unlatch", **ANYWAY)
    assert not installed.run("sh", "-c", "ls -d /usr/lib/unlatch /etc/unlatch", check=False).out


PLACES = f"""
mkdir /etc/gnupg /root/.gnupg /srv/conf /srv/keys /var/lib/vault /etc/systemd/system/vault.service.d
useradd -m anna; useradd -m berta; useradd -r backup2; useradd -m carla
mkdir /home/anna/.gnupg /home/berta/.gnupg

# everybody's; root's, as somebody's editor wrote it
echo '{NAMED}' >/etc/gnupg/gpg-agent.conf
printf 'max-cache-ttl 1\\r\\n  {NAMED}' >/root/.gnupg/gpg-agent.conf
# by another name, and through a link
ln -s {PINENTRY} /usr/local/bin/ask
echo 'pinentry-program /usr/local/bin/ask' >/home/anna/.gnupg/gpg-agent.conf
echo '{NAMED}' >/srv/conf/a
ln -s /srv/conf/a /home/berta/.gnupg/gpg-agent.conf
# where a unit has its home, and another's drop-in
echo '{NAMED}' >/srv/keys/gpg-agent.conf
chown -R backup2 /srv/keys; chmod 700 /srv/keys
printf '[Service]\\nUser=backup2\\nEnvironment=A=b "GNUPGHOME=/srv/keys"\\n' >/etc/systemd/system/borg.service
echo '{NAMED}' >/var/lib/vault/gpg-agent.conf
# where the one agent of a user has its home
mkdir -p /srv/carla
echo '{NAMED}' >/srv/carla/gpg-agent.conf
echo 'GNUPGHOME="/srv/carla"' >/etc/unlatch/agent-carla.env
printf '[Service]\\nEnvironment=GNUPGHOME=%%S/vault\\n' >/etc/systemd/system/vault.service.d/home.conf
"""


def test_every_place_is_looked_at(installed: Machine) -> None:
    """Wherever GnuPG reads the line, and by whatever name it names us: all are told at once."""
    installed.shell(PLACES)
    refused = remove(installed)
    assert refused.code != 0
    told = re.findall(r"^unlatch: (\S+) \(of (\S+)\) names ", refused.err, re.MULTILINE)
    assert sorted(told) == [
        ("/etc/gnupg/gpg-agent.conf", "everybody"),
        ("/home/anna/.gnupg/gpg-agent.conf", "anna"),
        ("/home/berta/.gnupg/gpg-agent.conf", "berta"),
        ("/root/.gnupg/gpg-agent.conf", "root"),
        ("/srv/carla/gpg-agent.conf", "carla"),
        ("/srv/keys/gpg-agent.conf", "backup2"),
        ("/var/lib/vault/gpg-agent.conf", "root"),
    ]
    assert "hint: unlatch setup --undo --user backup2 --gnupghome /srv/keys\n" in refused.err
    assert is_installed(installed)


def test_no_user_can_make_root_wait_or_read(installed: Machine) -> None:
    """A fifo, a device, a directory, a loop and an endless file in the place of the file: removal is not delayed."""
    for name, trap in {
        "fifo": "mkfifo gpg-agent.conf",
        "link": "mkfifo ../pipe; ln -s ../pipe gpg-agent.conf",
        "device": "ln -s /dev/zero gpg-agent.conf",
        "console": "ln -s /dev/tty gpg-agent.conf",
        "loop": "ln -s gpg-agent.conf gpg-agent.conf",
        "folder": "mkdir gpg-agent.conf",
        "endless": "truncate -s 1T gpg-agent.conf",
        "secret": "ln -s /root/secret gpg-agent.conf",
    }.items():
        installed.add_user(name)
        installed.shell(f"cd; mkdir -m 700 .gnupg; cd .gnupg; {trap}", user=name)
    # Whatever root may read is not read for a user: this names us, and is no user's business.
    installed.write("/root/secret", NAMED, 0o600)
    done = remove(installed)
    assert (done.code, done.err) == (0, "")


def test_others_and_comments_are_not_taken_for_us(installed: Machine) -> None:
    """Another pinentry, a comment, a line that a later one overrules, and a home that is not there do not matter."""
    installed.add_user("anna")
    conf = f"# {NAMED}{NAMED}pinentry-program /usr/bin/pinentry-curses\n"
    installed.shell("cd; mkdir -m 700 .gnupg; cat >.gnupg/gpg-agent.conf <<E\n" + conf + "E", user="anna")
    installed.run("useradd", "--no-create-home", "bob")
    done = remove(installed)
    assert (done.code, done.err) == (0, "")


def test_an_interpreter_that_is_gone_does_not_hold_the_package(installed: Machine) -> None:
    """Where the pinentry cannot start any more its removal takes nothing from anybody."""
    installed.add_user("anna")
    installed.shell(f"cd; mkdir -m 700 .gnupg; echo '{NAMED}' >.gnupg/gpg-agent.conf", user="anna")
    installed.run("rm", "/usr/lib/unlatch/bin/python3")
    assert remove(installed).code == 0


def test_removal_ends_who_waits(installed: Machine) -> None:
    """A prompt is open: its service fails at once instead of waiting for hours, the message says that it is over."""
    api = Tenant(installed)
    phone = api.with_broker()
    service = api.decrypt()
    page = api.open(phone.ring()["link"])
    done = remove(installed, "--purge", **ANYWAY)
    assert done.code == 0
    assert "unlatch: ended 1 process that waited for an answer" in done.err
    code, out, _ = finish(service)
    assert (code, out) == (2, b"")
    assert phone.end()["outcome"] == "withdrawn"
    with pytest.raises(OSError, match=r"No such file|refused"):
        page.view()


def test_an_upgrade_keeps_prompts_and_is_never_refused(bare_machine: Machine, packages: Packages) -> None:
    """Another version is unpacked while somebody is being asked: the link that was sent works, nobody is rung twice."""
    install(bare_machine, packages.old().deb)
    api = Tenant(bare_machine)
    phone = api.with_broker()
    service = api.decrypt()
    page = api.open(phone.ring()["link"])
    install(bare_machine, packages.current().deb)
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert len(phone.messages("ring")) == 1
    assert bare_machine.run("dpkg", "--verify", "unlatch").out == ""
    assert "+py" in bare_machine.run("dpkg-query", "-Wf", "${Version}", "unlatch").out
