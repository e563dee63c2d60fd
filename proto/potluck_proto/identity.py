"""Who a machine is to the others of its pool: a certificate of the pool's authority, and its key.

A certificate says role, node and name; it counts for 30 days and is renewed over the paired channel
from the tenth on. An identity is one PEM file, so that it is replaced at once or not at all:
private key, certificate, and the authority's certificate. Files have mode 0600, in the folder
`identity` of the home, mode 0700; a key that others can read is refused.

A pool is known by the fingerprint of its authority's certificate: the first 128 bits of its
SHA-256. It is public. What it must withstand is a second certificate with the same one.

A role needs no trust in what a machine says of itself: the certificate's purpose lets a worker
serve and not call, and a client call and not serve; and a scheduler expects to find the worker's
own name, `NODE_ID.worker.potluck.internal`, in what the worker shows.
"""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potluck_proto.errors import IdentityError, NotPaired
from potluck_proto.home import write_private
from potluck_proto.ids import NodeId

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DAY_SECONDS = 86_400.0

LIFETIME_SECONDS = 30 * DAY_SECONDS
"""A machine that was off for longer joins again."""

RENEW_SECONDS = 20 * DAY_SECONDS
"""A certificate is renewed when it counts for less than this."""

CLOCK_SKEW_SECONDS = DAY_SECONDS
"""A certificate counts from so long before it was made, for machines whose clock is behind."""

DOMAIN = "potluck.internal"


class Role(StrEnum):
    """What a caller is to a pool."""

    OWNER = "owner"
    """The user of this machine, at the local socket. No certificate says this."""
    SCHEDULER = "scheduler"
    WORKER = "worker"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Peer:
    """A machine in one role, as a certificate says."""

    role: Role
    node_id: NodeId
    name: str
    membership: str = ""
    """Another each time that the machine is paired, so that an old certificate stays worthless."""

    @property
    def server_name(self) -> str:
        """The name that its certificate has as a server."""
        prefix = "" if self.role is Role.SCHEDULER else f"{self.node_id}."
        return f"{prefix}{self.role}.{DOMAIN}"

    def uri(self, pool: str) -> str:
        """Return how a certificate of a pool names it."""
        return f"potluck://{pool}/{self.role}/{self.node_id}/{self.membership}"


OWNER = Peer(Role.OWNER, NodeId(""), "this user")

SCHEDULER_SERVER_NAME = Peer(Role.SCHEDULER, NodeId(""), "").server_name
"""What a client expects to find at its pool's scheduler, whichever machine that is."""


def peer_of(certificate: Mapping[str, Any]) -> Peer:
    """Return who a certificate names, as `ssl` gives it after it verified it.

    Raises:
        NotPaired: It names nobody.
    """
    names = dict(part[0] for part in certificate.get("subject", ()) if part)
    for kind, value in certificate.get("subjectAltName", ()):
        parts = value.removeprefix("potluck://").split("/")
        if kind == "URI" and value.startswith("potluck://") and len(parts) == 4:
            _, role, node_id, membership = parts
            if role in (Role.SCHEDULER, Role.WORKER, Role.CLIENT):
                name = names.get("commonName", node_id)
                return Peer(Role(role), NodeId(node_id), name, membership)
    raise NotPaired("The certificate names no machine of a pool.")


