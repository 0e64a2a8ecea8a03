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


def plain(text: str, most: int) -> str:
    """A claim as one short line: no line breaks, nothing invisible, nothing that turns the writing direction."""
    shown = "".join(character if character.isprintable() and character not in _FILLERS else " " for character in text)
    return " ".join(shown.split())[:most]


_FILLERS = "\u115f\u1160\u2800\u3164\uffa0"  # letters by Unicode's word, blanks by the look of it


def unit_of(asker: AskerInfo) -> str:
    """The systemd unit that asks: a user's own before the user@UID.service in which it runs."""
    return plain(asker.user_unit or asker.system_unit, 200)


def who_asks(asker: AskerInfo) -> str:
    """One short line that tells one asker from another, as the host reports it."""
    named = [text for text in (plain(asker.command, 80), unit_of(asker)) if text]
    return ", ".join(named)[:120] or "unknown program"


def key_id(question: Prompt) -> str:
    """What tells one key from another, short enough for an account's name in a password manager."""
    key = question.key
    return "" if key is None else plain(key.id[-16:] or key.name or key.serial or key.grip[:16], 64)
