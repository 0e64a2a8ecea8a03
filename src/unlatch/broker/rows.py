"""What ``unlatch status`` and ``unlatch answer`` list: docs/protocol.md section 5. Pure."""

from typing import Any

from unlatch import base64url
from unlatch.broker.notice import key_id, unit_of
from unlatch.broker.records import OpenPrompt


def status(now: float, prompt: OpenPrompt) -> dict[str, Any]:
    """How a prompt is doing; nothing in it opens or answers it."""
    question = prompt.links[-1].question()
    return {
        "id": prompt.id,
        "uid": prompt.uid,
        "user": prompt.user,
        "login": prompt.whose.login,
        "state": prompt.state.value,
        "kind": question.kind,
        "title": question.title,
        "key": key_id(question),
        "command": question.asker.command,
        "unit": unit_of(question.asker),
        "person": prompt.person,
        "age": int(now - prompt.since),
        "remaining": prompt.remaining(now),
        "links": len(prompt.links),
        "views": sum(link.views() for link in prompt.links),
        "delivery": dict(prompt.delivery),
        "delivered_ago": {name: int(now - at) for name, at in prompt.delivered_at.items()},
        "followers": [follower.who for follower in prompt.followers],
    }


def link(now: float, prompt: OpenPrompt) -> dict[str, Any]:
    """A prompt's newest link, for those who may answer it."""
    newest = prompt.links[-1]
    question = newest.question()
    return {
        "ticket": newest.ticket,
        "fragment": base64url.encode(newest.fragment),
        "title": question.title,
        "account": prompt.account,
        "kind": question.kind,
        "command": question.asker.command,
        "words": question.words,
        "age": int(now - prompt.since),
        "remaining": prompt.remaining(now),
    }
