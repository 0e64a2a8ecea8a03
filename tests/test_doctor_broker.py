"""Doctor on the way from the asker to people: its rules, its broker, and who is rung for it."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_asker import Patient, look
from house import UNLATCH, House
from real_gnupg import Keyring, finish
from service_user import NAME, UID
from waiting import until

from unlatch.doctor.asker.broker_reachable import BROKER_REACHABLE
from unlatch.doctor.asker.rules_check import RULES
from unlatch.doctor.asker.who_is_rung import WHO_IS_RUNG
from unlatch.doctor.check import Finding

ETC = "/etc/unlatch/unlatch.toml"


@pytest.fixture
def patient(house: House) -> Iterator[Patient]:
    """A service user, for whom root calls doctor; the host's configuration is empty and can be written."""
    patient = Patient(house)
    yield patient
    patient.close()


# rules


def test_rules_passes(house: House) -> None:
    """None; some that a service does not meet; and one that somebody wishes for one unit."""
    assert look(RULES, house).text == "there are none: every prompt rings"
    house.configure(tables='[[rule]]\naction = "tty"\ntty = true\n[[rule]]\nuser_data = "cron*"\naction = "refuse"\n')
    assert look(RULES, house).text == "prompts of services ring"
    house.configure(tables='[[rule]]\naction = "refuse"\nunit = "nightly.service"\n')
    found = look(RULES, house)
    assert (found.state, "nightly.service" in found.text) == ("ok", True)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ('action = "refuse"', "rule 1 refuses prompts"),
        ('action = "tty"', "rule 1 sends to a terminal"),
        ('action = "refuse"\ntty = false', "rule 1 refuses prompts"),
        ('action = "refuse"\nhours = "22:00-06:00"', "at certain hours"),
        ('action = "refuse"\nuser_data = ""', "rule 1 refuses prompts"),
    ],
)
def test_rules_fails_where_services_are_refused(house: House, rule: str, text: str) -> None:
    """Perhaps on purpose, so a warning: at night it looks like a fault."""
    house.configure(tables=f"[[rule]]\n{rule}\n")
    found = look(RULES, house)
    assert (found.state, text in found.text) == ("warning", True), found.text


def test_rules_fails_for_a_key_that_is_there(house: House) -> None:
    """A rule about one key counts if the user has that key, and no earlier rule lets it ring."""
    grip = Keyring(house).keygrips()[0]
    refuse = f'[[rule]]\naction = "refuse"\nkeygrip = "{grip}"\n'
    house.configure(tables=refuse)
    assert look(RULES, house).state == "warning"
    house.configure(tables=f'[[rule]]\naction = "ring"\nkeygrip = "{grip[:8]}*"\n{refuse}')
    assert look(RULES, house).state == "ok"
    house.configure(tables=refuse.replace(grip, "F" * 40))
    assert look(RULES, house).state == "ok"


def test_rules_fails_with_a_mistake(house: House) -> None:
    """Then every prompt is refused."""
    house.configure(tables='[[rule]]\naction = "rnig"\n')
    found = look(RULES, house)
    assert (found.state, found.hint) == ("problem", "unlatch config check")
    assert "every prompt is refused" in found.text


# broker-reachable


def test_broker_reachable_passes_with_the_users_own(house: House) -> None:
    """None runs, and doctor starts none; one that runs is connected to."""
    assert look(BROKER_REACHABLE, house).state == "ok"
    assert house.brokers() == []
    broker = house.start(UNLATCH, "serve", "--config", house.settings)
    until(house.is_served, "the broker")
    assert "answers at" in look(BROKER_REACHABLE, house).text
    broker.terminate()
    finish(broker)


def test_broker_reachable_fails_where_none_could_be_started(house: House, patient: Patient) -> None:
    """A service user whose home cannot be written, without a broker of the host."""
    os.chown(house.root, 0, 0)
    house.root.chmod(0o755)
    found = patient.doctor("broker-reachable").findings["broker-reachable"]
    assert (found.state, f"{house.root} is not writable" in found.text) == ("problem", True)


def host(patient: Patient, script: str = "true") -> Finding:
    """What the user finds when root has made /run/unlatch so."""
    assert patient.root("sh", "-ec", f"mkdir -p /run/unlatch; cd /run/unlatch; {script}").returncode == 0
    return patient.doctor("broker-reachable").findings["broker-reachable"]


def test_broker_reachable_fails_when_the_hosts_is_away(patient: Patient) -> None:
    """/run/unlatch is there, so no asker takes another; nobody listens."""
    found = host(patient)
    assert (found.state, found.hint) == ("problem", "systemctl enable --now unlatch.socket")


