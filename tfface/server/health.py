"""The standard gRPC health service, of a server that is healthy as long as it runs.

Implemented here because each release of grpcio-health-checking accepts only one major
version of protobuf: an installer would replace the one that belongs to TensorFlow.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import grpc
from google.protobuf import descriptor_pb2, message, text_format

from tfface.server import reflection
from tfface.server.calls import abort

NAME = "grpc.health.v1.Health"
FILE = text_format.Parse(
    """
    name: "grpc/health/v1/health.proto"
    package: "grpc.health.v1"
    syntax: "proto3"
    message_type {
      name: "HealthCheckRequest"
      field { name: "service" number: 1 type: TYPE_STRING }
    }
    message_type {
      name: "HealthCheckResponse"
      field { name: "status" number: 1 type: TYPE_ENUM
              type_name: ".grpc.health.v1.HealthCheckResponse.ServingStatus" }
      enum_type {
        name: "ServingStatus"
        value { name: "UNKNOWN" number: 0 }
        value { name: "SERVING" number: 1 }
        value { name: "NOT_SERVING" number: 2 }
        value { name: "SERVICE_UNKNOWN" number: 3 }
      }
    }
    service {
      name: "Health"
      method {
        name: "Check"
        input_type: ".grpc.health.v1.HealthCheckRequest"
        output_type: ".grpc.health.v1.HealthCheckResponse"
      }
      method {
        name: "Watch"
        input_type: ".grpc.health.v1.HealthCheckRequest"
        output_type: ".grpc.health.v1.HealthCheckResponse"
        server_streaming: true
      }
    }
    """,
    descriptor_pb2.FileDescriptorProto(),
)
_CLASSES = reflection.message_classes(FILE)
_Request = _CLASSES["HealthCheckRequest"]
_Response = _CLASSES["HealthCheckResponse"]


def handler(names: Collection[str]) -> grpc.GenericRpcHandler:
    """The health service of a `grpc.aio` server.

    Args:
        names: Services that clients may ask about; "" is the whole server.
    """

    async def check(request: message.Message, context: grpc.aio.ServicerContext) -> message.Message:
        if request.service not in names:
            await abort(context, grpc.StatusCode.NOT_FOUND)
        return _Response(status="SERVING")

    async def watch(request: message.Message, _) -> AsyncIterator[message.Message]:
        yield _Response(status="SERVING" if request.service in names else "SERVICE_UNKNOWN")
        await asyncio.Event().wait()  # The status does not change until the server stops.

    methods = {
        "Check": grpc.unary_unary_rpc_method_handler(
            check, _Request.FromString, _Response.SerializeToString
        ),
        "Watch": grpc.unary_stream_rpc_method_handler(
            watch, _Request.FromString, _Response.SerializeToString
        ),
    }
    return grpc.method_handlers_generic_handler(NAME, methods)
