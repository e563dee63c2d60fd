from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from fakes.hub import FakeHub
from potluck_proto.errors import HubUnreachable, from_rpc
from potluck_proto.home import Home
from potluck_proto.v1 import worker_pb2 as pb
from worker.conftest import running

DAY = datetime.timedelta(days=1)


def certificate(path: Path, first_day: datetime.datetime) -> Path:
    """Write the key and the certificate of `localhost`, which counts for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(first_day)
        .not_valid_after(first_day + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + made.public_bytes(Encoding.PEM)
    )
    return path


@pytest.mark.parametrize(
    ("days", "reason"), [(-3, "certificate has expired"), (3, "certificate is not yet valid")]
)
async def test_a_clock_that_is_wrong_is_said_where_the_hub_is_refused_for_it(
    short_tmp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, reason: str
) -> None:
    now = datetime.datetime.now(tz=datetime.UTC)
    path = certificate(tmp_path / "hub.pem", now + days * DAY)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    home = Home(short_tmp)
    home.prepare()
    with FakeHub(tls) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        async with running(home) as worker:
            for call in (
                worker.stub.SearchHub(pb.SearchHubRequest(query="qwen")),
                worker.stub.ListHub(pb.ListHubRequest(repository="maker/model")),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                error = from_rpc(caught.value, "the worker")
                assert isinstance(error, HubUnreachable)
                assert reason in error.message
                assert f"the clock of this machine: it says {now:%d %B %Y}" in error.message
            assert await worker.ask("potluck-starter", max_tokens=2)
