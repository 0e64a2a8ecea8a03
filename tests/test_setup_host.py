"""``unlatch setup`` as root, for the whole host: the Debian package, a real systemd, Caddy, another user's GnuPG."""

import json
import os
import shlex
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import PATH, Done, Machine
from machine import machine as made_machine
from packages import Packages
from phone import Phone
from real import real
from real_gnupg import AGENT, PASSPHRASE, PLAINTEXT, finish
from tenant import Tenant, host_phone, open_on_host
from terminal import Terminal
from waiting import until

UNITS = ["unlatch.service", "unlatch.socket", "unlatch-admin.socket", "unlatch-page.socket"]
URL = "https://unlock.example.org/web03/"
CADDYFILE = """\
{
	local_certs
	skip_install_trust
	auto_https disable_redirects
}

# what was served here before
http://localhost:8080 {
	respond "hello"
}
"""
CADDY_UNIT = """\
[Service]
Type=notify
User=caddy
Environment=HOME=/var/lib/caddy
StateDirectory=caddy
ExecStart=/usr/bin/caddy run --config /etc/caddy/Caddyfile --adapter caddyfile
ExecReload=/usr/bin/caddy reload --config /etc/caddy/Caddyfile --adapter caddyfile --force
AmbientCapabilities=CAP_NET_BIND_SERVICE
"""
# Trusts Caddy's own authority, and takes the name for this machine's.
FETCH = """\
import http.client, socket, ssl, sys
trust = ssl.create_default_context(cafile="/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt")
name = "unlock.example.org"
with trust.wrap_socket(socket.create_connection(("127.0.0.1", 443), 10), server_hostname=name) as secure:
    secure.sendall(f"GET {sys.argv[1]} HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n".encode())
    response = http.client.HTTPResponse(secure)
    response.begin()
    print(response.status, b"unlatch" in response.read().lower())
"""


def install(machine: Machine, packages: Packages) -> None:
    machine.run("dpkg", "--install", machine.copy(packages.current().deb, "/tmp/unlatch.deb"))


def with_caddy(machine: Machine) -> None:
    """A real Caddy that serves something already, as its package runs it."""
    shutil.copy(real("caddy"), machine.root / "usr/bin/caddy")
    machine.write("/etc/hosts", "127.0.0.1 localhost\n")
    machine.write("/etc/caddy/Caddyfile", CADDYFILE)
    machine.write("/etc/systemd/system/caddy.service", CADDY_UNIT)
    machine.shell("useradd --system --user-group caddy; systemctl daemon-reload; systemctl start caddy")


def with_other_pinentry(machine: Machine) -> Tenant:
    """A user whose gpg-agent asks somebody else, with settings of their own."""
    api = Tenant(machine)
    conf = AGENT.format(pinentry="/usr/bin/pinentry-curses") + "# by hand\n"
    api.shell(f"cat >{api.conf}; gpg-connect-agent RELOADAGENT /bye >&2", feed=conf.encode())
    return api


def phone_for(machine: Machine) -> tuple[Phone, str]:
    """A phone, and the notifier that reaches it, in a machine without settings."""
    phone = host_phone(machine)
    machine.shell("rm /etc/unlatch/unlatch.toml")
    return phone, f"command={shlex.join(phone.command)}"


def states(machine: Machine, question: str) -> list[str]:
    return machine.run("systemctl", question, *UNITS, check=False).out.split()


def setup(machine: Machine, *options: str, check: bool = True) -> Done:
    return machine.run("unlatch", "setup", *options, check=check)


def in_run(machine: Machine) -> set[str]:
    """What of ours lies in /run; the package has brought some."""
    return {path.name for path in (machine.root / "run").glob("unlatch*")}


