"""Would the proxy take its new configuration? Asked of the proxy's own program, about a copy; "" without it."""

import os
import shutil
import tempfile

from unlatch.setup import running

_MOST_FILES = 500  # of a configuration directory that is copied; a large one has some dozens
_NGINX = """\
error_log stderr;
pid {folder}/pid;
events {{ }}
http {{
    access_log off;
    server {{
        listen unix:{folder}/socket;
{location}    }}
}}
"""


def caddy_site(site: str) -> str:
    """Why Caddy would not take this site by itself."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        return _caddy("validate", folder, site)


def caddyfile(directory: str, main: str, site_file: str, site: str) -> str:
    """Why Caddy would not take the files of ``directory`` with a new ``main`` Caddyfile and ``site_file`` beside it.

    Only adapted, not validated: validation opens the log files that a configuration names, and would make them root's.
    """
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        if not _copy(directory, folder):
            return ""
        with open(f"{folder}/{site_file}", "w", encoding="utf-8") as file:
            file.write(site)
        return _caddy("adapt", folder, main)


def nginx_location(location: str) -> str:
    """Why nginx would not take this location."""
    if not running.which("nginx"):
        return ""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        indented = "".join(f"        {line}\n" for line in location.splitlines())
        with open(f"{folder}/nginx.conf", "x", encoding="utf-8") as file:
            file.write(_NGINX.format(folder=folder, location=indented))
        return _complaint(running.run(("nginx", "-t", "-q", "-p", folder, "-c", f"{folder}/nginx.conf")))


def _caddy(verb: str, folder: str, main: str) -> str:
    if not running.which("caddy"):
        return ""
    with open(f"{folder}/Caddyfile", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(main)
    places = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), folder)
    command = ("caddy", verb, "--adapter", "caddyfile", "--config", f"{folder}/Caddyfile")
    return _complaint(running.run(command, places)).replace(f"{folder}/", "")


def _complaint(said: running.Said) -> str:
    if not said.code:
        return ""
    # nginx names the mistake before it says that there was one.
    named = [line for line in said.text.splitlines() if "[emerg]" in line]
    return named[0] if named else said.last or f"exit code {said.code}"


def _copy(directory: str, folder: str) -> bool:
    """Copy a small directory of text files; without what is none, as sockets."""
    count = sum(len(names) for _, _, names in os.walk(directory))
    if count > _MOST_FILES:
        return False
    for top, _, names in os.walk(directory):
        below = os.path.join(folder, os.path.relpath(top, directory))
        os.makedirs(below, exist_ok=True)
        for name in names:
            if os.path.isfile(f"{top}/{name}") and os.path.getsize(f"{top}/{name}") <= 1 << 20:
                shutil.copyfile(f"{top}/{name}", f"{below}/{name}")
    return True
