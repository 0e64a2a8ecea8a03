"""May the proxy on this host open the page's Unix socket? If not, every link is a "502 Bad Gateway"."""

import contextlib
import grp
import os
import pwd
import stat
from typing import NamedTuple

from unlatch.doctor.check import Check, Finding, Situation, ok, problem, unknown
from unlatch.doctor.host.served import HOST_PAGE, page_places, served
from unlatch.doctor.host.words import hold_page

PROXIES = ("caddy", "nginx", "haproxy", "apache2", "httpd", "traefik", "envoy", "lighttpd", "h2o", "varnishd")
_MAX_STATUS = 1 << 16


class Proxy(NamedTuple):
    """A running proxy, as one of its processes is: a worker, if it has any."""

    program: str
    user: str
    uid: int
    groups: tuple[int, ...]


class Facts(NamedTuple):
    """``path`` "": the page has no Unix socket. ``bars``: what stands in the way to it and who may pass: each directory
    and the socket itself as path, uid, gid and mode. ``missing``: it is not there.
    """

    path: str
    missing: bool
    bars: tuple[tuple[str, int, int, int], ...]
    group: str
    proxies: tuple[Proxy, ...]
    unit: bool


def probe(situation: Situation) -> Facts:
    """Look at the socket, at the directories above it, and at the proxies that run."""
    found = served(situation)
    paths = [text.removeprefix("unix:") for text in page_places(found) if text.startswith("unix:")]
    path = paths[0] if paths else ""
    bars, missing = _bars(path) if path else ((), False)
    group = _group(bars[-1][2]) if bars and not missing else ""
    return Facts(path, missing, bars, group, proxies(), path == HOST_PAGE)


def _bars(path: str) -> tuple[tuple[tuple[str, int, int, int], ...], bool]:
    bars: list[tuple[str, int, int, int]] = []
    parts = path.split("/")
    for length in range(1, len(parts) + 1):
        place = "/".join(parts[:length]) or "/"
        try:
            status = os.stat(place)
        except OSError:
            return tuple(bars), True
        bars.append((place, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)))
    return tuple(bars), False


def proxies(proc: str = "/proc") -> tuple[Proxy, ...]:
    """The proxies that run here. A master that is root's connects to nothing: its workers count in its place."""
    running: dict[int, tuple[int, Proxy]] = {}  # by pid: the parent's pid
    for name in os.listdir(proc):
        with contextlib.suppress(OSError, ValueError, KeyError):
            with open(f"{proc}/{int(name)}/status", encoding="utf-8", errors="replace") as file:
                fields = dict(line.split(":", 1) for line in file.read(_MAX_STATUS).splitlines() if ":" in line)
            program = fields["Name"].strip()
            if program in PROXIES:
                uid, gid = (int(fields[field].split()[1]) for field in ("Uid", "Gid"))
                groups = tuple(sorted({gid, *map(int, fields["Groups"].split())}))
                running[int(name)] = int(fields["PPid"]), Proxy(program, _user(uid), uid, groups)
    masters = {parent for parent, proxy in running.values() if proxy.uid}
    return tuple(sorted({proxy for pid, (_, proxy) in running.items() if proxy.uid or pid not in masters}))


def _user(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def _group(gid: int) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)


def bar(facts: Facts, proxy: Proxy) -> str:
    """The first place on the way to the socket that this proxy may not pass, or nothing."""
    for place, uid, gid, mode in facts.bars:
        shift = 6 if proxy.uid == uid else 3 if gid in proxy.groups else 0
        needed = 0o2 if place == facts.path else 0o1  # connect(2) wants to write, a directory to be searched
        if proxy.uid and not mode >> shift & needed:
            return place
    return ""


def judge(facts: Facts, situation: Situation) -> Finding:
    """One proxy that gets through is enough: the others serve other things."""
    if not facts.path:
        return ok("the page has no Unix socket")
    if facts.missing:
        text = f"{facts.path} is not there, so the proxy has nothing to reach"
        return problem(text, hold_page(situation) if facts.unit else "unlatch status")
    barred = [(proxy, bar(facts, proxy)) for proxy in facts.proxies]
    let_in = [proxy.program for proxy, place in barred if not place]
    if let_in:
        return ok(f"{let_in[0]} may open {facts.path}")
    if barred:
        proxy, place = barred[0]
        text = f"{proxy.program} runs as {proxy.user}, which may not pass {place}: phones see 502"
        if facts.unit:
            return problem(text, situation.as_root("systemctl", "edit", "unlatch-page.socket"))
        return problem(text, situation.as_root("ls", "-ld", place))
    if facts.group in ("root", ""):
        return unknown(f"no proxy runs, and only root may open {facts.path}", situation.as_root("ls", "-l", facts.path))
    return ok(f"no proxy runs here; the group {facts.group} may open {facts.path}")


PAGE_SOCKET = Check(
    "page-socket",
    "a proxy that runs on this host may open the page's Unix socket, and search every directory above it",
    "`SocketGroup=` with the proxy's group in `unlatch-page.socket.d/proxy.conf`, then `systemctl daemon-reload`, "
    "`systemctl stop unlatch-page.socket` and `systemctl restart unlatch.service`",
    Facts,
    probe,
    judge,
)
