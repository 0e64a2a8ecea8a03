"""``unlatch key wait``, the gate for services: one ring for all of them, and nobody in gpg-agent's queue."""

import errno
import time
from pathlib import Path

import private_systemd
import pytest
from house import UNLATCH, House
from real_gnupg import GPG, finish
from software_keys import FIRST, PRESET, SECOND, YEARS, SoftwareKeys
from waiting import until

from unlatch.gnupg import gate
from unlatch.gnupg.agent import Agent

SERVICES = 10


@pytest.fixture
def home(house: House) -> SoftwareKeys:
    """A GnuPG home with one locked key."""
    home = SoftwareKeys(house, PRESET + YEARS)
    home.make("a@x")
    home.lock_all()
    return home


def ten_services_answered_after(seconds: float, home: SoftwareKeys) -> None:
    """Ten services start at once; each waits at the gate, and then signs with the key, with nobody to ask."""
    sign = f"{' '.join(GPG)} --pinentry-mode cancel -u a@x --detach-sign --output - /dev/null"
    services = [home.house.start("sh", "-c", f'"{UNLATCH}" key wait a@x && {sign}') for _ in range(SERVICES)]
    ring = home.house.phone.ring()
    page = home.house.open(ring["link"])
    until(lambda: page.wait() and len(page.stamp["followers"]) >= SERVICES - 1, "the nine others on the page")
    time.sleep(seconds)  # the wait is the behaviour under test
    page.unlock(FIRST)
    assert page.verdict().outcome == "accepted"
    done = [finish(service) for service in services]
    assert [code for code, _, _ in done] == [0] * SERVICES, [errors for _, _, errors in done]
    assert all(signature for _, signature, _ in done)
    assert len(home.house.phone.messages("ring")) == 1


def test_ten_services_at_once_ring_once(home: SoftwareKeys) -> None:
    """All ten go on when somebody answers after some seconds; the page listed them all."""
    ten_services_answered_after(2, home)


@pytest.mark.slow
def test_ten_services_outlive_a_slow_person(home: SoftwareKeys) -> None:
    """After 90 s, too, when a client in gpg-agent's own queue would be dead: all ten succeed, with one ring."""
    ten_services_answered_after(90, home)


def test_a_key_that_is_unlocked_lets_through_at_once(home: SoftwareKeys) -> None:
    """Nobody is rung."""
    assert home.unlatch("key", "unlock", "--stdin", feed=FIRST)[0] == 0
    assert home.unlatch("key", "wait", "a@x")[0] == 0
    assert home.house.phone.messages() == []


def test_without_a_name_all_keys_in_files_are_waited_for(home: SoftwareKeys) -> None:
    """As a unit does for a user whose keys it need not know: one page opens both."""
    home.make("b@x")
    home.lock_all()
    waiting = home.start("key", "wait")
    page = home.house.open(home.house.phone.ring()["link"])
    page.unlock(FIRST)
    assert page.verdict().outcome == "accepted"
    assert finish(waiting)[0] == 0
    assert home.unlatch("key", "check", "a@x", "b@x")[0] == 0
    assert len(home.house.phone.messages("ring")) == 1


def test_without_any_key_there_is_nothing_to_wait_for(house: House) -> None:
    """A gate that nothing can open says so, and does not stand open."""
    code, _, errors = SoftwareKeys(house, PRESET).unlatch("key", "wait")
    assert code == 1
    assert "there are no secret keys here to wait for" in errors


def test_the_gate_opens_whoever_unlocks(home: SoftwareKeys) -> None:
    """Somebody types the passphrase elsewhere: the gate sees it within a second or so, and takes its prompt back."""
    waiting = home.start("key", "wait", "a@x")
    ring = home.house.phone.ring()
    assert home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)[0] == 0
    assert finish(waiting)[0] == 0
    end = home.house.phone.end()
    assert (end["id"], end["outcome"]) == (ring["id"], "withdrawn")


def test_without_a_ring_it_only_waits(home: SoftwareKeys) -> None:
    """--no-ring leaves ringing to others; it opens when the key is unlocked, and says so when the time is over."""
    code, _, errors = home.unlatch("key", "wait", "--no-ring", "--seconds", "1", "a@x")
    assert code == 4
    assert "the time is over, and still locked: <a@x>" in errors
    waiting = home.start("key", "wait", "--no-ring", "a@x")
    assert home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)[0] == 0
    assert finish(waiting)[0] == 0
    assert home.house.phone.messages() == []


def test_a_wrong_passphrase_in_the_cache_opens_no_gate(home: SoftwareKeys) -> None:
    """What gpg-agent holds unchecked is tried first."""
    home.house.run("gpg-connect-agent", f"PRESET_PASSPHRASE {home.grips('a@x')[0]} -1 {SECOND.hex()}", "/bye")
    assert home.unlatch("key", "check", "a@x")[0] == 0  # by the agent's word
    assert home.unlatch("key", "wait", "--no-ring", "--seconds", "2", "a@x")[0] == 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # which ends it in no way here
