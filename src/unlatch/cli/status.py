"""``unlatch status``: what waits, who was told, and how the broker does."""

import json
import time
from collections.abc import Mapping
from typing import Any

import click

from unlatch.cli import admin, voice
from unlatch.errors import Malformed
from unlatch.keyslots import grant

NOTHING: dict[str, Any] = {"broker": None, "prompts": [], "notifiers": []}


@click.command(
    short_help="List open prompts, notifiers and the broker.",
    epilog="""\b
Example:
  $ unlatch status --json | jq '.prompts | length'
""",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: broker, prompts, notifiers, secrets.")
def command(as_json: bool) -> int:
    """List the open prompts that you may see (your own; root: everybody's), the notifiers, and the broker."""
    status = _status()
    opened = sorted(grant.grants())
    if as_json:
        secrets = [{"name": found.name, "until": found.until} for found in opened]
        voice.say(json.dumps({**status, "secrets": secrets}))
        return voice.OK
    for found in opened:
        until = time.strftime("%Y-%m-%d %H:%M", time.localtime(found.until))
        voice.say(voice.clean(f"secret {found.name}: open until {until} for every process of this user"))
    if status["broker"] is None:
        admin.check_host()
        voice.say("no broker is running; nothing is waiting")
        return voice.OK
    voice.say(_broker(status["broker"]))
    for notifier in status["notifiers"]:
        voice.say(_notifier(notifier))
    if not status["prompts"]:
        voice.say("nothing is waiting")
    for prompt in status["prompts"]:
        voice.say("\n" + "\n".join(_prompt(prompt)))
    return voice.OK


def _status() -> dict[str, Any]:
    found = admin.find_admin()
    if found is None:
        return NOTHING
    try:
        said = found.ask({"op": "status"})
    finally:
        found.close()
    if said.get("event") != "status" or not isinstance(said.get("broker"), dict):
        raise Malformed("status")
    for name in ("prompts", "notifiers"):
        rows = said.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Malformed(name)
    return {name: said[name] for name in NOTHING}


def _broker(broker: Mapping[str, Any]) -> str:
    """How it does, its trouble, its page; a broker of another release may tell more or less than this one knows."""
    parts = [
        f"version {broker['version']}" if "version" in broker else "",
        f"pid {broker['pid']}" if "pid" in broker else "",
        f"up {_span(broker.get('uptime'))}" if "uptime" in broker else "",
        f"page at {broker['address']}" if broker.get("address") else "",
        {True: "listening", False: "not listening, as nothing is open"}.get(broker.get("listening", ""), ""),
    ]
    trouble = f"\nbroker: trouble: {voice.clean(str(broker['trouble']))}" if broker.get("trouble") else ""
    # In a line of its own 80 columns do not break it, and it can be compared.
    page = f"\npage sha256 {voice.clean(str(broker['page']))}" if broker.get("page") else ""
    return "broker: " + voice.clean(", ".join(part for part in parts if part)) + trouble + page


def _notifier(row: Mapping[str, Any]) -> str:
    sent = row.get("delivered", 0)
    parts = [
        str(row.get("kind", "")),
        "end-to-end" if row.get("end_to_end") else "not end-to-end",
        f"{sent} delivered, {row.get('failed', 0)} failed",
        f"last: {row['why']}"
        if row.get("why")
        else f"last: {_delivery('delivered', row.get('last'))}"
        if sent
        else "not used yet",
        str(row.get("note") or ""),
    ]
    return voice.clean(f"notifier {row.get('name')}: {', '.join(part for part in parts if part)}")


def _prompt(row: Mapping[str, Any]) -> list[str]:
    delivery, followers = row.get("delivery"), row.get("followers")
    ago = row.get("delivered_ago")
    ago = ago if isinstance(ago, dict) else {}
    told = (
        [f"{name}: {_delivery(how, ago.get(name))}" for name, how in delivery.items()]
        if isinstance(delivery, dict)
        else []
    )
    person = f"{row['person']}, by " if row.get("person") else ""
    clean = voice.clean
    return voice.columns(
        [
            ("prompt", clean(str(row.get("title") or row.get("kind") or ""))),
            ("state", clean(str(row.get("state", "")))),
            ("user", clean(f"{row.get('user')} (uid {row.get('uid')})")),
            ("login", clean(str(row.get("login") or ""))),
            ("key", clean(str(row.get("key") or ""))),
            ("command", clean(str(row.get("command") or ""))),
            ("service", clean(str(row.get("unit") or ""))),
            ("age", _span(row.get("age"))),
            ("time left", _span(row.get("remaining"))),
            ("rung", clean(person + ", ".join(told)) if told else "nobody"),
            ("opened", _opened(row.get("views", 0), row.get("links", 1))),
            ("waiting too", clean("\n".join(map(str, followers)), lines=True) if isinstance(followers, list) else ""),
        ],
        width=voice.width(),
    )


def _delivery(how: object, ago: object) -> str:
    return f"{how} {_span(ago)} ago" if how == "delivered" and isinstance(ago, int | float) else str(how)


def _opened(views: object, links: object) -> str:
    return voice.clean(f"{views} {'time' if views == 1 else 'times'}, {links} {'link' if links == 1 else 'links'} sent")


def _span(seconds: object) -> str:
    return voice.duration(seconds) if isinstance(seconds, int | float) else ""
