"""The files in serving/ agree with each other, with TF Serving's formats and with its API."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path

import model_folders
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2
from tensorflow_serving.config import model_server_config_pb2
from tiny_models import Stubs, request, save, spec

from tfface import serve
from tfface.methods import METHODS
from tfface.server.app import Server
from tfface.server.config import read_models
from tfface.server.protos import BatchingParameters, MonitoringConfig, read_text

SERVING = Path(__file__).parents[2] / "serving"
METRICS = {"request_count": {"model_name", "status"},
           "request_latency": {"model_name", "API", "entrypoint"},
           "runtime_latency": {"model_name", "API", "runtime"}}  # fmt: skip
ROOTS = (predict_pb2.PredictRequest, predict_pb2.PredictResponse,
         get_model_metadata_pb2.GetModelMetadataRequest, get_model_metadata_pb2.SignatureDefMap,
         get_model_metadata_pb2.GetModelMetadataResponse,
         get_model_status_pb2.GetModelStatusRequest,
         get_model_status_pb2.GetModelStatusResponse)  # fmt: skip


def documents(name):
    return [d for d in yaml.safe_load_all((SERVING / name).read_text()) if d]


def flags(arguments):
    """{flag: value or True} of `--flag=value`: TF Serving accepts no other form."""
    assert all(a.startswith("--") for a in arguments)
    pairs = [a[2:].partition("=") for a in arguments]
    return {name: value if sign else True for name, sign, value in pairs}


@pytest.fixture(scope="module")
def compose():
    return documents("compose.yaml")[0]


@pytest.fixture(scope="module")
def kustomization():
    return documents("kustomization.yaml")[0]


@pytest.fixture(scope="module")
def resources(kustomization):
    """All Kubernetes objects, by (kind, name)."""
    found = [d for name in kustomization["resources"] for d in documents(name)]
    return {(d["kind"], d["metadata"]["name"]): d for d in found}


@pytest.fixture(scope="module")
def pod(resources):
    return resources["Deployment", "tfserving"]["spec"]["template"]


def models():
    config = model_server_config_pb2.ModelServerConfig()
    return read_text(SERVING / "models.config", type(config), "--model_config_file")


def test_every_method_is_served():
    found = models().model_config_list.config
    assert [m.name for m in found] == sorted(METHODS)
    for model in found:
        assert model.base_path == f"/models/{model.name}"
        assert model.model_platform == "tensorflow"


def test_commented_examples_of_the_models_file_are_valid():
    text = (SERVING / "models.config").read_text()
    offered = re.findall(r"^#   (model_version_policy.*|version_labels.*)$", text, re.M)
    model = text_format.Parse("\n".join(offered), model_server_config_pb2.ModelConfig())
    versions = list(model.model_version_policy.specific.versions)
    assert sorted(model.version_labels.values()) == versions == [3, 4]


def test_batching_accepts_the_clients_default_batches():
    from tfface.client import FaceClient

    found = read_text(SERVING / "batching.config", BatchingParameters, "--batching_parameters_file")
    most = inspect.signature(FaceClient).parameters["max_request_images"].default
    assert found.batch_timeout_micros.value == 0
    assert found.enable_large_batch_splitting.value
    assert found.max_execution_batch_size.value <= found.max_batch_size.value
    assert found.max_batch_size.value >= most


def test_prometheus_scrapes_the_configured_metrics_path(compose, pod):
    found = read_text(SERVING / "monitoring.config", MonitoringConfig, "--monitoring_config_file")
    assert found.prometheus_config.enable
    (job,) = documents("prometheus.yml")[0]["scrape_configs"]
    assert job["metrics_path"] == found.prometheus_config.path
    replicas = [name for name in compose["services"] if name.startswith("serving-")]
    assert job["static_configs"][0]["targets"] == [f"{name}:8501" for name in replicas]
    notes = pod["metadata"]["annotations"]
    assert notes["prometheus.io/path"] == found.prometheus_config.path
    assert notes["prometheus.io/port"] == "8501"


def test_nothing_runs_as_root_or_has_a_writable_root(compose, pod):
    for name, service in compose["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service["user"].startswith("0:"), name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}, name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    (container,) = pod["spec"]["containers"]
    confined = container["securityContext"]
    assert confined["readOnlyRootFilesystem"] and not confined["allowPrivilegeEscalation"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert not pod["spec"]["automountServiceAccountToken"]


def test_batching_is_off(compose, pod):
    """In TF Serving, one bad image fails all requests of its batch, so batching is off."""
    for words in (compose["x-serving"]["command"], pod["spec"]["containers"][0]["args"]):
        assert "enable_batching" not in flags(words)


def test_there_is_no_default_password(compose):
    (password,) = [
        value
        for service in compose["services"].values()
        for name, value in service.get("environment", {}).items()
        if "PASSWORD" in name
    ]
    assert password.startswith("${GRAFANA_PASSWORD:?")


def test_only_labelled_namespaces_reach_the_servers(resources, pod):
    policy = resources["NetworkPolicy", "tfserving"]["spec"]
    assert policy["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])
    (rule,) = policy["ingress"]
    (container,) = pod["spec"]["containers"]
    assert [p["port"] for p in rule["ports"]] == [p["name"] for p in container["ports"]]


@pytest.mark.slow
def test_labels_survive_a_restart(compose, pod, tmp_path):
    """With all shipped sets of flags; TF Serving treats labels as this server does."""
    for number in (3, 4):
        save(tmp_path / "g" / str(number), ("types",))
    config = tmp_path / "models.config"
    offered = re.findall(
        r"^#   (model_version_policy.*|version_labels.*)$",
        (SERVING / "models.config").read_text(), re.M,
    )  # fmt: skip
    served = model_folders.model("g", tmp_path / "g", " ".join(offered))
    config.write_text(model_folders.config_list(served))
    canary = spec(label="canary", signature="types")
    for words in (compose["x-serving"]["command"], pod["spec"]["containers"][0]["args"]):
        words = [w.replace("/etc/tfface/models.config", str(config)) for w in words]
        words = [w.replace("/etc/tfface", str(SERVING)) for w in words]
        options = serve._options(serve._parse(words))
        options = dataclasses.replace(options, port=0, rest_port=0)
        for _ in range(2):
            with Server(read_models(config), **vars(options)) as server:
                reply = Stubs(server).predict(request(model_spec=canary, x=[1.0]))
                assert reply.model_spec.version.value == 4


def test_dockerfile_flags_are_valid():
    text = (SERVING / "Dockerfile").read_text().replace("\\\n", " ")
    words = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.M)[1])[3:]
    words += json.loads(re.search(r"^CMD (.*)$", text, re.M)[1])
    options = serve._options(serve._parse(words))
    assert (options.host, options.port, options.rest_port) == ("0.0.0.0", 8500, 8501)


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.train"])
def test_images_are_not_of_root_and_copy_what_is_there(name):
    text = (SERVING / name).read_text()
    assert re.search(r"^USER (?!0)(?!root)", text, re.M)
    ignored = (SERVING.parent / ".dockerignore").read_text().split()
    for source in re.findall(r"^COPY (.*) \S+$", text, re.M):
        for file in source.split():
            assert f"!{file}" in ignored and (SERVING.parent / file).exists()
    extras = re.search(r"/src\[([a-z,]+)\]", text)[1].split(",")
    declared = (SERVING.parent / "setup.py").read_text()
    assert all(f'"{extra}": ' in declared for extra in extras)


def test_compose_and_kubernetes_start_the_same_server(compose, pod, kustomization):
    (container,) = pod["spec"]["containers"]
    kubernetes = flags(container["args"])
    # In compose the proxy balances requests, not connections.
    assert kubernetes.pop("grpc_channel_arguments") == "grpc.max_connection_age_ms=30000"
    servers = [s for name, s in compose["services"].items() if name.startswith("serving-")]
    for server in servers:
        assert flags(server["command"]) == kubernetes
        assert server["entrypoint"] == container["command"] == ["tensorflow_model_server"]
    tag = kustomization["images"][0]["newTag"]
    image = container["image"]
    assert kustomization["images"][0]["name"] == image
    assert servers[0]["image"] == f"{image}:${{TF_SERVING_TAG:-{tag}}}"


def test_files_named_by_flags_are_mounted(compose, pod, kustomization):
    (container,) = pod["spec"]["containers"]
    named = {v for v in flags(container["args"]).values() if str(v).startswith("/")}
    mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
    assert set(mounts) == set(volumes)
    assert mounts.pop("scratch") == "/tmp"
    maps = {g["name"]: g["files"] for g in kustomization["configMapGenerator"]}
    used = [s["configMap"]["name"] for s in volumes["config"]["projected"]["sources"]]
    assert sorted(used) == sorted(maps)
    files = [name for names in maps.values() for name in names]
    assert {f"{mounts['config']}/{name}" for name in files} == named
    assert all((SERVING / name).is_file() for name in files)
    server = compose["services"]["serving-1"]
    assert ".:/etc/tfface:ro" in server["volumes"]
    assert any(volume.endswith(":/models:ro") for volume in server["volumes"])
    assert mounts["models"] == "/models"


def test_ports_and_names_agree_in_kubernetes(resources, pod):
    (container,) = pod["spec"]["containers"]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    given = flags(container["args"])
    assert ports == {"grpc": int(given["port"]), "rest": int(given["rest_api_port"])}
    assert given["enable_grpc_healthcheck_service"]  # for:
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["grpc"]["port"] == ports["grpc"]
    labels = pod["metadata"]["labels"]
    for (kind, _), found in resources.items():
        if kind == "Service":
            assert found["spec"]["selector"].items() <= labels.items()
            for port in found["spec"]["ports"]:
                assert port["port"] == ports[port["targetPort"]]
        if kind in ("Deployment", "PodDisruptionBudget"):
            assert found["spec"]["selector"]["matchLabels"] == labels
    scaled = resources["HorizontalPodAutoscaler", "tfserving"]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) in resources
    assert resources["Service", "tfserving-grpc"]["spec"]["clusterIP"] == "None"
    claim = next(v for v in pod["spec"]["volumes"] if v["name"] == "models")
    name = claim["persistentVolumeClaim"]["claimName"]
    assert ("PersistentVolumeClaim", name) in resources


def test_terminating_server_outlives_its_connections(pod):
    (container,) = pod["spec"]["containers"]
    age = int(flags(container["args"])["grpc_channel_arguments"].split("=")[1]) / 1000
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pause > 30 + 1.1 * age  # DNS caches; gRPC scatters the age by a tenth
    assert pod["spec"]["terminationGracePeriodSeconds"] > pause


def test_nginx_balances_over_all_servers_of_compose(compose):
    text = (SERVING / "nginx.conf").read_text()
    replicas = [name for name in compose["services"] if name.startswith("serving-")]
    upstreams = dict(re.findall(r"upstream (\w+) \{(.*?)\}", text, re.S))
    for passed, port in (("grpc_pass grpc", 8500), ("proxy_pass http", 8501)):
        (name,) = re.findall(rf"{passed}://(\w+);", text)
        servers = re.findall(r"server (\S+)", upstreams[name])
        assert servers == [f"{replica}:{port}" for replica in replicas]
        assert f"listen {port}" in text
        assert f"127.0.0.1:{port}:{port}" in compose["services"]["proxy"]["ports"]
    assert set(compose["services"]["proxy"]["depends_on"]) == set(replicas)


def test_dashboard_queries_existing_metrics():
    text = (SERVING / "grafana" / "dashboards" / "serving.json").read_text()
    dashboard = json.loads(text)
    seen = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            for name, chosen in re.findall(r":tensorflow:serving:(\w+)\{(.*?)\}", target["expr"]):
                metric = name.removesuffix("_bucket")
                assert name == (metric if metric == "request_count" else f"{metric}_bucket")
                assert set(re.findall(r"(\w+)[!=]", chosen)) <= METRICS[metric]
                seen.add(metric)
    assert seen == set(METRICS)
    (source,) = documents("grafana/provisioning/datasources/prometheus.yaml")[0]["datasources"]
    assert set(re.findall(r'"uid": "(prometheus\w*)"', text)) == {source["uid"]}
    assert documents("prometheus.yml")[0]["scrape_configs"][0]["job_name"] == "tfserving"
    assert 'up{job=\\"tfserving\\"}' in text


def reachable(message, found):
    """Adds all messages and enums that a message uses, by full name."""
    if message.full_name not in found:
        found[message.full_name] = message
        for field in message.fields:
            if field.message_type:
                reachable(field.message_type, found)
            if field.enum_type:
                found[field.enum_type.full_name] = field.enum_type


def test_proto_of_the_clients_has_the_public_field_numbers():
    text = re.sub(r"//.*", "", (SERVING / "clients" / "serving.proto").read_text())
    text = re.sub(r"oneof \w+ \{(.*?)\}", r"\1", text, flags=re.S)
    fields = 0
    scope = []
    public = {}
    for root in ROOTS:
        reachable(root.DESCRIPTOR, public)
    public = {found.name: found for found in public.values()}
    for line in filter(None, map(str.strip, text.splitlines())):
        if opened := re.match(r"(message|enum|service) (\w+) \{", line):
            scope.append(opened[2] if opened[1] != "service" else None)
        elif line == "}":
            scope.pop()
        elif scope and scope[-1] and (found := re.match(r"(.*?)(\w+) = (\d+);", line)):
            kind, name, number = found.groups()
            theirs = public[scope[-1]]
            fields += 1
            if not kind:
                assert theirs.values_by_name[name].number == int(number), (scope, name)
                continue
            field = theirs.fields_by_name[name]
            assert field.number == int(number), (scope, name)
            is_map = field.message_type and field.message_type.GetOptions().map_entry
            assert kind.startswith("map<") == bool(is_map)
            assert kind.startswith("repeated ") == (field.is_repeated and not is_map)
    assert fields == 50


def test_embedded_server_accepts_the_same_flags(compose, pod):
    for words in (compose["x-serving"]["command"], pod["spec"]["containers"][0]["args"]):
        assert serve._parse(words).model_config_file == "/etc/tfface/models.config"
