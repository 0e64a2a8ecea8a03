"""From what a person types to a homeserver's address: ``example.org``, or a whole URL."""

import json
import ssl
from collections.abc import Callable

from unlatch.matrix.http import Address, Http, NoContact, parse_address
from unlatch.settings import is_loopback

WELL_KNOWN = "/.well-known/matrix/client"
REDIRECTS = 3  # example.org often refers to www.example.org


class NoAddress(ValueError):
    """What was typed cannot be a homeserver's address. The text says why."""


def usable(url: str) -> Address:
    """The address of a URL over which a login may travel.

    Raises:
        NoAddress
    """
    address = parse_address(url)
    if address is None:
        raise NoAddress("not an address such as https://matrix.example.org")
    if not address.tls and not is_loopback(address.authority):
        raise NoAddress("http is for loopback only, because the login travels over it")
    return address


async def find_homeserver(
    typed: str, seconds: float, tls: Callable[[], ssl.SSLContext] = ssl.create_default_context
) -> Address:
    """The homeserver behind a server name (client-server specification, "Server discovery") or URL.

    Raises:
        NoAddress
    """
    if "://" in typed:
        return usable(typed)
    own = usable(f"https://{typed}")
    place, path = own, WELL_KNOWN
    for _ in range(REDIRECTS + 1):
        http = Http(place, tls)
        try:
            response = await http.request("GET", path, None, [], seconds)
        except NoContact:
            return own
        finally:
            await http.close()
        if response.status == 200:
            return _named(response.body) or own
        elsewhere = parse_address(response.headers.get(b"location", b"").decode("latin-1"))
        if response.status not in (301, 302, 303, 307, 308) or elsewhere is None or not elsewhere.tls:
            return own
        place, path = elsewhere._replace(path=""), elsewhere.path
    return own


def _named(body: bytes) -> Address | None:
    try:
        return usable(json.loads(body)["m.homeserver"]["base_url"].rstrip("/"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
