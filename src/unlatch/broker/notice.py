"""What a message to a person says about a prompt: docs/protocol.md section 6 without the wall clock. Pure."""

from typing import NamedTuple

from unlatch.prompt import AskerInfo, Prompt


class Also(NamedTuple):
    """One more prompt that the same message is about. ``link`` is empty and ``outcome`` is set once it is over."""

    link: str
    words: tuple[str, str]
    user: str
    title: str
    command: str
    unit: str
    outcome: str = ""

    def __repr__(self) -> str:
        return "Also(redacted)"


class Notice(NamedTuple):
    """One message. ``remaining`` is seconds; ``link`` is empty once the prompt is over.

    ``more`` are the other prompts of a burst that was folded into this message. ``page_trouble`` says why the link
    cannot be opened yet, as far as this host can see; empty when there is nothing to say.
    """

    id: str
    link: str
    words: tuple[str, str]
    host: str
    user: str
    uid: int
    person: str
    kind: str
    title: str
    text: str
    command: str
    unit: str
    remaining: float
    quiet: bool = False
    more: tuple[Also, ...] = ()
    page_trouble: str = ""

    def __repr__(self) -> str:
        return f"Notice({self.id}, redacted)"


def unit_of(asker: AskerInfo) -> str:
    """The systemd unit that asks: the system's before the user's own."""
    return asker.system_unit or asker.user_unit


def who_asks(asker: AskerInfo) -> str:
    """One short line that tells one asker from another, as the host reports it."""
    named = [text for text in (asker.command, unit_of(asker)) if text]
    return ", ".join(named)[:120] or "unknown program"


def key_id(question: Prompt) -> str:
    """What tells one key from another, short enough for an account's name in a password manager."""
    key = question.key
    return "" if key is None else key.id[-16:] or key.name or key.serial or key.grip[:16]
