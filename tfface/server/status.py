"""Errors that a client gets, with TF Serving's status codes and texts."""

from __future__ import annotations

import grpc

# TensorFlow's error codes and gRPC's have the same numbers.
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST = 1024  # TF Serving cuts messages here, in bytes


class ServingError(Exception):
    """A request that cannot be answered.

    Attributes:
        code: gRPC status.
        message: What the client is told.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    @classmethod
    def from_tensorflow(cls, error) -> ServingError:
        """The same error with TensorFlow's own code and text; `error` is a `tf.errors.OpError`."""
        return cls(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), error.message)


def invalid(message: str) -> ServingError:
    """The most common error: INVALID_ARGUMENT."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def shortened(message: str) -> str:
    """A message no longer than TF Serving sends (and than gRPC's trailers can hold)."""
    encoded = message.encode()
    if len(encoded) <= _LONGEST:
        return message
    return encoded[:_LONGEST].decode(errors="ignore") + "...TRUNCATED"
