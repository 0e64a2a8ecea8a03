"""Each notifier, tried short of sending: real programs, real servers, a real homeserver; and what a boot would need."""

import json
import socket
import sys
import time
from pathlib import Path

import pytest
from doctor_host import CHECKS, examine, finding, situation_of
from house import UNLATCH, House
from matrix.reader import Room
from matrix.synapse import Synapse
from test_notify_apprise import Ntfy, ntfy
from waiting import until

from unlatch.doctor.check import Finding
from unlatch.doctor.host import boot_order, notifier_child, notifiers
from unlatch.doctor.host.boot_order import Needed
from unlatch.doctor.host.notifier_child import Said
from unlatch.doctor.host.notifiers import Look
from unlatch.doctor.host.served import Row

__all__ = ["ntfy"]

NOWHERE = situation_of({"HOME": "/nonexistent"})
PERSON = '[people.alex]\nusers = ["*"]\nnotify = ["it"]\n'


def settle(house: House, notifier: str) -> None:
    house.settings.write_text(f'listen = "unix:{house.page}"\npublic_url = "https://unlock.test/"\n{PERSON}{notifier}')


def apprise_file(house: House, url: str) -> str:
    file = house.root / "it.url"
    file.write_text(url)
    file.chmod(0o600)
    return f'[notify.it]\napprise_file = "{file}"\n'


# Commands


def test_notifiers_fails_for_a_command_without_its_interpreter(house: House) -> None:
    """It is there, it may be run, and it never starts."""
    script = house.root / "ring"
    script.write_text("#!/nonexistent/python3\n")
    script.chmod(0o755)
    settle(house, f'[notify.it]\ncommand = ["{script}"]\n')
    found = finding(house, "notifiers")
    assert found == Finding(
        "notifiers",
        "problem",
        f"it (command): {script} wants /nonexistent/python3, which is not there",
        "unlatch config check",
    )


def test_notifiers_fails_when_the_last_message_was_not_delivered(house: House) -> None:
    """Whatever can be tried beforehand: the broker knows what became of the last one."""
    house.phone.directory.mkdir(exist_ok=True)
    settle(house, '[notify.it]\ncommand = ["false"]\n')
    broker = house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    asker = house.start(UNLATCH, "ring", "--timeout", "60")
    until(lambda: any(row["failed"] for row in house.ask_admin({"op": "status"})["notifiers"]), "a failure")
    found = finding(house, "notifiers")
    assert found.state == "problem"
    assert "it (command): the last message was not delivered: " in found.text
    assert found.hint == "unlatch ring"
    asker.terminate()
    broker.terminate()


def test_notifiers_fails_when_the_broker_does_not_know_it(house: House) -> None:
    """It was added to the file, and the broker was not started anew."""
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    house.configure(tables='[notify.new]\ncommand = ["true"]')
    _, new = examine(house, "notifiers")
    assert (new.state, new.text) == ("problem", "new (command): the broker does not know it yet")


def test_notifiers_fails_where_there_is_none(house: House) -> None:
    """Nobody is rung; who is logged in can answer."""
    house.settings.write_text(f'listen = "unix:{house.page}"\npublic_url = "https://unlock.test/"\n')
    assert finding(house, "notifiers").state == "warning"


def test_notifiers_passes(house: House) -> None:
    """A command that delivered, and when."""
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    asker = house.start(UNLATCH, "ring", "--timeout", "60")
    house.phone.ring()
    until(lambda: any(row["delivered"] for row in house.ask_admin({"op": "status"})["notifiers"]), "a delivery")
    found = finding(house, "notifiers")
    assert (found.state, found.text.rsplit(" ", 3)[0]) == ("ok", "phone (command): last delivered"), found
    asker.terminate()


def test_nobody_is_rung_by_the_doctor(house: House) -> None:
    """All of the host's checks, with a notifier that would tell."""
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    for name in CHECKS:
        assert examine(house, name)
    assert not list(house.phone.directory.iterdir())
    assert not any(row["delivered"] or row["failed"] for row in house.ask_admin({"op": "status"})["notifiers"])


# Apprise


def test_notifiers_passes_for_apprise(house: House, ntfy: Ntfy) -> None:
    """Its server takes a connection, and gets no message."""
    settle(house, apprise_file(house, f"ntfy://tk_canary@127.0.0.1:{ntfy.server_port}/alarm"))
    assert finding(house, "notifiers") == Finding("notifiers", "ok", "it (apprise): it can be used")
    assert not ntfy.received


