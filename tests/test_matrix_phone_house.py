"""The main job over Matrix, everything real: pass, GnuPG, our broker, Synapse, a foreign phone, Caddy and Chromium."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from browser import Tab
from house import UNLATCH, House
from late_proxy import LateCaddy
from matrix.bot import Bot, paired
from matrix.gate import Gate
from matrix.phone import Event, MatrixPhone, Phones
from matrix.synapse import Synapse
from playwright.sync_api import BrowserContext
from proxy import NAME, Caddy
from real import absent, real
from real_gnupg import PASSPHRASE, Keyring, finish
from terminal import Terminal
from waiting import until

BACKED_OFF = 60.0  # seconds: on a busy machine the broker may have tried often, and then waits for longer


def ring_by_matrix(house: House, state: Path, more: str = "") -> None:
    """Ring the admin over Matrix only."""
    settings = house.settings.read_text().replace('notify = ["phone"]', 'notify = ["matrix"]')
    house.settings.write_text(f'{settings}\n[notify.matrix]\nmatrix = "{state}"\n{more}')


@pytest.fixture
def bot(synapse: Synapse, phone: MatrixPhone, house: House) -> Bot:
    """A bot in a room with the owner of the phone, whose state the house's broker uses."""
    bot = paired(synapse, phone, house.root / "matrix")
    ring_by_matrix(house, bot.state)
    return bot


@pytest.fixture
def keyring(house: House) -> Keyring:
    """A key, and a password store that is encrypted with it."""
    keyring = Keyring(house)
    keyring.store("sql-root", b"hunter2\n")
    return keyring


def link_of(event: Event) -> str:
    """The link that stands in a message now, or nothing."""
    return next((line for line in event.text.splitlines() if line.startswith("https://")), "")


def rung(phone: MatrixPhone, bot: Bot, number: int = 1) -> Event:
    """The ring with this number, with its link."""
    shown = phone.message(bot.room, lambda event: bool(link_of(event)), "a link", number)
    assert shown.clean
    return shown


def says(phone: MatrixPhone, bot: Bot, event: Event, text: str) -> Event:
    """The same message, once it says this."""
    return phone.message(bot.room, lambda now: now.id == event.id and text in now.text, text)


def notifier(house: House) -> dict[str, Any]:
    """What the status says of the Matrix notifier."""
    return next(row for row in house.ask_admin({"op": "status"})["notifiers"] if row["kind"] == "matrix")


# -- from end to end ---------------------------------------------------------------------------------------------------


def test_pass_rings_the_phone_and_is_unlocked(
    house: House, keyring: Keyring, bot: Bot, phone: MatrixPhone, caddy: Caddy, person: BrowserContext
) -> None:
    """`pass sql-root` in a service: message without a shield, link opened, unlocked, message edited, link gone."""
    settings = house.settings.read_text()
    caddy.serve("web03", house)
    public_url = house.settings.read_text().split('public_url = "')[1].split('"')[0]
    house.settings.write_text(settings.replace("https://unlock.test/", public_url))
    service = house.start("pass", "sql-root")
    ring = rung(phone, bot)
    tab = Tab(person, link_of(ring))
    tab.shows_question()
    words = ring.text.splitlines()[1].split(" · ")[0]
    for word in words.split():
        tab.says(word)
    tab.unlock(PASSPHRASE)
    tab.shows("Unlocked")
    assert finish(service)[:2] == (0, b"hunter2\n")
    over = says(phone, bot, ring, "answered at")
    assert (over.clean, link_of(over), over.redacted) == (True, "", False)
    phone.wait(bot.room, lambda events: not any("#" in json.dumps(event.content) for event in events), "the link's end")
    assert tab.complaints == []
    assert len(phone.messages_from(bot.room, bot.user.user_id)) == 1
    fragment = link_of(ring).partition("#")[2]
    log = house.run(UNLATCH, "log", "--json").decode()
    assert '"delivered"' in log
    assert fragment not in log
    assert fragment.encode() not in b"".join(path.read_bytes() for path in bot.state.iterdir() if path.is_file())


def test_from_setup_at_a_terminal_to_the_first_ring(
    synapse: Synapse, house: House, keyring: Keyring, phone: MatrixPhone
) -> None:
    """`unlatch matrix setup`: password, invitation, emoji compared on both sides, a test; then `pass` rings."""
    account = synapse.register()
    phone.login(synapse, synapse.register())
    ring_by_matrix(house, house.root / "matrix")
    words = ["--user", account.user_id, "--homeserver", synapse.url, "--admin", phone.user_id]
    with Terminal([UNLATCH, "matrix", "setup", *words], house.environ()) as terminal:
        terminal.expect("Password of ")
        until(lambda: not terminal.echoes(), "a terminal that hides what is typed")
        terminal.type(f"{account.password}\n")
        terminal.expect("accept the invitation")
        (room,) = until(phone.rooms, "an invitation")
        phone.join(room)
        asked = phone.verification(room, lambda one: one.phase == "Requested" and not one.mine, "a request").id
        phone.accept(asked)
        terminal.expect("the same seven")
        names = phone.emoji(asked, room)
        for name in names:
            terminal.expect(name)
        terminal.expect("Do they match?")
        terminal.type("yes\n")
        phone.confirm(asked)
        terminal.expect("is verified by emoji")
        terminal.expect("a test message went to")
        assert terminal.end() == 0
    assert account.password not in terminal.screen
    phone.wait(room, lambda _: phone.trust(account.user_id)["verified"], "the phone's trust")
    assert phone.message(room, lambda event: "This was a test" in event.text).clean
    service = house.start("pass", "sql-root")
    ring = phone.message(room, lambda event: bool(link_of(event)), "a link")
    assert ring.clean
    house.open(link_of(ring)).unlock(PASSPHRASE)
    assert finish(service)[:2] == (0, b"hunter2\n")


