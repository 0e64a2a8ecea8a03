"""What a ring needs that runs on this very host: after a boot it cannot come before that is up.

That is no mistake, but a trap: if the proxy or the homeserver waits, directly or not, for a secret that somebody has to
be rung for, nobody is ever rung. Then the way in is ssh and ``unlatch answer``.
"""

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from unlatch.doctor.check import Check, Finding, Situation, command, ok, warning
from unlatch.doctor.host.names import find, is_loopback, is_own
from unlatch.doctor.host.notifiers import notifier_looks
from unlatch.doctor.host.served import served
from unlatch.doctor.host.words import listed
from unlatch.settings import is_loopback as is_loopback_name

PROXY = "the proxy"
GUIDE = "/usr/share/doc/unlatch/docs/guides/boot-order.md"  # as the package brings it (tools/deb.py)


class Needed(NamedTuple):
    """A host that a ring needs, and what for. ``here``: an address of it is this machine's."""

    what: str
    host: str
    here: bool


class Facts(NamedTuple):
    """Everything that a ring needs. ``guide``: where this host has the page about it, or nothing."""

    needed: tuple[Needed, ...]
    guide: str = ""


def probe(situation: Situation) -> Facts:
    """Resolve each name, and see whether a socket can be bound to what comes."""
    settings = served(situation).loaded.settings
    host = (urlsplit(settings.public_url).hostname or "").strip("[]")
    needed = [] if is_loopback_name(host) else [_needed(PROXY, host)]
    for look in notifier_looks(situation):
        if look.server:
            needed.append(_needed(f"the server of the notifier {look.name}", look.server))
    return Facts(tuple(needed), GUIDE if os.path.exists(GUIDE) else "")


def _needed(what: str, host: str) -> Needed:
    return Needed(what, host, any(is_loopback(address) or is_own(address) for address in find(host).addresses))


def judge(facts: Facts, _: Situation) -> Finding:
    """A warning that no change takes away is one all the same: whoever reads it can look before the night."""
    here = [each for each in facts.needed if each.here]
    if not here:
        return ok("neither proxy nor homeserver is this host")
    what = listed([f"{each.what} ({each.host})" for each in here])
    lost = "nobody is rung" if all(each.what != PROXY for each in here) else "no link opens"
    text = f"{what} {'is' if len(here) == 1 else 'are'} this very host: after a boot {lost} before that is up"
    hint = f"unlatch answer\n{command('less', facts.guide)}" if facts.guide else "unlatch answer"
    return warning(f"{text}, so nothing that it waits for may need a ring; the way in is ssh", hint)


BOOT_ORDER = Check(
    "boot-order",
    "what a ring needs (the proxy, the homeserver, the push server) runs on other machines, so that it is there when "
    "this one boots",
    "nothing, if neither it nor anything that it waits for needs a ring to start; otherwise log in and type `unlatch "
    "answer`, or move it: [boot order](guides/boot-order.md)",
    Facts,
    probe,
    judge,
)
