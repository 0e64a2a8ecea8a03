"""``unlatch card status``: what a card and its reader say of themselves, without spending a try or asking anybody."""

import json
from typing import Any, NamedTuple

import click

from unlatch.cli import voice
from unlatch.cli.card_words import explain, reader_port
from unlatch.cli.key_home import find_home, open_agent
from unlatch.errors import UnlatchError
from unlatch.gnupg import card_access
from unlatch.gnupg.agent import Agent
from unlatch.gnupg.card import Card, is_openpgp
from unlatch.gnupg.card_access import PinState
from unlatch.gnupg.card_errors import NotOpenPGP, tries_left
from unlatch.gnupg.readers import Reader, readers


class Seen(NamedTuple):
    """A card and the state of its PIN."""

    card: Card
    pin: PinState


@click.command(
    short_help="What a card says of itself, and whether it is unlocked.",
    epilog="""\b
Example:
  $ unlatch card status --json | jq -r '.cards[].pin.state'

\b
Exit codes: 0 a card was seen, whatever its state, 1 an error, 9 no card.
""",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: cards, readers.")
def status(as_json: bool) -> int:
    """Show reader, serial number, holder, keys, the state of the PIN, and the tries left.

    It never spends a try and never opens a pinentry.
    """
    home = find_home()
    try:
        with open_agent(home) as agent:
            seen = _look(agent)
    except (UnlatchError, OSError) as error:
        problem = explain(error, home)
        if as_json:
            voice.say(json.dumps({"cards": [], "readers": _readers((), readers())}))
        raise problem from None
    known = readers()
    if as_json:
        voice.say(json.dumps({"cards": [_fields(each) for each in seen], "readers": _readers(seen, known)}))
        return voice.OK
    voice.say("\n\n".join("\n".join(voice.columns(_rows(each))) for each in seen))
    for name in _unseen(seen, known):
        voice.tell(f"there is also a card in the reader {voice.clean(name)}, which scdaemon does not use")
        voice.tell(f"hint: {reader_port(name, home)}")
    return voice.OK


def _look(agent: Agent) -> list[Seen]:
    """Every card that scdaemon has: with pcscd it is one, with scdaemon's own driver there may be several."""
    found = card_access.present(agent)
    seen = []
    for aid in [aid for aid in found if is_openpgp(aid)]:
        card_access.demand(agent, aid)
        card = card_access.learn(agent)
        seen.append(Seen(card, card_access.state_of(agent, aid)))
    if not seen:
        raise NotOpenPGP(found[0])
    return seen


def _unseen(seen: list[Seen], known: tuple[Reader, ...] | None) -> list[str]:
    used = {each.card.reader for each in seen}
    return [reader.name for reader in known or () if reader.present and reader.name not in used]


def _rows(seen: Seen) -> list[tuple[str, str]]:
    card, clean = seen.card, voice.clean
    status = card.status
    return [
        ("reader", clean(card.reader)),
        ("card", f"{card.number} ({card.aid})"),
        ("maker", clean(card.maker)),
        ("holder", clean(card.holder)),
        ("language", clean(card.language)),
        ("login", clean(card.login)),
        ("url", clean(card.url)),
        ("PIN", _pin(seen)),
        ("reset code", tries_left(status.reset) if status.reset else "none, or blocked"),
        ("admin PIN", tries_left(status.admin) if status.admin else "blocked"),
        ("signing", f"asks for the PIN {'each time (forced)' if status.forced else 'as other uses do'}"),
        ("signatures", str(card.signatures)),
        *((f"key to {key.use}", _key(key.algorithm, key.fingerprint or key.grip, key.touch)) for key in card.keys),
    ]


def _pin(seen: Seen) -> str:
    tries = tries_left(seen.card.status.pin)
    why = "; another program reset the card, and scdaemon does not know it" if seen.pin.lying else ""
    return seen.pin.state if seen.pin.state == "blocked" else f"{seen.pin.state}, {tries}{why}"


def _key(algorithm: str, name: str, touch: bool) -> str:
    return voice.clean(f"{algorithm} {name}".strip()) + (", wants to be touched each time" if touch else "")


def _fields(seen: Seen) -> dict[str, Any]:
    card, status = seen.card, seen.card.status
    return {
        "serial": card.number,
        "aid": card.aid,
        "reader": card.reader,
        "maker": card.maker,
        "holder": card.holder,
        "language": card.language,
        "login": card.login,
        "url": card.url,
        "pin": {"state": seen.pin.state, "tries": status.pin, "scdaemon_is_wrong": seen.pin.lying},
        "reset_code": {"tries": status.reset},
        "admin_pin": {"tries": status.admin},
        "signature_pin_forced": status.forced,
        "signatures": card.signatures,
        "keys": [
            {
                "use": key.use,
                "algorithm": key.algorithm,
                "fingerprint": key.fingerprint,
                "keygrip": key.grip,
                "touch": key.touch,
            }
            for key in card.keys
        ],
    }


def _readers(seen: list[Seen] | tuple[()], known: tuple[Reader, ...] | None) -> list[dict[str, Any]] | None:
    """The readers that pcscd has; null where there is no pcscd that would say."""
    used = {each.card.reader for each in seen}
    if known is None:
        return None
    return [{"name": reader.name, "card": reader.present, "used": reader.name in used} for reader in known]
