"""gRPC server reflection, version v1alpha: lists and describes the services of a server.

Implemented here because each release of grpcio-reflection accepts only one major version of
protobuf: an installer would replace the one that belongs to TensorFlow.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory, text_format
from google.protobuf.descriptor import FileDescriptor

NAME = "grpc.reflection.v1alpha.ServerReflection"
FILE = text_format.Parse(
    """
    name: "grpc/reflection/v1alpha/reflection.proto"
    package: "grpc.reflection.v1alpha"
    syntax: "proto3"
    message_type {
      name: "ServerReflectionRequest"
      oneof_decl { name: "message_request" }
      field { name: "host" number: 1 type: TYPE_STRING }
      field { name: "file_by_filename" number: 3 type: TYPE_STRING oneof_index: 0 }
      field { name: "file_containing_symbol" number: 4 type: TYPE_STRING oneof_index: 0 }
      field { name: "file_containing_extension" number: 5 oneof_index: 0 type: TYPE_MESSAGE
              type_name: ".grpc.reflection.v1alpha.ExtensionRequest" }
      field { name: "all_extension_numbers_of_type" number: 6 type: TYPE_STRING oneof_index: 0 }
      field { name: "list_services" number: 7 type: TYPE_STRING oneof_index: 0 }
    }
    message_type {
      name: "ExtensionRequest"
      field { name: "containing_type" number: 1 type: TYPE_STRING }
      field { name: "extension_number" number: 2 type: TYPE_INT32 }
    }
    message_type {
      name: "ServerReflectionResponse"
      oneof_decl { name: "message_response" }
      field { name: "valid_host" number: 1 type: TYPE_STRING }
      field { name: "original_request" number: 2 type: TYPE_MESSAGE
              type_name: ".grpc.reflection.v1alpha.ServerReflectionRequest" }
      field { name: "file_descriptor_response" number: 4 oneof_index: 0 type: TYPE_MESSAGE
              type_name: ".grpc.reflection.v1alpha.FileDescriptorResponse" }
      field { name: "all_extension_numbers_response" number: 5 oneof_index: 0 type: TYPE_MESSAGE
              type_name: ".grpc.reflection.v1alpha.ExtensionNumberResponse" }
      field { name: "list_services_response" number: 6 oneof_index: 0 type: TYPE_MESSAGE
              type_name: ".grpc.reflection.v1alpha.ListServiceResponse" }
      field { name: "error_response" number: 7 oneof_index: 0 type: TYPE_MESSAGE
              type_name: ".grpc.reflection.v1alpha.ErrorResponse" }
    }
    message_type {
      name: "FileDescriptorResponse"
      field { name: "file_descriptor_proto" number: 1 type: TYPE_BYTES label: LABEL_REPEATED }
    }
    message_type {
      name: "ExtensionNumberResponse"
      field { name: "base_type_name" number: 1 type: TYPE_STRING }
      field { name: "extension_number" number: 2 type: TYPE_INT32 label: LABEL_REPEATED }
    }
    message_type {
      name: "ListServiceResponse"
      field { name: "service" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE
              type_name: ".grpc.reflection.v1alpha.ServiceResponse" }
    }
    message_type {
      name: "ServiceResponse"
      field { name: "name" number: 1 type: TYPE_STRING }
    }
    message_type {
      name: "ErrorResponse"
      field { name: "error_code" number: 1 type: TYPE_INT32 }
      field { name: "error_message" number: 2 type: TYPE_STRING }
    }
    service {
      name: "ServerReflection"
      method {
        name: "ServerReflectionInfo"
        input_type: ".grpc.reflection.v1alpha.ServerReflectionRequest"
        output_type: ".grpc.reflection.v1alpha.ServerReflectionResponse"
        client_streaming: true
        server_streaming: true
      }
    }
    """,
    descriptor_pb2.FileDescriptorProto(),
)


def message_classes(file: descriptor_pb2.FileDescriptorProto) -> dict[str, type[message.Message]]:
    """The message classes of a file without imports, by name.

    They are not in protobuf's default pool, which accepts a file name only once: another package
    may bring the same file, of another release.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(descriptor)
        for name, descriptor in pool.FindFileByName(file.name).message_types_by_name.items()
    }


