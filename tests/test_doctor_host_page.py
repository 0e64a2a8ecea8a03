"""What doctor finds on the way to the page: real nginx and Caddy at addresses that are not the loopback's, each set up
right once and wrong in its own way.
"""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from certificates import self_signed
from doctor_host import CHECKS, judge, situation_of
from house import UNLATCH, House
from nginx import Nginx
from private_network import PrivateNetwork
from proxy import Caddy
from real import real
from waiting import until

from unlatch.broker import page
from unlatch.doctor.check import Finding
from unlatch.doctor.host import client_address
from unlatch.doctor.host import page_look as look_module
from unlatch.doctor.host.client_address import Seen
from unlatch.doctor.host.interfaces import Network
from unlatch.doctor.host.names import Names
from unlatch.doctor.host.page import judge as judge_page
from unlatch.doctor.host.page_look import Answer, PageLook, Reply
from unlatch.doctor.host.page_way import judge_tls_end

HERE, SECOND, SIXTH = "203.0.113.7", "203.0.113.8", "2001:db8::7"
PASS = "proxy_http_version 1.1; proxy_set_header X-Forwarded-For $remote_addr; proxy_pass http://unix:{page}:{path};"
# By port: what stands in a server block of its own, with TLS.
WRONG = {
    1443: "location / { proxy_http_version 1.1; proxy_pass http://unix:{page}:/elsewhere/; }",
    2443: "location /web03/ { proxy_http_version 1.1; proxy_pass http://unix:{page}:/; }",
    3443: "location / { return 200 'Welcome to nginx!'; }",
    4443: "location / { return 301 https://$host:4443$request_uri; }",
    5443: "location / { proxy_pass http://unix:{folder}/nobody.sock:/; }",
    6443: "location /web03/ { sub_filter '</body>' '<p>advertisement</p></body>'; " + PASS + " }",
    7443: "location /web03/ { if ($http_accept_encoding ~ gzip) { return 200 'cached'; } " + PASS + " }",
    8443: "location /web03/ { proxy_hide_header Content-Security-Policy; " + PASS + " }",
    9443: "location /web03/ { limit_except GET { deny all; } " + PASS + " }",
    1444: "location /web03/ { add_header CF-Ray 8a1b2c-FRA always; " + PASS + " }",
    2444: "location / { error_page 404 /dead.html; root {folder}; try_files /nothing =404; }"
    " location = /dead.html { root {folder}; }",
    3444: "location / { return 301 http://$host$request_uri; }",
    4444: "location /web03/ { proxy_hide_header X-Frame-Options; " + PASS + " }",
    5444: "location /web03/ { add_header Via '1.1 varnish' always; " + PASS + " }",
}
SERVER = """
server {{
    listen {address}:{port}{ssl};
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    {location}
}}
"""


