"""``unlatch setup`` for one's own broker, as a new user runs it: real gpg-agent, real broker, a terminal to type at."""

import contextlib
import http.server
import json
import os
import pwd
import re
import shlex
import stat
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from house import PINENTRY, UNLATCH, House
from real import absent
from real_gnupg import PASSPHRASE, PLAINTEXT, Keyring, finish
from terminal import Terminal
from waiting import until

OLD = Path("/usr/bin/pinentry-curses")
NOWHERE = {"UNLATCH_CONFIG": ""}  # setup makes the file in its usual place
CHANGED = ("gnupg/gpg-agent.conf", ".config", ".local/state/unlatch/setup")


def tree(house: House) -> dict[str, tuple[object, ...]]:
    """Everything that setup could change, with modes, owners and times."""
    found: dict[str, tuple[object, ...]] = {}
    for top in CHANGED:
        path = house.root / top
        for each in [path, *path.rglob("*")] if path.exists() else []:
            status = each.lstat()
            content = each.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(each.relative_to(house.root))] = (content, status.st_mode, status.st_uid, status.st_mtime_ns)
    return found


def without_times(found: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    return {name: each[:-1] for name, each in found.items()}


def setup(house: House, *options: str, feed: bytes = b"", **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run setup without a terminal."""
    done = subprocess.run(
        [UNLATCH, "setup", *options], env=house.environ(**NOWHERE | environ), cwd="/", start_new_session=True,
        input=feed, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def answers(house: House) -> tuple[str, ...]:
    """Everything that would be asked."""
    phone = shlex.join(house.phone.command)
    return ("--public-url", "none", "--notify", f"command={phone}", "--person", "alex", "--cache-hours", "8")


# The port of a file that says nothing is one for the whole machine: only a network of one's own has it for sure.
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"')


def with_own_page(house: House) -> Path:
    """A file with a page that no other test can be in the way of."""
    config = house.root / ".config/unlatch/unlatch.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'public_url = "https://unlock.test/"\nprobe = false\nlisten = "unix:{house.page}"\n')
    return config


@pytest.fixture
def keyring(house: House) -> Keyring:
    """A GnuPG home that asks through another pinentry, and a file that says so in an administrator's own way."""
    return Keyring(house, pinentry=OLD, agent="# our own comment\r\n")


def test_from_nothing_to_the_first_ring_and_a_decrypted_file(house: House, keyring: Keyring) -> None:
    """One command; the phone rings, somebody presses OK; and from then on the running gpg-agent rings too."""
    if os.getuid() != 0:
        absent("only root can give a test a network")
    ringing = house.start(*ALONE, UNLATCH, "setup", *answers(house), "--yes", "--ring", **NOWHERE)
    message = house.phone.ring()
    assert message["person"] == "alex"
    done = subprocess.run(
        [UNLATCH, "answer", "--stdin", "--confirm"], env=house.environ(**NOWHERE), start_new_session=True,
        input=message["link"].encode() + b"\n", capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    code, out, err = finish(ringing)
    assert (code, out) == (0, b"answered (command delivered it)\n"), err
    assert " ".join(message["words"]) in err
    service = keyring.decrypt(**NOWHERE)
    message = house.phone.ring(2)
    given = subprocess.run(
        [UNLATCH, "answer", "--stdin"], env=house.environ(**NOWHERE), capture_output=True, timeout=60, check=False,
        input=message["link"].encode() + b"\n" + PASSPHRASE, start_new_session=True,
    )  # fmt: skip
    assert given.returncode == 0, given.stderr
    assert finish(service)[:2] == (0, PLAINTEXT)


def test_twice_changes_nothing(house: House, keyring: Keyring) -> None:
    """The second run writes not a byte, and says so; even with options in place of answers."""
    assert setup(house, *answers(house), "--yes").returncode == 0
    before = tree(house)
    for options in (answers(house), ()):
        done = setup(house, *options, "--yes")
        assert (done.returncode, done.stdout) == (0, "nothing to do\n"), done.stderr
        assert tree(house) == before
    conf = (house.gnupg / "gpg-agent.conf").read_text()
    assert f"pinentry-program {PINENTRY}" in conf
    assert "max-cache-ttl 28800" in conf


def test_a_dry_run_touches_nothing_and_shows_everything(house: House, keyring: Keyring) -> None:
    """Each change is a diff on standard output; without a journal, a lock, or a stopped broker."""
    before = tree(house)
    done = setup(house, *answers(house), "--dry-run")
    assert done.returncode == 0
    assert tree(house) == before
    for line in (
        f"+# replaced by unlatch setup: pinentry-program {OLD}",
        f"-pinentry-program {OLD}",
        f"+pinentry-program {PINENTRY}",
        "+max-cache-ttl 28800",
        "+[people.alex]",
        "then    root's gpg-agent reads it anew" if os.getuid() == 0 else "gpg-agent reads it anew",
    ):
        assert line in done.stdout
    assert done.stderr == ""


def test_undo_puts_everything_back(house: House, keyring: Keyring) -> None:
    """Byte for byte, with modes and without what was not there; and gpg-agent asks through the old pinentry again."""
    (house.gnupg / "gpg-agent.conf").chmod(0o640)
    before = without_times(tree(house))
    assert setup(house, *answers(house), "--yes").returncode == 0
    assert setup(house, "--cache-hours", "24", "--yes").returncode == 0
    dry = setup(house, "--undo", "--dry-run")
    assert f"+pinentry-program {OLD}" in dry.stdout
    done = setup(house, "--undo", "--yes")
    assert (done.returncode, done.stdout) == (0, "undone\n"), done.stderr
    assert without_times(tree(house)) == before
    assert not (house.root / ".local/state/unlatch/setup").exists()
    service = keyring.sign()
    assert "Inappropriate ioctl" in finish(service)[2]  # pinentry-curses without a terminal
    again = setup(house, "--undo", "--yes")
    assert (again.returncode, again.stdout) == (0, "nothing to undo\n")


def test_undo_never_says_that_it_removes_a_home_with_keys(house: House) -> None:
    """A GnuPG home that setup made, and that has a key since, stays; the plan and the deed both say so."""
    home = house.root / "fresh"
    assert setup(house, *answers(house), "--gnupghome", str(home), "--yes").returncode == 0
    (home / "private-keys-v1.d").mkdir()
    dry = setup(house, "--undo", "--dry-run")
    assert f"removes {home}, if nothing else is in it" in dry.stdout
    done = setup(house, "--undo", "--yes")
    assert done.returncode == 0, done.stderr
    assert f"unlatch: {home} is not empty, and stays\n" in done.stderr
    assert f"unlatch: removes {home}\n" not in done.stderr
    assert [entry.name for entry in home.iterdir()] == ["private-keys-v1.d"]


def test_undo_does_not_overwrite_what_somebody_changed_since(house: House, keyring: Keyring) -> None:
    """It refuses as a whole, shows what was changed, and says what to type; typed as it stands, that works."""
    conf = house.gnupg / "gpg-agent.conf"
    original = conf.read_bytes()
    assert setup(house, *answers(house), "--yes").returncode == 0
    with conf.open("a") as file:
        file.write("pinentry-timeout 60\n")
    config = house.root / ".config/unlatch/unlatch.toml"
    config.chmod(0o600)
    before = tree(house)
    done = setup(house, "--undo", "--yes")
    assert done.returncode == 1
    assert tree(house) == before
    assert "+pinentry-timeout 60" in done.stderr
    assert f"mode of {config}: 0644 to 0600" in done.stderr
    assert "nothing was undone" in done.stderr
    typed = [hint for hint in re.findall(r"^unlatch: hint: (.*)$", done.stderr, re.MULTILINE) if hint.startswith("mv ")]
    assert len(typed) == 2
    for command in typed:
        subprocess.run(["sh", "-c", command], check=True, env=house.environ())
    assert setup(house, "--undo", "--yes").returncode == 0
    assert conf.read_bytes() == original
    assert not config.exists()
    assert b"pinentry-timeout" in conf.with_name("gpg-agent.conf.mine").read_bytes()


def test_without_a_terminal_every_missing_answer_is_named(house: House) -> None:
    """All at once, and nothing is changed."""
    done = setup(house)
    assert done.returncode == 2
    assert "add --public-url URL, --notify KIND, --cache-hours N" in done.stderr
    assert not (house.root / ".config").exists()
    done = setup(house, *answers(house))
    assert done.returncode == 2
    assert "add --yes" in done.stderr
    assert not (house.root / ".config").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--public-url", "http://unlock.example.org/"), "--public-url: http is for loopback only"),
        (("--public-url", "none", "--notify", "pager"), "--notify: pager is no kind of notifier"),
        (("--public-url", "none", "--notify", "command=x"), "--notify command: accepted: the absolute path"),
        (("--gnupghome", "/no/such/place/.gnupg"), "there is no directory /no/such/place"),
        (("--user", "nobody-by-this-name"), "no user of this host is called nobody-by-this-name"),
    ],
)
def test_what_cannot_be_is_said_at_once(house: House, options: tuple[str, ...], why: str) -> None:
    """Which option, and why."""
    done = setup(house, *options)
    assert done.returncode in (1, 2)
    assert why in done.stderr
    assert not (house.root / ".config").exists()


def test_a_file_with_mistakes_is_not_added_to(house: House, keyring: Keyring) -> None:
    """They are told as by "unlatch config check"."""
    config = house.root / "unlatch.toml"
    config.write_text("listen = 5\n")
    done = setup(house, *answers(house), "--yes", UNLATCH_CONFIG=str(config))
    assert done.returncode == 1
    assert f"{config}:1: listen: not accepted" in done.stderr
    assert config.read_text() == "listen = 5\n"


def test_a_linked_file_is_not_followed(house: House, keyring: Keyring) -> None:
    """A dotfile manager's link stays what it is, and is told of."""
    conf = house.gnupg / "gpg-agent.conf"
    conf.rename(house.root / "dotfile")
    conf.symlink_to(house.root / "dotfile")
    done = setup(house, *answers(house), "--yes")
    assert done.returncode == 1
    assert f"{conf} is a symbolic link" in done.stderr
    assert conf.is_symlink()
    assert not (house.root / ".config").exists()


def test_a_running_broker_learns_of_new_settings(house: House, keyring: Keyring) -> None:
    """One that was started on demand ends, and the next prompt finds the new notifier; open prompts go on."""
    ring = house.start(UNLATCH, "ring", "--timeout", "60")
    first = house.phone.ring()
    (old,) = house.brokers()
    more = ("--notify", "terminal", "--person", "admin", "--cache-hours", "0", "--public-url", f"{first['link'][:20]}")
    done = setup(house, *more, "--yes", UNLATCH_CONFIG=str(house.settings))
    assert done.returncode == 0, done.stderr
    assert 'notify = ["phone", "terminal"]' in house.settings.read_text()
    until(lambda: old not in house.brokers() and house.is_served(), "a broker with the new settings")
    names = {row["name"] for row in house.ask_admin({"op": "status"})["notifiers"]}
    assert names == {"phone", "terminal"}
    assert subprocess.run(
        [UNLATCH, "answer", "--stdin", "--confirm"], env=house.environ(), input=first["link"].encode() + b"\n",
        capture_output=True, timeout=60, check=False, start_new_session=True,
    ).returncode == 0  # fmt: skip
    assert finish(ring)[0] == 0


def test_matrix_is_handed_over(house: House, keyring: Keyring) -> None:
    """Without a terminal it is said what to type."""
    options = ("--public-url", "none", "--notify", "matrix", "--person", "alex", "--cache-hours", "0")
    done = setup(house, *options, "--yes")
    assert done.returncode == 0
    assert "later: unlatch matrix setup" in done.stderr


def test_networks_of_containers_only_if_asked(house: House, keyring: Keyring) -> None:
    """They are added to the file with a warning; nobody who did not ask gets them."""
    if os.getuid() != 0:
        absent("only root can give a test a network")
    bridge = "ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up"
    inside = f'{bridge} && exec "$0" setup "$@"'
    enter = ["unshare", "--net", "sh", "-c", inside, str(UNLATCH), *answers(house), "--dry-run"]
    for options in ((), ("--containers",)):
        done = subprocess.run(
            [*enter, *options], env=house.environ(**NOWHERE), capture_output=True, text=True, timeout=60, check=False,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ('+allow_from = ["127.0.0.0/8", "::1/128", "172.17.0.0/16"]' in done.stdout) == bool(options)
        assert ("published port makes every client look" in done.stdout.replace("\n" + " " * 24, " ")) == bool(options)


def test_a_broker_of_ones_own_behind_a_proxy(house: House, keyring: Keyring) -> None:
    """It comes and goes, so its page gets a socket that nobody else can take: root makes the directory, once."""
    options = (
        "--public-url",
        "https://unlock.example.org/alex/",
        "--proxy",
        "caddy",
        "--reload-proxy",
        *answers(house)[2:],
    )
    done = setup(house, *options, "--yes", "--ring")
    assert done.returncode == 0, done.stderr
    user = pwd.getpwuid(os.getuid()).pw_name
    assert f"$ install -d -o {user} -g caddy -m 2750 /srv/unlatch-{user}\n" in done.stderr
    assert f"        reverse_proxy unix//srv/unlatch-{user}/page.sock\n" in done.stderr
    assert f"it cannot ring yet: root has to make /srv/unlatch-{user}" in done.stderr
    config = tomllib.loads((house.root / ".config/unlatch/unlatch.toml").read_text())
    assert config["listen"] == f"unix:/srv/unlatch-{user}/page.sock"
    assert setup(house, *options, "--yes").stdout == "nothing to do\n"
    refused = setup(house, "--public-url", "none", "--proxy", "caddy", UNLATCH_CONFIG=str(house.root / "other.toml"))
    assert refused.returncode == 2


def test_over_ntfy(house: House, keyring: Keyring) -> None:
    """The table that setup writes rings through Apprise: the topic gets the link, urgently."""
    with_own_page(house)
    with ntfy() as (port, posted):
        options = ("--notify", f"ntfy=http://127.0.0.1:{port}/alex", "--person", "alex")
        ringing = house.start(UNLATCH, "setup", *options, "--cache-hours", "0", "--yes", "--ring", **NOWHERE)
        message = until(
            lambda: next((each for each in posted if "https://unlock.test" in str(each)), None), "a message"
        )
        assert (message["topic"], message["X-Priority"]) == ("alex", "max")
        link = re.search(r"https://unlock\.test/\S+#[\w-]+", str(message))
        assert link is not None
        subprocess.run([UNLATCH, "answer", "--deny"], env=house.environ(**NOWHERE), check=True, start_new_session=True,
                       capture_output=True, stdin=subprocess.DEVNULL)  # fmt: skip
        assert finish(ringing)[0] == 4


@contextlib.contextmanager
def ntfy() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A stand-in for an ntfy server: its port, and what is posted to it."""
    posted: list[dict[str, Any]] = []

    class Topic(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(dict(self.headers) | json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Topic) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port, posted
        server.shutdown()
        thread.join()


# At a terminal


def test_a_new_user_at_a_terminal(house: House, keyring: Keyring) -> None:
    """Questions in an order that makes sense, wrong answers are asked again, and the first ring is in this terminal."""
    config = with_own_page(house)
    with Terminal([UNLATCH, "setup"], house.environ(**NOWHERE)) as terminal:
        terminal.expect("How are you rung?")
        terminal.expect("notifiers [none]: ")
        terminal.type("pigeon\n")
        terminal.expect("pigeon is no kind of notifier")
        terminal.expect("notifiers [none]: ")
        terminal.type("terminal\n")
        terminal.expect("Who is it that is rung?")
        terminal.type("alex\n")
        terminal.expect("For how many hours")
        terminal.expect("hours [8]: ")
        terminal.type("\n")
        terminal.expect(f"+pinentry-program {PINENTRY}")
        terminal.expect("then    root's gpg-agent reads it anew" if os.getuid() == 0 else "reads it anew")
        terminal.expect("Do this? (yes/no) [yes]: ")
        terminal.type("\n")
        terminal.expect("Ring now, as a test? (yes/no) [yes]: ")
        terminal.type("y\n")
        terminal.expect("the first ring")
        terminal.expect("the words are ")
        link = until(lambda: _link(terminal), "a link on the terminal")
        assert house.open(link).allow().status == 200
        terminal.expect("answered")
        terminal.expect('"unlatch doctor" checks')
        assert terminal.end() == 0
    assert house.brokers() == []
    assert config.read_text().startswith('public_url = "https://unlock.test/"\n')


def _link(terminal: Terminal) -> str:
    found = re.search(r"https://unlock\.test/\S+#\S+", terminal.screen)
    if found is None:
        terminal.expect("\n")
    return found[0] if found else ""


def test_a_ring_that_does_not_arrive(house: House, keyring: Keyring) -> None:
    """The reason stands there at once, not after five minutes; Ctrl-C ends the waiting, and what was set up stays."""
    with_own_page(house)
    options = ("--notify", "command=/bin/false", "--person", "alex", "--cache-hours", "0")
    with Terminal([UNLATCH, "setup", *options, "--yes", "--ring"], house.environ(**NOWHERE)) as terminal:
        terminal.expect("the words are ")
        terminal.expect("command: failed")
        terminal.type("\x03")
        terminal.expect("interrupted")
        terminal.expect('"unlatch setup --undo" takes everything back')
        assert terminal.end() == 130
    assert f"pinentry-program {PINENTRY}" in (house.gnupg / "gpg-agent.conf").read_text()


def test_matrix_follows_at_the_terminal(house: House, keyring: Keyring) -> None:
    """When everything else is there, the bot's setup asks its own first question in the same terminal."""
    options = ("--public-url", "none", "--notify", "matrix", "--person", "alex", "--cache-hours", "0", "--no-ring")
    with Terminal([UNLATCH, "setup", *options, "--yes"], house.environ(**NOWHERE)) as terminal:
        terminal.expect("Matrix next")
        terminal.expect("Set it up now? (yes/no) [yes]: ")
        terminal.type("yes\n")
        terminal.expect("The bot's own user (@name:server):")
        terminal.type("\x04")
        terminal.expect("interrupted")
        assert terminal.end() == 130
    assert "[notify.matrix]" in (house.root / ".config/unlatch/unlatch.toml").read_text()


def test_a_no_changes_nothing(house: House, keyring: Keyring) -> None:
    """Neither does Ctrl-D."""
    before = tree(house)
    for typed, code in (("no\n", 1), ("\x04", 130)):
        with Terminal([UNLATCH, "setup", *answers(house)], house.environ(**NOWHERE)) as terminal:
            terminal.expect("Do this? (yes/no) [yes]: ")
            terminal.type(typed)
            assert terminal.end() == code
    assert tree(house) == before


def test_a_url_that_is_a_secret(house: House, keyring: Keyring) -> None:
    """It is typed without echo, kept in a file of its own that nobody else reads, shown nowhere, and undone as well."""
    options = ("--public-url", "none", "--notify", "apprise", "--person", "alex", "--cache-hours", "0", "--no-ring")
    kept = house.root / ".config/unlatch/apprise.url"
    with Terminal([UNLATCH, "setup", *options], house.environ(**NOWHERE)) as terminal:
        terminal.expect("Apprise URL: ")
        assert not terminal.echoes()
        terminal.type("tgram://123:TOKEN/456\n")
        terminal.expect("Do this?")
        terminal.type("yes\n")
        assert terminal.end() == 0
        assert "TOKEN" not in terminal.screen
    assert kept.read_bytes() == b"tgram://123:TOKEN/456\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert [name for name, each in tree(house).items() if b"TOKEN" in bytes(each[0])] == [".config/unlatch/apprise.url"]  # type: ignore[call-overload]
    assert setup(house, "--undo", "--yes").returncode == 0
    assert not kept.exists()
