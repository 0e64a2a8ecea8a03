"""What the audit trail says: who, by the kernel's word, which prompt, what happened. Pure.

A prompt's id cannot be turned back into its ticket, and nothing else of a link comes near a record.
"""

from unlatch.broker.actions import Actions, Audit, Peer, Tell, Visitor
from unlatch.broker.records import OpenPrompt, Waiting
from unlatch.errors import Refused


def happened(event: str, thing: Waiting, **more: object) -> Audit:
    """Something happened to a prompt."""
    return Audit({"event": event, "id": thing.id, "uid": thing.uid, "user": thing.user, **more})


def visited(event: str, prompt: OpenPrompt, visitor: Visitor, **more: object) -> Audit:
    """A page did something; on the admin socket the kernel says whose."""
    by = {} if visitor.uid is None else {"by_uid": visitor.uid}
    return happened(event, prompt, remote=visitor.remote, **by, **more)


def refused(peer: Peer, ticket: str, refusal: Refused) -> Actions:
    """A registration was refused: tell the asker, and remember that it tried."""
    record = {"event": "refusal", "uid": peer.uid, "user": peer.user, "why": refusal.why}
    told = {"event": "refused", "ticket": ticket, "why": refusal.why, "text": refusal.text}
    return [Tell(peer.conn, told), Audit(record)]
