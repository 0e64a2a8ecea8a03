"""Where everything is that setup reads and writes: for the whole host as root, else for one's own broker."""

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

from unlatch import runtime

ETC = "/etc/unlatch/unlatch.toml"


class Places(NamedTuple):
    """``scope`` "host": the host's broker, by root. "own": a user's own. "guest": a user's, where the host has one.

    ``manager`` is there while systemd is (sd_booted(3), or the user's). ``runtime``: what its sockets leave behind.
    """

    scope: Literal["host", "own", "guest"]
    config: str
    journal: str
    units: str
    packaged: tuple[str, ...]
    manager: str
    sysusers: str = ""
    packaged_sysusers: str = ""
    runtime: tuple[str, ...] = ()
    page: str = ""
    caddy: str = "/etc/caddy"
    nginx: str = "/etc/nginx"

    @property
    def socket_drop_in(self) -> str:
        """Which group may open the page's socket."""
        return f"{self.units}/unlatch-page.socket.d/proxy.conf"

    @property
    def systemctl(self) -> tuple[str, ...]:
        """The command that speaks to this systemd."""
        return ("systemctl",) if self.scope == "host" else ("systemctl", "--user")


def find(environ: Mapping[str, str], uid: int, home: str) -> Places:
    """The places for who runs setup."""
    chosen = environ.get("UNLATCH_CONFIG", "")
    chosen = os.path.abspath(chosen) if chosen else ""  # undone from anywhere
    if uid == 0 and not environ.get("UNLATCH_RUNTIME_DIR"):
        return _host(chosen)
    config_home = _xdg(environ, "XDG_CONFIG_HOME", f"{home}/.config")
    host = runtime.candidates(uid, environ, home)[0].host
    return Places(
        scope="guest" if host else "own",
        config=chosen or (ETC if os.path.exists(ETC) else f"{config_home}/unlatch/unlatch.toml"),
        journal=f"{_xdg(environ, 'XDG_STATE_HOME', f'{home}/.local/state')}/unlatch/setup",
        units=f"{config_home}/systemd/user",
        packaged=("/usr/lib/systemd/user", "/usr/local/lib/systemd/user", "/etc/systemd/user"),
        manager=f"/run/user/{uid}/systemd/private",
    )


def _host(config: str) -> Places:
    return Places(
        scope="host",
        config=config or ETC,
        journal="/var/lib/unlatch-setup",
        units="/etc/systemd/system",
        packaged=("/usr/lib/systemd/system", "/lib/systemd/system", "/usr/local/lib/systemd/system"),
        manager="/run/systemd/system",
        sysusers="/etc/sysusers.d/unlatch.conf",
        packaged_sysusers="/usr/lib/sysusers.d/unlatch.conf",
        runtime=(runtime.HOST_ASKERS, runtime.HOST_ADMIN, "/run/unlatch-page"),
        page="/run/unlatch-page/page.sock",
    )


def _xdg(environ: Mapping[str, str], name: str, default: str) -> str:
    chosen = environ.get(name, "")
    return chosen if chosen.startswith("/") else default  # a relative path is to be ignored, says the specification