def snapshot(machine: Machine) -> dict[str, tuple[object, ...]]:
    """Everything below /etc, /home and /var/lib: kind, mode, owner and content."""
    found: dict[str, tuple[object, ...]] = {}
    for top in ("etc", "home", "root", "srv", "var/lib"):
        for folder, folders, names in os.walk(machine.root / top):
            for path in (Path(folder, name) for name in (*folders, *names)):
                status = path.lstat()
                content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
                key = str(path.relative_to(machine.root))
                if not stat.S_ISSOCK(status.st_mode) and not key.startswith(
                    ("var/lib/caddy/", "var/lib/unlatch/phone/")
                ):
                    found[key] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
    return found


def test_from_a_bare_server_to_the_first_ring_and_out_again(machine: Machine, packages: Packages) -> None:
    """One command as root: the units start, Caddy serves the page, the phone rings, the service's GnuPG asks. A second
    run finds nothing to do, and undoing leaves the server as it was.
    """
    install(machine, packages)
    with_caddy(machine)
    api = with_other_pinentry(machine)
    phone, notify = phone_for(machine)
    options = ("--user", "api", "--public-url", URL, "--notify", notify, "--person", "alex", "--proxy", "caddy",
               "--cache-hours", "8", "--reload-proxy")  # fmt: skip
    before, at_first = snapshot(machine), in_run(machine)
    dry = setup(machine, *options, "--dry-run")
    assert "+import unlatch.caddyfile" in dry.out
    assert "$ systemctl enable --now unlatch-page.socket unlatch.service" in dry.out
    assert snapshot(machine) == before

    # Somebody opens the link through the proxy, and presses OK.
    running = machine.start("unlatch", "setup", *options, "--yes", "--ring")
    ring = phone.ring()
    assert ring["link"].startswith(URL)
    assert (ring["user"], ring["person"]) == ("api", "alex")
    path = ring["link"].removeprefix("https://unlock.example.org").partition("#")[0]
    assert machine.run("python3", "-c", FETCH, path).out == "200 True\n"
    assert open_on_host(machine, ring["link"]).allow().status == 200
    code, out, err = finish(running)
    assert (code, out) == (0, b"answered (command delivered it)\n"), err
    assert states(machine, "is-active") == ["active"] * 4
    assert states(machine, "is-enabled") == ["enabled"] * 4
    assert machine.shell("stat -c '%U:%G %a' /run/unlatch-page/page.sock").out == "root:caddy 660\n"
    assert machine.shell(f"stat -c '%U:%G %a' {api.conf}").out.startswith("api:api")

    # The service's key is unlocked on the page, and kept for as long as was asked for.
    service = api.decrypt()
    page = open_on_host(machine, phone.ring(2)["link"])
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert "max-cache-ttl 28800" in api.shell(f"cat {api.conf}").out

    changed = snapshot(machine)
    for again in (options, ("--user", "api")):
        assert setup(machine, *again, "--yes").out == "nothing to do\n"
        assert snapshot(machine) == changed

    done = setup(machine, "--undo", "--yes")
    assert done.out == "undone\n"
    assert "systemctl reload caddy" in done.err
    assert snapshot(machine) == before
    assert states(machine, "is-active") == ["inactive"] * 4
    assert states(machine, "is-enabled") == ["disabled"] * 4
    assert in_run(machine) == at_first
    # The other pinentry again, which this machine does not have; and nothing is kept.
    assert "No secret key" in finish(api.decrypt())[2]
    assert len(phone.messages("ring")) == 2


