"""The health and reflection services, called with the stubs of grpcio's own packages."""

import ast
import gc
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from half_plus import save_graph
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
from tiny_models import failure, status_request

import tfface
from tfface.server import health, reflection, services
from tfface.server.app import Server

STATUS = health_pb2.HealthCheckResponse


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_graph(folder / "1")
    with Server(folder, port=0, health=True) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield channel


@pytest.fixture(scope="module")
def ask(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    def ask(**question):
        request = reflection_pb2.ServerReflectionRequest(**question)
        (reply,) = stub.ServerReflectionInfo(iter([request]), timeout=20)
        assert reply.original_request == request
        return reply

    return ask


def test_no_module_imports_what_protobuf_may_refuse():
    """Neither grpcio's packages nor the services' modules of tensorflow-serving-api 2.20."""
    refused = {"grpc_health", "grpc_reflection", "prediction_service_pb2", "model_service_pb2"}
    for path in Path(tfface.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                parts = {part for name in names for part in name.split(".")}
                assert not parts & refused, path


@pytest.mark.parametrize(("name", "status"), [("", 1), ("ModelService", 1), ("other", None)])
def test_health(channel, name, status):
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=name)
    watched = stub.Watch(request, timeout=20)
    assert next(watched).status == (status or STATUS.SERVICE_UNKNOWN)
    watched.cancel()
    if status:
        assert stub.Check(request, timeout=20).status == status
    else:
        assert failure(stub.Check, request, timeout=20)[0] is grpc.StatusCode.NOT_FOUND


def test_a_watched_server_stops_at_once(tmp_path):
    save_graph(tmp_path / "1")
    with Server(tmp_path, port=0, health=True) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watched = stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
            assert next(watched).status == STATUS.SERVING
            server.stop(0)
            assert failure(next, watched)[0] is not grpc.StatusCode.DEADLINE_EXCEEDED


def test_reflection_lists_services(ask):
    assert [service.name for service in ask(list_services="").list_services_response.service] == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "tensorflow.serving.ModelService",
        "tensorflow.serving.PredictionService",
    ]


@pytest.mark.parametrize(
    "question",
    [
        {"file_containing_symbol": "tensorflow.serving.PredictionService"},
        {"file_containing_symbol": "tensorflow.serving.ModelService"},
        {"file_containing_symbol": "tensorflow.serving.PredictRequest.RequestOptions"},
        {"file_containing_symbol": "grpc.health.v1.Health"},
        {"file_containing_symbol": "grpc.reflection.v1alpha.ServerReflection"},
        {"file_by_filename": "tensorflow/core/framework/tensor.proto"},
    ],
    ids=lambda question: next(iter(question.values())),
)
def test_reflection_sends_a_file_with_all_its_imports(ask, question):
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(data)
        for data in ask(**question).file_descriptor_response.file_descriptor_proto
    ]
    assert len({file.name for file in files}) == len(files)
    pool = descriptor_pool.DescriptorPool()
    added = set()
    while files:  # as a client does: a file after its imports
        ready = [file for file in files if added.issuperset(file.dependency)]
        assert ready
        for file in ready:
            pool.Add(file)
            added.add(file.name)
            files.remove(file)
    (value,) = question.values()
    if "file_by_filename" in question:
        assert pool.FindFileByName(value)
    else:
        assert pool.FindFileContainingSymbol(value)


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"file_containing_symbol": "tensorflow.serving.Nothing"}, grpc.StatusCode.NOT_FOUND),
        ({"file_by_filename": "nothing.proto"}, grpc.StatusCode.NOT_FOUND),
        ({"all_extension_numbers_of_type": "a.Nothing"}, grpc.StatusCode.NOT_FOUND),
        ({"file_containing_extension": {"containing_type": "a.B"}}, grpc.StatusCode.NOT_FOUND),
        ({}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_reflection_errors(ask, question, code):
    error = ask(**question).error_response
    assert (error.error_code, error.error_message) == code.value


def test_reflection_knows_no_extensions(ask):
    name = "tensorflow.serving.PredictRequest"
    found = ask(all_extension_numbers_of_type=name).all_extension_numbers_response
    assert found.base_type_name == name and not found.extension_number


@pytest.mark.parametrize(
    ("file", "module"), [(health.FILE, health_pb2), (reflection.FILE, reflection_pb2)]
)
def test_messages_are_those_of_grpcio(file, module):
    """All of ours; a new release may have more."""
    theirs = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(theirs)
    assert (file.package, file.syntax) == (theirs.package, theirs.syntax)
    messages = {message.name: message for message in theirs.message_type}
    for message in file.message_type:
        fields = {field.name: field for field in messages[message.name].field}
        assert len(fields) == len(message.field)
        for field in message.field:
            assert field.label in (0, fields[field.name].label)
            for part in ("number", "type", "type_name", "oneof_index"):
                assert getattr(field, part) == getattr(fields[field.name], part)
        assert message.enum_type == messages[message.name].enum_type
        assert message.oneof_decl == messages[message.name].oneof_decl
    methods = {method.name: method for method in theirs.service[0].method}
    assert file.service[0].name == theirs.service[0].name
    for method in file.service[0].method:
        assert method == methods[method.name]


def test_rpcs_are_those_of_the_stubs():
    """Paths and messages, as the generated stubs of tensorflow-serving-api have them."""

    class Channel:
        def unary_unary(self, path, request_serializer, response_deserializer, **_):
            found[path] = (request_serializer, response_deserializer)

    found = {}
    prediction_service_pb2_grpc.PredictionServiceStub(Channel())
    model_service_pb2_grpc.ModelServiceStub(Channel())
    ours = {
        f"/{service}/{name}": (request.SerializeToString, reply.FromString)
        for service, rpcs in (
            (services.PREDICTION, services._PREDICTION_RPCS),
            (services.MODEL, services._MODEL_RPCS),
        )
        for name, (request, reply) in rpcs.items()
    }
    assert ours == found


def test_finished_calls_do_not_wait_for_the_garbage_collector(channel):
    """A connection has at most 256 calls at a time, open or not yet freed."""
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    checks = health_pb2_grpc.HealthStub(channel)
    gc.collect()
    gc.disable()
    try:
        for _ in range(300):
            models.GetModelStatus(status_request(name="default"), timeout=20)
            code, _ = failure(models.GetModelStatus, status_request(name="other"), timeout=20)
            assert code is grpc.StatusCode.NOT_FOUND
            code, _ = failure(checks.Check, health_pb2.HealthCheckRequest(service="other"))
            assert code is grpc.StatusCode.NOT_FOUND
    finally:
        gc.enable()
