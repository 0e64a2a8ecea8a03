"""Words that several of the host's checks share. Pure."""

from collections.abc import Iterable

from unlatch.doctor.check import Situation, command


def listed(words: Iterable[str]) -> str:
    """As people list things."""
    *others, last = list(words) or ["nothing"]
    return f"{', '.join(others)} and {last}" if others else last


def look_into_proxy(situation: Situation) -> str:
    """Show what the files of the usual proxies say of us."""
    return situation.as_root("grep", "-rn", "unlatch", "/etc/caddy", "/etc/nginx")


def edit(situation: Situation, path: str) -> str:
    """Open the settings; then, for the host's broker, what makes them count."""
    if path and not path.startswith("/etc/"):
        return command("vi", path)
    opened = situation.as_root("vi", path or "/etc/unlatch/unlatch.toml")
    return f"{opened}\n{situation.as_root('systemctl', 'restart', 'unlatch.service')}"
