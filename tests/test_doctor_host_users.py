"""Who would be rung for all users of a host, and by how many ways."""

import ctypes
import os
import pwd
from pathlib import Path

import pytest
from doctor_host import CHECKS, examine, finding, situation_of
from house import House

from unlatch.doctor.check import Finding
from unlatch.doctor.host import users
from unlatch.doctor.host.served import served
from unlatch.doctor.host.users import who_is_rung
from unlatch.settings import NotifierSettings, Person, Settings

NOWHERE = situation_of({"HOME": "/nonexistent"})
PHONE = NotifierSettings("phone", "command", {}, end_to_end=False)
CHAT = NotifierSettings("chat", "matrix", {}, end_to_end=True)


def settle(house: House, text: str) -> None:
    house.settings.write_text(f'listen = "unix:{house.page}"\npublic_url = "https://unlock.test/"\n{text}')


def test_other_users_fails_for_one_who_may_not_ask(house: House) -> None:
    """A person is named for that user, and allow_users is not: the refusal of the night, told now."""
    settle(
        house,
        'allow_users = ["me"]\n[people.alex]\nusers = ["daemon"]\nnotify = ["phone"]\n'
        '[notify.phone]\ncommand = ["true"]\n',
    )
    found = finding(house, "other-users")
    text = "every prompt of daemon is refused: this user may not ask: allow_users does not name it"
    assert found == Finding("other-users", "problem", text, f"vi {house.settings}")


def test_other_users_fails_for_a_person_without_a_notifier(house: House) -> None:
    """And for a notifier that nobody uses: both look right in the file."""
    settle(house, '[people.alex]\nusers = ["*", "daemon"]\nnotify = []\n[notify.phone]\ncommand = ["true"]\n')
    daemon, idle, unused = examine(house, "other-users")
    assert (daemon.state, daemon.text) == ("problem", "for daemon nothing rings: alex has no notifier")
    assert (idle.state, idle.text) == ("warning", "alex has no notifier and is never rung")
    assert (unused.state, unused.text) == ("warning", "nobody is rung by phone")


def test_other_users_passes(house: House) -> None:
    """One line for each, with who and by what; or none asks."""
    assert finding(house, "other-users").state == "ok"
    settle(house, '[people.alex]\nusers = ["daemon"]\nnotify = ["phone"]\n[notify.phone]\ncommand = ["true"]\n')
    assert finding(house, "other-users") == Finding("other-users", "ok", "alex is rung for daemon, by phone")


def test_other_users_passes_by_the_brokers_own_rules() -> None:
    """The policy is the broker's, so what it says here is what it does at night."""
    settings = Settings(people=(Person("alex", ("1000",), ("phone", "chat")),), notifiers=(PHONE, CHAT))
    assert who_is_rung(settings, 1000, "api") == ("api", "alex", ("phone", "chat"), "")
    assert who_is_rung(settings, 1001, "web").refusal == "no person is named for this user"


def test_users_with_a_gpg_agent_of_ours_are_looked_at(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host with one broker for all, whose agent calls us may be refused, and would learn it at night."""
    (house.root / ".gnupg").mkdir()
    conf = house.root / ".gnupg" / "gpg-agent.conf"
    conf.write_text("# pinentry-program /usr/bin/pinentry-unlatch\npinentry-program /usr/bin/pinentry-curses\n")
    assert not users._asks(str(house.root))
    assert not users._asks("/nonexistent")
    conf.write_text("pinentry-program /usr/bin/pinentry-unlatch\n")
    entry = pwd.getpwnam("daemon")
    monkeypatch.setattr(pwd, "getpwall", lambda: [pwd.struct_passwd((*entry[:5], str(house.root), entry[6]))])
    found = served(situation_of(house.environ()))
    hosts = found._replace(place=found.place._replace(host=True))
    assert [name for name, _ in users._users(NOWHERE, Settings(), hosts)] == ["me", "daemon"]


def test_one_notifier_fails(house: House) -> None:
    """When it is down, nobody is rung."""
    found = finding(house, "one-notifier")
    assert found.state == "warning"
    assert found.text.startswith("for me only one notifier rings (phone)")
    assert found.hint == f"vi {house.settings}"


def test_one_notifier_passes(house: House) -> None:
    """Two ways to the same person."""
    house.configure(tables='[people.alex]\nusers = ["*"]\nnotify = ["mail"]\n[notify.mail]\ncommand = ["true"]\n')
    assert finding(house, "one-notifier").state == "ok"


def test_hints_of_the_hosts_file_are_for_root() -> None:
    """What is changed in /etc counts after a restart."""
    facts = users.Facts("/etc/unlatch/unlatch.toml", (), ("alex",), ())
    (found,) = CHECKS["other-users"].judge(facts, NOWHERE._replace(caller=1000))  # type: ignore[misc]
    assert found.hint == "sudo vi /etc/unlatch/unlatch.toml\nsudo systemctl restart unlatch.service"


def test_another_users_settings_are_opened_with_that_users_rights() -> None:
    """Root's editor would write through that user's links, and take a path with a dash in front for its own option."""
    for path, typed in {
        "/home/api/.config/unlatch/unlatch.toml": "vi /home/api/.config/unlatch/unlatch.toml",
        "-c!reboot": "vi -- '-c!reboot'",
        "/etc/../tmp/x": "vi /etc/../tmp/x",
    }.items():
        facts = users.Facts(path, (), ("alex",), ())
        situation = NOWHERE._replace(user="api", uid=1000, caller=0)
        (found,) = CHECKS["other-users"].judge(facts, situation)  # type: ignore[misc]
        assert found.hint == f"runuser --pty -u api -- {typed}"


def test_what_a_link_leads_to_is_not_opened_for_a_look(tmp_path: Path) -> None:
    """Root would start a watchdog with that, and with it the machine's end."""
    (tmp_path / ".gnupg").mkdir()
    os.mkfifo(tmp_path / "device")
    (tmp_path / ".gnupg/gpg-agent.conf").symlink_to(tmp_path / "device")
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, os.fsencode(tmp_path / "device"), 0x20) > 0  # IN_OPEN
    try:
        assert not users._asks(str(tmp_path))
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
        os.close(os.open(tmp_path / "device", os.O_RDONLY | os.O_NONBLOCK))
        assert os.read(watch, 4096)  # it would have been seen
    finally:
        os.close(watch)
