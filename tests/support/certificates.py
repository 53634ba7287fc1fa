"""An authority that issues certificates for servers on this machine."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PEM = serialization.Encoding.PEM


class CertificateAuthority:
    """Issues certificates of 127.0.0.1 into a folder; `certificate` is the file that clients have to trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("Tests")
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = folder / "authority.pem"
        builder = _builder(self._name, self._name, self._key, timedelta(days=3650))
        signed = builder.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.certificate.write_bytes(signed.public_bytes(PEM))

    def issue(self, valid_for: timedelta, name: str = "127.0.0.1") -> Path:
        """Return a file with a key and its certificate, which ends after that time from now; before now if negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        builder = _builder(_name(name), self._name, key, valid_for)
        signed = builder.add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path = self._folder / f"certificate-{signed.serial_number}.pem"
        path.write_bytes(private + signed.public_bytes(PEM))
        return path


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, valid_for: timedelta
) -> x509.CertificateBuilder:
    ends = datetime.now(UTC) + valid_for
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(min(ends, datetime.now(UTC)) - timedelta(days=1))
        .not_valid_after(ends)
    )
