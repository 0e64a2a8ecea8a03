"""A late answer is kept if the person agreed: real gpg and gpg-agent, our pinentry, a systemd to end the grant."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from answerer import Page
from house import House
from private_systemd import PrivateSystemd
from real_gnupg import GPG, finish
from software_keys import FIRST, PRESET, SECOND, YEARS, SoftwareKeys
from waiting import until

KEEP = "[keep]\nseconds = 28800\n"


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSystemd]:
    """One for all tests here."""
    systemd = PrivateSystemd(tmp_path_factory.mktemp("systemd"))
    yield systemd
    systemd.close()


class HouseBesideSystemd(House):
    """A house whose programs run where that systemd is."""

    def __init__(self, systemd: PrivateSystemd) -> None:
        self._enter = systemd.enter
        super().__init__()

    def start(self, *command: str | Path, **more: str) -> "subprocess.Popen[bytes]":
        return super().start(*self._enter, *command, **more)

    def run(self, *command: str | Path, feed: bytes = b"", **more: str) -> bytes:
        return super().run(*self._enter, *command, feed=feed, **more)


@pytest.fixture
def home(systemd: PrivateSystemd) -> Iterator[SoftwareKeys]:
    """A GnuPG home with a locked key, whose administrator wants that keeping is offered."""
    house = HouseBesideSystemd(systemd)
    house.configure(tables=KEEP)
    home = SoftwareKeys(house, PRESET + YEARS, enter=systemd.enter)
    home.make("a@x")
    home.lock_all()
    yield home
    assert home.unlatch("lock")[0] == 0
    assert systemd.timers() == 0
    house.clear()


def pinentries(home: SoftwareKeys) -> list[int]:
    return home.house.processes_called(b"pinentry-unlatch")


def sign(home: SoftwareKeys) -> "subprocess.Popen[bytes]":
    """A service that signs, and asks through our pinentry."""
    return home.house.start(*GPG, "--status-fd", "2", "-u", "a@x", "--detach-sign", "--output", "-", "/dev/null")


def abandoned(home: SoftwareKeys) -> Page:
    """An open page whose service has just been killed, while gpg-agent has got rid of its pinentry."""
    service = sign(home)
    page = home.house.open(home.house.phone.ring()["link"])
    assert page.prompt is not None
    assert page.prompt.keep == 28800
    (gpg,) = home.house.processes_called(b"--detach-sign")[-1:]
    os.kill(gpg, signal.SIGKILL)
    finish(service)
    until(lambda: page.wait() and page.stamp["orphaned"], "that the page hears of it")
    return page


def test_a_late_answer_is_kept_if_that_was_agreed(home: SoftwareKeys, systemd: PrivateSystemd) -> None:
    """The service was killed; the answer that comes later unlocks the key for eight hours, which the page says."""
    page = abandoned(home)
    page.unlock(FIRST, keep=True)
    verdict = page.verdict()
    assert verdict.outcome == "accepted"
    assert "gpg-agent keeps it until 20" in verdict.text
    assert home.cached() == set(home.grips("a@x"))
    assert systemd.timers() == 1
    assert home.sign("a@x") == 0
    until(lambda: not pinentries(home), "the end of the pinentry")
    assert home.house.phone.end()["outcome"] == "accepted"


def test_a_late_answer_is_thrown_away_without_that(home: SoftwareKeys, systemd: PrivateSystemd) -> None:
    """Nobody ticked the box: nothing is kept, and the page hears why nothing came of it."""
    page = abandoned(home)
    page.unlock(FIRST)
    verdict = page.verdict()
    assert (verdict.outcome, "it was not to be kept" in verdict.text) == ("failed", True)
    assert home.cached() == set()
    assert systemd.timers() == 0


def test_gpg_agent_is_free_while_somebody_is_still_asked(home: SoftwareKeys) -> None:
    """The pinentry that goes on holds none of gpg-agent's pipes: other keys are asked for at once."""
    home.make("b@x")
    home.lock_all()
    abandoned(home)
    other = home.house.start(*GPG, "-u", "b@x", "--detach-sign", "--output", "-", "/dev/null")
    home.house.open(home.house.phone.links(2)[1]).unlock(FIRST)
    assert finish(other)[0] == 0
    for pinentry in pinentries(home):
        targets = {os.readlink(f"/proc/{pinentry}/fd/{number}") for number in (0, 1, 2)}
        assert targets == {"/dev/null"}
        assert os.getsid(pinentry) == pinentry


def test_a_wrong_late_answer_goes_on_in_the_page(home: SoftwareKeys) -> None:
    """Three tries, as gpg-agent gives; the second is right."""
    page = abandoned(home)
    page.unlock(SECOND, keep=True)
    verdict = page.verdict()
    assert verdict.outcome == "wrong"
    assert home.cached() == set()
    following = page.follow(verdict)
    assert following.prompt is not None
    assert (following.prompt.attempt, following.prompt.keep) == ((2, 3), 28800)
    following.unlock(FIRST, keep=True)
    assert following.verdict().outcome == "accepted"
    assert home.cached() == set(home.grips("a@x"))
    assert len(home.house.phone.messages("ring")) == 1


