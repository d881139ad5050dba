"""Model config files, version policies, loading, warm-up and labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from model_folders import add_version, config_list, label, model, server_config, specific
from tiny_models import good, request, save, spec, wait_for

from tfface import serve
from tfface.errors import UserError
from tfface.server import loading
from tfface.server.config import ModelConfig, Options, read_models, to_models
from tfface.server.models import Models
from tfface.server.saved_model import SavedModel
from tfface.server.status import ServingError
from tfface.server.versions import Model, State

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "1"
    save(path, ("serving_default", "types"))
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parse me!", "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:1 :"),
        ("", "no model_config_list"),
        ("custom_model_config {}", "no model_config_list"),
        (config_list(model("", "/m")), "a model in the config list has no name"),
        (config_list(model("g", "/m"), model("g", "/n")),
         "Illegal to list model g multiple times in config list"),
        (config_list(model("g", "m/g")),
         "Expected model g to have an absolute path or URI; got base_path()=m/g"),
        (config_list(model("g", "gs://m/g")), "base_path gs://m/g: URIs are not"),
        (config_list(model("g", "/m\\000/g")), "base_path '/m\\x00/g': a path cannot"),
        (config_list(model("g", "/m").replace("tensorflow", "caffe")),
         "Model g requests unsupported platform caffe"),
        (config_list('config { name: "g" base_path: "/m" }'),
         "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
         "ModelServerConfig::model_platform."),
        (config_list(model("g", "/m", "model_type: TENSORFLOW")), "Illegal setting both"),
        (config_list(model("g", "/m", specific())), "model g: model_version_policy: specific"),
    ],
)  # fmt: skip
def test_invalid_model_files_are_reported_in_one_line(tmp_path, capsys, text, message):
    file = tmp_path / "models.config"
    file.write_text(text)
    assert serve.main([f"--model_config_file={file}"]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert error.startswith(f"tfface.serve: error: --model_config_file {file}: ")
    assert message in error


def test_folders_in_model_file_are_checked(tmp_path, capsys):
    (tmp_path / "g" / "1").mkdir(parents=True)
    file = tmp_path / "models.config"
    cases = [
        (model("g", tmp_path / "nope"), f"model g: {tmp_path}/nope: no such folder"),
        (model("g", tmp_path / "g", specific(3, 2)), "versions 2, 3, only 1"),
        (model("g", tmp_path / "g", label("stable", 1)),
         "Request to assign label to version 1 of model g, which is not currently available"),
    ]  # fmt: skip
    for text, message in cases:
        file.write_text(config_list(text))
        assert serve.main([f"--model_config_file={file}"]) == 2
        assert message in capsys.readouterr().err
    assert serve.main([f"--model_config_file={tmp_path}/no.config"]) == 2
    assert "no.config: No such file or directory" in capsys.readouterr().err


@pytest.mark.slow
def test_model_file_is_checked_without_tensorflow(tmp_path):
    file = tmp_path / "models.config"
    file.write_text(config_list(model("g", "/no such folder")))
    code = (
        "import sys, tfface.serve\n"
        f"tfface.serve.main(['--model_config_file={file}'])\n"
        "print([name for name in ('tensorflow', 'grpc', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=60
    )
    assert "no such folder" in done.stderr
    assert done.stdout == "[]\n"


def test_valid_model_file_is_read(tmp_path):
    file = tmp_path / "models.config"
    file.write_text(
        config_list(
            model("a", "/a"),
            model("b", "/b", "model_version_policy { latest { num_versions: 3 } }"),
            model("c", "/c", "model_version_policy { all {} }" + label("new", 7) + label("old", 5)),
            model("d", "/d", specific(4, 2)),
        )
    )
    assert read_models(file) == (
        ModelConfig("a", Path("/a")),
        ModelConfig("b", Path("/b"), latest=3),
        ModelConfig("c", Path("/c"), latest=None, labels={"new": 7, "old": 5}),
        ModelConfig("d", Path("/d"), specific=(4, 2)),
    )
    file.write_text("model_config_list {}")
    assert read_models(file) == ()


def test_platform_of_a_served_model_cannot_change():
    changed = server_config(model("g", "/g").replace("tensorflow", "other"))
    with pytest.raises(UserError, match="platform was tensorflow and new platform .* is other"):
        to_models(changed.model_config_list, {"g"})


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ({}, [9]),
        ({"latest": 2}, [9, 4]),
        ({"latest": 7}, [9, 4, 1]),
        ({"latest": None}, [9, 4, 1]),
        ({"specific": (1, 4, 5)}, [4, 1]),
    ],
)
def test_policies_choose_versions(policy, chosen):
    assert ModelConfig("g", Path("/g"), **policy).choose([4, 1, 9]) == chosen


def test_loaded_versions_follow_the_policy(export, tmp_path):
    for number in (1, 2, 3):
        add_version(export, tmp_path, number)
    served = Model(ModelConfig("g", tmp_path, latest=2), Options())

    def update(**policy):
        served.config = ModelConfig("g", tmp_path, **policy)
        served.update()
        return served.available()

    assert update(latest=2) == [2, 3]
    add_version(export, tmp_path, 10, warm_up=[request()])  # cannot be loaded
    assert update(latest=2) == [3]
    assert update(latest=None) == [1, 2, 3]
    assert update(specific=(1,)) == [1]
    assert update(specific=(7,)) == []  # as in TF Serving: missing versions are not waited for
    assert update(specific=(1,)) == [1]
    assert list(served.status()) == [10, 3, 2, 1]
    served.config = None
    served.update()
    assert served.available() == []
    assert {state for state, _ in served.status().values()} == {State.END}


def test_unloading_version_is_kept_if_requested_again(export, tmp_path):
    add_version(export, tmp_path, 1)
    config = ModelConfig("g", tmp_path)
    served = Model(config, Options())
    served.update()
    with served.use() as (_, loaded):
        served.config = None
        served.update()
        assert served.status()[1][0] is State.UNLOADING
        served.config = config
        served.update()
        with served.use() as (_, again):
            assert again is loaded
    assert served.available() == [1]
    served.close()


@pytest.mark.parametrize("retries", [0, 2])
def test_loading_is_retried_at_most_max_load_retries_times(tmp_path, monkeypatch, retries):
    def fail(*_):
        tries.append(1)
        raise OSError("not mounted yet")

    tries = []
    monkeypatch.setattr("tfface.server.versions.load", fail)
    (tmp_path / "1").mkdir()
    options = Options(max_load_retries=retries, retry_seconds=0)
    served = Model(ModelConfig("g", tmp_path), options)
    for _ in range(5):
        served.update()
    assert len(tries) == 1 + retries
    assert served.status()[1][1].message == "OSError: not mounted yet"
    (tmp_path / "1" / "saved_model.pb").touch()  # its files have changed
    served.update()
    assert len(tries) == 2 + retries


def test_loading_is_retried_after_the_interval(export, tmp_path, monkeypatch):
    def fail_once(*arguments):
        monkeypatch.setattr("tfface.server.versions.load", loading.load)
        raise OSError

    monkeypatch.setattr("tfface.server.versions.load", fail_once)
    add_version(export, tmp_path, 1)
    patient = Model(ModelConfig("g", tmp_path), Options(retry_seconds=0.3))
    patient.update()
    patient.update()
    assert patient.available() == []

    def available():
        patient.update()
        return patient.available()

    wait_for(available)
    patient.close()


class Recorder:
    """A stand-in for SavedModel that keeps its arguments."""

    def __init__(self, path, batching, session_config, tags, max_pixels):
        self.batching, self.session, self.tags = batching, session_config, tags
        self.max_pixels = max_pixels


def test_flags_reach_the_loaded_model(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "SavedModel", Recorder)

    def loaded(*flags):
        words = [f"--model_base_path={tmp_path}", *flags]
        options = serve._options(serve._parse(words))
        return loading.load(tmp_path, 1, options)

    def threads(*flags):
        session = loaded(*flags).session
        return session.intra_op_parallelism_threads, session.inter_op_parallelism_threads

    assert (loaded().batching, loaded().tags) == (None, ("serve",))
    assert loaded("--max_request_pixels=7").max_pixels == 7
    assert loaded("--saved_model_tags=serve,gpu").tags == ("serve", "gpu")
    assert threads() == (0, 0)
    assert threads("--tensorflow_session_parallelism=3") == (3, 3)
    both = ("--tensorflow_intra_op_parallelism=1", "--tensorflow_inter_op_parallelism=2")
    assert threads(*both) == (1, 2)
    assert not loaded("--enable_batching").batching.ListFields()
    file = tmp_path / "batching.txt"
    file.write_text("max_batch_size { value: 8 }")
    batching = ("--enable_batching", f"--batching_parameters_file={file}")
    assert loaded(*batching).batching.max_batch_size.value == 8
    per_model = (*batching, "--enable_per_model_batching_parameters")
    assert loaded(*per_model).batching is None
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 4 }")
    assert loaded(*per_model).batching.max_batch_size.value == 4


def test_warm_up_runs_the_requested_number_of_iterations(export, tmp_path, monkeypatch):
    def run(self, *arguments, **options):
        calls.append(arguments)
        return original(self, *arguments, **options)

    calls, original = [], SavedModel.run
    monkeypatch.setattr(SavedModel, "run", run)
    add_version(export, tmp_path, 1, warm_up=[good(), good()])
    loading.load(tmp_path / "1", 1, Options(warm_up_iterations=3)).close()
    assert len(calls) == 6


def test_labels_select_versions(export, tmp_path):
    for number in (1, 2):
        add_version(export, tmp_path, number)

    def config(**labels):
        return [ModelConfig("g", tmp_path, latest=None, labels=labels)]

    def version(name):
        with models.use(spec(label=name)) as (number, _):
            return number

    models = Models(Options())
    with pytest.raises(ServingError, match="label to version 1 of model g, which is not"):
        models.configure(config(stable=1))
    assert list(models) == []
    models.configure(config())
    models.configure(config(stable=1, canary=2))
    assert (version("stable"), version("canary")) == (1, 2)
    models.configure(config(stable=2))
    assert version("stable") == 2
    with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
        version("canary")
    with pytest.raises(ServingError, match="label to version 3 of model g"):
        models.configure(config(stable=3))
    assert version("stable") == 2
    models.close()


def test_new_labels_may_point_to_unavailable_versions_if_allowed(export, tmp_path):
    add_version(export, tmp_path, 1)
    models = Models(Options(allow_unavailable_labels=True))
    models.configure([ModelConfig("g", tmp_path, labels={"stable": 1, "next": 2})])
    with models.use(spec(label="stable")) as (number, _):
        assert number == 1
    with pytest.raises(ServingError, match=r"not found for request: Specific\(g, 2\)"):
        with models.use(spec(label="next")):
            pass
    with pytest.raises(ServingError, match="Could not find version 2 of model g"):
        models.status(spec(label="next"))
    with pytest.raises(ServingError, match="label to version 3 of model g"):
        models.configure([ModelConfig("g", tmp_path, labels={"stable": 3})])  # not a new label
    models.close()
