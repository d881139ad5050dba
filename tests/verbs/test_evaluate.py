"""`tfface.evaluate` on networks with random weights, and its error messages."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from eager_faces import EagerFaces
from image_files import make_celeba

import tfface
import tfface.data
from tfface.config import parse_training
from tfface.data.label_maps import CLASSES_19
from tfface.data.synthetic import EXPRESSIONS, render
from tfface.engine.load import write_run
from tfface.engine.progress import MEASURED
from tfface.engine.run import Run
from tfface.engine.trainer import Trainer
from tfface.evaluate import main
from tfface.evaluation import flat, measure, measure_small
from tfface.evaluation.classifier import Classifier, _build
from tfface.evaluation.segmenter import Segmenter
from tfface.evaluation.synthetic_truth import held_out
from tfface.methods import get_config, get_method
from tfface.metrics.tables import SEED
from tfface.testing.case import tiny_method

pytestmark = pytest.mark.usefixtures("eagerly")


class Judge(Classifier):
    """Classifies by a few pixels."""

    has_identity = False

    def expressions(self, images):
        return (np.abs(np.asarray(images)[:, 8:16, 8:16].mean((1, 2, 3))) * 1e4).astype(int) % 8

    def attributes(self, images):
        return np.asarray(images)[:, 8, 8 : 8 + len(self.names), 0] > 0


class Second(Judge):
    """Always disagrees with `Judge`."""

    def expressions(self, images):
        return (super().expressions(images) + 1) % 8

    def attributes(self, images):
        return ~super().attributes(images)


class Finder(Segmenter):
    def label_maps(self, images):
        return np.digitize(np.asarray(images)[..., 0], np.linspace(-1, 1, 18))


@pytest.fixture(autouse=True)
def judges(monkeypatch):
    """Classifiers and segmenters that need no training, and faces without a pipeline."""

    def knows(size, names, architecture="plain", **_):
        judge = {"plain": Judge, "residual": Second}[architecture]
        return judge(_build(size, 1, 0, 0, 0), names, {"all": 1.0})

    made = {
        "classifier.train_classifier": knows,
        "classifier.train_on_images": lambda source, **_: knows(
            source.data.size, source.attributes
        ),
        "segmenter.train_segmenter": lambda size, **_: Finder(None, {"miou": 1.0}),
    }
    for name, judge in made.items():
        monkeypatch.setattr(f"tfface.evaluation.{name}", judge)
    monkeypatch.setitem(tfface.data.SOURCES, "synthetic", "tfface.testing:FewFaces")
    where = "tfface.evaluation.exemplars.SyntheticFaces"
    monkeypatch.setattr(where, EagerFaces)


def write(folder, method, *words):
    _, config, _ = parse_training(
        [method, "--preset", "tiny", *words], {method: get_config(method)}
    )
    made = get_method(method)(config)
    tf.keras.utils.set_random_seed(1)
    write_run(folder, method, made, made.build())
    return folder


@pytest.fixture(scope="module")
def sargan(tmp_path_factory):
    words = ["--classes", json.dumps(EXPRESSIONS)]
    return write(tmp_path_factory.mktemp("runs") / "sargan", "sargan", *words)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    words = ["--only_segmenter", "true"]
    return write(tmp_path_factory.mktemp("runs") / "seg", "seg_hierarchical", *words)


def figures_of(run, *words):
    assert main([str(run), *words]) == 0
    return json.loads((run / "evaluation" / "0" / "figures.json").read_text())


def test_expressions_are_judged_by_two_classifiers_reproducibly(sargan, capsys):
    figures = figures_of(sargan, "--count", "5")
    told = capsys.readouterr().out
    assert (figures["method"], figures["step"], figures["people"]) == ("sargan", 0, 5)
    for kind in ("edited", "copy", "target"):
        low, high = figures["intervals"][kind]["error_inside"]
        assert low <= figures[kind]["error_inside"] <= high
        assert f"{100 * figures[kind]['error_inside']:.2f} %" in told
        low, high = figures["intervals"][kind]["second"]["accuracy"]
        assert low <= figures[kind]["second"]["accuracy"] <= high
        # They never agree.
        assert figures[kind]["accuracy"] + figures[kind]["second"]["accuracy"] <= 1
    assert figures["classifier"] == figures["second_classifier"] == {"all": 1.0}
    assert "target-expression accuracy, second judge" in told
    assert "improved over the input, second judge" in told
    assert figures["copy"]["error_inside"] > 0.005 and figures["target"]["error"] == 0
    folder = sargan / "evaluation" / "0"
    page = (folder / "report.html").read_text()
    assert "second classifier, which has another architecture: all 100.0%" in page
    assert not re.search(r"(src|href)=\"(?!data:image/png;base64,)", page)
    assert all(word in page for word in ("best", "median", "worst", "ground truth", "copy of the"))
    assert page.count("<img") == 18
    before = (folder / "figures.json").read_bytes()
    assert main([str(sargan), "--count", "5"]) == 0
    assert (folder / "figures.json").read_bytes() == before
    assert main([str(sargan), "--count", "4", "--seed", "2", "--out", str(folder / "two")]) == 0
    assert (folder / "two" / "figures.json").read_bytes() != before


def test_attribute_transfer_is_measured_by_attribute_and_for_several(tmp_path):
    figures = figures_of(write(tmp_path / "elegant", "elegant"), "--count", "3")
    assert figures["pairs"] == 3 and set(figures["edited"]["by_attribute"]) == {
        "Eyeglasses", "Smiling"
    }  # fmt: skip
    assert {"right", "others", "error_inside", "error_outside", "psnr"} <= set(figures["edited"])
    for kind in ("edited", "copy", "target", "unchanged"):
        found = figures[kind]
        assert found["right"] + found["second"]["right"] == pytest.approx(1)
    several = {"all_right", "improved_over_input", "error", "psnr"}
    assert set(figures["several"]["edited"]) == set(figures["several"]["copy"]) == several
    assert "several" in figures["intervals"]


def test_synthesis_is_measured_by_segmentation_diversity_and_colours(tmp_path):
    figures = figures_of(write(tmp_path / "mask", "mask_guided"), "--count", "3")
    assert figures["maps"] == 3
    assert {"segmentation", "diversity", "colours", "palette", "reference"} <= set(figures)


def test_domain_alignment_can_be_evaluated_with_line_drawings(tmp_path):
    run = write(tmp_path / "align", "domain_alignment", "--condition", "lines")
    figures = figures_of(run, "--count", "3")
    assert figures["pairs"] == 3
    assert figures["generated"]["error"] > figures["target"]["error"] == 0


def test_a_perfect_segmentation_network_has_miou_1(segmenter, monkeypatch, capsys):
    """And the report of an untrained one lists all classes."""
    figures = figures_of(segmenter, "--count", "40")["segmentation"]
    assert figures["images"] == 40 and set(figures["iou_by_class"]) == set(CLASSES_19)
    assert 0 < figures["pixel_accuracy"] < 0.9
    told = capsys.readouterr().out
    assert all(name in told for name in ("segmentation mIoU", *CLASSES_19))

    trained = tfface.load(str(segmenter))
    truth = render(held_out(50, SEED), trained.method.config.data.size, ("label_map",))["label_map"]
    seen = tf.Variable(0)

    def segment(nets, images):
        start = seen + 0
        seen.assign_add(tf.shape(images)[0])
        return tf.one_hot(truth[start : start + tf.shape(images)[0]], len(CLASSES_19))

    monkeypatch.setattr(trained.method, "segment", segment)
    found = measure(trained, count=50)["segmentation"]
    assert found["images"] == 50 and found["pixel_accuracy"] == found["miou"] == 1.0


def test_path_evaluates_on_a_data_set_that_has_moved(tmp_path):
    photographs = make_celeba(tmp_path / "photographs", 60)
    words = ["--data.name", "celeba", "--data.path", str(photographs)]
    run = write(tmp_path / "run", "elegant", *words, "--attributes", "[Eyeglasses,Smiling]")
    photographs.rename(tmp_path / "moved")
    assert main([str(run)]) == 2
    figures = figures_of(run, "--path", str(tmp_path / "moved"), "--split", "train")
    assert figures["data"] == "celeba" and figures["split"] == "train"
    assert {"right", "others", "change"} <= set(figures["edited"])
    assert "second" not in figures["edited"] and "second_classifier" not in figures
    assert "psnr" not in figures["edited"] and "target" not in figures
    page = (run / "evaluation" / "0" / "report.html").read_text()
    assert "Not measured: errors inside and outside" in page


def test_small_samples_omit_the_second_classifier(sargan):
    trained = tfface.load(str(sargan))
    found = flat(measure(trained, count=4))
    few = flat(measure(trained, small=True))
    assert few == flat(measure(trained, small=True, count=4))
    # A small sample has one judge.
    second = {name for name in found if name.startswith("second_") or "/second/" in name}
    assert few == {name: value for name, value in found.items() if name not in second}
    assert {"second_classifier/all", "edited/second/improved_over_input"} <= second
    assert 0 <= found["edited/accuracy"] <= 1 and found["copy/error_outside"] < 1e-6
    assert not any(name.startswith("intervals") for name in found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no such run folder"),
        (["RUN", "--count", "0"], "--count is 0: expected at least 1"),
        (["RUN", "--split", "tests"], "invalid choice: 'tests'"),
        (["RUN", "--step", "9"], "has no checkpoint of step 9"),
        (["RUN/checkpoints"], "is not a run folder: it has no method.txt"),
        (["RUN", "--pth", "x"], "perhaps you mean '--path'?"),
        (["EXPORT"], "is an export: expected the run folder that was exported"),
        (["EMPTY"], "has no checkpoint yet"),
        (["MOVED"], "data.path is 'nowhere': no such folder"),
        (["MOVED", "--path", "gone"], "--path is 'gone': no such folder"),
    ],
)
def test_mistakes_are_reported_in_one_line(sargan, tmp_path, capsys, words, message):
    for name in ("EMPTY", "MOVED"):
        (tmp_path / name).mkdir()
        for file in ("method.txt", "config.yaml"):
            (tmp_path / name / file).write_text((sargan / file).read_text())
    moved = (tmp_path / "MOVED" / "config.yaml").read_text()
    moved = moved.replace("name: synthetic", "name: folder").replace("path: ''", "path: nowhere")
    (tmp_path / "MOVED" / "config.yaml").write_text(moved)
    (tmp_path / "MOVED" / "checkpoints").mkdir()
    (tmp_path / "MOVED" / "checkpoints" / "step-1.npz").touch()
    (tmp_path / "EXPORT" / "1").mkdir(parents=True)
    (tmp_path / "EXPORT" / "1" / "saved_model.pb").touch()
    first = words[0].replace("RUN", str(sargan))
    first = str(tmp_path / first) if first.isupper() else first
    assert main([first, *words[1:]]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_help_and_mistakes_do_not_import_tensorflow(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    code = (
        "import sys\nfrom tfface.evaluate import main\n"
        f"status = main([{str(tmp_path / 'run')!r}])\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(status != 2 or 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--count" in done.stdout
    assert "is not a run folder" in done.stderr


def test_editing_with_a_segmentation_network_writes_a_coloured_label_map(segmenter, tmp_path):
    from PIL import Image

    from tfface.data.label_maps import load_label_map
    from tfface.edit import main as edit

    face = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(face).save(tmp_path / "face.png")
    argv = [str(segmenter), str(tmp_path / "face.png"), "--out", str(tmp_path / "out")]
    assert edit([*argv, "--grid"]) == 0
    found = load_label_map(tmp_path / "out" / "face-segmentation.png")
    assert found.shape == (32, 32) and (tmp_path / "out" / "grid.png").exists()
    assert edit([*argv, "--expression", "happy"]) == 2


@pytest.mark.slow
def test_evaluations_during_training_are_logged_and_do_not_affect_it(tmp_path):

    def train(name, every):
        options = {"steps": 3, "log_every": 1, "evaluate_every": every, "jit": "off"}
        method, source = tiny_method("sargan", **options)
        trainer = Trainer(
            method,
            source,
            Run.create("sargan", method.config, str(name)),
            evaluate=measure_small,
        )
        trainer.train()
        lines = (trainer.run.path / "metrics.jsonl").read_text().splitlines()
        lines = [{**json.loads(line), **dict.fromkeys(MEASURED, 0)} for line in lines]
        return trainer, lines

    plain, without = train(tmp_path / "plain", 0)
    measured, lines = train(tmp_path / "measured", 2)
    assert [line["step"] for line in lines] == [1, 2, 2, 3]
    figures = lines.pop(2)
    assert 0 <= figures["evaluation/edited/accuracy"] <= 1
    assert not any(name.startswith("evaluation/intervals") for name in figures)
    for one, other in zip(lines, without, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    for name, net in plain.nets.items():
        for a, b in zip(net.weights, measured.nets[name].weights, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-7)
