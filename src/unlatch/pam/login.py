"""One login's decisions: which ways are open to it, and what follows from what is typed and heard. Pure.

There is one attempt. A wrong response, wrong digits or a no end it, whatever else has been said before; so does the
time. What was approved elsewhere counts when Enter is pressed in the session, never before: PAM shows nothing that
comes while it waits for somebody to type.
"""

import re
from typing import NamedTuple

from unlatch.pam.errors import Unfit
from unlatch.pam.log import value
from unlatch.pam.response import matches
from unlatch.secret import Secret
from unlatch.settings import PAM_MODES
from unlatch.wire.pam import Hello

# What a session hears. Whatever is not its own doing has one line, which tells a stranger nothing.
CANNOT = "unlatch: this login cannot be confirmed"
WRONG = "unlatch: not accepted"
LATE = "unlatch: too late"
NO = "unlatch: denied on the phone"
WAITING = "Waiting for the phone; Ctrl-C gives up."

# How else than by typing the response: approve on the phone, or type the response on the broker's page.
PHONE, PAGE = "phone", "page"

# The methods of SSH_AUTH_INFO_0 (sshd_config(5), ExposeAuthInfo): each line names one that succeeded, perhaps with what
# it came by: "keyboard-interactive/pam", "publickey ssh-ed25519 AAAA...".
_METHODS = {"publickey", "password", "hostbased", "keyboard-interactive", "gssapi-with-mic", "gssapi-keyex"}


class Options(NamedTuple):
    """What the line in /etc/pam.d says, or else [pam] in unlatch.toml."""

    mode: str
    after_first_factor: bool


class Outcome(NamedTuple):
    """How a login ends: ``told`` is for the session, ``why`` for the log (when allowed: how)."""

    allowed: bool
    told: str
    why: str


def options(arguments: tuple[str, ...], mode: str) -> Options:
    """Read the module's arguments, less those that it keeps for itself.

    Raises:
        Unfit: an unknown or repeated one. Guessing what was meant could open a door.
    """
    names = [argument.partition("=")[0] for argument in arguments]
    for name, argument in zip(names, arguments, strict=True):
        if names.count(name) > 1:
            raise Unfit(f"the PAM line has {name} twice")
        if argument != "after_first_factor" and argument.partition("=")[::2] not in {("mode", m) for m in PAM_MODES}:
            raise Unfit(f"the PAM line has an unknown argument: {value(argument)}")
        if name == "mode":
            mode = argument.partition("=")[2]
    return Options(mode, "after_first_factor" in names)


def first_factor(hello: Hello, chosen: Options) -> bool:
    """Whether somebody has proven something before, so that it is worth waking a person.

    Other programs than sshd may have SSH_AUTH_INFO_0 from whoever calls them (pam_env(8), user_readenv). PAM_TTY is the
    program's own word, and "ssh" is sshd's.
    """
    succeeded = {re.split("[ /]", line, maxsplit=1)[0] for line in hello.authinfo.splitlines()}
    return chosen.after_first_factor or (hello.tty == "ssh" and bool(succeeded & _METHODS))


def prompt(*, challenge: bool, ways: frozenset[str]) -> str:
    """What stands before the cursor."""
    if not challenge:
        return "Press Enter when you have approved: "
    elsewhere = {
        frozenset(): "",
        frozenset((PHONE,)): ", or Enter after you approved",
        frozenset((PAGE,)): ", or Enter after you answered on the page",
    }
    return f"Response{elsewhere.get(ways, ', or Enter after you approved or answered on the page')}: "


def rung(digits: str, words: tuple[str, str]) -> str:
    """What to do with the phone; the words stand in its message too."""
    return f"Your phone was rung ({' '.join(words)}). To approve, type {digits} there."


class Login:
    """What became of one attempt so far. ``response`` None: nobody can type it, approval is all there is.

    Methods give an :class:`Outcome`, or None while more is to come.
    """

    def __init__(self, response: Secret | None, ways: frozenset[str], by: str = "challenge") -> None:
        self._response = response
        self._open = set(ways)
        self._by = by
        self._approved = ""
        self._failed: list[str] = []
        self._entered = False

    def typed(self, line: bytes) -> Outcome | None:
        """Somebody pressed Enter in the session, perhaps with something before it."""
        self._entered = True
        if self._response is not None and (line.strip() or not (self._open or self._approved or self._failed)):
            return self._judge(matches(self._response, line), self._by)
        return self._conclusion()

    def heard(self, way: str, said: Secret | str, by: str = "") -> Outcome | None:
        """What came by another way: "yes", "no: ...", "failed: ..." or the response that was typed there.

        ``by`` is what the log calls a yes.
        """
        self._open.discard(way)
        if isinstance(said, Secret):
            return self._responded(said)
        word, _, why = said.partition(": ")
        if word == "no":
            return Outcome(False, NO, why)
        if said == "yes" and by:
            self._approved = self._approved or by
        else:  # it never opens another way
            self._failed.append(why or "no answer")
        return self._conclusion()

    def late(self) -> Outcome:
        """The time is over."""
        return Outcome(False, LATE, "; ".join(["too late", *self._failed]))

    def _responded(self, typed: Secret) -> Outcome | None:
        if self._response is None or not matches(self._response, bytes(typed.reveal())):
            return Outcome(False, WRONG, "wrong response, typed on the page")
        self._approved = self._approved or f"{self._by} typed=page"
        return self._conclusion()

    def _judge(self, right: bool, by: str) -> Outcome:
        return Outcome(True, "", by) if right else Outcome(False, WRONG, "wrong response")

    def _conclusion(self) -> Outcome | None:
        if self._approved:
            return Outcome(True, "", self._approved) if self._entered else None
        if self._open or (self._response is not None and not self._entered):
            return None
        return Outcome(False, CANNOT, "; ".join(self._failed) or "nobody could be asked")
