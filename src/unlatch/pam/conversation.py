"""One login from its first word to its last, in a process of its own.

Everything that goes wrong ends in a denial, one line in the log, and one line in the session that tells nothing.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from unlatch import config, runtime
from unlatch.errors import Malformed
from unlatch.pam import accounts, log, login, screen, shown
from unlatch.pam.challenge import Challenge, Facts, Places, challenge
from unlatch.pam.channel import Channel
from unlatch.pam.entry import WEB
from unlatch.pam.errors import Gone, Unfit
from unlatch.pam.hangup import Client
from unlatch.pam.login import Login, Outcome
from unlatch.settings import Settings
from unlatch.wire.pam import Hello

EXTRA_SECONDS = 60  # beyond a login's time, for everything around it; then the process ends, whatever it does


class Stopped(Exception):
    """The service is told to end. Raised by a signal, anywhere."""


class House(NamedTuple):
    """What a conversation gets to know of the outside: files, environment, randomness, and two clocks.

    ``clock`` is CLOCK_BOOTTIME in seconds and decides; ``today`` is UTC seconds since 1970, and only shown.
    """

    config: str | None = None
    environ: Mapping[str, str] = {}
    places: Places = Places()
    random: Callable[[int], bytes] = os.urandom
    clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    today: Callable[[], float] = time.time


def converse(connection: socket.socket, hello: Hello, peer: runtime.Peer, house: House) -> None:
    """Hold the conversation, log how it ended, and say the last word. Raises nothing."""
    channel = Channel(connection, house.clock, Client(peer.pid, hello.connection).gone)
    word = "deny"
    try:
        outcome = _Conversation(channel, hello, peer, house).run()
    except Unfit as unfit:
        outcome = Outcome(False, login.CANNOT, unfit.why)
    except Gone:
        outcome = Outcome(False, "", "the login went away before it was confirmed")
    except Malformed:
        outcome = Outcome(False, login.CANNOT, "the module says what no module says")
    except Stopped:
        word, outcome = "fail", Outcome(False, login.CANNOT, "the service is stopping")
    except Exception as error:  # its text may quote anything
        word, outcome = "fail", Outcome(False, login.CANNOT, f"unforeseen {type(error).__name__} at {_place(error)}")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is decided, and over in a moment
    # First the log: who is let in without a line would be seen by nobody.
    tell = log.allowed if outcome.allowed else log.denied
    log.write(tell(hello, peer.uid, outcome.why))
    with contextlib.suppress(Gone, Malformed):
        if outcome.told:
            channel.warn(outcome.told)
    channel.end("allow" if outcome.allowed else word)


def settings_of(house: House) -> Settings:
    """The settings, as they are now: a login hears of a change without a restart.

    Raises:
        Unfit: unlatch.toml has mistakes that keep a broker from starting. Who may be let in is not guessed.
    """
    loaded = config.load(house.config, house.environ, os.geteuid())
    for mistake in loaded.mistakes:
        if mistake.fatal:
            raise Unfit(f"the configuration has mistakes: {mistake}")
    return loaded.settings


class _Conversation:
    def __init__(self, channel: Channel, hello: Hello, peer: runtime.Peer, house: House) -> None:
        self._channel = channel
        self._hello = hello
        self._peer = peer
        self._house = house

    def run(self) -> Outcome:
        """From who asks to how it ends.

        Raises:
            Unfit, Gone, Malformed.
        """
        self._settings = settings_of(self._house)
        signal.alarm(self._settings.pam_seconds + EXTRA_SECONDS)
        self._options = login.options(self._hello.arguments, self._settings.pam_mode)
        self._account = accounts.find(self._hello.user)
        self._check_peer()
        with contextlib.ExitStack() as until_the_end:
            made = self._challenge() if self._options.mode != "approve" else None
            link = self._page(made, until_the_end) if made else None
            attempt = Login(made.response if made else None, frozenset(), _by(made) if made else "")
            self._show(made, link)
            return self._attempt(attempt)

    def _check_peer(self) -> None:
        """Root is believed; everybody else may ask for itself."""
        if self._peer.uid not in (0, self._account.uid):
            raise Unfit("a uid asks for the login of another")

    def _challenge(self) -> Challenge:
        hello, claimed = self._hello, self._peer.uid != 0
        facts = Facts(
            user=self._account.name,
            host=os.uname().nodename,
            service=hello.service,
            source=f"{log.origin(hello)}{f', as told by a program of {self._account.name}' if claimed else ''}",
            at=int(self._house.today()),
        )
        return challenge(
            self._account, hello.service, facts, self._settings, places=self._house.places, random=self._house.random
        )

    def _page(self, made: Challenge, until_the_end: contextlib.ExitStack) -> shown.Link | None:
        """The web page of this login, where the entry wants one; without it the session has all that is needed."""
        if made.entry.web not in WEB:
            return None
        from unlatch.pam.web import Tls, open_page

        try:
            page = open_page(
                made.armour, made.entry.web, Tls(*made.tls) if made.tls else None, self._settings,
                worker=accounts.find(self._house.places.worker), random=self._house.random,
                seconds=self._settings.pam_seconds, forget=(made.response,),
            )  # fmt: skip
        except Unfit as unfit:
            log.write(log.noted(self._hello, self._peer.uid, unfit.why))
            return None
        return until_the_end.enter_context(page).link

    def _show(self, made: Challenge | None, link: shown.Link | None) -> None:
        if made is not None:
            size = screen.measure(self._hello.tty, self._peer.uid, self._settings.pam_terminal)
            for text in shown.texts(size, made.armour, link):
                self._channel.say(text)
        self._channel.ask(login.prompt(challenge=made is not None, ways=frozenset()))

    def _attempt(self, attempt: Login) -> Outcome:
        until = self._house.clock() + self._settings.pam_seconds
        outcome = None
        while outcome is None:
            heard = self._channel.wait(until)
            outcome = attempt.late() if heard is None else attempt.typed(heard)
        return outcome


def _by(made: Challenge) -> str:
    return f"challenge key={','.join(made.fingerprints)} entry={made.source}"


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else "start"
