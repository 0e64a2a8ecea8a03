"""What all tests share: an isolated house for each test, and an order that starts the long waits first."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest
from card.books import Books
from house import House

if TYPE_CHECKING:
    from pathlib import Path

    from card.house import CardHouse
    from card.pcsc import PCSC
    from login_house import LoginHouse
    from machine import Machine
    from matrix.phone import MatrixPhone, Phones
    from matrix.synapse import Synapse
    from packages import Packages
    from pam_build import Workshop
    from pam_desk import Desk, Forge
    from playwright.sync_api import Browser, BrowserContext, Playwright
    from proxy import Caddy
    from real_gnupg import Keyring


# What a single example takes says little on a machine that others use too; the whole run is bounded anyway.
hypothesis.settings.register_profile("unlatch", deadline=None, print_blob=True)
hypothesis.settings.load_profile("unlatch")


def pytest_configure(config: pytest.Config) -> None:
    hear_signals()
    config.addinivalue_line("markers", "long: waits in real time, so it is started before all others")
    config.pluginmanager.register(Books())


def hear_signals() -> None:
    """Let Ctrl-C and a closed terminal reach the programs that tests start. What a shell's "&" or nohup(1) had ignored
    stays ignored over every exec; what is handled does not.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture
def house() -> Iterator[House]:
    """An isolated home with its own GnuPG, broker, settings and phone; every process in it is ended afterwards."""
    house = House()
    yield house
    house.clear()


# What only some tests need is imported when the first of them runs.


@pytest.fixture(scope="session")
def caddy() -> "Iterator[Caddy]":
    """A real https proxy with its own certificate authority, for any number of brokers."""
    from proxy import Caddy

    caddy = Caddy()
    yield caddy
    caddy.close()


# Not for the whole session: Playwright keeps an event loop in this thread, in which nobody else could run one.
@pytest.fixture(scope="module")
def playwright() -> "Iterator[Playwright]":
    """What drives browsers."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def chromium(playwright: "Playwright", caddy: "Caddy") -> "Iterator[Browser]":
    """A real browser that trusts this proxy."""
    from browser import Chromium

    chromium = Chromium(playwright, caddy.authority)
    browser = chromium.headless()
    yield browser
    browser.close()
    chromium.close()


@pytest.fixture
def person(chromium: "Browser") -> "Iterator[BrowserContext]":
    """A browser without a past."""
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def stranger(chromium: "Browser") -> "Iterator[BrowserContext]":
    """Somebody else's browser."""
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def web03(house: House, caddy: "Caddy") -> "Keyring":
    """A house with a GnuPG key, whose page is the proxy's at /web03/."""
    from real_gnupg import Keyring

    caddy.serve("web03", house)
    return Keyring(house)


@pytest.fixture(scope="session")
def synapse(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Synapse]":
    """A real homeserver, one for all workers of this run: every test makes its own users."""
    from matrix.shared import shared
    from matrix.synapse import python
    from real import absent

    if python() is None:
        absent("no Synapse; tools/setup test installs it")
    own = tmp_path_factory.getbasetemp()  # pytest-xdist gives each worker one, below the one of the run
    with shared((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "synapse") as synapse:
        yield synapse


@pytest.fixture(scope="session")
def phones() -> "Iterator[Phones]":
    """Where phones come from."""
    from matrix.phone import Phones

    phones = Phones()
    yield phones
    phones.close()


@pytest.fixture
def phone(phones: "Phones") -> "Iterator[MatrixPhone]":
    """A phone with another's Matrix client on it, not logged in."""
    phone = phones.new()
    yield phone
    phone.stop()


@pytest.fixture(scope="session")
def pcsc(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[PCSC]":
    """A namespace with real pcscd and two virtual readers, one for all tests of a worker."""
    from card import rsa_keys
    from card.pcsc import PCSC

    own = tmp_path_factory.getbasetemp()
    rsa_keys.keep_in((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "rsa-keys")
    pcsc = PCSC()
    yield pcsc
    pcsc.close()


@pytest.fixture
def card_house(pcsc: "PCSC") -> "Iterator[CardHouse]":
    """A house with a new card in its reader (tests/card); a PIN try that no test announced is a failure."""
    from card.card import Card
    from card.house import CardHouse

    house = CardHouse(pcsc, Card())
    yield house
    house.clear()
    try:
        house.settle()
    finally:
        pcsc.clear()


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> "Packages":
    """The wheel and the Debian package, built once for all workers of this run."""
    from packages import Packages

    own = tmp_path_factory.getbasetemp()
    return Packages((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "packages")


@pytest.fixture(scope="session")
def workshop() -> "Iterator[Workshop]":
    """Where the PAM module is compiled, and what its tests put around it."""
    from pam_build import Workshop

    workshop = Workshop()
    yield workshop
    workshop.close()


@pytest.fixture(scope="session")
def pam_module(workshop: "Workshop") -> "Path":
    """``pam_unlatch.so`` of this checkout."""
    return workshop.module()


@pytest.fixture
def desk(forge: "Forge") -> "Iterator[Desk]":
    """An account, its home and the server's places; the test's module says which keys there are (``forge``)."""
    from pam_desk import Desk

    desk = Desk(forge)
    yield desk
    desk.close()


@pytest.fixture
def machine(login_houses: "LoginHouses") -> "Iterator[Machine]":
    """A whole small Debian with systemd as its first process, for this test only."""
    from machine import machine

    login_houses.close()
    with machine(systemd=True) as made:
        yield made


@pytest.fixture
def bare_machine() -> "Iterator[Machine]":
    """The same without systemd, as in a container."""
    from machine import machine

    with machine(systemd=False) as made:
        yield made


@pytest.fixture(scope="session")
def login_houses(packages: "Packages") -> "Iterator[LoginHouses]":
    """Keeps one such Debian as the next fixture gives, until a test wants another machine."""
    houses = LoginHouses(packages)
    yield houses
    houses.close()


@pytest.fixture
def login_house(login_houses: "LoginHouses") -> "LoginHouse":
    """A whole Debian whose logins are ours, for as many tests of a worker as follow each other."""
    return login_houses.open()


@pytest.fixture
def logins(login_house: "LoginHouse") -> "Iterator[LoginHouse]":
    """The same for one test, which leaves it as it was."""
    yield login_house
    login_house.settle()


class LoginHouses:
    """At most one at a time, and none beside another machine: systemd takes eight inotify instances for each, and a
    user has 128 of them. When they are gone, a machine does not finish booting.
    """

    def __init__(self, packages: "Packages") -> None:
        self._packages = packages
        self._held = contextlib.ExitStack()
        self._house: LoginHouse | None = None

    def open(self) -> "LoginHouse":
        """The one there is, or a new one."""
        if self._house is None:
            from login_house import LoginHouse
            from machine import machine

            self._house = LoginHouse(self._held.enter_context(machine(systemd=True)), self._packages)
            self._held.callback(self._house.close)
        return self._house

    def close(self) -> None:
        """End it, if there is one."""
        self._house = None
        self._held.close()