def test_notifiers_passes_for_mail(house: House) -> None:
    """What its server says is not waited for: that it takes connections is enough."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        settle(house, apprise_file(house, f"mailto://{address}?from=unlatch@example.test&to=alex@example.test"))
        assert finding(house, "notifiers").state == "ok"


def test_notifiers_fails_for_an_apprise_server_that_is_down(house: House) -> None:
    """Its name is told, and nothing else of the URL."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        settle(house, apprise_file(house, f"ntfy://tk_canary@127.0.0.1:{taken.getsockname()[1]}/alarm"))
        found = finding(house, "notifiers")
    assert (found.state, found.hint) == ("problem", "getent ahosts 127.0.0.1")
    assert found.text == "it (apprise): its server 127.0.0.1: connection refused"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("nonsense://tk_canary", "Apprise does not understand the URL"),
        ("matrixs://tk_canary@example.test/room", "Apprise's Matrix plugin is not used"),
        ("", "holds nothing"),
    ],
)
def test_notifiers_fails_for_an_apprise_url_that_cannot_work(house: House, url: str, why: str) -> None:
    """The URL is read as the broker's sending process would read it, and quoted nowhere."""
    settle(house, apprise_file(house, url))
    found = finding(house, "notifiers")
    assert found.state == "problem"
    assert why in found.text
    assert "canary" not in repr(found)


SERVERS = {
    "ntfy://topic": ["ntfy.sh", 443],
    "ntfys://ntfy.example.test/topic": ["ntfy.example.test", 443],
    "jsons://user:tk_canary@hooks.example.test:8443/x": ["hooks.example.test", 8443],
    "pover://" + "u" * 30 + "@" + "a" * 30: ["api.pushover.net", 443],
    "tgram://123456789:abcdefg_hijklmnop/12315544/": ["api.telegram.org", 443],
    "mailtos://user:tk_canary@example.test?smtp=mail.example.test": ["mail.example.test", 587],
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general": ["", 0],
    "mailgun://user@tk-canary.example.test/" + "a" * 32: ["", 0],
}
ASK = """
import apprise, json, sys
from unlatch.doctor.host.notifier_child import server_of
servers = {url: server_of(apprise.Apprise.instantiate(url), url.partition("://")[0]) for url in json.load(sys.stdin)}
print(json.dumps(servers))
"""


def test_a_token_is_never_taken_for_a_host(house: House) -> None:
    """What stands where a URL has its host may be a secret, and a name server must not learn it."""
    assert json.loads(house.run(sys.executable, "-c", ASK, feed=json.dumps(list(SERVERS)).encode())) == SERVERS