@pytest.mark.parametrize("trouble", [OSError(errno.EMFILE, "Too many open files"), RuntimeError("a mistake of ours")])
def test_what_keeps_it_from_looking_opens_no_gate(trouble: Exception) -> None:
    """A host that has run out of something, or a fault in the look itself: the keys may be locked, so it stays shut."""
    looks = []

    def open_agent() -> Agent:
        looks.append(1)
        raise trouble

    with gate.Watch(open_agent, ["A" * 40], interval=0.01) as watch:
        until(lambda: looks, "the look")
        assert not watch.wait(0.2)


def test_nobody_answers_in_time(home: SoftwareKeys) -> None:
    """The prompt is over with the time, and so is its link."""
    waiting = home.start("key", "wait", "--seconds", "2", "a@x")
    page = home.house.open(home.house.phone.ring()["link"])
    code, _, errors = finish(waiting)
    assert code == 4
    assert "still locked" in errors
    assert page.unlock(FIRST).status == 410


def test_a_link_that_expires_is_followed_by_another(house: House) -> None:
    """The broker gives a link an hour; the gate goes on waiting, with a fresh one each time."""
    home = SoftwareKeys(house, PRESET + YEARS)
    home.make("a@x")
    home.lock_all()
    house.configure(tables="[link]\nseconds = 1\n")
    waiting = home.start("key", "wait", "a@x")
    house.phone.ring(1)
    house.phone.ring(2)
    house.configure(tables="[link]\nseconds = 600\n")
    assert home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)[0] == 0
    assert finish(waiting)[0] == 0


def test_a_denial_closes_the_gate_for_all(home: SoftwareKeys) -> None:
    """Who denied has seen all that waited: they end, and their units fail."""
    waiting = [home.start("key", "wait", "a@x") for _ in range(3)]
    page = home.house.open(home.house.phone.ring()["link"])
    until(lambda: page.wait() and len(page.stamp["followers"]) == 2, "the two others")
    page.deny()
    done = [finish(each) for each in waiting]
    assert [code for code, _, _ in done] == [4] * 3
    assert all("denied" in errors for _, _, errors in done)


def test_a_killed_leader_is_followed_by_another(home: SoftwareKeys) -> None:
    """The one whose prompt it was dies; the next takes over, and the rest go on waiting."""
    waiting = [home.start("key", "wait", "a@x") for _ in range(3)]
    first = home.house.phone.ring()
    page = home.house.open(first["link"])
    until(lambda: page.wait() and len(page.stamp["followers"]) == 2, "the two others")
    assert page.prompt is not None
    leads = page.prompt.asker.chain[0].pid
    leader = next(each for each in waiting if each.pid == leads)
    leader.kill()
    second = home.house.phone.ring(2)
    assert second["link"] != first["link"]
    home.house.open(second["link"]).unlock(FIRST)
    assert sorted(finish(each)[0] for each in waiting) == [-9, 0, 0]


IN_A_SERVICE = """
    from house import UNLATCH, House
    from software_keys import FIRST, PRESET, YEARS, SoftwareKeys
    from waiting import until

    house = House()
    home = SoftwareKeys(house, PRESET + YEARS)
    home.make("a@x")
    home.restart()
    until(lambda: not house.processes_called(b"gpg-agent"), "the end of the agent")
    log = house.root / "log"
    kept = [f"--setenv={name}={value}" for name, value in house.environ().items()]
    kept += [f"--property=StandardError=file:{log}"]
    run = ["systemd-run", "--user", "--quiet", "--unit=gate", *kept, UNLATCH, "key"]
    subprocess.run([*run, "unlock", "a@x"], env=environ, check=True)
    until(lambda: "failed" in systemctl("is-failed", "gate.service"), "the failure of unlock")
    seen = {"unlock": log.read_text()}
    systemctl("reset-failed")
    subprocess.run([*run, "wait", "--no-ring", "a@x"], env=environ, check=True)
    until(lambda: "waiting for one" in log.read_text(), "that it waits")
    seen["agents"] = len(house.processes_called(b"gpg-agent"))
    home.unlatch("key", "unlock", "--stdin", "a@x", feed=FIRST)
    until(lambda: systemctl("is-active", "gate.service").strip() == "inactive", "the open gate")
    house.clear()
    print(json.dumps(seen))
"""


def test_a_service_waits_for_an_agent_instead_of_starting_one(tmp_path: Path) -> None:
    """An agent that a service starts ends with it, and with that every grant: unlock refuses, the gate waits."""
    seen = private_systemd.run(IN_A_SERVICE, tmp_path)
    assert "no gpg-agent runs" in seen["unlock"]
    assert "systemctl enable --now unlatch-agent@root.service" in seen["unlock"]
    assert seen["agents"] == 0
