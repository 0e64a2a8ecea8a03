"""What gpg-agent asks, as a prompt for a person. Pure.

gpg-agent's texts are translated, so little is read from them: the quoted user id, the key id in front of which stands
"ID" in most languages, a card's number, the tries. What is not found is left empty, and the text is shown whole anyway.
"""

import re
from typing import NamedTuple

from unlatch.prompt import AskerInfo, Key, Prompt
from unlatch.wire.pinentry import Request

TRIES = 3  # gpg-agent's, for a software key; a card's are in the text
MAX_TITLE = 120  # characters; it stands in a notification
# Characters, so that details stay below seal.MAX_SEALED whatever is said; only the description may fill its line.
MAX_NAME = 200
MAX_ERROR = 300
MAX_LABEL = 60

_USER_ID = re.compile(r'^["“„«](.+)["”“»]$', re.MULTILINE)
_KEY_ID = re.compile(r"\bID:? ?(?:0x)?([0-9A-F]{8,40})\b")
_CARD = re.compile(
    r"^[^\n:]*(?:Number|Nummer|numéro|Seriennummer|serial)[^\n:]*: *([0-9A-F][0-9A-F ]{7,})$", re.M | re.I
)
_TRY = re.compile(r"\(\D*(\d{1,3})\D+(\d{1,3})\D*\)")
_GRIP = re.compile(r"n/([0-9A-F]{40})\Z")
_PIN = re.compile(r"\bPIN\b")


class Occasion(NamedTuple):
    """What a prompt says besides the request: who asks, the match words, seconds since 1970, which try this is."""

    asker: AskerInfo
    words: tuple[str, str]
    asked: int
    attempt: int = 1
    digits: bool = False


def keygrip(request: Request) -> str:
    """The keygrip under which gpg-agent keeps the answer; "" when it does not say that it does."""
    found = _GRIP.match(request.text("keyinfo"))
    return found[1] if found else ""


def kind(request: Request) -> str:
    """The kind of prompt (``unlatch.prompt.KINDS``)."""
    if request.command != "GETPIN":
        return "notice" if request.one_button else "confirm"
    if request.text("repeat"):
        return "new-passphrase"
    # The label only when it was set: by default gpg-agent's is "PIN:" for everything.
    return "pin" if _PIN.search(request.text("prompt")) else "passphrase"


def coalesce(request: Request) -> str:
    """What makes two requests the same: the key whose passphrase is asked for. Never for a yes, nor for a new one."""
    return keygrip(request) if kind(request) == "passphrase" else ""


def prompt_of(request: Request, occasion: Occasion) -> Prompt:
    """The prompt for one request."""
    text = request.text("desc")
    key = _key(request, text)
    return Prompt(
        kind=kind(request),
        title=_title(request, text, key),
        words=occasion.words,
        asked=occasion.asked,
        asker=occasion.asker,
        text=text,
        label=_label(request, "prompt") if request.command == "GETPIN" else "",
        error=request.text("error")[:MAX_ERROR],
        attempt=_attempt(request, occasion.attempt),
        key=key,
        ok=_label(request, "ok"),
        cancel=_label(request, "cancel"),
        notok=_label(request, "notok"),
        repeat=_label(request, "repeat"),
        repeat_error=request.text("repeaterror")[:MAX_ERROR],
        digits=occasion.digits,
        keeper=_keeper(request, text),
    )


def _label(request: Request, name: str) -> str:
    return request.label(name).strip().rstrip(":")[:MAX_LABEL]


def _keeper(request: Request, text: str) -> str:
    if request.command != "GETPIN":
        return "none"
    if keygrip(request):
        return "agent"
    if request.text("keyinfo").startswith("s/") or (not request.text("keyinfo") and _CARD.search(text)):
        return "card"
    return "program"


def _key(request: Request, text: str) -> Key | None:
    name, key_id, card = _USER_ID.search(text), _KEY_ID.search(text), _CARD.search(text)
    key = Key(
        name=name[1][:MAX_NAME] if name else "",
        id=key_id[1] if key_id else "",
        grip=keygrip(request),
        serial=card[1].strip()[:MAX_LABEL] if card else "",
    )
    return key if any(key) else None


def _title(request: Request, text: str, key: Key | None) -> str:
    if key and key.name and kind(request) == "passphrase":
        return f"Unlock {key.name}"[:MAX_TITLE]
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    said = request.text("title") or paragraph.rstrip(":")
    return said[:MAX_TITLE] or {"confirm": "Say yes or no", "notice": "A message"}.get(
        kind(request), "Type a passphrase"
    )


def _attempt(request: Request, count: int) -> tuple[int, int] | None:
    """Which try this is, as the agent says it, else as counted; None for the first."""
    if request.command != "GETPIN" or not request.text("error"):
        return None
    said = _TRY.search(request.text("error"))
    return (int(said[1]), int(said[2])) if said else (count, max(count, TRIES))