def test_without_the_package_the_units_come_from_the_wheel(machine: Machine, packages: Packages) -> None:
    """In a virtual environment nobody brought units or a user: setup writes the one and makes the other."""
    install(machine, packages)
    machine.shell(
        "systemctl stop 'unlatch*'; rm -r /usr/lib/systemd/system/unlatch* /usr/lib/sysusers.d/unlatch.conf "
        "/usr/lib/tmpfiles.d/unlatch.conf /var/lib/unlatch /var/log/unlatch; userdel unlatch; systemctl daemon-reload"
    )
    machine.add_user("api")
    before = snapshot(machine)
    options = ("--user", "root", "--public-url", "none", "--notify", "none", "--cache-hours", "0", "--yes")
    assert setup(machine, *options).out == ""
    assert states(machine, "is-active") == ["active", "active", "active", "inactive"]  # there is no proxy
    assert machine.run("systemctl", "show", "-P", "User", "unlatch.service").out == "unlatch\n"
    assert "nothing is waiting" in machine.run("unlatch", "status").out
    ring = machine.start("unlatch", "ring")
    until(lambda: "A test: press OK" in machine.run("unlatch", "status").out, "the ring")
    machine.run("unlatch", "answer", "--deny")
    assert finish(ring)[0] == 4
    assert setup(machine, *options).out == "nothing to do\n"
    # The units for one user's agent and keys are there as well; undoing ends what somebody has enabled of them.
    machine.shell("systemctl enable unlatch-key@api unlatch-card-watch@api; systemctl enable --now unlatch-agent@api")
    assert machine.run("systemctl", "is-active", "unlatch-agent@api").out == "active\n"
    assert setup(machine, "--undo", "--yes").out == "undone\n"
    assert machine.run("systemctl", "is-active", "unlatch-agent@api", check=False).out == "inactive\n"
    assert not list((machine.root / "etc/systemd/system").rglob("unlatch-*@*"))
    machine.shell("rm -rf /home/api/.gnupg")
    # The user stays, as packages leave theirs: files may belong to it.
    after = snapshot(machine)
    books = {f"etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow") for end in ("", "-")}
    assert {name for name, state in after.items() if before.get(name) != state} <= {*books, "var/lib/unlatch"}
    assert before.keys() <= after.keys()
    assert states(machine, "is-active") == ["inactive"] * 4
    assert not (machine.root / "run/unlatch").exists()


def test_a_proxy_comes_later(machine: Machine, packages: Packages) -> None:
    """The broker runs already, without a page's socket: it starts anew with one, and an open prompt goes on."""
    install(machine, packages)
    with_caddy(machine)
    first = ("--user", "root", "--public-url", "none", "--notify", "none", "--cache-hours", "0", "--yes")
    setup(machine, *first)
    ring = machine.start("unlatch", "ring")
    until(lambda: "A test: press OK" in machine.run("unlatch", "status").out, "the ring")
    setup(machine, *first, "--public-url", URL, "--proxy", "caddy", "--no-reload-proxy")
    assert states(machine, "is-active") == ["active"] * 4
    until(lambda: "A test: press OK" in machine.run("unlatch", "status").out, "the same prompt")
    machine.run("unlatch", "answer", "--deny")
    assert finish(ring)[0] == 4


def test_at_roots_terminal(machine: Machine, packages: Packages) -> None:
    """Whose GnuPG, at which address, through which proxy, how, and for how long: the rest is shown, not asked."""
    install(machine, packages)
    with_caddy(machine)
    api = with_other_pinentry(machine)
    enter = ["nsenter", f"--target={machine.pid}", "--all", "--", "unlatch", "setup"]
    with Terminal([*enter], {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}) as terminal:
        for question, answer in (
            ("user [root]: ", "nobody-like-this"),
            ("no user of this host is called nobody-like-this\n", ""),
            ("", "api"),
            ("public address [none]: ", "http://unlock.example.org/"),
            ("http is for loopback only", ""),
            ("", URL),
            ("caddy, nginx or none [caddy]: ", ""),
            ("May setup reload Caddy", "yes"),
            ("notifiers [ntfy]: ", "none"),
            ("hours [8]: ", "24"),
            ("Do this? (yes/no) [yes]: ", "yes"),
            ("Ring now, as a test? (yes/no) [yes]: ", "yes"),
            ('type "unlatch answer" in another terminal', None),
            ("the words are ", None),
        ):
            if question:
                terminal.expect(question)
            if answer is not None and not question.startswith(("no user", "http is")):
                terminal.type(f"{answer}\n")
        machine.run("unlatch", "answer", "--deny")
        terminal.expect("the prompt was denied")
        terminal.expect('"unlatch doctor --as api" checks that it will work at night')
        assert terminal.end() == 4
    assert "max-cache-ttl 86400" in api.shell(f"cat {api.conf}").out


