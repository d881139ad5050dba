"""The gRPC API over TLS, with and without client certificates."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc
from tiny_models import failure, save, status_request

from tfface import serve
from tfface.errors import UserError
from tfface.server.app import Server
from tfface.server.config import read_tls

DATA = Path(__file__).parents[1] / "support" / "tls"
# For these tests only: self-signed, for localhost, 127.0.0.1 and ::1, from 2024 to 2123.
KEY = (DATA / "localhost_test_only.key").read_text()
CERTIFICATE = (DATA / "localhost_test_only.crt").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save(path / "1", ("types",))
    return path


def config_file(path, **fields):
    """An SSLConfig as text; contents of PEM files are quoted with their line breaks escaped."""
    lines = [
        f'{name}: "{value.encode("unicode_escape").decode()}"'
        if isinstance(value, str)
        else f"{name}: {str(value).lower()}"
        for name, value in fields.items()
    ]
    file = path / "ssl.config"
    file.write_text("\n".join(lines))
    return file


def ask(server, credentials=None):
    """A GetModelStatus, encrypted if there are credentials."""
    address = f"localhost:{server.port}"
    channel = (
        grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address)
    )
    with channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        reply = stub.GetModelStatus(status_request(name="default"), timeout=20)
    return reply.model_version_status[0].version


def credentials(*own):
    return grpc.ssl_channel_credentials(CERTIFICATE.encode(), *(text.encode() for text in own))


def test_unencrypted_calls_fail(folder, tmp_path):
    tls = read_tls(config_file(tmp_path, server_key=KEY, server_cert=CERTIFICATE))
    with Server(folder, tls=tls) as server:
        assert ask(server, credentials()) == 1
        assert failure(ask, server)[0] is grpc.StatusCode.UNAVAILABLE


def test_client_verify_requires_a_client_certificate(folder, tmp_path):
    fields = {"custom_ca": CERTIFICATE, "client_verify": True}
    file = config_file(tmp_path, server_key=KEY, server_cert=CERTIFICATE, **fields)
    with Server(folder, tls=read_tls(file)) as server:
        assert ask(server, credentials(KEY, CERTIFICATE)) == 1
        assert failure(ask, server, credentials())[0] is grpc.StatusCode.UNAVAILABLE


NONSENSE = "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"


def test_invalid_key_is_reported_before_anything_is_loaded(folder, tmp_path, monkeypatch, capsys):
    file = config_file(tmp_path, server_key=NONSENSE, server_cert=CERTIFICATE)
    monkeypatch.setattr(serve, "import_tensorflow", lambda: pytest.fail("too late"))
    assert serve.main([f"--model_base_path={folder}", "--port=0", f"--ssl_config_file={file}"]) == 2
    error = capsys.readouterr().err
    assert "server_key and server_cert" in error and "PEM" in error
    with pytest.raises(UserError, match="--ssl_config_file: .* server_key and server_cert"):
        Server(folder, tls=read_tls(file)).start()


def test_unencrypted_rest_with_tls_is_warned_about(folder, tmp_path, caplog):
    tls = read_tls(config_file(tmp_path, server_key=KEY, server_cert=CERTIFICATE))
    with Server(folder, tls=tls, rest_port=0):
        assert "the REST API is not encrypted" in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"server_cert": CERTIFICATE}, "server_key: expected the content of a PEM file"),
        ({"server_key": "/etc/key.pem", "server_cert": CERTIFICATE}, "server_key: expected the"),
        ({"server_key": KEY}, "server_cert: expected the content of a PEM file"),
        ({"server_key": KEY, "server_cert": CERTIFICATE, "client_verify": True}, "custom_ca: "),
        ({"key": KEY}, "Error parsing text-format tensorflow.serving.SSLConfig: 1:1 : "),
    ],
)
def test_invalid_ssl_config_file_is_reported(folder, tmp_path, capsys, fields, message):
    file = config_file(tmp_path, **fields)
    assert serve.main([f"--model_base_path={folder}", f"--ssl_config_file={file}"]) == 2
    error = capsys.readouterr().err
    assert f"--ssl_config_file {file}: {message}" in error
    assert error.count("\n") == 1