def test_a_denial_ends_it(home: SoftwareKeys) -> None:
    """No is no, whether or not the program waits."""
    page = abandoned(home)
    page.deny()
    assert page.verdict().outcome == "denied"
    until(lambda: not pinentries(home), "the end of the pinentry")
    assert home.cached() == set()


def test_the_same_request_again_takes_its_place(home: SoftwareKeys) -> None:
    """A restarted job asks anew: its link takes the orphan's place, without a sound, and is answered directly."""
    page = abandoned(home)
    again = sign(home)
    second = home.house.phone.ring(2)
    assert second["quiet"] is True
    assert page.unlock(FIRST, keep=True).body == {"state": "withdrawn"}
    home.house.open(second["link"]).unlock(FIRST)
    assert finish(again)[0] == 0


def test_a_program_that_is_there_gets_its_answer_and_more(home: SoftwareKeys, systemd: PrivateSystemd) -> None:
    """The box holds what it says also when nobody has given up: kept until then, not for gpg-agent's ten minutes."""
    service = sign(home)
    page = home.house.open(home.house.phone.ring()["link"])
    page.unlock(FIRST, keep=True)
    assert finish(service)[0] == 0
    verdict = page.verdict()
    assert verdict.outcome == "accepted"
    assert "gpg-agent keeps it until 20" in verdict.text
    assert systemd.timers() == 1
    assert 28_700 < home.listed()[0]["seconds"] <= 28_800


def test_a_ticked_box_and_a_wrong_passphrase_keep_nothing(home: SoftwareKeys, systemd: PrivateSystemd) -> None:
    """gpg-agent asks again in the same page, and what was wrong is forgotten."""
    service = sign(home)
    page = home.house.open(home.house.phone.ring()["link"])
    page.unlock(SECOND, keep=True)
    following = page.follow(page.verdict())
    following.unlock(FIRST)
    assert finish(service)[0] == 0
    assert following.verdict().text == ""
    assert systemd.timers() == 0


def test_an_answer_that_nobody_offered_to_keep_is_not_kept(systemd: PrivateSystemd) -> None:
    """Whatever a page sends: without [keep] in unlatch.toml nothing is offered, and nothing is kept."""
    house = HouseBesideSystemd(systemd)
    home = SoftwareKeys(house, PRESET + YEARS)
    home.make("a@x")
    home.lock_all()
    service = sign(home)
    page = house.open(house.phone.ring()["link"])
    assert page.prompt is not None
    assert page.prompt.keep == 0
    page.unlock(FIRST, keep=True)
    assert finish(service)[0] == 0
    assert page.verdict().text == ""
    assert systemd.timers() == 0
    house.clear()


@pytest.mark.parametrize(
    "agent", ["", PRESET + "max-cache-ttl 600\n", PRESET + YEARS + "no-allow-loopback-pinentry\n"],
    ids=["no preset", "too short", "no loopback"],
)  # fmt: skip
def test_it_is_offered_only_if_it_can_be_had(systemd: PrivateSystemd, agent: str) -> None:
    """A box that promises what gpg-agent will not do would be a lie."""
    house = HouseBesideSystemd(systemd)
    house.configure(tables=KEEP)
    home = SoftwareKeys(house, PRESET + YEARS)
    home.make("a@x")
    home.configure(agent)
    home.restart()
    service = sign(home)
    page = house.open(house.phone.ring()["link"])
    assert page.prompt is not None
    assert page.prompt.keep == 0
    service.kill()
    house.clear()


def test_without_somebody_to_end_it_nothing_is_offered(house: House) -> None:
    """No systemd that outlives gpg-agent, no box: a grant without an end is nobody's wish."""
    house.configure(tables=KEEP)
    home = SoftwareKeys(house, PRESET + YEARS)
    home.make("a@x")
    home.lock_all()
    service = sign(home)
    page = house.open(house.phone.ring()["link"])
    assert page.prompt is not None
    assert page.prompt.keep == 0
    service.kill()


def test_a_signal_ends_the_waiting(home: SoftwareKeys) -> None:
    """Whoever ends the pinentry that goes on withdraws its prompt."""
    page = abandoned(home)
    (pinentry,) = until(lambda: [pid for pid in pinentries(home) if os.getsid(pid) == pid], "the one that goes on")
    os.kill(pinentry, signal.SIGTERM)
    assert home.house.phone.end()["outcome"] == "withdrawn"
    assert page.unlock(FIRST, keep=True).body == {"state": "withdrawn"}
    until(lambda: not pinentries(home), "the end of the pinentry")


def test_a_broker_that_dies_meanwhile_learns_of_it_again(home: SoftwareKeys) -> None:
    """The link goes on working, and whoever asks anew still takes its place."""
    page = abandoned(home)
    (broker,) = home.house.brokers()
    os.kill(broker, signal.SIGKILL)
    until(lambda: home.house.brokers() not in ([], [broker]), "another broker")
    until(lambda: home.house.answers_on(page) and page.stamp["orphaned"], "the old link, and what is known of it")
    page.unlock(FIRST, keep=True)
    assert page.verdict().outcome == "accepted"
