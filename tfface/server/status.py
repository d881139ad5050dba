"""Errors that are sent to clients, with TF Serving's status codes and messages."""

from __future__ import annotations

import grpc

# TensorFlow's error codes and gRPC's have the same numbers.
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST = 1024  # bytes, as in TF Serving


class ServingError(Exception):
    """A request failed.

    Attributes:
        code: gRPC status.
        message: Error message for the client.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def from_tensorflow(cls, error) -> ServingError:
        """Converts a `tf.errors.OpError`, with its code and message."""
        return cls(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), error.message)


def invalid(message: str) -> ServingError:
    """The most common error: INVALID_ARGUMENT."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def shortened(message: str) -> str:
    """Truncates a message as TF Serving does; gRPC trailers have a limit as well."""
    encoded = message.encode()
    if len(encoded) <= _LONGEST:
        return message
    return encoded[:_LONGEST].decode(errors="ignore") + "...TRUNCATED"
