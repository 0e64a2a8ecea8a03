"""libgpg-error's numbers as named exceptions (libgpg-error's err-codes.h.in and err-sources.h.in).

An ERR line carries one number: source times 2^24, plus the error in the low 16 bits. What a caller decides by is the
error; the source (gpg-agent, scdaemon, pinentry...) only says who noticed.
"""

from typing import NamedTuple

from unlatch.errors import UnlatchError
from unlatch.wire.assuan import AssuanError

_SYSTEM = 1 << 15  # errno values have this bit, and numbers of libgpg-error's own (err-codes.h.in, GPG_ERR_E...)


class AgentTrouble(UnlatchError):
    """There is no agent to talk with, or no longer; what it would have said is not known."""


class NoAgent(AgentTrouble):
    """No agent runs for this home, and none was to be started or could be. ``why`` is printable, or empty."""

    def __init__(self, directory: str, why: str = "") -> None:
        super().__init__(f"no gpg-agent runs for {directory}" + (f": {why}" if why else ""))
        self.directory = directory
        self.why = why


class Gone(AgentTrouble):
    """The agent closed the connection: it was killed, or it restarts."""


class NoReply(AgentTrouble):
    """The agent lives and said nothing within our own time limit, in ``seconds``; ``pid`` is 0 if it is not known."""

    def __init__(self, socket: str, seconds: float, pid: int = 0) -> None:
        who = f"the gpg-agent at {socket}" + (f" (pid {pid})" if pid else "")
        super().__init__(f"{who} did not answer within {seconds:g} s")
        self.socket = socket
        self.pid = pid
        self.seconds = seconds


class Live(NamedTuple):
    """A running agent: the socket's path as GnuPG knows it, and the agent's pid."""

    socket: str
    pid: int


class TwoAgents(AgentTrouble):
    """Two agents run for one home. ``wrong`` is the one that GnuPG does not use now; ``command`` ends it."""

    def __init__(self, right: Live, wrong: Live) -> None:
        super().__init__(
            f"two gpg-agents run for one home: pid {right.pid} at {right.socket} and pid {wrong.pid} at {wrong.socket}"
        )
        self.right = right
        self.wrong = wrong
        self.command = f"kill {wrong.pid}"


class GpgError(UnlatchError):
    """The agent refused a command. ``code`` is the whole number, ``error`` and ``source`` are its parts."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.error = code & 0xFFFF
        self.source = code >> 24 & 0x7F
        self.text = text


class BadPassphrase(GpgError):
    """The passphrase does not open the key."""


class BadPin(GpgError):
    """The card refused a PIN, which cost a try."""


class PinBlocked(GpgError):
    """The card takes no more PINs until it is unblocked with the reset code or the admin PIN."""


class NoCard(GpgError):
    """There is a reader, and no card in it."""


class CardRemoved(GpgError):
    """The card was pulled out since the last command."""


class CardReset(GpgError):
    """The card was reset since the last command, so that its verified state is gone."""


class CardChanged(GpgError):
    """Another card than the wanted one is in the reader."""


class CardFault(GpgError):
    """The card did not do as it was told, and does not say why."""


class NoDevice(GpgError):
    """There is no reader, or another program holds the card."""


class NoSecretKey(GpgError):
    """The agent has no such key; it also says so when a prompt for it came to nothing (gpg does)."""


class Cancelled(GpgError):
    """Somebody said no, or an INQUIRE was not answered."""


class NotConfirmed(GpgError):
    """A confirmation was asked for and not given."""


class TimedOut(GpgError):
    """The agent gave up waiting: for a person, or for its own lock. Our own limit is ``agent.NoReply``."""


class Forbidden(GpgError):
    """The socket is a restricted one (extra or browser), or a rule of the agent's does not allow the command."""


class NoPinentry(GpgError):
    """The agent wanted to ask and could not: no pinentry, or one that failed."""


class NoCardDaemon(GpgError):
    """There is no scdaemon: not installed, disabled, or it could not be started."""


class BrokenPipe(GpgError):
    """The agent's scdaemon is gone, for 2 to 4 seconds after killscd: see ``agent.patiently``."""


class CardDaemonEnded(GpgError):
    """The agent's scdaemon ended in the middle of the command ("End of file"), whose outcome is not known."""


class NotSupported(GpgError):
    """Not with this release, this card or this key."""


class NoData(GpgError):
    """There is nothing: no passphrase in the cache, no such attribute on the card."""


class NotFound(GpgError):
    """There is no such key, file or card application."""


class InvalidId(GpgError):
    """A serial number or key that cannot be one."""


class InvalidValue(GpgError):
    """A value that the agent does not take; scdaemon says so of a PIN that is too short or too long."""


class InvalidName(GpgError):
    """No such attribute: this card, or this release of scdaemon, does not have it."""


class UnknownCommand(GpgError):
    """The agent's release does not know the command."""


class BadParameter(GpgError):
    """The agent's release does not understand the command's arguments."""


NAMED: dict[int, type[GpgError]] = {
    11: BadPassphrase,
    87: BadPin,
    130: PinBlocked,
    112: NoCard,
    110: CardRemoved,
    109: CardReset,
    91: CardChanged,
    108: CardFault,
    _SYSTEM | 80: NoDevice,  # ENODEV
    17: NoSecretKey,
    99: Cancelled,
    198: Cancelled,  # fully: of several prompts, all
    277: Cancelled,  # by CAN, libassuan's word
    114: NotConfirmed,
    62: TimedOut,
    251: Forbidden,
    85: NoPinentry,
    86: NoPinentry,  # it failed
    119: NoCardDaemon,
    120: NoCardDaemon,  # it failed
    _SYSTEM | 109: BrokenPipe,  # EPIPE
    16383: CardDaemonEnded,  # EOF
    60: NotSupported,
    69: NotSupported,  # not implemented
    58: NoData,
    27: NotFound,
    118: InvalidId,
    88: InvalidName,
    55: InvalidValue,
    66: InvalidValue,  # too short
    67: InvalidValue,  # too large
    139: InvalidValue,  # length
    175: UnknownCommand,
    275: UnknownCommand,  # libassuan's
    276: BadParameter,  # syntax
    280: BadParameter,
}


def gpg_error(code: int, text: str) -> GpgError:
    """The exception that a number stands for; a plain GpgError for one without a name here."""
    return NAMED.get(code & 0xFFFF, GpgError)(code, text)


def from_wire(error: AssuanError) -> GpgError:
    """The exception that an ERR line stands for."""
    return gpg_error(error.code, error.text)
