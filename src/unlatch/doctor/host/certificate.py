"""The certificates that phones meet: for the name, from an authority that this host trusts, and for how long."""

import contextlib
import socket
import ssl
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from cryptography import x509

from unlatch.broker.probe import clock_is_set, explain
from unlatch.doctor.check import Check, Finding, Situation, command, ok, problem, unknown, warning
from unlatch.doctor.host.names import find
from unlatch.doctor.host.parallel import side_by_side
from unlatch.doctor.host.served import served

STEP_SECONDS = 4.0
ALL_SECONDS = 8.0
# Certificates live for 90 days, for 47 soon, and for six already: nobody renews those a fortnight ahead.
WARN_DAYS, WARN_SHARE = 14.0, 1 / 4
PROBLEM_DAYS, PROBLEM_SHARE = 3.0, 1 / 10
_DAY = 86_400.0


class Shown(NamedTuple):
    """What one address showed. ``trouble`` is why it is not trusted, or not there. ``left`` and ``whole`` are seconds
    of its life, from now and from its first day; ``whole`` 0: no certificate was seen.
    """

    address: str
    trouble: str = ""
    left: float = 0.0
    whole: float = 0.0
    issuer: str = ""


class Facts(NamedTuple):
    """``https``: ``public_url`` has TLS at all."""

    host: str
    port: int
    https: bool
    shown: tuple[Shown, ...]


def probe(situation: Situation) -> Facts:
    """Shake hands with each address of the name; nothing is asked."""
    parts = urlsplit(served(situation).loaded.settings.public_url)
    host, port = (parts.hostname or "").strip("[]"), parts.port or 443
    if parts.scheme != "https":
        return Facts(host, port, False, ())
    addresses = find(host).addresses
    late = f"connection: no answer within {ALL_SECONDS:g} s"
    shown = side_by_side(lambda address: look(host, address, port), addresses, ALL_SECONDS)
    told = (each or Shown(address, late) for address, each in zip(addresses, shown, strict=True))
    return Facts(host, port, True, tuple(told))


def look(host: str, address: str, port: int, context: ssl.SSLContext | None = None) -> Shown:
    """One handshake; a second one, that believes everything, where the first fails for the certificate."""
    try:
        return _read(address, _handshake(host, address, port, context or ssl.create_default_context()))
    except ssl.SSLCertVerificationError as error:
        trouble = explain(error, clock_is_set())
    except (OSError, ValueError) as error:
        return Shown(address, explain(error, clock_is_set()))
    believing = ssl.create_default_context()
    believing.check_hostname, believing.verify_mode = False, ssl.CERT_NONE  # only to read its dates; nothing is sent
    with contextlib.suppress(OSError, ValueError):
        return _read(address, _handshake(host, address, port, believing))._replace(trouble=trouble)
    return Shown(address, trouble)


def _handshake(host: str, address: str, port: int, context: ssl.SSLContext) -> bytes:
    with (
        socket.create_connection((address, port), timeout=STEP_SECONDS) as connection,
        context.wrap_socket(connection, server_hostname=host) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def _read(address: str, encoded: bytes) -> Shown:
    certificate = x509.load_der_x509_certificate(encoded)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    left = (ends - datetime.now(UTC)).total_seconds()
    names = certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    issuer = str(names[0].value)[:64] if names else ""
    return Shown(address, "", left, (ends - begins).total_seconds(), issuer)


def judge(facts: Facts, _: Situation) -> Finding:
    """The worst of all addresses."""
    if not facts.https:
        return ok("links have no TLS, as they are for this machine only")
    if not facts.shown:
        return unknown(f"{facts.host} has no address", command("getent", "ahosts", facts.host))
    findings = [_judge_one(shown, facts) for shown in facts.shown]
    for state in ("problem", "warning"):
        for finding in findings:
            if finding.state == state:
                return finding
    trusted = min((each for each in facts.shown if each.whole), key=lambda each: each.left, default=None)
    if trusted is None:
        return findings[0]
    return ok(f"valid for {facts.host}, {_span(trusted.left)} left, from {trusted.issuer or 'an unnamed authority'}")


def _judge_one(shown: Shown, facts: Facts) -> Finding:
    authority = f"{shown.address}:{facts.port}" if ":" not in shown.address else f"[{shown.address}]:{facts.port}"
    see = command("openssl", "s_client", "-brief", "-connect", authority, "-servername", facts.host)
    name = f"{shown.address}: "
    if shown.trouble.startswith("certificate"):
        dates = f"; it expired {_span(-shown.left)} ago" if shown.whole and shown.left < 0 else ""
        return problem(f"{name}{shown.trouble}{dates}", see)
    if shown.trouble:
        return unknown(f"{name}{shown.trouble}", see)
    if shown.left < min(PROBLEM_DAYS * _DAY, PROBLEM_SHARE * shown.whole):
        return problem(f"{name}the certificate ends in {_span(shown.left)}, and nobody has renewed it", see)
    if shown.left < min(WARN_DAYS * _DAY, WARN_SHARE * shown.whole):
        return warning(f"{name}the certificate ends in {_span(shown.left)}: its renewal is overdue", see)
    return ok(name)


def _span(seconds: float) -> str:
    days = seconds / _DAY
    return f"{days:.0f} days" if days >= 2 else f"{seconds / 3600:.0f} hours"


CERTIFICATE = Check(
    "certificate",
    "each address shows a certificate for the name, from an authority that this host trusts, with more than 14 days "
    "left (or a quarter of its life, if that is less); below 3 days, or a tenth, it is a problem",
    "see in the proxy's log why it could not renew; a missing intermediate: serve the full chain; another name: mend "
    "the proxy's site, or `public_url`",
    Facts,
    probe,
    judge,
)
