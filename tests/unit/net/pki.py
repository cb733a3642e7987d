"""Certificates of every kind a TLS test needs: expired, for other hosts, with other key and hash types."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
Hash = hashes.SHA256 | hashes.SHA384 | hashes.SHA512


@cache
def rsa_key(which: int = 0) -> rsa.RSAPrivateKey:
    """RSA keys are slow to make: one per number and run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class Issued:
    cert: str  # path
    key: str  # path
    x509: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.x509.public_bytes(serialization.Encoding.DER)


class Pki:
    """One authority and what it signs, in `folder`."""

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key: Key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        root = self._build(self._name, self._key, self._name, self._key, None, 30, ca=True)
        self.ca = self._write("ca", root, self._key).cert

    def issue(
        self,
        file: str,
        *,
        name: str = "localhost",
        san: tuple[str, ...] = (),
        key: Key | None = None,
        expired: bool = False,
    ) -> Issued:
        """Signed by the authority; `san` holds DNS names and addresses."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(file, self._build(subject, key, self._name, self._key, san, -1 if expired else 30), key)

    def self_signed(self, file: str, key: Key, digest: Hash | None, pss: bool = False) -> Issued:
        """Signed with its own key and this hash (None for Ed25519, which has its own)."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        return self._write(
            file, self._build(subject, key, subject, key, ("localhost",), 30, digest=digest, pss=pss), key
        )

    def _build(
        self,
        subject: x509.Name,
        key: Key,
        issuer: x509.Name,
        issuer_key: Key,
        san: tuple[str, ...] | None,
        days: int,
        *,
        ca: bool = False,
        digest: Hash | None = None,
        pss: bool = False,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=10))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if san:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in san]), critical=False)
        if isinstance(issuer_key, ed25519.Ed25519PrivateKey):
            return builder.sign(issuer_key, None)
        digest = digest or hashes.SHA256()
        scheme = padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size) if pss else None
        return builder.sign(issuer_key, digest, rsa_padding=scheme)

    def _write(self, file: str, cert: x509.Certificate, key: Key) -> Issued:
        cert_path, key_path = self.folder / f"{file}.crt", self.folder / f"{file}.key"
        cert_path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(pem(key))
        return Issued(str(cert_path), str(key_path), cert)


def pem(key: Key, passphrase: bytes = b"") -> bytes:
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
