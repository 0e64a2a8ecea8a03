"""The certificate that phones meet: right, expired, too short, for another name, from nobody that this host knows."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import self_signed
from doctor_host import CHECKS, judge, situation_of
from house import House
from nginx import Nginx
from private_network import PrivateNetwork
from proxy import NAME, Caddy
from real import real
from test_doctor_host_page import HERE, SECOND, reveal

from unlatch.doctor.check import Finding
from unlatch.doctor.host import certificate
from unlatch.doctor.host.certificate import Facts, Shown

SERVER = """
server {{ listen {address}:{port} ssl; ssl_certificate {file}; ssl_certificate_key {file}; return 200; }}
"""
DAY = 86_400.0


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateNetwork]:
    """By port: a certificate of each kind. All are trusted here, but for that of 5443.

    Each is its own authority, so each has another name: by that they are looked for.
    """
    real("nginx")
    folder = tmp_path_factory.mktemp("certificates")
    reveal(folder)
    files = {
        443: self_signed(folder, names=("right.test", HERE, SECOND), file="right.pem"),
        1443: self_signed(folder, names=("expired.test", HERE), days=-1, file="expired.pem"),
        2443: self_signed(folder, names=("other.example.test",), file="foreign.pem"),
        3443: self_signed(folder, names=("nearly.test", HERE), days=2, before=88, file="nearly.pem"),
        4443: self_signed(folder, names=("soon.test", HERE), days=10, before=80, file="soon.pem"),
        5443: self_signed(folder, names=("unknown.test", HERE), file="unknown.pem"),
        6443: self_signed(folder, names=("short-lived.test", HERE), days=4, before=2, file="short-lived.pem"),
    }
    trust = folder / "trusted.pem"
    trust.write_bytes(b"".join(_certificate(file) for port, file in files.items() if port != 5443))
    network = PrivateNetwork(f"{HERE}/32", f"{SECOND}/32")
    servers = [SERVER.format(address=HERE, port=port, file=file) for port, file in files.items()]
    nginx = Nginx(network, folder / "nginx", "\n".join(servers))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(trust))
        patch.setattr(certificate, "clock_is_set", lambda: True)  # whatever this machine's does
        yield network
    nginx.close()
    network.close()


def _certificate(file: Path) -> bytes:
    text = file.read_bytes()
    return text[text.index(b"-----BEGIN CERTIFICATE") :]


@pytest.fixture(scope="module")
def without_broker() -> Iterator[House]:
    house = House()
    yield house
    house.clear()


def look_at(city: PrivateNetwork, house: House, url: str) -> Finding:
    house.settings.write_text(f'public_url = "{url}"\nlisten = "unix:{house.page}"\n')
    situation = situation_of(house.environ())
    return city.inside(lambda: judge(CHECKS["certificate"], situation)[0])


@pytest.mark.parametrize(
    ("port", "state", "text"),
    [
        (1443, "problem", "certificate has expired; it expired 24 hours ago"),
        (2443, "problem", "IP address mismatch"),
        (3443, "problem", "the certificate ends in 48 hours"),
        (4443, "warning", "the certificate ends in 10 days: its renewal is overdue"),
        (5443, "problem", "self-signed certificate"),
        (9999, "unknown", "connection refused"),
    ],
)
def test_certificate_fails(city: PrivateNetwork, without_broker: House, port: int, state: str, text: str) -> None:
    """Each in its own words, with the address and a command that shows the certificate."""
    found = look_at(city, without_broker, f"https://{HERE}:{port}/")
    assert (found.state, text in found.text) == (state, True), found
    assert found.text.startswith(f"{HERE}: ")
    assert found.hint == f"openssl s_client -brief -connect {HERE}:{port} -servername {HERE}"


def test_certificate_passes(city: PrivateNetwork, without_broker: House) -> None:
    """It says for how long."""
    found = look_at(city, without_broker, f"https://{HERE}/")
    assert found == Finding("certificate", "ok", f"valid for {HERE}, 30 days left, from right.test")


def test_certificate_passes_with_a_short_life(city: PrivateNetwork, without_broker: House) -> None:
    """One that lives for six days is renewed after four: four days left are nothing to wake anybody for."""
    assert look_at(city, without_broker, f"https://{HERE}:6443/").state == "ok"


def test_certificate_passes_where_there_is_no_tls(city: PrivateNetwork, without_broker: House) -> None:
    """Links at localhost need none."""
    assert look_at(city, without_broker, "http://localhost:8420/").state == "ok"


def test_certificate_passes_with_caddy(caddy: Caddy) -> None:
    """Its own authority's certificates live for twelve hours, and have a name in place of an address."""
    context = ssl.create_default_context(cafile=caddy.authority)
    shown = certificate.look(NAME, "127.0.0.1", caddy.port, context)
    assert (shown.trouble, shown.whole <= 13 * 3600) == ("", True)
    found = certificate.judge(Facts(NAME, caddy.port, True, (shown,)), situation_of({"HOME": "/"}))
    assert found.state == "ok"
    assert f"valid for {NAME}, " in found.text


def test_certificate_fails_if_one_address_has_a_bad_one() -> None:
    """Phones choose an address as they like."""
    good, bad = Shown(HERE, "", 60 * DAY, 90 * DAY, "R11"), Shown(SECOND, "", -DAY, 90 * DAY, "R11")
    found = certificate.judge(Facts("unlock.example.test", 443, True, (good, bad)), situation_of({"HOME": "/"}))
    assert (found.state, found.text.startswith(SECOND)) == ("problem", True)
    assert (
        certificate.judge(Facts("unlock.example.test", 443, True, ()), situation_of({"HOME": "/"})).state == "unknown"
    )