class Street(NamedTuple):
    """A broker, and nginx before it in a network of its own."""

    house: House
    network: PrivateNetwork


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    real("nginx")
    house, network = House(), PrivateNetwork(f"{HERE}/32", f"{SECOND}/32", f"{SIXTH}/128")
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "dead.html").write_bytes(page.dead_document())
    certificate = self_signed(folder, names=(HERE, SECOND, SIXTH, "unlock.example.test"))
    reveal(folder)
    right = "location /web03/ { " + PASS + " }"
    servers = [_server(HERE, port, text, house, folder, certificate) for port, text in {443: right, **WRONG}.items()]
    servers += [_server(each, 443, right, house, folder, certificate) for each in (SECOND, f"[{SIXTH}]")]
    servers.append(f"server {{ listen {HERE}:80; return 301 https://$host$request_uri; }}")
    servers.append(f"server {{ listen {SECOND}:80; {_filled(right, house, folder)} }}")
    nginx = Nginx(network, folder / "nginx", "\n".join(servers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(certificate))
        house.start(UNLATCH, "serve")
        until(house.is_served, "the broker")
        yield Street(house, network)
    nginx.close()
    network.close()
    house.clear()


def reveal(folder: Path) -> None:
    """Let nginx's worker, who is nobody, get to a folder of pytest's."""
    for path in (folder, *folder.parents):
        if str(path).startswith("/tmp/pytest"):
            path.chmod(0o755)


def _server(address: str, port: int, location: str, house: House, folder: Path, certificate: Path) -> str:
    filled = _filled(location, house, folder)
    return SERVER.format(address=address, port=port, ssl=" ssl", location=filled, certificate=certificate)


def _filled(location: str, house: House, folder: Path) -> str:
    return location.replace("{page}", str(house.page)).replace("{path}", "/").replace("{folder}", str(folder))


def findings(street: Street, url: str, *names: str, probe: bool = True, top: str = "") -> dict[str, Finding]:
    """What these checks find with this public_url. The broker knows no prefix, as the proxies take it away."""
    street.house.configure(top)
    text = street.house.settings.read_text().replace("https://unlock.test/", url)
    street.house.settings.write_text(text if not probe else text.replace("probe = false", ""))
    situation = situation_of(street.house.environ())
    return street.network.inside(lambda: {name: judge(CHECKS[name], situation)[0] for name in names})


def finding(street: Street, port: int, name: str) -> Finding:
    return findings(street, f"https://{HERE}:{port}/web03/", name)[name]


# The page


def test_page_passes(street: Street) -> None:
    """The very page comes from this broker; nobody was rung, and nothing is open."""
    found = findings(street, f"https://{HERE}/web03/", "page")["page"]
    assert found == Finding("page", "ok", f"https://{HERE}/web03/ gives the page at {HERE}")
    assert not list(street.house.phone.directory.glob("ring*"))
    assert street.house.ask_admin({"op": "status"})["broker"]["open"] == 0


def test_page_passes_over_ipv6(street: Street) -> None:
    """A URL may have an address in brackets."""
    found = findings(street, f"https://[{SIXTH}]/web03/", "page", "certificate")
    assert {each.state for each in found.values()} == {"ok"}, found


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (
            1443,
            'requests arrive under the path "/elsewhere/web03/"; the proxy must leave "/web03/" as it is, or make "/"',
        ),
        (3443, "another page than ours is served there"),
        (4443, "redirects the page to itself (301): a loop"),
        (3444, "redirects https:// to http://"),
        (5443, "answers 502, so it does not reach the broker"),
        (6443, "the page is changed on its way here"),
        (7443, "the page is another one when it comes compressed"),
        (2444, "a broker answers, but not this host's"),
        (9999, "connection refused"),
    ],
)
def test_page_fails_where_a_proxy_is_wrong(street: Street, port: int, text: str) -> None:
    """Each mistake has its words, the address, and a command to look at it."""
    found = finding(street, port, "page")
    assert found.state == "problem"
    assert text in found.text
    assert found.text.startswith(f"{HERE}: ")
    assert found.hint.split()[0] in ("curl", "grep", "journalctl")


def test_page_fails_where_allow_from_lacks_the_proxy(tmp_path: Path) -> None:
    """A proxy that comes from an address of its own: that one is missing, and is named; with it all is well."""
    real("nginx")
    certificate = self_signed(tmp_path, names=(HERE,))
    house, network = House(), PrivateNetwork(f"{HERE}/32", "10.9.0.1/32", "10.9.0.3/32")
    proxied = PASS.replace("http://unix:{page}:{path}", "http://10.9.0.3:8420/")
    location = f"location /web03/ {{ proxy_bind 10.9.0.1; {proxied} }}"
    reveal(tmp_path)
    nginx = Nginx(network, tmp_path / "nginx", _server(HERE, 443, location, house, tmp_path, certificate))
    settings = f"""
        public_url = "https://{HERE}/web03/"
        listen = "10.9.0.3:8420"
        [people.admin]
        users = ["*"]
        notify = []
    """
    house.settings.write_text(settings)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(certificate))
            broker = network.start(UNLATCH, "serve", environ=house.environ())
            until(house.is_served, "the broker")
            found = within(network, house, "page")
            assert found.state == "problem"
            assert "the broker does not know the proxy 10.9.0.1" in found.text
            assert "allow_from" in found.text
            assert found.hint == f"vi {house.settings}"
            # As the text says: then it works, the port listens for the look, and the log would name who asked.
            broker.terminate()
            broker.wait(20)
            house.settings.write_text(f'allow_from = ["10.9.0.1/32"]\n{settings}')
            network.start(UNLATCH, "serve", environ=house.environ())
            until(house.is_served, "the next broker")
            assert within(network, house, "page").state == "ok"
            seen = within(network, house, "client-address")
            assert seen == Finding("client-address", "ok", f"the broker sees who opens the page: here {HERE}")
    finally:
        nginx.close()
        network.close()
        house.clear()


def within(network: PrivateNetwork, house: House, name: str) -> Finding:
    situation = situation_of(house.environ())
    return network.inside(lambda: judge(CHECKS[name], situation)[0])


def test_page_fails_where_the_name_is_unknown(street: Street) -> None:
    """No name, no page; but with probe = false only this host may be the one that does not know it."""
    url = "https://unlatch.invalid/"
    assert findings(street, url, "page")["page"].state == "problem"
    lenient = findings(street, url, "page", probe=False)["page"]
    assert lenient.state == "unknown"
    assert lenient.hint == "unlatch ring"


