"""Every connection proves whom it speaks to: a certificate of nobody is refused, and no setting says otherwise."""

import ssl
import threading
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.settings import Settings
from segue.core.config import Project
from segue.core.errors import DestinationError

KEY = "0123456789abcdef0123456789abcdef-us1"


class _Anything(BaseHTTPRequestHandler):
    heard: ClassVar[list[str]]

    def do_GET(self) -> None:
        self.heard.append(self.headers.get("authorization", ""))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        pass


def self_signed(folder: Path) -> Path:
    """Write a key and a certificate for 127.0.0.1 that nobody but itself vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(form)
    )
    return path


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A server that says it is the ESP; and what it heard of a key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))

    class Handler(_Anything):
        heard: ClassVar[list[str]] = []

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", Handler.heard
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_certificate_that_nobody_vouches_for_is_refused_and_hears_no_key(
    impostor: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, heard = impostor
    for name in ("PYTHONHTTPSVERIFY", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):  # what is said to turn it off
        monkeypatch.setenv(name, "0" if name == "PYTHONHTTPSVERIFY" else "")
    connector = Mailchimp.from_settings({"api_key": KEY, "audience": "a1", "base_url": f"{url}/3.0"})
    with pytest.raises(DestinationError, match="certificate") as refused:
        connector.check()
    assert KEY not in str(refused.value)
    assert heard == []
    connector.transport.close()


def test_no_setting_turns_verification_off() -> None:
    words = ("verify", "insecure", "tls", "ssl", "certificate")
    settings = {*Project.model_json_schema()["$defs"], *_names(Project.model_json_schema())}
    settings |= {field.name for field in fields(Settings)}
    assert [name for name in settings if any(word in name.lower() for word in words)] == []


def _names(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for each in schema.values():
            yield from _names(each)


@pytest.mark.parametrize("folder", ["core", "connectors", "sync", "mappings"])
def test_no_code_turns_verification_off(folder: str) -> None:
    root = Path(__file__).parents[2] / folder
    text = "\n".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py"))
    for way in ("verify=False", "CERT_NONE", "_create_unverified_context", "disable_warnings"):
        assert way not in text
