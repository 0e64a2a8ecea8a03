"""What happens while GnuPG waits: clients pile up or die, the broker dies, twenty ask at once. Nothing is lost."""

import os
import signal
import subprocess
import time

import pytest
from answerer import Page
from house import PINENTRY, House
from real_gnupg import CANCELLED, PASSPHRASE, PLAINTEXT, Keyring, finish
from waiting import until


@pytest.mark.long
def test_three_clients_answered_after_twenty_seconds(house: House) -> None:
    """Three services want the same key and somebody answers after 20 s: all three go on, with one ring that sounds."""
    services = three_services_answered_after(20, house)
    assert [finish(service)[:2] for service in services] == [(0, PLAINTEXT)] * 3
    assert [ring["quiet"] for ring in house.phone.messages("ring")].count(False) == 1


@pytest.mark.slow
def test_three_clients_answered_after_ninety_seconds(house: House) -> None:
    """After 60 s gpg-agent itself gives up on clients in its queue: nobody hangs, and who goes on has the secret."""
    outcomes = [finish(service) for service in three_services_answered_after(90, house)]
    assert [out for code, out, _ in outcomes if code == 0] in ([PLAINTEXT] * count for count in (1, 2, 3))
    assert all(out == b"" for code, out, _ in outcomes if code != 0)


def three_services_answered_after(seconds: float, house: House) -> "list[subprocess.Popen[bytes]]":
    """Three services that want the same key at once; from then on whatever rings is answered, until all have ended."""
    keyring = Keyring(house)
    services = [keyring.decrypt() for _ in range(3)]
    house.phone.ring()
    time.sleep(seconds)  # the wait is the behaviour under test: gpg-agent lets its other clients queue for 60 s
    answered: set[str] = set()

    def all_ended() -> bool:
        for ring in house.phone.messages("ring"):
            if ring["link"] not in answered:
                answered.add(ring["link"])
                page = Page(ring["link"], house.page)
                if page.view().status == 200:  # else it rang for a client that has given up since
                    page.unlock(PASSPHRASE)
        return all(service.poll() is not None for service in services)

    until(all_ended, "the end of all three", 60)
    return services


def test_a_killed_client_withdraws_its_prompt(house: House) -> None:
    """gpg-agent leaves the pinentry running when its client dies; ours sees that and takes the prompt back."""
    service = Keyring(house).decrypt()
    ring = house.phone.ring()
    page = house.open(ring["link"])
    service.kill()
    end = house.phone.end()
    assert (end["id"], end["outcome"], end["link"]) == (ring["id"], "withdrawn", "")
    assert page.unlock(PASSPHRASE).body == {"state": "withdrawn"}
    until(lambda: not pinentries(house), "the end of the pinentry")
    finish(service)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signalled_pinentry_answers_and_goes(house: House, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end the pinentry at once: gpg-agent hears a cancel, the prompt is withdrawn."""
    service = Keyring(house).sign()
    house.phone.ring()
    (pinentry,) = pinentries(house)
    os.kill(pinentry, number)
    code, _, errors = finish(service)
    assert code != 0
    assert CANCELLED in errors
    assert house.phone.end()["outcome"] == "withdrawn"


def test_the_same_key_again_rings_no_second_time(house: House) -> None:
    """A job that is restarted asks for the same key within ten minutes: the old message is edited, without a sound."""
    keyring = Keyring(house)
    first = keyring.decrypt()
    ring = house.phone.ring()
    first.kill()
    house.phone.end()
    second = keyring.decrypt()
    again = house.phone.ring(2)
    assert (again["quiet"], again["id"]) == (True, ring["id"])
    assert again["link"] != ring["link"]
    house.open(again["link"]).unlock(PASSPHRASE)
    assert finish(second)[:2] == (0, PLAINTEXT)
    finish(first)


def test_a_killed_broker_comes_back_with_the_same_link(house: House) -> None:
    """The broker is killed while GnuPG waits: the asker starts another and the link already sent goes on working."""
    service = Keyring(house).decrypt()
    ring = house.phone.ring()
    page = house.open(ring["link"])
    (broker,) = house.brokers()
    until(house.rings_are_told, "the asker's knowledge of the ring")
    os.kill(broker, signal.SIGKILL)
    until(lambda: house.brokers() not in ([], [broker]), "another broker")
    until(lambda: house.answers_on(page), "the old link on the new broker")
    page.unlock(PASSPHRASE)
    assert page.verdict().outcome == "accepted"
    assert finish(service)[:2] == (0, PLAINTEXT)
    assert len(house.phone.messages("ring")) == 1


def test_twenty_askers_at_once_start_one_broker(house: House) -> None:
    """Twenty pinentries find no broker: exactly one is started. Each of them is rung for, in a message or two."""
    askers = [
        subprocess.Popen(
            [PINENTRY], env=house.environ(), cwd="/", start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(20)
    ]  # fmt: skip
    for number, asker in enumerate(askers):
        assert asker.stdin is not None
        asker.stdin.write(b"SETKEYINFO n/%040X\nSETDESC key %d\nGETPIN\n" % (number, number))
        asker.stdin.flush()
    links = house.phone.links(20)
    assert len(house.brokers()) == 1
    assert len([ring for ring in house.phone.messages("ring") if not ring["quiet"]]) <= 3
    for number, link in enumerate(links):
        house.open(link).unlock(b"answer %d" % number)
    answers = {asker.communicate(b"", timeout=20)[0].splitlines()[-2] for asker in askers}
    assert answers == {b"D answer %d" % number for number in range(20)}


def pinentries(house: House) -> list[int]:
    """The pids of this house's pinentries."""
    return house.processes_called(b"pinentry-unlatch")
