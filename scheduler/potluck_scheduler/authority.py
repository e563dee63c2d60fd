"""The authority of a pool: the key that makes a certificate one of this pool.

It is made with the first invitation and lies in the home, mode 0600. Whoever has it is the pool; a
copy of the home is a copy of it.
"""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from potluck_proto.errors import IdentityError
from potluck_proto.home import write_private
from potluck_proto.identity import (
    CLOCK_SKEW_SECONDS,
    DAY_SECONDS,
    LIFETIME_SECONDS,
    Identity,
    KeyRequest,
    Peer,
    Role,
    broken,
    der,
    fingerprint,
    key_pem,
    pem,
    read_pem,
)

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

AUTHORITY_SECONDS = 30 * 365 * DAY_SECONDS


class Authority:
    """Signs the certificates of one pool.

    Attributes:
        pool: The fingerprint by which it is known.
        certificate: Its own certificate, PEM.
    """

    def __init__(self, key: EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate
        self.certificate = pem(certificate)
        self.pool = fingerprint(der(certificate))

    @classmethod
    def open(cls, path: Path) -> Authority:
        """Read the authority of a home, or make it where there is none. Raises `IdentityError`."""
        if not path.exists():
            key, certificate = _make()
            write_private(path, key_pem(key) + pem(certificate))
        return cls.read(path)

    @classmethod
    def read(cls, path: Path) -> Authority:
        """Read the authority of a home. Raises `IdentityError`."""
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key, certificate = read_pem(path)
        try:
            loaded = load_pem_private_key(key, password=None)
            return cls(
                cast("EllipticCurvePrivateKey", loaded), x509.load_pem_x509_certificate(certificate)
            )
        except ValueError as error:
            raise broken(path, str(error)) from error

    def sign(self, request: bytes, peer: Peer, now_unix_seconds: float | None = None) -> bytes:
        """Return a certificate, PEM.

        Args:
            request: A request (PKCS #10, DER), of which only the key counts.
            peer: Whom it is for.
            now_unix_seconds: When it is made.

        Raises:
            IdentityError: The request is malformed, or its maker has not the key.
        """
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            asked = x509.load_der_x509_csr(request)
            public_key = asked.public_key()
            valid = asked.is_signature_valid
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise IdentityError(f"The request for a certificate is malformed: {error}.") from error
        if not valid or not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise IdentityError("The request for a certificate is not signed by a key of its own.")
        now = time.time() if now_unix_seconds is None else now_unix_seconds
        builder = _builder(peer.name, self._certificate.subject, public_key, now, LIFETIME_SECONDS)
        names = [
            x509.UniformResourceIdentifier(peer.uri(self.pool)),
            x509.DNSName(peer.server_name),
        ]
        extensions: list[tuple[Any, bool]] = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(signs_certificates=False), True),
            (x509.ExtendedKeyUsage(_purposes(peer.role)), False),
            (x509.SubjectAlternativeName(names), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return pem(builder.sign(self._key, hashes.SHA256()))

    def identity(self, path: Path, peer: Peer) -> Identity:
        """Return an identity of this machine, made or renewed where it must be."""
        if path.exists():
            identity = Identity.read(path)
            if identity.pool == self.pool and not identity.should_renew:
                return identity
        made = KeyRequest(peer.name)
        write_private(path, made.key + self.sign(made.request, peer) + self.certificate)
        return Identity.read(path)


def _make() -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Potluck pool {key_id.digest.hex()[:12]}")]
    )
    builder = _builder(name, name, key.public_key(), time.time(), AUTHORITY_SECONDS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(key_id, critical=False)
    return key, builder.sign(key, hashes.SHA256())


def _builder(
    subject: x509.Name | str,
    issuer: x509.Name,
    public_key: EllipticCurvePublicKey,
    now_unix_seconds: float,
    lifetime_seconds: float,
) -> x509.CertificateBuilder:
    """Return what every certificate has."""
    from cryptography import x509

    if isinstance(subject, str):
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now_unix_seconds - CLOCK_SKEW_SECONDS))
        .not_valid_after(_moment(now_unix_seconds + lifetime_seconds))
    )


def _moment(unix_seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(unix_seconds, datetime.UTC)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(role: Role) -> list[x509.ObjectIdentifier]:
    """Return what a certificate is for: workers serve, clients call, a scheduler does both."""
    from cryptography.x509.oid import ExtendedKeyUsageOID

    serve, call = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    return {Role.WORKER: [serve], Role.CLIENT: [call], Role.SCHEDULER: [serve, call]}[role]