# Without systemd, as in a container or a chroot: one machine for all of these.


@pytest.fixture(scope="module")
def bare(packages: Packages) -> Iterator[Machine]:
    with made_machine(systemd=False) as machine:
        install(machine, packages)
        yield machine


def plain_options(user: str) -> tuple[str, ...]:
    return ("--user", user, "--public-url", "none", "--notify", "none", "--cache-hours", "0", "--yes")


def test_where_systemd_does_not_run(bare: Machine) -> None:
    """What it would start is said, and nothing waits for it: no ring, no error."""
    done = setup(bare, *plain_options("root"), "--ring")
    assert "$ systemctl enable --now unlatch.service" in done.err
    assert "it cannot ring yet: systemd has not started the broker" in done.err
    assert setup(bare, *plain_options("root")).out == "nothing to do\n"
    assert setup(bare, "--undo", "--yes").out == "undone\n"
    assert not (bare.root / "var/lib/unlatch-setup").exists()
    assert not (bare.root / "root/.gnupg/gpg-agent.conf").exists()


def test_one_user_is_undone_and_the_others_stay(bare: Machine) -> None:
    """``--undo --user`` takes back what was done in that user's home; the journal keeps the rest."""
    for user in ("one", "two"):
        bare.add_user(user)
        setup(bare, *plain_options(user))
    setup(bare, "--undo", "--user", "one", "--yes")
    assert not (bare.root / "home/one/.gnupg").exists()
    assert "pinentry-unlatch" in (bare.root / "home/two/.gnupg/gpg-agent.conf").read_text()
    kept = json.loads((bare.root / "var/lib/unlatch-setup/journal.json").read_text())
    assert {entry["user"] for entry in kept["entries"]} == {"two"}
    setup(bare, "--undo", "--yes")
    assert not (bare.root / "home/two/.gnupg").exists()


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("mkdir .gnupg; ln -s /etc/shadow .gnupg/gpg-agent.conf", "gpg-agent.conf is a symbolic link"),
        ("ln -s /root/precious .gnupg", "Permission denied|is a symbolic link"),
        ("mkdir .gnupg; mkfifo .gnupg/gpg-agent.conf", "gpg-agent.conf is not a regular file"),
        ("mkdir -p .gnupg/gpg-agent.conf", "gpg-agent.conf is not a regular file"),
        ("ln -s /etc/caddy .gnupg", "does not belong to|is a symbolic link"),
    ],
)
def test_what_a_user_plants_leads_root_nowhere(bare: Machine, planted: str, said: str) -> None:
    """Root's setup for a user ends with an error, and with every file of root's as it was."""
    bare.shell("userdel --remove mallory 2>&1 || true; mkdir -p -m 700 /root/precious /etc/caddy")
    bare.add_user("mallory")
    bare.shell(f"cd; {planted}", user="mallory")
    before = snapshot(bare)
    done = setup(bare, *plain_options("mallory"), check=False)
    assert done.code == 1
    assert any(each.lower() in done.err.lower() for each in said.split("|")), done.err
    assert "Traceback" not in done.err
    assert snapshot(bare) == before
    assert not list((bare.root / "root/precious").iterdir())


