"""What the audit trail says: who, by the kernel's word, which prompt, what happened. Pure.

A prompt's id cannot be turned back into its ticket, and nothing else of a link comes near a record.
"""

from unlatch.broker.actions import Actions, Audit, Peer, Record, Tell, Visitor
from unlatch.broker.records import OpenPrompt, Waiting
from unlatch.errors import Refused

MAX_TEXT = 120  # characters of a field: a record of a dozen stays far below what ``unlatch log`` reads as one
MAX_NAMES = 16  # of a list


def happened(event: str, thing: Waiting, **more: object) -> Audit:
    """Something happened to a prompt."""
    said = {name: _cut(value) for name, value in more.items()}
    login = {"account": thing.whose.login} if thing.whose.login else {}
    return Audit({"event": event, "id": thing.id, "uid": thing.uid, "user": thing.user, **login, **said})


def visited(event: str, prompt: OpenPrompt, visitor: Visitor, **more: object) -> Audit:
    """A page did something; on the admin socket the kernel says whose."""
    by = {} if visitor.uid is None else {"by_uid": visitor.uid}
    return happened(event, prompt, remote=visitor.remote, **by, **more)


def refused(peer: Peer, ticket: str, refusal: Refused) -> Actions:
    """A registration was refused: tell the asker, and remember that it tried."""
    login = {"account": peer.account.name} if peer.account else {}
    record = {"event": "refusal", "uid": peer.uid, "user": peer.user, **login, "why": refusal.why}
    told = {"event": "refused", "ticket": ticket, "why": refusal.why, "text": refusal.text}
    return [Tell(peer.conn, told), Audit(record)]


def opened(peer: Peer, secret: str, by: str, unit: str) -> Actions:
    """A stored secret was opened: write it down, and tell the asker, who hands nothing out before."""
    said = {"secret": secret[:MAX_TEXT], "by": by[:MAX_TEXT], "unit": unit[:MAX_TEXT]}
    return [Record(peer.conn, {"event": "opened", "uid": peer.uid, "user": peer.user, **said})]


def recorded(written: bool) -> dict[str, str]:
    """What the asker of an opening is told: without a line in the trail it must hand nothing out."""
    if written:
        return {"event": "recorded"}
    text = "the opening could not be written into the audit trail"
    return {"event": "refused", "ticket": "", "why": "audit", "text": text}


def _cut(value: object) -> object:
    if isinstance(value, str):
        return value[:MAX_TEXT]
    return tuple(_cut(item) for item in value[:MAX_NAMES]) if isinstance(value, tuple) else value