def test_deny_by_reply_ends_the_prompt(house: House, keyring: Keyring, bot: Bot, phone: MatrixPhone) -> None:
    """The admin replies "deny": pass fails, the message says who, the log too; the link is dead."""
    service = house.start("pass", "sql-root")
    ring = rung(phone, bot)
    page = house.open(link_of(ring))
    phone.say(bot.room, "deny", reply_to=ring.id)
    assert finish(service)[0] != 0
    assert phone.user_id in says(phone, bot, ring, "denied at").text
    assert page.view().body == {"state": "denied"}
    denied = [json.loads(line) for line in house.run(UNLATCH, "log", "--json").decode().splitlines()]
    assert [line for line in denied if line["event"] == "denial" and phone.user_id in json.dumps(line)]


def test_one_of_a_burst_is_denied_by_its_words(house: House, keyring: Keyring, bot: Bot, phone: MatrixPhone) -> None:
    """Two prompts stand in one message: "deny" with the words of one ends that one; the other is answered."""
    first = house.start("pass", "sql-root")
    one = rung(phone, bot)
    asker = house.start(UNLATCH, "ring", "--timeout", "60")
    both = phone.message(bot.room, lambda event: event.id == one.id and "2 requests" in event.text, "a list")
    words = next(line for line in both.text.splitlines() if line.startswith("• ")).rpartition(": ")[2]
    phone.say(bot.room, f"deny {words}", reply_to=one.id)
    assert finish(asker)[0] != 0
    says(phone, bot, one, ": denied")
    house.open(link_of(one)).unlock(PASSPHRASE)
    assert finish(first)[:2] == (0, b"hunter2\n")
    says(phone, bot, one, "answered at")


def die(house: House) -> None:
    """The broker is killed; the asker starts another and registers again."""
    (broker,) = house.brokers()
    until(house.rings_are_told, "the asker's knowledge of the ring")
    os.kill(broker, signal.SIGKILL)
    until(lambda: house.brokers() not in ([], [broker]) and house.is_served(), "its successor")
    until(lambda: house.ask_admin({"op": "list"})["prompts"], "the prompt")


def test_a_broker_that_died_is_no_loss(house: House, keyring: Keyring, bot: Bot, phone: MatrixPhone) -> None:
    """Killed after the ring: its successor rings nobody anew, and edits the old message when the prompt ends."""
    service = house.start("pass", "sql-root")
    ring = rung(phone, bot)
    die(house)
    house.open(link_of(ring)).unlock(PASSPHRASE)
    assert finish(service)[:2] == (0, b"hunter2\n")
    over = says(phone, bot, ring, "answered at")
    assert link_of(over) == ""
    assert len(phone.messages_from(bot.room, bot.user.user_id)) == 1


def test_the_successor_of_a_broker_that_died_hears_a_denial(
    house: House, keyring: Keyring, bot: Bot, phone: MatrixPhone
) -> None:
    """A reply to the message of the broker that was killed is heard by the next one."""
    service = house.start("pass", "sql-root")
    ring = rung(phone, bot)
    die(house)
    phone.say(bot.room, "deny", reply_to=ring.id)
    assert finish(service, 10)[0] != 0
    says(phone, bot, ring, "denied at")


def test_the_status_says_whom_it_skipped(
    synapse: Synapse, house: House, bot: Bot, phones: Phones, phone: MatrixPhone
) -> None:
    """`unlatch status` names the unsigned device that got no keys, and who was told."""
    thief = phones.new()
    thief.login(synapse, phone.user, signed=False, strict=False)
    asker = house.start(UNLATCH, "ring", "--timeout", "60")
    rung(phone, bot)
    until(lambda: notifier(house)["delivered"], "the notifier's word")
    said = house.run(UNLATCH, "status").decode()
    assert f"not sent to {phone.user_id} {thief.device_id}" in said
    asker.terminate()
    finish(asker)
    thief.stop()


# -- who comes late ----------------------------------------------------------------------------------------------------


@pytest.fixture
def late(caddy: Caddy, house: House) -> Iterator[LateCaddy]:
    """A proxy that is not there yet."""
    late = LateCaddy(caddy, house)
    yield late
    late.close()


