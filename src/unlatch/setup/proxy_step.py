"""The step that brings the page to the proxy: its configuration, and the group that may open the page's socket."""

import contextlib
import glob
import grp
import os
import pwd
import re

from unlatch.errors import UnlatchError
from unlatch.settings import Unix
from unlatch.setup import proxy_check, running, snippets, units_step
from unlatch.setup.changes import CADDY, NGINX, Change, making
from unlatch.setup.files import look, missing_above
from unlatch.setup.places import Places
from unlatch.setup.snippets import Page
from unlatch.setup.steps import Effect, Step

SITE = "unlatch.caddyfile"
SNIPPET = "snippets/unlatch.conf"
_IMPORT = re.compile(rf"^[ \t]*import[ \t]+\S*{re.escape(SITE)}[ \t]*$", re.MULTILINE)
_HEADER = '# By "unlatch setup".\n'
_USER = re.compile(r"^\s*user\s+([\w.-]+)(?:\s+([\w.-]+))?\s*;", re.MULTILINE)


class NoProxy(UnlatchError):
    """The proxy that was asked for is not installed here."""

    def __init__(self, proxy: str) -> None:
        super().__init__(f"{proxy} is not installed on this host")
        self.proxy = proxy


class BadSnippet(UnlatchError):
    """The proxy would not take what setup would write; ``said`` is its own word."""

    def __init__(self, proxy: str, said: str) -> None:
        super().__init__(f"{proxy} does not accept the configuration for the page: {said}")


def installed() -> list[str]:
    """The proxies that are on this host."""
    return [proxy for proxy in ("caddy", "nginx") if running.which(proxy)]


def group_of(proxy: str, places: Places) -> str:
    """The group as which the proxy opens its sockets.

    Raises:
        NoProxy: there is no such group.
    """
    names = ["caddy"] if proxy == "caddy" else [*_nginx_groups(places), "www-data", "nginx"]
    for name in names:
        with contextlib.suppress(KeyError):
            return grp.getgrnam(name).gr_name
    raise NoProxy(proxy)


def plan(proxy: str, page: Page, places: Places, *, group: str, reload: bool) -> Step:
    """What has to be done so that this proxy serves the page. ``group`` is given the page's socket, "" without one of
    systemd's; ``reload``: the proxy is told.

    Raises:
        BadSnippet, NoProxy, unlatch.setup.files.NotPlain, OSError
    """
    says = f"{proxy} passes https://{page.name}{page.prefix} on to the page"
    socket = units_step.plan_drop_in(places, group) if group else []
    step = _caddy(page, places, says) if proxy == "caddy" else _nginx(page, places, says)
    changes = (*socket, *step.changes)
    told = any(change.tells == proxy for change in changes)
    if not told or step.shown:
        return step._replace(changes=changes)
    command = ("systemctl", "reload", proxy)
    if reload and proxy == "caddy":
        return step._replace(changes=changes, effects=(reload_effect(proxy),))
    return step._replace(changes=changes, notes=(*step.notes, f"{proxy} has to be told:\n$ {' '.join(command)}"))


def reload_effect(proxy: str) -> Effect:
    """The proxy reads its configuration again."""
    command = ("systemctl", "reload", proxy)
    return Effect(f"{proxy} reads its configuration anew", lambda _: _run(command))


def _run(command: tuple[str, ...]) -> None:
    said = running.run(command)
    if said.code:
        raise units_step.CommandFailed(command, said.last)


def _caddy(page: Page, places: Places, says: str) -> Step:
    site = _HEADER + snippets.caddy_site(page)
    if said := proxy_check.caddy_site(site):
        raise BadSnippet("Caddy", said)
    path = f"{places.caddy}/Caddyfile"
    main = look(path)
    if places.scope != "host" or main.kind != "file":
        note = "root puts this into the Caddyfile" if places.scope != "host" else f"put this into {path}"
        return Step("proxy", says, notes=(note,), shown=snippets.caddy_site(page))
    text = main.data.decode("utf-8", "surrogateescape")
    if isinstance(page.place, Unix) and page.place.path in text:
        return Step("proxy", says)
    if _IMPORT.search(text):
        return Step("proxy", says, tuple(_writing(f"{places.caddy}/{SITE}", site, CADDY)))
    end = "" if text.endswith("\n") or not text else "\n"
    if said := proxy_check.caddyfile(places.caddy, f"{text}{end}import {SITE}\n", SITE, site):
        note = f"{path} cannot import a site of its own ({said}); put this into the site {page.name} there"
        return Step("proxy", says, notes=(note,), shown=snippets.caddy_block(page))
    imported = main._replace(data=main.data + f"{end}import {SITE}\n".encode())
    return Step(
        "proxy", says, (*_writing(f"{places.caddy}/{SITE}", site, CADDY), Change(path, main, imported, tells=CADDY))
    )


def _nginx(page: Page, places: Places, says: str) -> Step:
    location = _HEADER + snippets.nginx_location(page)
    if said := proxy_check.nginx_location(location):
        raise BadSnippet("nginx", said)
    if places.scope != "host" or not os.path.isdir(places.nginx):
        note = f"root puts this into the server block of {page.name}"
        return Step("proxy", says, notes=(note,), shown=snippets.nginx_location(page))
    notes = () if _is_included(places) else (
        f'add "include {SNIPPET};" to the server block of {page.name} that has TLS, then:\n'
        "$ nginx -t && systemctl reload nginx",
    )  # fmt: skip
    # Until somebody includes it, nginx has nothing to read anew.
    changes = _writing(f"{places.nginx}/{SNIPPET}", location, "" if notes else NGINX)
    return Step("proxy", says, tuple(changes), notes=notes)


def _writing(path: str, text: str, tells: str) -> list[Change]:
    before = look(path)
    data = text.encode()
    if before.kind == "file" and before.data == data:
        return []
    mode = before.mode if before.kind == "file" else 0o644
    return [
        *making(missing_above(path)),
        Change(path, before, before._replace(kind="file", data=data, mode=mode), tells=tells),
    ]


def _is_included(places: Places) -> bool:
    folders = ("nginx.conf", "conf.d/*", "sites-enabled/*")
    return any(SNIPPET in _read(path) for folder in folders for path in glob.glob(f"{places.nginx}/{folder}"))


def _nginx_groups(places: Places) -> list[str]:
    """The group that nginx.conf names, or its user's."""
    found = _USER.search(_read(f"{places.nginx}/nginx.conf"))
    if found is None:
        return []
    if found[2]:
        return [found[2]]
    try:
        return [grp.getgrgid(pwd.getpwnam(found[1]).pw_gid).gr_name]
    except KeyError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""
