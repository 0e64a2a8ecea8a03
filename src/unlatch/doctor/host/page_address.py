"""Where the page listens: can somebody else take that address, or sit on the wire between it and the proxy?"""

import ipaddress
from typing import NamedTuple

from unlatch.broker.listen import free_between_brokers
from unlatch.doctor.check import Check, Finding, Situation, ok, problem, unknown, warning
from unlatch.doctor.host.listeners import listeners
from unlatch.doctor.host.served import page_places, served
from unlatch.doctor.host.words import edit


class Place(NamedTuple):
    """A Unix socket's ``path``, or an address and port. ``held``: systemd listens there, also while no broker runs;
    None: that is not shown to us.
    """

    path: str
    host: str = ""
    port: int = 0
    held: bool | None = False


class Facts(NamedTuple):
    """``free``: why others could take the place of a broker that does not run, or nothing. ``proxied``: there is a
    proxy, because ``public_url`` has TLS. ``stays``: it is the host's broker, or one that runs.
    """

    file: str
    stays: bool
    places: tuple[Place, ...]
    free: str
    proxied: bool


def probe(situation: Situation) -> Facts:
    """What the broker holds; of one that does not run, what the settings say."""
    found = served(situation)
    settings = found.loaded.settings
    stays = found.place.host or found.status.whole
    places = tuple(_parse(text) for text in page_places(found))
    seen = situation.caller == 0  # nobody else is shown which sockets systemd has
    held = tuple(place._replace(held=_by_systemd(place.port) if seen else None) for place in places)
    free = "" if stays else free_between_brokers(settings, found.uid)
    return Facts(found.loaded.path, stays, held, free, settings.public_url.startswith("https"))


def _by_systemd(port: int) -> bool:
    return any(each.pid == 1 for each in listeners(port))


def _parse(text: str) -> Place:
    if text.startswith("unix:"):
        return Place(text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    return Place("", host.strip("[]"), int(port))


def judge(facts: Facts, situation: Situation) -> Finding:
    """The worst first."""
    change = edit(situation, facts.file)
    if facts.free:
        return problem(facts.free, change)
    findings = [_judge_one(place, facts, change, situation) for place in facts.places]
    for state in ("problem", "warning", "unknown", "ok"):
        for finding in findings:
            if finding.state == state:
                return finding
    return ok("the page has no address while no broker runs")


def _judge_one(place: Place, facts: Facts, change: str, situation: Situation) -> Finding:
    if place.path:
        return ok(f"{place.path} can be opened by the proxy only")
    where = f"{place.host}:{place.port}"
    kind = ipaddress.ip_address("127.0.0.1" if place.host == "localhost" else place.host)
    if kind.is_unspecified:
        text = f"the page listens on every address of this host, port {place.port}: name the one that the proxy uses"
        return warning(text, change)
    if kind.is_global:
        text = (
            f"the page is served without TLS at {where}, a public address: who is on the way to the proxy can change it"
        )
        return problem(text, change)
    if facts.proxied and place.held is None:
        return unknown(f"whether systemd holds {where} is shown to root only", situation.as_root("unlatch", "doctor"))
    if facts.proxied and not place.held:
        text = (
            f"any user of this host can take {where} while the broker is stopped or starts anew, and the proxy would "
        )
        return warning(f"{text}serve their page; let systemd hold a Unix socket (unlatch-page.socket)", change)
    return ok(f"{where} is held by {'systemd' if place.held else 'the broker while it runs'}")


PAGE_ADDRESS = Check(
    "page-address",
    "the page listens where no other user of this host can take its place, and nobody is between it and the proxy",
    "no `listen` in `unlatch.toml`, `systemctl enable unlatch-page.socket` and `systemctl restart unlatch.service`; "
    "with the proxy on another machine, an address of a private network, held by systemd",
    Facts,
    probe,
    judge,
)
