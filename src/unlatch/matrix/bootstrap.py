"""Publish the bot's cross-signing keys, whatever the homeserver wants to see first (user-interactive authentication).

A first upload may need nothing (MSC3967), a password, or somebody at a web page of an authentication service (MSC4312:
the page is named in the 401). Until the keys are there strict clients refuse to decrypt what the bot sends.
"""

from collections.abc import Callable
from typing import Any, Protocol

from unlatch.matrix.api import ServerSaid
from unlatch.matrix.errors import Refused
from unlatch.matrix.session import Session

Json = dict[str, Any]

PASSWORD, DUMMY = "m.login.password", "m.login.dummy"
PAGES = ("m.oauth", "org.matrix.cross_signing_reset")  # the stages whose page the 401 names
MAX_ROUNDS = 6  # stages of a flow, and a wrong password; homeservers lock an account out after a few


class Person(Protocol):
    """Whoever runs setup."""

    def password(self, again: bool) -> str:
        """The password of the bot's user; ``again``: the last one was wrong."""

    def visit(self, url: str) -> None:
        """Open a web page, do what it says, come back."""


async def publish_identity(session: Session, person: Person, until: Callable[[], float]) -> None:
    """Upload our cross-signing keys and sign our device with them; nothing is done that is done already.

    Raises:
        Refused: the homeserver did not take them.
    """
    await session.query(session.machine.pins, until())
    if session.machine.own_identity() != "ours":
        await _upload(session, person, until)
        await session.query(session.machine.pins, until())
    await publish_signatures(session, until)
    if not session.machine.cross_signed():
        raise Refused("the homeserver took our cross-signing keys but does not show them")


async def publish_signatures(session: Session, until: Callable[[], float]) -> None:
    """Sign our device, and the master keys of whom we verified, where the homeserver lacks that."""
    async with session.changing(until()):
        body = session.machine.signatures_upload()
    if body is not None:
        session.machine.signatures_uploaded(await session.server.keys("signatures/upload", body, until()))
        await session.query(session.machine.pins, until())


async def _upload(session: Session, person: Person, until: Callable[[], float]) -> None:
    async with session.changing(until()):  # the keys must be on disk before anybody knows of them
        body = session.machine.cross_signing_upload()
    auth: Json = {}
    asked = False
    for _ in range(MAX_ROUNDS):
        try:
            await session.server.keys("device_signing/upload", body | ({"auth": auth} if auth else {}), until())
        except ServerSaid as refusal:
            if refusal.status != 401 or "flows" not in refusal.body:
                raise
            stage = next_stage(refusal.body)
            auth = _answer(session, person, stage, refusal.body, again=asked and stage == PASSWORD)
            asked = asked or stage == PASSWORD
        else:
            return
    raise Refused("the homeserver asks for ever more proof that we are the bot's user")


def next_stage(said: Json) -> str:
    """What a 401 wants next, in the flow that is easiest for us.

    Raises:
        Refused: it offers no flow at all.
    """
    flows, completed = said.get("flows"), said.get("completed")
    done = completed if isinstance(completed, list) else []
    open_flows: list[list[str]] = []
    for flow in flows if isinstance(flows, list) else []:
        stages = flow.get("stages") if isinstance(flow, dict) else None
        if isinstance(stages, list) and all(isinstance(stage, str) for stage in stages):
            open_flows.append([stage for stage in stages if stage not in done])
    left = [stages for stages in open_flows if stages]
    if not left:
        raise Refused("the homeserver does not say how to prove that we are the bot's user")
    easy = (DUMMY, PASSWORD, *PAGES)
    return min(left, key=lambda stages: [easy.index(each) if each in easy else len(easy) for each in stages])[0]


def _answer(session: Session, person: Person, stage: str, said: Json, *, again: bool) -> Json:
    """The ``auth`` for the next try."""
    token = said.get("session")
    answer: Json = {"session": token} if isinstance(token, str) else {}
    if stage == DUMMY:
        return answer | {"type": DUMMY}
    if stage == PASSWORD:
        identifier = {"type": "m.id.user", "user": session.machine.user_id}
        return answer | {"type": PASSWORD, "identifier": identifier, "password": person.password(again)}
    person.visit(_page(session, stage, said, str(answer.get("session", ""))))
    return answer | {"type": stage} if stage in PAGES else answer


def _page(session: Session, stage: str, said: Json, token: str) -> str:
    """Where a person goes for a stage: the page that the 401 names, else the homeserver's own.

    Raises:
        Refused: it names something else than a page.
    """
    params = said.get("params")
    named = params.get(stage) if isinstance(params, dict) else None
    url = named.get("url") if isinstance(named, dict) else None
    if url is None:
        return session.server.fallback_page(stage, token)
    if not isinstance(url, str) or not url.isprintable() or not url.startswith(("https://", "http://")):
        raise Refused("the homeserver names a page that is none")
    return url
