"""Trained models that are shipped with the package."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ship
from tiny_runs import write_tiny_run

import tfface
from tfface import models, shipped
from tfface.client import FaceClient
from tfface.data.synthetic import EXPRESSIONS
from tfface.edit import main as edit
from tfface.errors import UserError
from tfface.evaluation import EVALUATIONS, cache_of, measure
from tfface.evaluation.synthetic_truth import draw, held_out
from tfface.exporting.saved_model import export_run
from tfface.methods import get_config, get_method
from tfface.server.app import Server

pytestmark = pytest.mark.usefixtures("eagerly")

ROOT = Path(__file__).parents[2]
MODELS = shipped.shipped()


@pytest.fixture(scope="module")
def shipped_run(tmp_path_factory):
    """A run with random weights, and the `tfface/methods` where it is shipped as `sargan/tiny`."""
    root = tmp_path_factory.mktemp("root")
    run = write_tiny_run(root / "run", "sargan", classes=list(EXPRESSIONS))
    (run.path / "metrics.jsonl").write_text('{"step": 4, "steps_per_second": 2.0}\n')
    methods = root / "tfface" / "methods"
    (methods / "sargan").mkdir(parents=True)
    (root / "benchmarks").mkdir()
    card = "benchmarks/model_card.md"
    (root / card).write_text((ROOT / card).read_text())
    words = [str(run.path), "tiny", "--judge_steps", "2", "--count", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ship, "ROOT", root)
        patch.setattr("tfface.evaluation.classifier.HELD_OUT", 64)
        patch.setattr(shipped, "_METHODS", methods)
        assert ship.main(words) == 0
    return run, methods


@pytest.fixture
def tiny(shipped_run, monkeypatch):
    run, methods = shipped_run
    monkeypatch.setattr(shipped, "_METHODS", methods)
    return run


@pytest.mark.slow
def test_ship_creates_a_model_that_load_models_and_edit_find_by_name(
    tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert list(shipped.shipped()) == ["sargan/tiny"]
    trained = tfface.load("sargan/tiny")
    for mine, theirs in zip(
        trained.nets["generator"].variables, tiny.nets["generator"].variables, strict=True
    ):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=2**-7, atol=1e-6)
    card = (trained.path / "README.md").read_text()
    assert "not suitable for photographs" in card and "| PSNR |" in card
    assert cache_of(trained) == Path("runs", ".cache")

    assert models.main([]) == 0
    listed = capsys.readouterr().out
    assert "sargan/tiny" in listed and "SARGAN: changing an expression" in listed

    draw(held_out(1, 1), 40)[0].save("face.png")
    assert edit(["sargan/tiny", "face.png", "--expression", "happy"]) == 0
    assert Path("edited", "face-happy.png").exists()
    assert edit(["sargan/tinny", "face.png"]) == 2
    error = capsys.readouterr().err
    assert "sargan/tinny" in error and "perhaps you mean 'sargan/tiny'?" in error


@pytest.mark.slow
def test_a_run_is_served_by_its_name(tiny):
    command = [sys.executable, "-m", "tfface.serve", str(tiny.path), "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        address = re.search(r"ready at (\S+:\d+)", server.stdout.readline())[1]
        with FaceClient(address) as client:
            assert client.change_expression(draw(held_out(1, 1), 40)[0], "happy").size == (40, 40)
        server.terminate()
        server.communicate(timeout=60)
    assert server.returncode == 0


@pytest.mark.slow
def test_training_can_start_from_a_shipped_model(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from tfface.train import train_run

    options = {"train.steps": 1, "classes": list(tiny.method.labels), "train.ema_half_life": 0.0}
    trained = train_run("sargan", preset="tiny", run="new", options=options, init="sargan/tiny")
    [line] = (trained.path / "history.jsonl").read_text().splitlines()
    assert json.loads(line)["init"]["run"].endswith("models/tiny")


def test_a_run_folder_takes_precedence_over_a_shipped_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sargan/faces64").mkdir(parents=True)
    assert shipped.run_folder("sargan/faces64") == Path("sargan/faces64")
    Path("file").touch()
    with pytest.raises(UserError, match="file is a file: expected a run folder"):
        shipped.run_folder("file")


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_is_small_and_has_a_card(name):
    folder = MODELS[name]
    [weights] = (folder / "checkpoints").iterdir()
    assert weights.stat().st_size <= 8 * 2**20
    card = (folder / "README.md").read_text()
    assert f"# {name}\n" in card and "not suitable for photographs" in card
    method, preset = name.split("/")
    assert (folder.parents[1] / "presets" / f"{preset}.yaml").exists()
    assert get_config(method) and json.loads((folder / "figures.json").read_text())["figures"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_reproduces_its_recorded_metrics(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tfface.evaluation.classifier.HELD_OUT", 64)
    recorded = json.loads((MODELS[name] / "figures.json").read_text())["sample"]
    trained = tfface.load(name)
    measured = measure(trained, count=recorded["people"], small=True, cache=tmp_path, judge_steps=2)
    kinds = ("edited", "generated")
    kind = next((kind for kind in kinds if kind in measured), "reference/generated")
    for part in kind.split("/"):
        recorded, measured = recorded[part], measured[part]
    assert measured["psnr"] == pytest.approx(recorded["psnr"], abs=0.05)
    assert measured["error"] == pytest.approx(recorded["error"], rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_is_exported_and_served(name, tmp_path):
    trained = tfface.load(name)
    export_run(trained, tmp_path / "model")
    face = draw(held_out(1, 1), 80)[0]
    with (
        Server(tmp_path / "model", model_name="m") as server,
        FaceClient(f"127.0.0.1:{server.port}", "m") as client,
    ):
        evaluation = EVALUATIONS[get_method(trained.name).task](trained, client)
        if "image_bytes" in client.metadata()["bytes"]["inputs"]:
            assert client.change_expression(face, "happy").size == (80, 80)
        else:
            assert "".join(evaluation.show()).count("<img") > 20
