"""Identities that somebody made who must not get in."""

from __future__ import annotations

import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from potluck_proto.home import write_private
from potluck_proto.identity import DAY_SECONDS, Identity, KeyRequest, Peer, Role, key_pem, pem
from potluck_proto.ids import NodeId
from potluck_scheduler import authority
from potluck_scheduler.authority import Authority

STRANGER = Peer(Role.SCHEDULER, NodeId("f" * 16), "stranger")

FORGERIES = ("self-signed", "of another pool", "ran out", "not yet")


def forged(kind: str, authority_file: Path, folder: Path) -> Identity:
    """Return an identity that says it is a scheduler; who has it takes our authority for his.

    Args:
        kind: One of `FORGERIES`.
        authority_file: The authority of the pool that must not let it in.
        folder: Where the identity is written.
    """
    ours = Authority.read(authority_file)
    path = folder / f"{kind}.pem"
    if kind == "self-signed":
        return _self_signed(path, ours.certificate)
    if kind == "of another pool":
        return _signed(path, Authority.open(folder / "other.pem"), ours.certificate)
    days = {"ran out": -40, "not yet": 3}[kind]
    return _signed(path, ours, ours.certificate, time.time() + days * DAY_SECONDS)


def _signed(path: Path, signer: Authority, trusted: bytes, now: float | None = None) -> Identity:
    made = KeyRequest(STRANGER.name)
    write_private(path, made.key + signer.sign(made.request, STRANGER, now) + trusted)
    return Identity.read(path)


def _self_signed(path: Path, trusted: bytes) -> Identity:
    key, certificate = authority._make()
    signed = _signed(path, Authority(key, certificate), trusted)
    leaf = x509.load_pem_x509_certificate(signed.certificate)
    builder = x509.CertificateBuilder(
        leaf.subject, leaf.subject, key.public_key(), leaf.serial_number,
        leaf.not_valid_before_utc, leaf.not_valid_after_utc, list(leaf.extensions),
    )  # fmt: skip
    write_private(path, key_pem(key) + pem(builder.sign(key, hashes.SHA256())) + trusted)
    return Identity.read(path)