def test_page_passes_for_this_machine_only(street: Street) -> None:
    """Links at localhost need no proxy, and no answer before there is a prompt."""
    assert findings(street, "http://localhost:8420/", "page")["page"].state == "ok"


def test_page_fails_where_only_some_addresses_answer() -> None:
    """A phone takes the address that it likes: each must be good; those that we have no way to are named."""
    good = Answer(HERE, first=Reply(status=200, body="page"))
    down = Answer(SIXTH, first=Reply(trouble="connection: connection refused"))
    no_way = Answer(SIXTH, first=Reply(trouble="connection: network is unreachable", unreachable=True))
    situation = situation_of({"HOME": "/nonexistent"})
    look = PageLook("https://unlock.example.test/", "", probe=True, names=Names((HERE, SIXTH)))
    found = judge_page(look._replace(answers=(good, down)), situation)
    assert (found.state, found.text) == ("problem", f"{SIXTH}: connection: connection refused")
    found = judge_page(look._replace(answers=(good, no_way)), situation)
    assert found.state == "ok"
    assert f"not tried, as this host has no way there: {SIXTH}" in found.text
    found = judge_page(look._replace(answers=(no_way,)), situation)
    assert found.state == "unknown"


def test_page_unknown_without_the_brokers_word(street: Street) -> None:
    """Who is neither root nor the broker's user sees a page of ours, and not whose it is."""
    dead = Answer(HERE, first=Reply(status=404, body="dead"))
    look = PageLook(f"https://{HERE}/", "", True, names=Names((HERE,)), answers=(dead,), broker="it tells root only")
    found = judge_page(look, situation_of(street.house.environ()))
    assert found.state == "unknown"
    assert "it tells root only" in found.text


def test_a_hanging_proxy_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that takes connections and says nothing costs our own limit, and is told as that."""
    monkeypatch.setattr(look_module, "STEP_SECONDS", 0.2)
    house = House()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://[::ffff:127.0.0.1]:{silent.getsockname()[1]}/"
        house.settings.write_text(f'public_url = "{url}"\nlisten = "unix:{house.page}"\n')
        found = judge(CHECKS["page"], situation_of(house.environ()))[0]
    house.clear()
    assert found.state == "problem"
    assert "no answer in time" in found.text


def test_page_passes_with_caddy(house: House, caddy: Caddy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real Caddy leaves the path as it is, compresses by itself, adds headers of its own, and names who asks. Its
    address here is the loopback's, and that is all there is to say against it.
    """
    caddy.serve("web03", house)
    house.settings.write_text(house.settings.read_text().replace("probe = false", ""))
    house.start(UNLATCH, "serve")
    until(house.is_served, "the broker")
    monkeypatch.setattr(look_module, "find", lambda _: Names(("127.0.0.1",), here_only=True))
    monkeypatch.setenv("SSL_CERT_FILE", str(caddy.authority))
    situation = situation_of(house.environ())
    names = ("page", "page-headers", "page-answers", "tls-end", "client-address", "plain-http")
    found = {name: judge(CHECKS[name], situation)[0] for name in names}
    assert found.pop("page").state == "warning"
    assert {each.state for each in found.values()} == {"ok"}, found
    assert found["client-address"].text == "the broker sees who opens the page: here 127.0.0.1"


# Names


def test_page_fails_where_a_name_is_for_this_host_only(street: Street) -> None:
    """Debian writes a host's own name into /etc/hosts with 127.0.1.1: that is not where phones go."""
    with elsewhere(street, resolv="nameserver 203.0.113.99\n") as network:
        found = ask_there(street, network)
    assert found["state"] == "problem"
    assert found["text"].startswith("127.0.1.1: ")
    assert "DNS has no address for it" in found["text"]


def test_page_passes_at_the_addresses_that_dns_has(street: Street, tmp_path: Path) -> None:
    """Whatever /etc/hosts says, the look goes where DNS leads."""
    with elsewhere(street, resolv=f"nameserver {HERE}\n") as network:
        server = network.start(sys.executable, Path(__file__).parent / "name_server.py", HERE)
        until(lambda: server.poll() is None and network.run("ss", "-Hlun", "sport = :53"), "the name server")
        found = ask_there(street, network)
    assert found == {
        "check": "page",
        "state": "ok",
        "hint": "",
        "text": f"https://unlock.example.test/web03/ gives the page at {HERE}",
    }


@contextlib.contextmanager
def elsewhere(street: Street, *, resolv: str) -> Iterator[PrivateNetwork]:
    """The same street for programs with other files in /etc."""
    hosts = "127.0.1.1 unlock.example.test\n"
    network = PrivateNetwork(hosts=hosts, resolv=resolv, beside=street.network)
    yield network
    network.close()


