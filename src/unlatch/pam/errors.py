"""Why a login is not let in. What an attacker may hear of it is ``pam.login``'s business; all of it goes to the log."""

from unlatch.errors import UnlatchError


class Unfit(UnlatchError):
    """There is no way to challenge this account: no entry, no usable key, no gpg... ``why`` is one printable line.

    It holds nothing secret, and names the file or the key that is to be mended.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Spent(Unfit):
    """A key that is the one that it should be, and must not be used: expired, revoked, or made for something else."""


class Gone(UnlatchError):
    """The other end of the conversation is not there any more: Ctrl-C, a closed connection, a killed program."""

    def __init__(self) -> None:
        super().__init__("the login went away")
