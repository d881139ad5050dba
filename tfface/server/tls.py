"""Key and certificate of the gRPC API; imports gRPC but not TensorFlow."""

from __future__ import annotations

from concurrent import futures

import grpc

from tfface.errors import UserError


def credentials(tls) -> grpc.ServerCredentials:
    """Converts a `protos.SSLConfig` to gRPC credentials."""
    return grpc.ssl_server_credentials(
        [(tls.server_key.encode(), tls.server_cert.encode())],
        root_certificates=tls.custom_ca.encode() or None,
        require_client_auth=tls.client_verify,
    )


def check_tls(tls) -> None:
    """Checks that key and certificate match, without listening on a public port.

    Raises:
        UserError: They do not match or are invalid.
    """
    server = grpc.server(futures.ThreadPoolExecutor(1))
    try:
        server.add_secure_port("127.0.0.1:0", credentials(tls))
    except RuntimeError as error:
        raise UserError(
            "--ssl_config_file: gRPC does not accept server_key and server_cert: expected the "
            "complete PEM content of a private key and of its certificate"
        ) from error
    finally:
        server.stop(None)