def reachable(phone: MatrixPhone, bot: Bot, ring: Event) -> Event:
    """The same message, once it does not say any more that its page cannot be reached."""
    return phone.message(
        bot.room, lambda now: now.id == ring.id and "not reachable" not in now.text, "a page", seconds=BACKED_OFF
    )


def serve_by_name(house: House, caddy: Caddy) -> None:
    """A broker that knows the proxy's name, as from a name server, and trusts its authority; it looks at its page."""
    if os.getuid() != 0:
        absent("only root can give one process a hosts file of its own")
    hosts = house.root / "hosts"
    hosts.write_text(f"{Path('/etc/hosts').read_text()}\n127.0.0.1 {NAME}\n")
    house.settings.write_text(house.settings.read_text().replace("probe = false\n", ""))
    script = 'mount --bind "$0" /etc/hosts && exec "$1" serve'
    house.start(
        real("unshare"), "--mount", "sh", "-c", script, hosts, UNLATCH, SSL_CERT_FILE=str(caddy.authority)
    )  # fmt: skip
    until(house.is_served, "the broker")


@pytest.mark.long
def test_homeserver_and_proxy_start_after_the_question(
    house: House, keyring: Keyring, phone: MatrixPhone, caddy: Caddy, late: LateCaddy, person: BrowserContext
) -> None:
    """At boot `pass` asks first. Then the proxy comes up, and the homeserver: rung, unlocked, edited."""
    own = Synapse()
    try:
        own.start()
        own.wait()
        bot = paired(own, phone, house.root / "matrix")
        ring_by_matrix(house, bot.state)
        own.stop()
        serve_by_name(house, caddy)
        service = house.start("pass", "sql-root")
        until(lambda: notifier(house)["failed"], "a failed try")
        assert "refuses the connection" in str(notifier(house)["why"])
        assert "connection: connection refused" in house.ask_admin({"op": "status"})["broker"]["trouble"]
        assert service.poll() is None
        late.start()
        own.start()
        own.wait()
        ring = phone.message(bot.room, lambda event: bool(link_of(event)), "a link", seconds=BACKED_OFF)
        mended = reachable(phone, bot, ring)
        assert link_of(mended) == link_of(ring)
        tab = Tab(person, link_of(mended))
        tab.shows_question()
        tab.unlock(PASSPHRASE)
        tab.shows("Unlocked")
        assert finish(service)[:2] == (0, b"hunter2\n")
        says(phone, bot, ring, "answered at")
        assert len(phone.messages_from(bot.room, bot.user.user_id)) == 1
    finally:
        own.close()


@pytest.mark.long
def test_a_proxy_without_a_certificate_yet(
    house: House, keyring: Keyring, bot: Bot, phone: MatrixPhone, caddy: Caddy, late: LateCaddy, person: BrowserContext
) -> None:
    """Caddy runs and waits for its certificate: the message says so, and is edited when the page can be opened."""
    late.start("none yet")
    serve_by_name(house, caddy)
    service = house.start("pass", "sql-root")
    ring = rung(phone, bot)
    assert "page not reachable yet (certificate: " in ring.text
    assert "certificate: " in house.ask_admin({"op": "status"})["broker"]["trouble"]
    late.stop()
    late.start()
    mended = reachable(phone, bot, ring)
    tab = Tab(person, link_of(mended))
    tab.shows_question()
    tab.unlock(PASSPHRASE)
    tab.shows("Unlocked")
    assert finish(service)[:2] == (0, b"hunter2\n")
    says(phone, bot, ring, "answered at")


def test_a_hanging_homeserver_holds_nobody_up(
    synapse: Synapse, house: House, keyring: Keyring, phone: MatrixPhone
) -> None:
    """While the homeserver hangs, the other notifier has rung long since and the answer counts."""
    gate = Gate(synapse.port)
    bot = paired(synapse, phone, house.root / "matrix", url=gate.url)
    ring_by_matrix(house, bot.state, "seconds = 2\n")
    house.settings.write_text(house.settings.read_text().replace('["matrix"]', '["matrix", "phone"]'))
    gate.silent()
    service = house.start("pass", "sql-root")
    house.open(house.phone.ring()["link"]).unlock(PASSPHRASE)
    assert finish(service)[:2] == (0, b"hunter2\n")
    assert phone.messages_from(bot.room, bot.user.user_id) == []
    gate.close()


def test_a_preview_would_spend_nothing(house: House, bot: Bot, phone: MatrixPhone, synapse: Synapse) -> None:
    """Even a homeserver's own view of the room holds ciphertext only; the event with the link is redacted there."""
    asker = house.start(UNLATCH, "ring", "--timeout", "60")
    ring = rung(phone, bot)
    asker.terminate()
    finish(asker)
    says(phone, bot, ring, "withdrawn at")
    phone.wait(bot.room, lambda events: [event for event in events if event.redacted], "the redaction")
    path = f"/_matrix/client/v3/rooms/{quote(bot.room)}/messages?dir=b&limit=50"
    kinds = {event["type"] for event in synapse.call("GET", path, None, phone.token)["chunk"]}
    assert "m.room.message" not in kinds