def fingerprint(certificate_der: bytes) -> str:
    """Return the fingerprint by which an authority's certificate is known: 26 characters."""
    digest = hashlib.sha256(certificate_der).digest()[:16]
    return base64.b32encode(digest).decode().rstrip("=").lower()


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, as read from a file."""

    path: Path
    peer: Peer
    pool: str
    """The fingerprint of the pool's authority."""
    ends_unix_seconds: float
    key: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    authority: bytes = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Identity:
        """Read an identity. Raises `IdentityError`."""
        from cryptography import x509

        key, certificates = read_pem(path)
        try:
            leaf, authority = x509.load_pem_x509_certificates(certificates)
            peer, _ = peer_named(leaf)
        except (ValueError, NotPaired, x509.ExtensionNotFound) as error:
            raise broken(path, str(error)) from error
        return cls(
            path=path,
            peer=peer,
            pool=fingerprint(der(authority)),
            ends_unix_seconds=leaf.not_valid_after_utc.timestamp(),
            key=key,
            certificate=pem(leaf),
            authority=pem(authority),
        )

    @property
    def should_renew(self) -> bool:
        """Say whether it is time for the next certificate."""
        return self.ends_unix_seconds - time.time() < RENEW_SECONDS

    def replaced(self, key: bytes, certificate: bytes) -> Identity:
        """Store the certificate that follows this one, and return it. Raises `IdentityError`."""
        from cryptography import x509

        try:
            peer, pool = peer_named(x509.load_pem_x509_certificate(certificate))
        except (ValueError, NotPaired, x509.ExtensionNotFound) as error:
            raise IdentityError(f"The new certificate is none: {error}.") from error
        if (peer.role, peer.node_id, pool) != (self.peer.role, self.peer.node_id, self.pool):
            raise IdentityError(
                f"The new certificate is for the {peer.role} {peer.node_id}, not for this machine."
            )
        write_private(self.path, key + certificate + self.authority)
        return Identity.read(self.path)

    def server_context(self) -> ssl.SSLContext:
        """Return how a server of the pool speaks TLS: with machines of the pool alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A resumed session would skip the look at the certificate.
        context.num_tickets = 0
        return self._complete(context)

    def client_context(self) -> ssl.SSLContext:
        """Return how a caller speaks TLS; whom it reached, it asks `peer_of`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return self._complete(context)

    def _complete(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.set_alpn_protocols(["h2"])
        context.load_verify_locations(cadata=self.authority.decode())
        try:
            context.load_cert_chain(self.path)
        except (OSError, ssl.SSLError) as error:
            raise broken(self.path, str(error)) from error
        return context


class KeyRequest:
    """A new key, and the request for its certificate; the key leaves the process to a file only."""

    def __init__(self, name: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        self.key = key_pem(key)
        self.request = der(request.sign(key, hashes.SHA256()))


def peer_named(certificate: Any) -> tuple[Peer, str]:
    """Return who a certificate of `cryptography` names, and of which pool.

    Raises `NotPaired` or `ValueError`.
    """
    from cryptography import x509

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    subject = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    peer = peer_of(
        {
            "subject": ((("commonName", subject[0].value),),) if subject else (),
            "subjectAltName": [("URI", uri) for uri in uris],
        }
    )
    return peer, uris[0].removeprefix("potluck://").split("/")[0]


def read_pem(path: Path) -> tuple[bytes, bytes]:
    """Return private key and certificates of a file that only this user can read.

    Raises `IdentityError`.
    """
    try:
        status, content = path.stat(), path.read_bytes()
    except OSError as error:
        raise IdentityError(f"The identity {path} cannot be read: {error.strerror}.") from error
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise IdentityError(
            f"The key in {path} is open to other users (mode {status.st_mode & 0o777:o}). "
            f"Close it with `chmod 600 {path}`; if somebody may have read it, pair again."
        )
    end = b"-----END PRIVATE KEY-----\n"
    key, separator, certificates = content.partition(end)
    if not separator:
        raise broken(path, "it holds no key")
    return key + separator, certificates


def broken(path: Path, reason: str) -> IdentityError:
    """Return what to say of an identity that cannot be used."""
    return IdentityError(
        f"The identity {path} is broken ({reason}). Delete it and join again with a new invitation."
    )


def pem(certificate: Any) -> bytes:
    """Return a certificate as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding

    encoded: bytes = certificate.public_bytes(Encoding.PEM)
    return encoded


def der(certificate: Any) -> bytes:
    """Return a certificate, or a request for one, as DER."""
    from cryptography.hazmat.primitives.serialization import Encoding

    encoded: bytes = certificate.public_bytes(Encoding.DER)
    return encoded


def key_pem(key: EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, without a password: the file's mode protects it."""
    from cryptography.hazmat.primitives import serialization as to

    return key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption())
