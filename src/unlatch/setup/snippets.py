"""What the proxy's configuration has to say for one host's page. Pure.

The same text as in docs/installation.md, where every line is explained.
"""

from typing import NamedTuple
from urllib.parse import urlsplit

from unlatch.settings import Tcp, Unix


class Page(NamedTuple):
    """Where the page is: to people (``name`` with its port, ``prefix`` "/web03/" or "/"), and to the proxy."""

    name: str
    prefix: str
    place: Tcp | Unix


def page_at(public_url: str, place: Tcp | Unix) -> Page:
    """The page that people reach at ``public_url`` (as ``settings.public_url`` normalised it)."""
    parts = urlsplit(public_url)
    return Page(parts.netloc, parts.path, place)


def caddy_site(page: Page) -> str:
    """A whole site of a Caddyfile."""
    lines = ["{", *(f"\t{line}" for line in caddy_block(page).splitlines()), "}"]
    return f"{page.name} " + "\n".join(lines) + "\n"


def caddy_block(page: Page) -> str:
    """What stands within the site."""
    to = f"reverse_proxy {_caddy_place(page.place)}"
    return f"{to}\n" if page.prefix == "/" else f"handle_path {page.prefix}* {{\n\t{to}\n}}\n"


def nginx_location(page: Page) -> str:
    """A location for a server block that has TLS."""
    return (
        f"location {page.prefix} {{\n"
        f"    proxy_pass {_nginx_place(page.place)};\n"
        "    proxy_http_version 1.1;\n"
        '    proxy_set_header Connection "";\n'
        "    proxy_set_header X-Forwarded-For $remote_addr;\n"
        "    proxy_read_timeout 60s;\n"
        "}\n"
    )


def _caddy_place(place: Tcp | Unix) -> str:
    return f"unix/{place.path}" if isinstance(place, Unix) else _address(place)


def _nginx_place(place: Tcp | Unix) -> str:
    return f"http://unix:{place.path}:/" if isinstance(place, Unix) else f"http://{_address(place)}/"


def _address(place: Tcp) -> str:
    return f"[{place.host}]:{place.port}" if ":" in place.host else f"{place.host}:{place.port}"