def test_broker_reachable_fails_when_others_own_the_directory(patient: Patient) -> None:
    """Whoever may write there could pose as the broker."""
    found = host(patient, "chmod 0777 .")
    assert (found.state, "not to be trusted" in found.text) == ("problem", True)


def listening(path: Path, uid: int) -> socket.socket:
    """A socket that this uid listens on; the kernel notes who called listen(2)."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    os.seteuid(uid)
    try:
        listener.listen()
    finally:
        os.seteuid(0)
    return listener


def test_broker_reachable_fails_when_somebody_else_answers(house: House, patient: Patient) -> None:
    """The directory is root's, but who listens is another user."""
    with listening(house.root / "sock", 4243):
        found = host(patient, f"touch broker.sock; mount --bind {house.root}/sock broker.sock")
    assert (found.state, "answered by uid 4243" in found.text) == ("problem", True)


def test_broker_reachable_fails_when_the_socket_is_closed_to_the_user(house: House, patient: Patient) -> None:
    """SocketMode= was changed."""
    with listening(house.root / "sock", 0):
        found = host(patient, f"touch broker.sock; mount --bind {house.root}/sock broker.sock; chmod 0600 broker.sock")
        assert (found.state, "permission denied" in found.text) == ("problem", True)
        passes = host(patient, "chmod 0666 broker.sock")
    assert (passes.state, passes.text) == ("ok", "the host's broker answers at /run/unlatch/broker.sock")


# who-is-rung


def rung(house: House, tables: str, top: str = "") -> Finding:
    house.settings.write_text(f'public_url = "https://unlock.test/"\nlisten = "unix:{house.page}"\n{top}\n{tables}')
    return look(WHO_IS_RUNG, house)


NOTIFIERS = '[notify.phone]\ncommand = ["/bin/true"]\n[notify.mail]\ncommand = ["/bin/true"]\n'


def test_who_is_rung_passes(house: House) -> None:
    """It names people and notifiers, so that a wrong one is noticed by day."""
    people = '[people.alex]\nusers = ["*"]\nnotify = ["phone"]\n[people.kim]\nusers = ["{0}"]\nnotify = ["mail"]\n'
    found = rung(house, people.format(house.uid) + '[people.no]\nusers = ["nobody"]\nnotify = ["mail"]\n' + NOTIFIERS)
    assert found.state == "ok"
    assert found.text.startswith("alex, kim is rung for ")
    assert found.text.endswith("by phone, mail")


@pytest.mark.parametrize(
    ("tables", "top", "text"),
    [
        ('[people.kim]\nusers = ["nobody"]\nnotify = ["mail"]\n', "", "no [people.NAME]"),
        ('[people.kim]\nusers = ["*"]\nnotify = ["mail"]\n', 'allow_users = ["nobody"]', "allow_users"),
        ("", "", "no [people.NAME]"),
        ('[people.kim]\nusers = ["*"]\nnotify = ["nothing"]\n', "", "cannot work with its file"),
    ],
)
def test_who_is_rung_fails_where_the_user_is_refused(house: House, tables: str, top: str, text: str) -> None:
    """As the broker would: nobody is named for this user, or it may not ask."""
    found = rung(house, tables + NOTIFIERS, top)
    assert (found.state, text in found.text) == ("problem", True), found.text


@pytest.mark.parametrize(
    ("tables", "text"), [("", "nobody is named"), ('[people.kim]\nusers = ["*"]\nnotify = []\n', "kim has no notifier")]
)
def test_who_is_rung_fails_where_nobody_is(house: House, tables: str, text: str) -> None:
    """Prompts are accepted and wait; nobody hears of them."""
    found = rung(house, tables)
    assert (found.state, text in found.text) == ("warning", True), found.text


def test_who_is_rung_fails_as_the_real_broker_refuses(house: House, patient: Patient) -> None:
    """Doctor and broker decide alike about the same user by the same file."""
    house.configure()
    text = house.settings.read_text().replace('users = ["*"]', 'users = ["nobody"]')
    config = house.root / ".config/unlatch/unlatch.toml"
    config.parent.mkdir(parents=True)
    config.write_text(text)
    for path in (config, config.parent, config.parent.parent):
        os.chown(path, UID, UID)
    found = patient.doctor("who-is-rung").findings["who-is-rung"]
    assert (found.state, f"every prompt of {NAME} is refused" in found.text) == ("problem", True)
    ring = patient.start(UNLATCH, "ring", "--timeout", "5")
    code, _, said = finish(ring)
    assert code == 1
    assert "the broker refused" in said
