"""Certificates that only their own test trusts."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

LOOPBACK = ("localhost", "127.0.0.1", "::ffff:127.0.0.1")


def self_signed(
    folder: Path, *, days: int = 30, before: int = 30, names: Sequence[str] = LOOPBACK, file: str = "certificate.pem"
) -> Path:
    """A file with key and certificate for these names and addresses, the first of which is its own: valid (or not)
    until so many days from now, and since ``before``.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=before))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    place = folder / file
    place.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return place


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def issued(folder: Path, *names: str) -> tuple[Path, Path, Path]:
    """Three files: an authority's certificate, and a key and its chain, issued by that authority for these names."""
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("Authority of a test", authority.public_key(), "Authority of a test", authority, None)
    leaf = _certificate(names[0], key.public_key(), "Authority of a test", authority, names)
    pem = serialization.Encoding.PEM
    files = {
        "authority.pem": root.public_bytes(pem),
        "key.pem": key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        "chain.pem": leaf.public_bytes(pem) + root.public_bytes(pem),
    }
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder / "authority.pem", folder / "key.pem", folder / "chain.pem"


def _certificate(
    name: str, public: ec.EllipticCurvePublicKey, by: str, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str] | None
) -> x509.Certificate:
    """For these hosts; for None an authority's."""
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, by)]
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=hosts is None, path_length=None), critical=True)
    )
    if hosts:
        built = built.add_extension(x509.SubjectAlternativeName([_general(each) for each in hosts]), critical=False)
    return built.sign(key, hashes.SHA256())