def test_notifiers_fails_without_apprise(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to install it, into this very Python."""
    monkeypatch.setattr(notifier_child, "find_spec", lambda _: None)
    said = notifier_child.try_out("apprise", ("ntfy://localhost/alarm",), plaintext=False)
    assert said == Said("Apprise is not installed", "install")
    facts = notifiers.Facts("", (Look("it", "apprise", said),), (), told=False, user="root")
    (found,) = notifiers.judge(facts, NOWHERE._replace(caller=0))
    assert found.hint == f"{sys.prefix}/bin/pip install 'unlatch[apprise]'"


# Matrix


@pytest.fixture
def room(synapse: Synapse, tmp_path: Path) -> Room:
    return Room(synapse, tmp_path)


def test_notifiers_passes_for_matrix(house: House, room: Room) -> None:
    """Logged in, in its encrypted room, and the admin's verified device would get the keys; nothing is sent."""
    settle(house, f'[notify.it]\nmatrix = "{room.bot.state}"\n')
    room.read()
    found = finding(house, "notifiers")
    assert found == Finding("notifiers", "ok", "it (matrix): 1 verified device of 1 pinned admin")
    assert room.texts() == []


def test_notifiers_fails_for_matrix_that_was_logged_out(house: House, room: Room) -> None:
    """As somebody does who tidies up sessions."""
    settle(house, f'[notify.it]\nmatrix = "{room.bot.state}"\n')
    token = json.loads((room.bot.state / "state.json").read_text())["state"]["token"]
    room.synapse.call("POST", "/_matrix/client/v3/logout", {}, token)
    found = finding(house, "notifiers")
    assert found.state == "problem"
    assert "logged us out" in found.text
    assert found.hint == f"unlatch matrix setup --directory {room.bot.state}"


def test_notifiers_fails_for_matrix_outside_its_room(house: House, room: Room) -> None:
    """Somebody removed the bot from the room."""
    settle(house, f'[notify.it]\nmatrix = "{room.bot.state}"\n')
    token = json.loads((room.bot.state / "state.json").read_text())["state"]["token"]
    room.synapse.call("POST", f"/_matrix/client/v3/rooms/{room.id}/leave", {}, token)
    found = finding(house, "notifiers")
    assert (found.state, "not in the room" in found.text) == ("problem", True), found


def test_notifiers_fails_for_matrix_that_was_never_set_up(house: House) -> None:
    """There is no state; and the command is for the broker's user."""
    settle(house, f'[notify.it]\nmatrix = "{house.root}/none"\n')
    found = finding(house, "notifiers")
    assert (found.state, found.hint) == ("problem", f"unlatch matrix setup --directory {house.root}/none")
    facts = notifiers.Facts(
        "", (Look("it", "matrix", Said("x", "setup"), place="/var/lib/unlatch/matrix"),), (), False, "unlatch"
    )
    (found,) = notifiers.judge(facts, NOWHERE._replace(caller=0))
    assert found.hint == "runuser -u unlatch -- unlatch matrix setup --directory /var/lib/unlatch/matrix"


def test_notifiers_fails_for_matrix_without_its_homeserver(house: House, synapse: Synapse, tmp_path: Path) -> None:
    """It is told which server that is."""
    room = Room(synapse, tmp_path)
    store = room.bot.state / "state.json"
    rewrite_homeserver(store, "http://127.0.0.1:1")
    settle(house, f'[notify.it]\nmatrix = "{room.bot.state}"\n')
    found = finding(house, "notifiers")
    assert (found.state, found.hint) == ("problem", "getent ahosts 127.0.0.1"), found


def rewrite_homeserver(file: Path, url: str) -> None:
    from unlatch.matrix.store import Store

    store = Store(str(file.parent))
    with store.locked():
        store.save(store.load() | {"homeserver": url})


# How it is told


def test_notifiers_fails_in_degrees() -> None:
    """Who is not reached is a warning, who could not be tried is unknown, a broker's note is passed on."""
    told = {
        "warning": Look(
            "it", "matrix", Said(note="1 verified device of 2 pinned admins; not reached: x", partial=True)
        ),
        "unknown": Look("it", "command", Said(), untried="only root can try it as the broker's user"),
        "ok": Look("it", "terminal", Said(note="prints at the terminal of unlatch serve")),
    }
    for state, look in told.items():
        (found,) = notifiers.judge(notifiers.Facts("", (look,), (), told=False, user="root"), NOWHERE)
        assert found.state == state
    row = Row("it", 1, 0, 3, "", "replies are not heard: x")
    (found,) = notifiers.judge(notifiers.Facts("", (told["ok"],), (row,), told=True, user="root"), NOWHERE)
    assert (found.state, "replies are not heard" in found.text) == ("warning", True)


def test_a_plugin_that_hangs_is_cut(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that tries it is ended, and the check says so."""
    monkeypatch.setattr(notifiers, "TRY_SECONDS", 0.3)
    monkeypatch.setattr(notifiers, "_TRY", "import time; time.sleep(60)")
    settle(house, '[notify.it]\ncommand = ["true"]\n')
    begun = time.monotonic()
    assert finding(house, "notifiers").state == "unknown"
    assert time.monotonic() - begun < 5


# What a boot needs


def test_boot_order_fails(house: House, ntfy: Ntfy) -> None:
    """The proxy's address is this machine's, and so is the push server's: both are named."""
    settle(house, apprise_file(house, f"ntfy://127.0.0.1:{ntfy.server_port}/alarm"))
    text = house.settings.read_text().replace("unlock.test", "[::ffff:127.0.0.1]")
    house.settings.write_text(text)
    found = finding(house, "boot-order")
    assert (found.state, found.hint.splitlines()[0]) == ("warning", "unlatch answer")
    assert "the proxy (::ffff:127.0.0.1) and the server of the notifier it (127.0.0.1) are this very host" in found.text
    homeserver = boot_order.Facts((Needed("the server of the notifier it", "example.test", True),))
    found = boot_order.judge(homeserver, NOWHERE)
    assert "after a boot nobody is rung before that is up" in found.text
    assert found.hint == "unlatch answer"
    there = boot_order.judge(homeserver._replace(guide=boot_order.GUIDE), NOWHERE)
    assert there.hint == f"unlatch answer\nless {boot_order.GUIDE}"


def test_boot_order_passes(house: House) -> None:
    """An address that no interface of this host has; and links for this machine only need nobody."""
    house.settings.write_text(f'listen = "unix:{house.page}"\npublic_url = "https://203.0.113.99/"\n')
    assert finding(house, "boot-order").state == "ok"
    house.settings.write_text("")
    assert finding(house, "boot-order").state == "ok"
    assert boot_order.judge(boot_order.Facts((Needed("the proxy", "x", False),)), NOWHERE).state == "ok"
