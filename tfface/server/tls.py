"""Key and certificate of the gRPC API; needs gRPC, but no TensorFlow."""

from __future__ import annotations

from concurrent import futures

import grpc

from tfface.errors import UserError


def credentials(tls) -> grpc.ServerCredentials:
    """What gRPC makes of a `protos.SSLConfig`."""
    return grpc.ssl_server_credentials(
        [(tls.server_key.encode(), tls.server_cert.encode())],
        root_certificates=tls.custom_ca.encode() or None,
        require_client_auth=tls.client_verify,
    )


def check_tls(tls) -> None:
    """Checks that key and certificate belong together, without opening a port to anybody.

    Raises:
        UserError: They do not, or are damaged.
    """
    server = grpc.server(futures.ThreadPoolExecutor(1))
    try:
        server.add_secure_port("127.0.0.1:0", credentials(tls))
    except RuntimeError as error:
        raise UserError(
            "--ssl_config_file: gRPC does not take server_key and server_cert: expected a key and "
            "the certificate made for it, whole PEM files both"
        ) from error
    finally:
        server.stop(None)
