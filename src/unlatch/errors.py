"""Small exceptions with data. They say what failed; the edge (``cli/voice.py``) says what to do about it."""


class UnlatchError(Exception):
    """The root of everything that Unlatch raises on purpose."""


class Malformed(UnlatchError):
    """Bytes from the other side that break the protocol. ``what`` names the field, never its value."""

    def __init__(self, what: str) -> None:
        super().__init__(f"malformed {what}")
        self.what = what


class SealBroken(UnlatchError):
    """A sealed text did not open: wrong key, wrong context, or somebody changed it. Carries nothing on purpose."""

    def __init__(self, what: str) -> None:
        super().__init__(f"could not open the sealed {what}")
        self.what = what


class Refused(UnlatchError):
    """The broker (or a rule) will not put this prompt to anybody. ``why`` is a code of docs/protocol.md section 4."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why
        self.text = text


class Denied(UnlatchError):
    """A person said no."""


class Expired(UnlatchError):
    """Nobody answered in time."""


class Withdrawn(UnlatchError):
    """The prompt ended before an answer: the asker's caller is gone, or it was told to stop."""


class Unreachable(UnlatchError):
    """The broker behind a link does not answer. ``why`` is printable and names no link."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the broker does not answer: {why}")


class LinkOver(UnlatchError):
    """The link cannot be answered. ``state`` is the broker's word: used, expired, elsewhere..., or "unknown"."""

    def __init__(self, state: str) -> None:
        super().__init__(f"the link is over: {state}")
        self.state = state


class NoBroker(UnlatchError):
    """No broker could be reached or started. ``why`` holds one line for each way that was tried."""

    def __init__(self, why: list[str]) -> None:
        super().__init__("no broker could be reached")
        self.why = why


class BadConfig(UnlatchError):
    """The configuration cannot be used. ``mistakes`` are printable lines, each with file, line and key."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("the configuration has mistakes")
        self.mistakes = mistakes