def test_what_is_typed_for_an_undo_is_done_with_the_users_rights(bare: Machine) -> None:
    """The hint works as it stands; a link in the place that it names gets nothing into a directory of root's."""
    bare.add_user("eve")
    bare.shell("cd; mkdir -m 700 .gnupg; echo '# first' > .gnupg/gpg-agent.conf; chmod 600 .gnupg/*", user="eve")
    setup(bare, *plain_options("eve"))
    bare.shell("mkdir -p /etc/tmpfiles.d; echo more >> /home/eve/.gnupg/gpg-agent.conf")
    bare.shell("cd; ln -s /etc/tmpfiles.d .gnupg/gpg-agent.conf.mine", user="eve")
    before = sorted(os.listdir(bare.root / "etc/tmpfiles.d"))
    done = setup(bare, "--undo", "--yes", check=False)
    (typed,) = [line for line in done.err.splitlines() if " mv " in line]
    bare.shell(typed.removeprefix("unlatch: hint: "))
    assert sorted(os.listdir(bare.root / "etc/tmpfiles.d")) == before
    assert (bare.root / "home/eve/.gnupg/gpg-agent.conf.mine").read_text().endswith("more\n")
    setup(bare, "--undo", "--yes")
    conf = bare.root / "home/eve/.gnupg/gpg-agent.conf"
    assert (conf.read_text(), stat.S_IMODE(conf.stat().st_mode)) == ("# first\n", 0o600)


def test_a_user_who_was_removed_does_not_keep_the_rest(bare: Machine) -> None:
    """Nobody reads that gpg-agent.conf any more, and all else is taken back."""
    bare.add_user("leaver")
    setup(bare, *plain_options("leaver"))
    bare.shell("userdel leaver")
    done = setup(bare, "--undo", "--yes")
    assert "gpg-agent.conf stays: there is no user leaver any more" in done.err
    assert not (bare.root / "var/lib/unlatch-setup").exists()
    assert not (bare.root / "etc/unlatch/unlatch.toml").exists()


def test_roots_own_file_in_a_users_home_is_not_taken_over(bare: Machine) -> None:
    """Undoing could not give it back to root; so it is said whose it is."""
    bare.add_user("kept")
    bare.shell("cd; mkdir -m 700 .gnupg", user="kept")
    bare.write("/home/kept/.gnupg/gpg-agent.conf", "# by root\n")
    done = setup(bare, *plain_options("kept"), check=False)
    assert done.code == 1
    assert "/home/kept/.gnupg/gpg-agent.conf does not belong to kept" in done.err


def test_a_pinentry_that_the_user_cannot_start_is_not_named(bare: Machine) -> None:
    """Instead of an agent that says "No pinentry" at night, an error now that says which directory is in the way."""
    bare.add_user("shut")
    bare.shell("chmod 700 /usr/lib/unlatch/bin")
    done = setup(bare, *plain_options("shut"), check=False)
    bare.shell("chmod 755 /usr/lib/unlatch/bin")
    assert done.code == 1
    assert "shut cannot use /usr/bin/pinentry-unlatch" in done.err
    assert not (bare.root / "home/shut/.gnupg").exists()


def test_only_root_sets_up_others(bare: Machine) -> None:
    """And a user of a host that has a broker of its own sets up nothing but the own gpg-agent."""
    bare.add_user("guest")
    bare.shell("mkdir -p /run/unlatch")
    try:
        done = bare.run("unlatch", "setup", "--user", "root", user="guest", check=False)
        assert (done.code, "only root can set up another user's GnuPG" in done.err) == (2, True)
        done = bare.run("unlatch", "setup", "--person", "x", "--cache-hours", "0", user="guest", check=False)
        assert (done.code, "--person: this host has a broker of its own" in done.err) == (2, True)
        bare.run("unlatch", "setup", "--cache-hours", "0", "--yes", user="guest")
        assert "pinentry-unlatch" in (bare.root / "home/guest/.gnupg/gpg-agent.conf").read_text()
        assert not (bare.root / "home/guest/.config").exists()
    finally:
        bare.shell("rmdir /run/unlatch")


def test_the_path_is_the_packages_stable_one(bare: Machine) -> None:
    """/usr/bin, which an upgrade leaves where it is; not the private directory that it leads to."""
    bare.add_user("stable")
    setup(bare, *plain_options("stable"))
    assert Path(bare.root / "home/stable/.gnupg/gpg-agent.conf").read_text() == (
        "pinentry-program /usr/bin/pinentry-unlatch\n"
    )
