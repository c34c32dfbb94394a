"""deploy/nginx/tls.conf in a real nginx, beside cdn.conf."""

import asyncio
import datetime
import ssl

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.nginx import FOLDER, free_port, needs_nginx, running_nginx

pytestmark = needs_nginx


def write_certificate(folder):
    """A key and a certificate that it signed itself, as tls.conf names them."""
    # RSA: with it a cipher without forward secrecy is possible at all.
    key = rsa.generate_private_key(65_537, 2_048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "fullchain.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture
async def tls_port(tmp_path):
    """Where an nginx with both files speaks TLS. No edge is behind it: its answer is 502."""
    write_certificate(tmp_path)
    text = (FOLDER / "tls.conf").read_text()
    assert text.count("/etc/nginx/dianzan/tls/") == 2
    port = free_port()
    both = tmp_path / "both.conf"
    both.write_text(
        f"listen 127.0.0.1:{port} ssl;\n"
        + text.replace("/etc/nginx/dianzan/tls", str(tmp_path))
        + f"include {FOLDER / 'cdn.conf'};\n"
    )
    async with running_nginx(tmp_path / "n", free_port(), both):
        yield port


def context(**versions):
    unchecked = ssl.create_default_context()
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    for name, version in versions.items():
        setattr(unchecked, name, version)
    return unchecked


async def test_every_answer_asks_for_tls_from_then_on(tls_port):
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"https://127.0.0.1:{tls_port}/v1/campaigns/spring", ssl=context()) as answer,
    ):
        assert answer.status == 502
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_speaks_this_version_with_forward_secrecy(tls_port, version):
    asked = context(minimum_version=version, maximum_version=version)
    _, writer = await asyncio.open_connection("127.0.0.1", tls_port, ssl=asked)
    cipher = writer.get_extra_info("cipher")[0]
    writer.close()
    assert cipher.startswith(("ECDHE-", "TLS_"))


async def test_refuses_a_cipher_without_forward_secrecy(tls_port):
    asked = context(maximum_version=ssl.TLSVersion.TLSv1_2)
    asked.set_ciphers("AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        await asyncio.open_connection("127.0.0.1", tls_port, ssl=asked)
