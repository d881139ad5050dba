"""The search, mostly with trials of a toy method and a measure that is made up."""

import contextlib
import dataclasses
import gc
import json
import math
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import toy_method
import yaml
from tiny_models import wait_for

import tfface
from tfface import evaluation
from tfface.config import parse_training, to_dict
from tfface.errors import UserError
from tfface.methods import METHODS, get_config
from tfface.tune import main, run_study
from tfface.tuning import oracle
from tfface.tuning import search as searching
from tfface.tuning.study import read_plan
from tfface.tuning.trials import read_trials

pytestmark = pytest.mark.usefixtures("eagerly")

ROOT = Path(__file__).parents[1]
STUDY = {
    "steps": 4,
    "trials": 3,
    "seed": 3,
    "objective": {"measure": "made/error", "direction": "min"},
    "parameters": {"adam.learning_rate": {"low": 0.001, "high": 0.1, "log": True}},
}


class Untrained:
    """In the place of the Trainer, for tests of all else."""

    nets, averages = {}, {}

    def __init__(self, method, source, run):
        self.run = run

    def train(self, until=None):
        return until


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Runs a study of the toy method; `toy.error` gives its objective from config and step."""
    monkeypatch.setitem(METHODS, "toy", "Toy")
    for part in ("method", "config"):
        monkeypatch.setitem(sys.modules, f"tfface.methods.toy.{part}", toy_method)
    options = tmp_path / "options.yaml"
    options.write_text(yaml.safe_dump(to_dict(toy_method.ToyConfig())))
    monkeypatch.setattr(searching, "Trainer", Untrained)

    class Toy:
        out, measured = tmp_path / "out", []

        @staticmethod
        def error(config, step):
            return abs(math.log10(config.adam.learning_rate) + 1.7) + 1 / (step + 1)

        def run(self, **changes):
            file = tmp_path / "study.yaml"
            file.write_text(yaml.safe_dump({**STUDY, "config": str(options), **changes}))
            return main(["toy", "--study", str(file), "--out", str(self.out)])

        def trials(self):
            return read_trials(self.out)

    found = Toy()

    def measure(trained, *, count=None, seed, cache, small=False, judges=None):
        found.measured.append((trained.path.name, trained.step, count, seed))
        value = found.error(trained.method.config, trained.step)
        return {"people": 4, "made": {"error": value, "psnr": 3.0}}

    monkeypatch.setattr(evaluation, "measure", measure)
    return found


def test_a_study_makes_runs_a_report_and_a_preset(toy, tmp_path, capsys):
    assert toy.run(trials=9) == 0
    trials = toy.trials()
    assert [trial.id for trial in trials] == [str(i) for i in range(9)]
    assert {trial.status for trial in trials} == {"completed"}
    assert trials[0].values == {"adam.learning_rate": 0.01}  # What the study starts from.
    assert len({trial.values["adam.learning_rate"] for trial in trials}) == 9
    assert all(0.001 <= trial.values["adam.learning_rate"] <= 0.1 for trial in trials)
    assert toy.measured[0][:3] == ("out", 0, None)
    assert toy.measured[1:] == [(trial.id, 4, 64, 3) for trial in trials]
    best = min(trials, key=lambda trial: trial.value)
    assert f"trial {best.id} completed: made/error {best.value:.4g} at step 4" in (
        capsys.readouterr().out
    )
    config = yaml.safe_load((toy.out / "trials" / best.id / "config.yaml").read_text())
    assert config["adam"]["learning_rate"] == best.values["adam.learning_rate"]
    assert config["train"]["steps"] == 4
    preset = str(toy.out / "best.yaml")
    _, config, _ = parse_training(["toy", "--config", preset], {"toy": toy_method.ToyConfig})
    rate = dataclasses.replace(
        toy_method.ToyConfig().adam, learning_rate=best.values["adam.learning_rate"]
    )
    assert config == toy_method.ToyConfig(adam=rate)  # With its own number of steps.
    page = (toy.out / "report.html").read_text()
    assert "9 of 9 trials (9 completed)" in page and "0 (where the study starts)" in page
    assert page.count("<circle") == 9 and page.count('class="best"') == 1 and "100%" in page
    results = json.loads((toy.out / "results.json").read_text())
    assert results["best"] == best.id and results["importance"] == {"adam.learning_rate": 1.0}
    assert results["trials"][0]["evaluations"][0]["figures"]["made/psnr"] == 3.0


def test_a_study_from_python_is_that_of_the_command(toy, tmp_path):
    assert toy.run() == 0
    file, found = tmp_path / "study.yaml", toy.trials()
    assert run_study("toy", file, toy.out) == found  # All is done.
    again = run_study("toy", file, tmp_path / "again")
    assert [(t.id, t.values, t.value) for t in again] == [(t.id, t.values, t.value) for t in found]
    file.write_text(file.read_text().replace("adam.learning_rate", "adam.rate"))
    with pytest.raises(UserError, match=r"study.yaml: .*adam.*rate"):
        run_study("toy", file, toy.out)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_studies_that_come_along_name_a_measure_of_their_method(method):
    plan = read_plan(ROOT / "tuning" / f"{method}.yaml", method, get_config(method))
    _, rows = evaluation.parts_of(method).TABLE
    assert set(plan.study.measures()) <= {row.names[0] for row in rows}


def test_tensorboard_shows_the_options_of_each_trial(toy):
    import tensorflow as tf
    from tensorboard.plugins.hparams import plugin_data_pb2

    assert toy.run(trials=1) == 0

    def summaries(folder):
        for file in sorted(map(str, (folder / "tensorboard").iterdir())):
            for event in tf.compat.v1.train.summary_iterator(file):
                yield from event.summary.value

    told = {value.tag: value for value in summaries(toy.out / "trials" / "0")}
    assert tf.make_ndarray(told["made/error"].tensor) == pytest.approx(toy.trials()[0].value)
    content = told["_hparams_/session_start_info"].metadata.plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["adam.learning_rate"].number_value == 0.01
    assert "_hparams_/experiment" in {value.tag for value in summaries(toy.out)}


def test_an_unknown_measure_is_told_before_training_and_can_be_mended(toy, capsys):
    assert toy.run(objective={"measure": "made/eror", "direction": "min"}) == 2
    told = capsys.readouterr().err
    assert "objective.measure is 'made/eror'; perhaps you mean 'made/error'?" in told
    assert "the measures of toy are made/error, made/psnr, people" in told
    assert not toy.trials()
    assert toy.run(also=["made/psnr", "made/ssim"]) == 2
    assert "also names 'made/ssim'; perhaps you mean 'made/psnr'?" in capsys.readouterr().err
    assert toy.run(trials=1) == 0 and len(toy.trials()) == 1


def test_other_measures_can_be_shown_beside_the_objective_at_any_time(toy):
    assert toy.run(trials=2) == 0
    page = (toy.out / "report.html").read_text()
    assert "made/psnr" not in page and page.count("<circle") == 2
    assert toy.run(trials=2, also=["made/psnr"]) == 0
    page = (toy.out / "report.html").read_text()
    assert "<th>made/error</th><th>made/psnr</th>" in page and page.count("<td>3</td>") == 2
    assert "made/error against other measures" in page and page.count("<circle") == 4


def test_a_failed_trial_is_told_and_the_study_goes_on(toy, capsys):
    error = toy.error
    toy.error = lambda config, step: math.nan if len(toy.measured) == 3 else error(config, step)
    assert toy.run(trials=4) == 0
    trials = toy.trials()
    assert [trial.status for trial in trials] == ["completed", "failed", "completed", "completed"]
    assert trials[1].reason == "made/error is nan at step 4"
    streams = capsys.readouterr()
    assert "trial 1 failed; made/error is nan at step 4" in streams.out
    assert "Traceback" not in streams.out + streams.err
    assert "Trial 1 failed: made/error is nan at step 4." in (toy.out / "report.html").read_text()


def test_three_failures_in_a_row_stop_a_study_with_a_reason(toy, capsys):
    def error(config, step):
        if len(toy.measured) > 2:
            raise MemoryError("no room")
        return 1.0

    toy.error = error
    assert toy.run(trials=9) == 2
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    reasons = "; ".join(f"trial {i}: MemoryError: no room" for i in (1, 2, 3))
    assert told.endswith(f"3 trials in a row failed, so the study stops: {reasons}")
    toy.error = lambda config, step: 1.0  # Whatever it was has been mended.
    assert toy.run(trials=9) == 0
    assert [trial.status for trial in toy.trials()] == ["completed", "failed", "failed"] + [
        "completed"
    ] * 6


def test_a_mistake_in_a_trial_stops_the_study(toy, capsys):
    def error(config, step):
        if step:
            raise UserError("the data are gone")
        return 1.0

    toy.error = error
    assert toy.run() == 2
    assert capsys.readouterr().err.endswith("error: trial 0: the data are gone\n")


def test_the_graphs_of_a_trial_are_let_go():
    """TensorFlow would keep them, networks and all, for the gradients that they define."""
    import tensorflow as tf

    def gradient():
        @tf.custom_gradient
        def twice(x):
            return 2.0 * x, lambda upstream: 2.0 * upstream

        @tf.function
        def found(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = twice(x)
            return tape.gradient(y, x)

        return found.get_concrete_function(tf.TensorSpec([], tf.float32))

    tf.config.run_functions_eagerly(False)
    try:
        kept = gradient()
        with searching.own_gradients():
            graph = weakref.ref(gradient().graph)
            gc.collect()
            assert graph() is not None  # Should this fail, TensorFlow has mended it.
        gc.collect()
        assert graph() is None
        assert kept(tf.constant(1.0)).numpy() == 2.0
    finally:
        tf.config.run_functions_eagerly(True)


def test_hopeless_trials_are_stopped_at_an_evaluation(toy):
    values = {"out": 0.0, "0": 1.0, "1": 2.0, "2": 1.7, "3": 1.2}
    toy.error = lambda config, step: values[toy.measured[-1][0]]
    assert toy.run(trials=4, steps=6, early_stop={"every": 2, "least": 2}) == 0
    trials = toy.trials()
    assert [trial.status for trial in trials] == ["completed", "completed", "stopped", "completed"]
    steps = [[evaluation["step"] for evaluation in trial.evaluations] for trial in trials]
    assert steps == [[2, 4, 6], [2, 4, 6], [2], [2, 4, 6]]
    assert trials[2].reason == "worse than 1.5, the median of 2 other trials at this step"
    assert 'class="part"' in (toy.out / "report.html").read_text()


def test_an_interrupted_study_goes_on_where_it_was(toy, monkeypatch, capfd):
    """Once by Ctrl-C while it trains, once killed while it measures."""
    from tfface.engine.trainer import Trainer

    monkeypatch.setattr(searching, "Trainer", Trainer)
    step, error, at = Trainer.step, toy.error, []

    def interrupted(self, number, batch):
        at.append(number)
        if len(at) == 5:  # The first one of the second trial.
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, number, batch)

    def killed(config, number):
        if len(toy.measured) == 3:
            raise KeyboardInterrupt
        return error(config, number)

    monkeypatch.setattr(Trainer, "step", interrupted)
    assert toy.run(trials=2) == 130
    assert [trial.status for trial in toy.trials()] == ["completed", "running"]
    assert "the same command goes on" in capfd.readouterr().err
    assert tfface.load(str(toy.out / "trials" / "1")).step == 1
    toy.error = killed
    assert toy.run(trials=2) == 130
    assert at == [0, 1, 2, 3, 0, 1, 2, 3]
    toy.error = error
    assert toy.run(trials=2) == 0
    assert len(at) == 8  # What was trained is only measured.
    first = toy.trials()
    assert toy.run(trials=2) == 0 and toy.trials() == first
    toy.out = toy.out.with_name("whole")
    assert toy.run(trials=2) == 0
    assert toy.trials() == first
    assert tfface.load(str(toy.out / "trials" / "1")).step == 4


def test_a_diverging_trial_fails(toy, monkeypatch):
    from tfface.engine.trainer import Trainer

    monkeypatch.setattr(searching, "Trainer", Trainer)
    assert toy.run(trials=2, parameters={"adam.learning_rate": {"values": [0.01, 1e30]}}) == 0
    fine, diverged = toy.trials()
    assert (fine.status, diverged.status) == ("completed", "failed")
    assert "training diverged" in diverged.reason and not diverged.evaluations


MIXED = {**STUDY["parameters"], "data.batch_size": {"low": 2, "high": 8}}


def test_bayesian_search_learns_from_its_trials(toy):
    assert toy.run(oracle="bayesian", trials=8, parameters=MIXED) == 0
    trials = toy.trials()
    assert all(isinstance(trial.values["data.batch_size"], int) for trial in trials)
    random, learned = trials[1:3], trials[3:]  # The first one is what the study starts from.
    assert sum(t.value for t in learned) / 5 < sum(t.value for t in random) / 2


def test_hyperband_continues_the_better_third(toy):
    assert toy.run(oracle="hyperband", trials=13, steps=9, parameters=MIXED) == 0
    trials = toy.trials()
    assert [trial.step for trial in trials] == [1] * 9 + [3] * 3 + [9]
    better = sorted(trials[:9], key=lambda trial: trial.value)[:3]
    assert [trial.values for trial in trials[9:12]] == [trial.values for trial in better]
    assert json.loads((toy.out / "results.json").read_text())["best"] == "12"


def test_hyperband_continues_the_run_of_the_better_trial(toy, monkeypatch):
    from tfface.engine.trainer import Trainer

    monkeypatch.setattr(searching, "Trainer", Trainer)
    monkeypatch.setattr(oracle, "EPOCHS", 3)
    assert toy.run(oracle="hyperband", trials=4, steps=6) == 0
    log = [(toy.out / "trials" / str(i) / "log.txt").read_text() for i in range(4)]
    assert "continued from step 2" in log[3] and "step 6/6" in log[3]
    assert all("continued" not in text for text in log[:3])
    assert tfface.load(str(toy.out / "trials" / "3")).step == 6


def test_a_folder_is_of_one_study_and_one_process(toy, capsys):
    assert toy.run(trials=1) == 0
    assert toy.run(trials=2) == 0 and len(toy.trials()) == 2  # More trials may be wanted.
    capsys.readouterr()
    assert toy.run(trials=2, seed=4) == 2
    assert "is of another study: seed was 3, is 4; another --out" in capsys.readouterr().err
    import fcntl

    with open(toy.out / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert toy.run(trials=3) == 2
    assert "is in use by another process" in capsys.readouterr().err


SMALL = {
    "preset": "tiny",
    "steps": 2,
    "trials": 2,
    "pictures": 16,
    "objective": {"measure": "painted/error", "direction": "min"},
    "trial_options": {
        "perceptual": "none", "lambda_contextual": 0, "lambda_perceptual": 0, "lambda_cycle": 0,
        "lambda_pair_features": 0, "encoder_blocks": 0, "disc_layers": 1, "train.jit": "off",
    },
    "parameters": {"top_k": {"values": [1, 2, 4]}, "lambda_warp": {"low": 0.1, "high": 0.7}},
}  # fmt: skip


@pytest.mark.slow
def test_two_workers_killed_and_continued(tmp_path):
    """A real method and measure, Keras Tuner's chief and two workers."""
    study, out = tmp_path / "study.yaml", tmp_path / "out"
    study.write_text(yaml.safe_dump(SMALL))
    words = ["domain_alignment", "--study", str(study), "--out", str(out), "--workers", "2"]
    command = [sys.executable, "-m", "tfface.tune", *words]

    def processes():
        """Those of this study."""
        mine = str(out).encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mine in (folder / "cmdline").read_bytes():
                    yield folder.name

    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: (out / "trials" / "0" / "trial.json").exists() or parent.poll(), 900)
        assert len(list(processes())) == 4
    finally:
        parent.kill()
        parent.communicate()
    wait_for(lambda: not list(processes()), 300)  # None goes on without its parent.
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    trials = read_trials(out)
    assert [trial.status for trial in trials] == ["completed"] * 2
    assert all(f"trial {trial.id} completed" in done.stdout for trial in trials)
    for trial in trials:
        trained = tfface.load(str(out / "trials" / trial.id))
        assert trained.step == 2 and trained.method.config.top_k == trial.values["top_k"]
    assert all("trial " in (out / f"worker{n}.log").read_text() for n in (1, 2))
    assert not (out / "trials" / "2").exists()
    page = (out / "report.html").read_text()
    assert page.count("<circle") == 4 and "2 of 2 trials" in page