def ask_there(street: Street, network: PrivateNetwork) -> dict[str, str]:
    street.house.configure()
    text = street.house.settings.read_text().replace("https://unlock.test/", "https://unlock.example.test/web03/")
    street.house.settings.write_text(text.replace("probe = false", ""))
    environ = street.house.environ(SSL_CERT_FILE=os.environ["SSL_CERT_FILE"])
    program = Path(__file__).parent / "doctor_host.py"
    (found,) = json.loads(network.run(sys.executable, program, "page", environ=environ))
    return dict(found)


# What is on the way


@pytest.mark.parametrize(
    ("port", "state", "header"),
    [(8443, "problem", "content-security-policy"), (4444, "warning", "x-frame-options")],
)
def test_page_headers_fails(street: Street, port: int, state: str, header: str) -> None:
    """Without its policy the page is another one; the rest are braces."""
    found = finding(street, port, "page-headers")
    assert (found.state, found.text) == (state, f"{HERE}: a proxy changes or drops {header}")
    assert found.hint.startswith("curl ")


def test_page_headers_passes(street: Street) -> None:
    """nginx adds headers of its own, and changes none of ours."""
    assert finding(street, 443, "page-headers").state == "ok"


def test_page_answers_fails(street: Street) -> None:
    """A page that can be seen and not answered is the worst of all: it looks right until somebody has typed."""
    found = finding(street, 9443, "page-answers")
    assert found.state == "problem"
    assert "it answers 403" in found.text
    assert finding(street, 9443, "page").state == "ok"


def test_page_answers_passes(street: Street) -> None:
    """A POST reaches the broker, which does not know the ticket."""
    assert finding(street, 443, "page-answers").state == "ok"


def test_plain_http_fails(street: Street) -> None:
    """The second address serves the page without TLS as well."""
    found = findings(street, f"https://{SECOND}/web03/", "plain-http")["plain-http"]
    assert (found.state, found.text.split(":")[0]) == ("warning", SECOND)


def test_plain_http_passes(street: Street) -> None:
    """A redirect is as good as nothing there."""
    assert finding(street, 443, "plain-http").state == "ok"


@pytest.mark.parametrize(("port", "who"), [(1444, "Cloudflare"), (5444, 'a proxy that calls itself "varnish"')])
def test_tls_end_fails(street: Street, port: int, who: str) -> None:
    """Who passes the page on for money says so in a header."""
    found = finding(street, port, "tls-end")
    assert (found.state, found.text.startswith(f"{HERE}: {who} ends TLS there")) == ("warning", True), found


def test_tls_end_passes(street: Street) -> None:
    """Your own proxy may call itself what it is."""
    assert finding(street, 443, "tls-end").state == "ok"
    own = Answer(HERE, first=Reply(status=200, body="page", headers=(("via", "1.1 Caddy"), ("server", "Caddy"))))
    look = PageLook(f"https://{HERE}/", "", True, answers=(own,))
    assert judge_tls_end(look, situation_of({"HOME": "/nonexistent"})).state == "ok"


@pytest.mark.parametrize("name", ["page-headers", "page-answers", "plain-http", "tls-end", "client-address"])
def test_nothing_is_said_of_what_was_not_seen(street: Street, name: str) -> None:
    """Behind another page there is nothing to judge; at localhost there is no way that could be wrong."""
    assert finding(street, 3443, name).state == "unknown"
    assert findings(street, "http://localhost:8420/", name)[name].state == "ok"


# Who opens it


def test_client_address_fails(street: Street) -> None:
    """A proxy that does not say who asks hides everybody behind itself."""
    found = finding(street, 2443, "client-address")
    assert found.state == "warning"
    assert "every client is the proxy" in found.text


def test_client_address_passes(street: Street) -> None:
    """nginx told it, and over a Unix socket it is believed."""
    found = finding(street, 443, "client-address")
    assert found == Finding("client-address", "ok", f"the broker sees who opens the page: here {HERE}")


@pytest.mark.parametrize(
    ("client", "state", "text"),
    [
        ("172.18.0.1", "warning", "of the container network br-0123456789ab"),
        ("192.168.1.1", "unknown", "some router changes it"),
        ("1.2.3.4", "ok", "here 1.2.3.4"),
        ("::ffff:192.0.2.5", "ok", "here ::ffff:192.0.2.5"),
    ],
)
def test_client_address_tells_containers_from_routers(client: str, state: str, text: str) -> None:
    """The gateway of a container network hides everybody; a router's private address may be for us only."""
    networks = (Network("br-0123456789ab", "172.18.0.0/16"),)
    facts = client_address.Facts(False, True, "", (Seen(HERE, "192.0.2.5", client, own=False),), networks)
    found = client_address.judge(facts, situation_of({"HOME": "/nonexistent"}))
    assert found.state == state
    assert text in found.text
