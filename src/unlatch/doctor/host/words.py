"""Words that several of the host's checks share. Pure."""

import os
from collections.abc import Iterable

from unlatch.doctor.check import Situation


def listed(words: Iterable[str]) -> str:
    """As people list things."""
    *others, last = list(words) or ["nothing"]
    return f"{', '.join(others)} and {last}" if others else last


def look_into_proxy(situation: Situation) -> str:
    """Show what the files of the usual proxies say of us."""
    return situation.as_root("grep", "-rn", "unlatch", "/etc/caddy", "/etc/nginx")


def hold_page(situation: Situation) -> str:
    """Have systemd hold the page's socket, now and at boot, whether or not the broker runs.

    Not "enable --now": systemd gives a socket to no service that runs already. Nor "restart" of both at once: an asker
    who waits can start the broker in between, before the socket is there.
    """
    enable = situation.as_root("systemctl", "enable", "unlatch-page.socket")
    stop = situation.as_root("systemctl", "stop", "unlatch-page.socket")
    return f"{enable}\n{stop}\n{situation.as_root('systemctl', 'restart', 'unlatch.service')}"


def edit(situation: Situation, path: str) -> str:
    """Open the settings; then, for the host's broker, what makes them count."""
    if path and not os.path.normpath(path).startswith("/etc/"):
        return situation.edit(path)
    opened = situation.edit(path or "/etc/unlatch/unlatch.toml")
    return f"{opened}\n{situation.as_root('systemctl', 'restart', 'unlatch.service')}"
