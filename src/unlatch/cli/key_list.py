"""``unlatch key list``: which keys there are, and which are unlocked until when."""

import json
from typing import Any

import click

from unlatch.ask import boottime
from unlatch.cli import voice
from unlatch.cli.key_home import explain, find_home, open_agent, records_of
from unlatch.errors import UnlatchError
from unlatch.gnupg import keys
from unlatch.gnupg.grants import Grant, agent_life
from unlatch.gnupg.keyring import HomeKey

_USES = {"s": "sign", "e": "decrypt", "a": "ssh", "c": "certify"}


@click.command(
    "list",
    short_help="List the secret keys, and which are unlocked.",
    epilog="""\b
Example:
  $ unlatch key list --json | jq -r '.[] | select(.state == "locked") | .keygrip'
""",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects, one for each key.")
@click.argument("whats", metavar="[KEY...]", nargs=-1)
def list_keys(as_json: bool, whats: tuple[str, ...]) -> int:
    """List the secret keys of this GnuPG home, and which of them gpg-agent would use without asking.

    Without KEY all of them, those of ssh-add included.
    """
    home = find_home()
    records = records_of(home)
    try:
        with open_agent(home) as agent:
            found = keys.find(agent, home, whats)
            life, now = agent_life(agent.pid), boottime()
    except (UnlatchError, OSError) as error:
        raise explain(error, home) from None
    rows = [_row(key, _standing(records.read(key.grip), life), now) for key in found]
    if as_json:
        voice.say(json.dumps(rows))
    elif not rows:
        voice.say(voice.clean(f"{home.directory} has no secret keys"))
    for row in [] if as_json else rows:
        voice.say(_line(row))
    return voice.OK


def _standing(grant: Grant | None, life: str) -> Grant | None:
    """A grant that this agent still knows of."""
    return grant if grant is not None and life and grant.agent == life and grant.end else None


def _row(key: HomeKey, grant: Grant | None, now: float) -> dict[str, Any]:
    certified = key.certified
    return {
        "keygrip": key.grip,
        "name": "" if key.name == key.grip else key.name,
        "key_id": certified.key_id if certified else "",
        "fingerprint": certified.fingerprint if certified else key.agent.ssh_fingerprint,
        "uses": [_USES[use] for use in certified.uses if use in _USES] if certified else [],
        "ssh": key.agent.ssh and not key.agent.disabled,
        "confirm": key.agent.confirm,
        "state": _state(key),
        "trouble": certified.state if certified else "",
        "card": key.agent.serial,
        "seconds": max(0, round(grant.end - now)) if grant is not None and key.usable else None,
    }


def _state(key: HomeKey) -> str:
    if not key.in_software:
        return {"T": "card"}.get(key.agent.kind, "missing")
    if key.agent.protection == "C":
        return "unprotected"
    return "unlocked" if key.usable else "locked"


def _line(row: dict[str, Any]) -> str:
    uses = row["uses"] + (["ssh"] if row["ssh"] and "ssh" not in row["uses"] else [])
    notes = [
        row["trouble"],
        "no passphrase protects it" if row["state"] == "unprotected" else "",
        f"on card {row['card']}" if row["card"] else "",
        "asks before each use by ssh" if row["confirm"] else "",
        f"for {voice.duration(row['seconds'])} at most" if row["seconds"] is not None else "",
    ]
    note = ", ".join(note for note in notes if note)
    columns = [f"{row['state']:<11}", row["keygrip"], f"{row['key_id']:<16}", f"{','.join(uses):<12}", row["name"]]
    return voice.clean("  ".join(columns).rstrip() + (f"  ({note})" if note else ""))