def service_file(
    name: str, service: str, methods: dict[str, tuple[type[message.Message], type[message.Message]]]
) -> descriptor_pb2.FileDescriptorProto:
    """The descriptor of a file that defines one service.

    Args:
        name: The file's name.
        service: Full name of the service.
        methods: Request and reply classes, by RPC.
    """
    package, _, short = service.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    described = file.service.add(name=short)
    imports = set()
    for method, types in methods.items():
        request, reply = (kind.DESCRIPTOR for kind in types)
        imports |= {request.file.name, reply.file.name}
        described.method.add(
            name=method, input_type=f".{request.full_name}", output_type=f".{reply.full_name}"
        )
    file.dependency.extend(sorted(imports))
    return file


_CLASSES = message_classes(FILE)
_Request = _CLASSES["ServerReflectionRequest"]
_Response = _CLASSES["ServerReflectionResponse"]


def handler(files: Iterable[descriptor_pb2.FileDescriptorProto]) -> grpc.GenericRpcHandler:
    """The reflection service of a `grpc.aio` server.

    Args:
        files: Files that define the server's other services; what they import is in protobuf's
            default pool.
    """
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(file: descriptor_pb2.FileDescriptorProto) -> None:
        added.add(file.name)
        for name in file.dependency:
            if name not in added:
                imported = descriptor_pb2.FileDescriptorProto()
                descriptor_pool.Default().FindFileByName(name).CopyToProto(imported)
                add(imported)
        pool.Add(file)

    files = [*files, FILE]
    for file in files:
        add(file)
    services = [f"{file.package}.{service.name}" for file in files for service in file.service]

    async def replies(requests: AsyncIterator[message.Message], _) -> AsyncIterator:
        async for request in requests:
            yield _reply(request, sorted(services), pool)

    method = grpc.stream_stream_rpc_method_handler(
        replies, _Request.FromString, _Response.SerializeToString
    )
    return grpc.method_handlers_generic_handler(NAME, {"ServerReflectionInfo": method})


def _reply(
    request: message.Message, services: list[str], pool: descriptor_pool.DescriptorPool
) -> message.Message:
    reply = _Response(original_request=request)
    kind = request.WhichOneof("message_request")
    try:
        if kind == "list_services":
            for name in services:
                reply.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            found = pool.FindFileByName(request.file_by_filename)
            reply.file_descriptor_response.file_descriptor_proto.extend(_with_imports(found))
        elif kind == "file_containing_symbol":
            found = pool.FindFileContainingSymbol(request.file_containing_symbol)
            reply.file_descriptor_response.file_descriptor_proto.extend(_with_imports(found))
        elif kind == "all_extension_numbers_of_type":  # proto3: there are none
            found = pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
            reply.all_extension_numbers_response.base_type_name = found.full_name
        elif kind == "file_containing_extension":
            raise KeyError
        else:
            _fail(reply, grpc.StatusCode.INVALID_ARGUMENT)
    except KeyError:
        _fail(reply, grpc.StatusCode.NOT_FOUND)
    return reply


def _fail(reply: message.Message, code: grpc.StatusCode) -> None:
    reply.error_response.error_code, reply.error_response.error_message = code.value


def _with_imports(file: FileDescriptor) -> list[bytes]:
    """A file and all that it imports, each once, serialized."""
    files = {file.name: file}
    for found in (pending := [file]):
        for imported in found.dependencies:
            if imported.name not in files:
                files[imported.name] = imported
                pending.append(imported)
    return [found.serialized_pb for found in files.values()]
