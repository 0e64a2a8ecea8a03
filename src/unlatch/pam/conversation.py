"""One login from its first word to its last, in a process of its own.

Everything that goes wrong ends in a denial, one line in the log, and one line in the session that tells nothing.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from unlatch import config, forked, runtime
from unlatch.errors import Malformed
from unlatch.pam import accounts, log, login, screen, shown, worker
from unlatch.pam.as_user import boottime
from unlatch.pam.challenge import Challenge, Facts, Places, challenge
from unlatch.pam.channel import Channel
from unlatch.pam.entry import BROKER, WEB
from unlatch.pam.errors import Gone, Unfit
from unlatch.pam.hangup import Client
from unlatch.pam.login import Login, Outcome
from unlatch.pam.shown import Link
from unlatch.settings import Settings
from unlatch.wire.pam import Hello

if TYPE_CHECKING:
    from unlatch.pam.phone import Approval, PageChallenge

EXTRA_SECONDS = 60  # beyond a login's time, for everything around it; then the process ends, whatever it does


class Stopped(Exception):
    """The service is told to end. Raised by a signal, anywhere."""


class House(NamedTuple):
    """What a conversation gets to know of the outside: files, environment, randomness, and two clocks.

    ``approvals`` is the directory that counts the rings; ``clock`` is CLOCK_BOOTTIME in seconds and decides; ``today``
    is UTC seconds since 1970, and only shown.
    """

    config: str | None = None
    environ: Mapping[str, str] = {}
    places: Places = Places()
    approvals: str = "/run/unlatch-pam-approvals"
    random: Callable[[int], bytes] = os.urandom
    clock: Callable[[], float] = boottime
    today: Callable[[], float] = time.time


def converse(connection: socket.socket, hello: Hello, peer: runtime.Peer, house: House) -> None:
    """Hold the conversation, log how it ended, and say the last word. Raises nothing."""
    # A connection that somebody else names is his own story, in a network that may be his own too.
    client = Client(peer.pid, hello.connection if peer.uid == 0 else "")
    channel = Channel(connection, house.clock, client.gone)
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
        word, outcome = (
            "fail",
            Outcome(False, login.CANNOT, f"unforeseen {type(error).__name__} at {forked.place(error)}"),
        )
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


class _Ways(NamedTuple):
    """How else than by typing the response in the session; ``digits`` are for the phone."""

    phone: "Approval | None" = None
    digits: str = ""
    page: "PageChallenge | None" = None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, way in ((login.PHONE, self.phone), (login.PAGE, self.page)) if way is not None)


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
        self._facts = self._who_and_where()
        with contextlib.ExitStack() as self._until_the_end:
            made = self._challenge() if self._options.mode != "approve" else None
            link = self._page(made) if made else None
            ways = _Ways(*self._ring(made), self._broker_page(made) if made else None)
            until = self._house.clock() + self._settings.pam_seconds
            self._show(made, Link(ways.page.taken.link) if ways.page else link, ways)
            attempt = Login(made.response if made else None, ways.names, _by(made) if made else "")
            return self._attempt(attempt, ways, until)

    def _check_peer(self) -> None:
        """Root is believed; everybody else may ask for itself."""
        if self._peer.uid not in (0, self._account.uid):
            raise Unfit("a uid asks for the login of another")

    def _who_and_where(self) -> Facts:
        hello = self._hello
        source = log.origin(hello)
        if self._peer.uid:  # in front: whoever shows it cuts what is long, and a claim can be as long as it likes
            source = f"a program of {self._account.name}, which says {source or 'nothing'}"
        return Facts(self._account.name, os.uname().nodename, hello.service, source, int(self._house.today()))

    def _challenge(self) -> Challenge:
        made = challenge(
            self._account, self._hello.service, self._facts, self._settings,
            places=self._house.places, random=self._house.random,
        )  # fmt: skip
        spent = [key for key in made.entry.keys if made.source == "record" and key not in made.fingerprints]
        if spent:
            self._note(f"the challenge is not for {','.join(spent)}: expired, revoked, or made for something else")
        self._channel.live()
        return made

    # The ways

    def _page(self, made: Challenge) -> Link | None:
        """The web page of this login, where the entry wants one; without it the session has all that is needed."""
        if made.entry.web not in WEB:
            return None
        from unlatch.pam.web import Tls, open_page

        try:
            page = open_page(
                made.armour, made.entry.web, Tls(*made.tls) if made.tls else None, self._settings,
                server=worker.server(self._house.places), random=self._house.random,
                seconds=self._settings.pam_seconds, forget=(made.response,),
            )  # fmt: skip
        except Unfit as unfit:
            self._note(unfit.why)
            return None
        return self._until_the_end.enter_context(page).link

    def _broker_page(self, made: Challenge) -> "PageChallenge | None":
        if made.entry.web != BROKER:
            return None
        from unlatch.pam import phone

        try:
            page = phone.PageChallenge(
                self._facts, made.armour, made.response,
                where=phone.place(self._house.environ), seconds=self._settings.pam_seconds,
                public_url=self._settings.public_url, random=self._house.random,
            )  # fmt: skip
        except Unfit as unfit:
            self._note(f"no page: {unfit.why}")
            return None
        self._until_the_end.callback(page.stop)
        self._channel.live()
        return page

    def _ring(self, made: Challenge | None) -> "tuple[Approval | None, str]":
        """Ring the account's person; where that cannot be, there is the challenge, or nothing.

        Raises:
            Unfit: there is nothing.
        """
        if self._options.mode == "challenge":
            return None, ""
        try:
            return self._rung()
        except Unfit as unfit:
            if made is None:
                raise
            self._note(unfit.why)
            return None, ""

    def _rung(self) -> "tuple[Approval, str]":
        from unlatch.pam import allowance, phone

        if not login.first_factor(self._hello, self._options):
            raise Unfit("nobody is rung: no first factor, by sshd's word or after_first_factor on the PAM line")
        where = phone.place(self._house.environ)
        digits = f"{int.from_bytes(self._house.random(8)) % 100:02}"
        self._rung_at = self._house.clock()
        most = self._settings.pam_approvals
        allowance.take(self._house.approvals, self._account.uid, own=self._own, most=most, now=self._rung_at)
        try:
            rung = phone.Approval(
                self._facts, digits, where=where, seconds=self._settings.pam_seconds, random=self._house.random
            )
        except phone.NotRung:
            self._was_rung_for("yes")
            raise
        self._until_the_end.callback(rung.stop)
        self._channel.live()
        return rung, digits

    def _was_rung_for(self, said: str) -> None:
        """Count what came of the ring: after a yes, or where nobody was rung, it is none; after a no there is peace."""
        from unlatch.pam import allowance, asker

        directory, uid = self._house.approvals, self._account.uid
        try:
            if said == "yes":
                allowance.give_back(directory, uid, own=self._own, at=self._rung_at)
            elif said.startswith("no: ") and said != asker.WRONG_DIGITS:
                allowance.leave_in_peace(directory, uid, own=self._own, at=self._rung_at, now=self._house.clock())
        except Unfit as unfit:
            self._note(unfit.why)

    # The session

    def _show(self, made: Challenge | None, link: Link | None, ways: _Ways) -> None:
        rung = login.rung(ways.digits, ways.phone.taken.words) if ways.phone else ""
        if made is not None:
            size = screen.measure(self._hello.tty, self._peer.uid, self._settings.pam_terminal)
            light, below = self._settings.pam_background == "light", shown.BELOW + len(rung.splitlines())
            for text in shown.texts(size, made.armour, link, light=light, below=below):
                self._channel.say(text)
        if rung:
            self._channel.say(rung)
        self._channel.ask(login.prompt(challenge=made is not None, ways=ways.names))

    def _attempt(self, attempt: Login, ways: _Ways, until: float) -> Outcome:
        watched = {way.fileno() for way in (ways.phone, ways.page) if way is not None}
        outcome = None
        while outcome is None:
            heard = self._channel.wait(until, watched)
            if heard is None:
                return attempt.late()
            if isinstance(heard, bytes):
                outcome = attempt.typed(heard)
                # sshd would show it when all is over.
                if outcome is None and self._hello.tty != "ssh":
                    self._channel.say(login.WAITING)
                continue
            watched.discard(heard)  # each has one thing to say
            if ways.phone and heard == ways.phone.fileno():
                said = ways.phone.result()
                self._was_rung_for(said)
                outcome = attempt.heard(login.PHONE, said, f"approval person={ways.phone.taken.person}")
            elif ways.page:
                outcome = attempt.heard(login.PAGE, ways.page.result())
        return outcome

    @property
    def _own(self) -> bool:
        return self._peer.uid != 0

    def _note(self, what: str) -> None:
        log.write(log.noted(self._hello, self._peer.uid, what))


def _by(made: Challenge) -> str:
    return f"challenge key={','.join(made.fingerprints)} entry={made.source}"
