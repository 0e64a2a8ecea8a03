"""What a message to a person says about a prompt: docs/protocol.md section 6 without the wall clock."""

from typing import NamedTuple


class Notice(NamedTuple):
    """One message. ``remaining`` is seconds; ``link`` is empty once the prompt is over."""

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

    def __repr__(self) -> str:
        return f"Notice({self.id}, redacted)"
