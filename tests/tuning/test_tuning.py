"""The search, mostly with trials of a toy method and a synthetic objective."""

import contextlib
import dataclasses
import gc
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import toy_method
import yaml
from eager_commands import ENVIRONMENT
from tiny_models import wait_for

import tfface
from tfface import evaluation
from tfface.config import parse_training, to_dict
from tfface.errors import UserError
from tfface.methods import METHODS, get_config, get_method
from tfface.tune import main, run_study
from tfface.tuning import oracle
from tfface.tuning import search as searching
from tfface.tuning.study import read_plan
from tfface.tuning.trials import read_trials

pytestmark = pytest.mark.usefixtures("eagerly")

ROOT = Path(__file__).parents[2]
STUDY = {
    "steps": 4,
    "trials": 3,
    "seed": 3,
    "objective": {"measure": "made/error", "direction": "min"},
    "parameters": {"adam.learning_rate": {"low": 0.001, "high": 0.1, "log": True}},
}


class Untrained:
    """Replaces the Trainer in tests of everything else."""

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
        second = {} if small else {"second": {"error": value}}
        return {"people": 4, "made": {"error": value, "psnr": 3.0, **second}}

    monkeypatch.setattr(evaluation, "measure", measure)
    return found


def test_a_study_writes_runs_a_report_and_the_best_config(toy, tmp_path, capsys):
    assert toy.run(trials=9) == 0
    trials = toy.trials()
    assert [trial.id for trial in trials] == [str(i) for i in range(9)]
    assert {trial.status for trial in trials} == {"completed"}
    assert trials[0].values == {"adam.learning_rate": 0.01}  # The base config.
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
    assert config == toy_method.ToyConfig(adam=rate)  # With the base number of steps.
    page = (toy.out / "report.html").read_text()
    assert "9 of 9 trials (9 completed)" in page and "0 (base configuration)" in page
    assert page.count("<circle") == 9 and page.count('class="best"') == 1 and "100%" in page
    results = json.loads((toy.out / "results.json").read_text())
    assert results["best"] == best.id and results["importance"] == {"adam.learning_rate": 1.0}
    assert results["trials"][0]["evaluations"][0]["figures"]["made/psnr"] == 3.0


def test_run_study_equals_the_command(toy, tmp_path):
    assert toy.run() == 0
    file, found = tmp_path / "study.yaml", toy.trials()
    assert run_study("toy", file, toy.out) == found  # Already complete.
    again = run_study("toy", file, tmp_path / "again")
    assert [(t.id, t.values, t.value) for t in again] == [(t.id, t.values, t.value) for t in found]
    file.write_text(file.read_text().replace("adam.learning_rate", "adam.rate"))
    with pytest.raises(UserError, match=r"study.yaml: .*adam.*rate"):
        run_study("toy", file, toy.out)


def test_the_second_classifier_is_used_if_the_study_names_its_metrics(toy, capsys):
    objective = {"measure": "made/second/error", "direction": "min"}
    assert toy.run(trials=1, objective=objective) == 0
    assert json.loads((toy.out / "measures.json").read_text()) == [
        "made/error", "made/psnr", "made/second/error", "people"
    ]  # fmt: skip
    assert toy.measured[0][2] == toy.measured[1][2] == 64
    (trial,) = toy.trials()
    assert trial.figure("made/second/error") == trial.value


@pytest.mark.parametrize("method", sorted(METHODS))
def test_bundled_studies_name_existing_metrics(method):
    plan = read_plan(ROOT / "tuning" / f"{method}.yaml", method, get_config(method))
    _, rows = evaluation.EVALUATIONS[get_method(method).task].table
    assert set(plan.study.measures()) <= {row.names[0] for row in rows}


def test_tensorboard_gets_the_hyperparameters_of_each_trial(toy):
    import tensorflow as tf
    from tensorboard.plugins.hparams import plugin_data_pb2

    assert toy.run(trials=1) == 0

    def summaries(folder):
        for file in sorted(map(str, (folder / "tensorboard").iterdir())):
            for event in tf.compat.v1.train.summary_iterator(file):
                yield from event.summary.value

    written = {value.tag: value for value in summaries(toy.out / "trials" / "0")}
    assert tf.make_ndarray(written["made/error"].tensor) == pytest.approx(toy.trials()[0].value)
    content = written["_hparams_/session_start_info"].metadata.plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["adam.learning_rate"].number_value == 0.01
    assert "_hparams_/experiment" in {value.tag for value in summaries(toy.out)}


def test_an_unknown_metric_is_an_error_before_training_and_can_be_corrected(toy, capsys):
    assert toy.run(objective={"measure": "made/eror", "direction": "min"}) == 2
    error = capsys.readouterr().err
    assert "objective.measure is 'made/eror'; perhaps you mean 'made/error'?" in error
    assert "the metrics of toy are made/error, made/psnr, people" in error
    assert not toy.trials()
    assert toy.run(also=["made/psnr", "made/ssim"]) == 2
    assert "also has 'made/ssim'; perhaps you mean 'made/psnr'?" in capsys.readouterr().err
    assert toy.run(trials=1) == 0 and len(toy.trials()) == 1


def test_other_metrics_can_be_added_to_the_report_later(toy):
    assert toy.run(trials=2) == 0
    page = (toy.out / "report.html").read_text()
    assert "made/psnr" not in page and page.count("<circle") == 2
    assert toy.run(trials=2, also=["made/psnr"]) == 0
    page = (toy.out / "report.html").read_text()
    assert "<th>made/error</th><th>made/psnr</th>" in page and page.count("<td>3</td>") == 2
    assert "made/error against other metrics" in page and page.count("<circle") == 4


def test_a_failed_trial_is_reported_and_the_study_continues(toy, capsys):
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


def test_three_failures_in_a_row_stop_a_study_and_list_the_reasons(toy, capsys):
    def error(config, step):
        if len(toy.measured) > 2:
            raise MemoryError("no room")
        return 1.0

    toy.error = error
    assert toy.run(trials=9) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    reasons = "; ".join(f"trial {i}: MemoryError: no room" for i in (1, 2, 3))
    assert line.endswith(f"3 trials in a row failed: {reasons}")
    toy.error = lambda config, step: 1.0  # The problem is fixed.
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


def test_graphs_of_a_trial_are_garbage_collected():
    """TensorFlow would keep them, with their networks, because they define gradients."""
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
            assert graph() is not None  # If this fails, TensorFlow has fixed the leak.
        gc.collect()
        assert graph() is None
        assert kept(tf.constant(1.0)).numpy() == 2.0
    finally:
        tf.config.run_functions_eagerly(True)


def test_the_median_rule_stops_trials_at_an_evaluation(toy):
    values = {"out": 0.0, "0": 1.0, "1": 2.0, "2": 1.7, "3": 1.2}
    toy.error = lambda config, step: values[toy.measured[-1][0]]
    assert toy.run(trials=4, steps=6, early_stop={"every": 2, "least": 2}) == 0
    trials = toy.trials()
    assert [trial.status for trial in trials] == ["completed", "completed", "stopped", "completed"]
    steps = [[evaluation["step"] for evaluation in trial.evaluations] for trial in trials]
    assert steps == [[2, 4, 6], [2, 4, 6], [2], [2, 4, 6]]
    assert trials[2].reason == "worse than 1.5, the median of 2 other trials at this step"
    assert 'class="part"' in (toy.out / "report.html").read_text()


def test_an_interrupted_study_continues_without_repeating_steps(toy, monkeypatch, capfd):
    """Interrupted once by Ctrl-C in training, and once during an evaluation."""
    from tfface.engine.trainer import Trainer

    monkeypatch.setattr(searching, "Trainer", Trainer)
    steps, error, at = Trainer.steps, toy.error, []

    def interrupted(self, number, batches):
        at.append(number)
        if len(at) == 5:  # First step of the second trial.
            os.kill(os.getpid(), signal.SIGINT)
        return steps(self, number, batches)

    def killed(config, number):
        if len(toy.measured) == 3:
            raise KeyboardInterrupt
        return error(config, number)

    monkeypatch.setattr(Trainer, "steps", interrupted)
    assert toy.run(trials=2) == 130
    assert [trial.status for trial in toy.trials()] == ["completed", "running"]
    assert "the same command continues" in capfd.readouterr().err
    assert tfface.load(str(toy.out / "trials" / "1")).step == 1
    toy.error = killed
    assert toy.run(trials=2) == 130
    assert at == [0, 1, 2, 3, 0, 1, 2, 3]
    toy.error = error
    assert toy.run(trials=2) == 0
    assert len(at) == 8  # Trained already: only evaluated.
    first = toy.trials()
    assert toy.run(trials=2) == 0 and toy.trials() == first
    toy.out = toy.out.with_name("whole")
    assert toy.run(trials=2) == 0
    assert toy.trials() == first
    assert tfface.load(str(toy.out / "trials" / "1")).step == 4


def test_a_diverging_trial_is_recorded_as_failed(toy, monkeypatch):
    from tfface.engine.trainer import Trainer

    monkeypatch.setattr(searching, "Trainer", Trainer)
    assert toy.run(trials=2, parameters={"adam.learning_rate": {"values": [0.01, 1e30]}}) == 0
    fine, diverged = toy.trials()
    assert (fine.status, diverged.status) == ("completed", "failed")
    assert "training diverged" in diverged.reason and not diverged.evaluations


MIXED = {**STUDY["parameters"], "data.batch_size": {"low": 2, "high": 8}}


def test_bayesian_search_improves_on_its_random_trials(toy):
    assert toy.run(oracle="bayesian", trials=8, parameters=MIXED) == 0
    trials = toy.trials()
    assert all(isinstance(trial.values["data.batch_size"], int) for trial in trials)
    random, learned = trials[1:3], trials[3:]  # The first trial is the base config.
    assert sum(t.value for t in learned) / 5 < sum(t.value for t in random) / 2


def test_hyperband_continues_the_best_third(toy):
    assert toy.run(oracle="hyperband", trials=13, steps=9, parameters=MIXED) == 0
    trials = toy.trials()
    assert [trial.step for trial in trials] == [1] * 9 + [3] * 3 + [9]
    better = sorted(trials[:9], key=lambda trial: trial.value)[:3]
    assert [trial.values for trial in trials[9:12]] == [trial.values for trial in better]
    assert json.loads((toy.out / "results.json").read_text())["best"] == "12"


def test_hyperband_continues_the_run_folder_of_the_best_trial(toy, monkeypatch):
    from tfface.engine.trainer import Trainer

    monkeypatch.setattr(searching, "Trainer", Trainer)
    monkeypatch.setattr(oracle, "EPOCHS", 3)
    assert toy.run(oracle="hyperband", trials=4, steps=6) == 0
    log = [(toy.out / "trials" / str(i) / "log.txt").read_text() for i in range(4)]
    assert "continued from step 2" in log[3] and "step 6/6" in log[3]
    assert all("continued" not in text for text in log[:3])
    assert tfface.load(str(toy.out / "trials" / "3")).step == 6


def test_a_folder_is_locked_and_rejects_another_study(toy, capsys):
    assert toy.run(trials=1) == 0
    assert toy.run(trials=2) == 0 and len(toy.trials()) == 2  # The number of trials may change.
    capsys.readouterr()
    assert toy.run(trials=2, seed=4) == 2
    assert "contains another study: seed was 3, is 4; " in capsys.readouterr().err
    import fcntl

    with open(toy.out / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert toy.run(trials=3) == 2
    assert "is in use by another process" in capsys.readouterr().err


def change_options(toy, tmp_path, **changes):
    """Changes the option file with the base config of the study of `toy`."""
    file = tmp_path / "options.yaml"
    values = yaml.safe_load(file.read_text())
    for name, value in changes.items():
        group, _, option = name.partition("__")
        values[group][option] = value
    file.write_text(yaml.safe_dump(values))


def test_a_changed_base_config_is_an_error_that_lists_the_options(toy, tmp_path, capsys):
    assert toy.run(trials=1) == 0
    before, best = (toy.out / "tune.yaml").read_text(), (toy.out / "best.yaml").read_text()
    change_options(toy, tmp_path, data__size=64, adam__beta_1=0.9)
    assert toy.run(trials=2) == 2
    error = capsys.readouterr().err
    assert f"{toy.out} contains another study: " in error and error.count("\n") == 1
    assert "adam.beta_1 was 0.5, is 0.9; data.size was 32, is 64; " in error
    assert (toy.out / "tune.yaml").read_text() == before and len(toy.trials()) == 1
    change_options(toy, tmp_path, data__size=32, adam__beta_1=0.5)
    assert toy.run(trials=1) == 0 and (toy.out / "best.yaml").read_text() == best


def test_a_changed_study_is_an_error_that_lists_its_keys(toy, capsys):
    assert toy.run(trials=1) == 0
    assert toy.run(trials=1, steps=5, parameters={"adam.beta_1": {"values": [0.1, 0.5]}}) == 2
    error = capsys.readouterr().err
    assert "parameters.adam.learning_rate.low was 0.001, is not given" in error
    assert "parameters.adam.beta_1.values was not given, is [0.1, 0.5]" in error
    assert "steps was 4, is 5" in error and "seed" not in error


def test_data_may_move_during_a_study(toy, tmp_path):
    folders = [tmp_path / "faces", tmp_path / "moved"]
    for folder in folders:
        folder.mkdir()
    change_options(toy, tmp_path, data__name="folder", data__path=str(folders[0]))
    assert toy.run(trials=1) == 0
    for path in (f"{folders[0]}/", f"{tmp_path}/./faces", str(folders[1])):
        change_options(toy, tmp_path, data__path=path)
        assert toy.run(trials=len(toy.trials()) + 1) == 0
    preset = yaml.safe_load((toy.out / "best.yaml").read_text())
    assert preset["data"]["path"] == str(folders[1])


def test_the_option_file_of_a_study_may_be_renamed(toy, tmp_path):
    assert toy.run(trials=1) == 0
    copy = (tmp_path / "options.yaml").rename(tmp_path / "renamed.yaml")
    assert toy.run(trials=2, config=str(copy)) == 0 and len(toy.trials()) == 2


def test_a_study_may_change_before_its_first_trial(toy, tmp_path):
    assert toy.run(objective={"measure": "made/eror", "direction": "min"}) == 2
    change_options(toy, tmp_path, adam__beta_1=0.9)
    assert toy.run(trials=1) == 0
    assert [name for name, *_ in toy.measured] == [
        "out",
        "out",
        "0",
    ]  # The new networks are evaluated.


def test_best_yaml_contains_the_trained_options_and_a_working_command(toy, tmp_path):
    """In a folder whose name needs quoting."""
    toy.out = tmp_path / "a study's [best]"
    options = {"adam.beta_2": 0.9, "train.seed": 5}
    assert toy.run(trials=2, trial_options=options) == 0
    best = json.loads((toy.out / "results.json").read_text())["best"]
    own = toy.out / "trials" / best / "config.yaml"
    values = yaml.safe_load(own.read_text())
    values["adam"]["epsilon"] = 0.125  # As if a name had been resolved.
    own.write_text(yaml.safe_dump(values))
    assert toy.run(trials=2, trial_options=options) == 0
    text = (toy.out / "best.yaml").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("# Command:")]
    words = shlex.split(line.removeprefix("# Command:"))
    assert words[:3] == ["python", "-m", "tfface.train"] and Path(words[-1]).is_absolute()
    _, config, _ = parse_training(words[3:], {"toy": toy_method.ToyConfig})
    assert config.adam.epsilon == 0.125 and config.adam.beta_2 == 0.999
    assert (config.train.steps, config.train.seed) == (6, 0)


FEW = {"adam.beta_1": {"values": [0.1, 0.3, 0.5]}, "data.batch_size": {"low": 2, "high": 5}}


@pytest.mark.parametrize("kind", ["random", "bayesian"])
def test_a_search_ends_when_all_combinations_were_tried(toy, kind, capsys):
    toy.error = lambda config, step: config.adam.beta_1 + config.data.batch_size / 10
    assert toy.run(oracle=kind, trials=20, parameters=FEW) == 0
    trials = toy.trials()
    assert len({tuple(trial.values.items()) for trial in trials}) == len(trials) == 12
    reason = "ended after 12 of 20 trials: all 12 combinations of the options were tried"
    assert reason in capsys.readouterr().out.splitlines()
    assert f"The search {reason}." in (toy.out / "report.html").read_text()
    assert toy.run(oracle=kind, trials=20, parameters=FEW) == 0 and toy.trials() == trials
    assert reason in capsys.readouterr().out.splitlines()


def test_bayesian_search_never_proposes_the_same_corner_twice(toy):
    """Also with ranges of real numbers, where it would propose the end of the range repeatedly."""
    toy.error = lambda config, step: config.adam.learning_rate
    assert toy.run(oracle="bayesian", trials=12) == 0
    assert len({trial.values["adam.learning_rate"] for trial in toy.trials()}) == 12


def test_a_search_ends_when_a_narrow_range_has_no_new_values(toy, capsys):
    narrow = {"adam.learning_rate": {"low": 0.010001, "high": 0.010003}}
    assert toy.run(trials=9, parameters=narrow) == 0
    values = [trial.values["adam.learning_rate"] for trial in toy.trials()]
    assert sorted(values) == [0.010001, 0.010002, 0.010003]
    assert "of 9 trials: no new values were found" in capsys.readouterr().out


def test_hyperband_continues_trials_when_values_run_out(toy, capsys):
    toy.error = lambda config, step: config.adam.beta_1 + 1 / step if step else 1.0
    few = {"adam.beta_1": {"values": [0.1, 0.2, 0.3, 0.4, 0.5]}}
    assert toy.run(oracle="hyperband", trials=23, steps=9, parameters=few) == 0
    trials = toy.trials()
    assert [trial.step for trial in trials] == [1] * 5 + [3] * 2 + [9]
    assert len({(trial.values["adam.beta_1"], trial.step) for trial in trials}) == 8
    assert trials[-1].values == {"adam.beta_1": 0.1}
    out = capsys.readouterr().out
    assert "ended after 8 of 23 trials: all 5 combinations of the options were tried" in out
    assert "best: trial 07, made/error 0.2111 after 9 steps; " in out
    assert toy.run(oracle="hyperband", trials=23, steps=9, parameters=few) == 0
    assert toy.trials() == trials


def test_hyperband_continues_after_failed_trials(toy):
    """Keras Tuner's own oracle would wait for the failed trials."""
    error = toy.error
    toy.error = lambda *now: math.nan if len(toy.measured) in (3, 5, 7, 9) else error(*now)
    assert toy.run(oracle="hyperband", trials=12, steps=9) == 0
    assert [trial.status for trial in toy.trials()].count("failed") == 4
    assert [trial.step for trial in toy.trials()][9:] == [3, 3, 9]


def test_a_full_round_of_hyperband_has_23_trials(toy, capsys):
    assert toy.run(oracle="hyperband", trials=40, steps=9, parameters=MIXED) == 0
    trials = toy.trials()
    steps = [trial.step for trial in trials]
    assert steps == [1] * 9 + [3] * 3 + [9] + [3] * 5 + [9] * 2 + [9] * 3
    tried = {(tuple(trial.values.items()), trial.step) for trial in trials}
    assert len(tried) == 23 and len({values for values, _ in tried}) == 17
    out = capsys.readouterr().out
    assert "ended after 23 of 40 trials: a round of Hyperband is complete" in out


def test_the_result_is_called_preliminary_without_a_fully_trained_trial(toy, capsys):
    assert toy.run(oracle="hyperband", trials=3, steps=9) == 0
    note = "no trial was trained for all 9 steps"
    assert note in capsys.readouterr().out
    assert note in (toy.out / "report.html").read_text()
    assert "after 1 of 9 steps" in (toy.out / "best.yaml").read_text()


def test_values_rounded_by_workers_are_recognised(toy, tmp_path):
    """Workers return single-precision values, which must not count as new or invalid ones."""
    from keras_tuner.engine.trial import Trial

    values = {"adam.beta_1": {"values": [0.1, 0.2, 0.3]}, "data.flip": {"values": [True, False]}}
    assert toy.run(trials=1, oracle="bayesian", parameters=values) == 0
    plan = read_plan(tmp_path / "study.yaml", "toy", toy_method.ToyConfig, trials=9)
    proposing = oracle.make_oracle(plan)
    proposing._set_project_dir(str(tmp_path), "another")
    tried = []
    for number in range(6):
        trial = Trial.from_proto(proposing.create_trial("worker1").to_proto())
        assert trial.status == "RUNNING"
        values = trial.hyperparameters.values
        tried.append(tuple(p.exact(values[p.name]) for p in plan.parameters))
        proposing.update_trial(trial.trial_id, {"made/error": float(number)})
        trial.status = "COMPLETED"
        proposing.end_trial(trial)
    assert sorted(tried) == [(b, f) for b in (0.1, 0.2, 0.3) for f in (False, True)]
    assert proposing.create_trial("worker1").status == "STOPPED"


@pytest.mark.parametrize("name", ["tune[1]", "t*ne?", "tu\\ne", "[a]/t{u}ne"])
def test_a_folder_whose_name_is_a_pattern_leaves_matching_folders_alone(toy, tmp_path, name):
    root = tmp_path / "studies"
    toy.out = root / {"tune[1]": "tune1", "[a]/t{u}ne": "a/t{u}ne"}.get(name, "tune")
    assert toy.run(trials=2, seed=4) == 0
    other = toy.out
    files = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    toy.out = root / name
    assert toy.run(trials=1) == 0
    first = toy.trials()
    assert toy.run(trials=3) == 0
    assert len(toy.trials()) == 3 and toy.trials()[:1] == first
    trained = [name for name, step, *_ in toy.measured if step]
    assert trained == ["0", "1", "0", "1", "2"]  # None is repeated.
    assert files == {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}


def test_a_folder_name_with_a_line_break_is_an_error(toy, tmp_path, capsys):
    toy.out = tmp_path / "two\nlines"
    assert toy.run(trials=1) == 2
    assert "without line breaks" in capsys.readouterr().err and not toy.out.exists()


STOPS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("place", ["measuring", "proposing"])
def test_a_signal_stops_a_study_outside_of_training(toy, monkeypatch, place, number, capsys):
    error, create = toy.error, oracle._Random.create_trial

    def stop():
        if len(toy.measured) == 2:
            os.kill(os.getpid(), number)

    def measured(config, step):
        stop()
        return error(config, step)

    def proposed(self, tuner):
        stop()
        return create(self, tuner)

    with monkeypatch.context() as patched:
        if place == "measuring":
            toy.error = measured
        else:
            patched.setattr(oracle._Random, "create_trial", proposed)
        assert toy.run(trials=2) == 128 + number
    assert f"the same command continues {toy.out}" in capsys.readouterr().err
    assert signal.getsignal(number) == (
        signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    )
    toy.error = error
    assert toy.run(trials=2) == 0 and len(toy.trials()) == 2


def test_ignored_signals_stay_ignored(toy):
    """SIGHUP under nohup."""
    before, error = signal.signal(signal.SIGHUP, signal.SIG_IGN), toy.error

    def hung_up(config, step):
        os.kill(os.getpid(), signal.SIGHUP)
        return error(config, step)

    toy.error = hung_up
    try:
        assert toy.run(trials=1) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_finished_trial_is_not_repeated_after_a_kill(toy, monkeypatch):
    """Keras Tuner stores the trial that ended last as ongoing."""
    assert toy.run(trials=2) == 0
    state = json.loads((toy.out / "oracle" / "oracle.json").read_text())
    assert "1" in state["ongoing_trials"].values()
    begun = []
    run_trial = searching.StudyTuner.run_trial
    monkeypatch.setattr(
        searching.StudyTuner,
        "run_trial",
        lambda self, trial: begun.append(trial.trial_id) or run_trial(self, trial),
    )
    assert toy.run(trials=3) == 0 and begun == ["2"]


WIDTH = "segmenter.width"
SMALL = {
    "preset": "tiny",
    "steps": 2,
    "trials": 2,
    "images": 16,
    "objective": {"measure": "segmentation/miou", "direction": "max"},
    "trial_options": {"only_segmenter": True, "train.jit": "off"},
    "parameters": {WIDTH: {"values": [1, 2, 3]}, "adam.learning_rate": {"low": 1e-4, "high": 1e-3}},
}  # fmt: skip

TWO = {"values": [1e-4, 1e-3]}


@pytest.fixture
def study(tmp_path):
    """A study of a real method with two workers."""

    class Study:
        out, file = tmp_path / "out[1]", tmp_path / "study.yaml"

        def start(self, **changes):
            self.file.write_text(yaml.safe_dump({**SMALL, **changes}))
            words = ["seg_hierarchical", "--study", str(self.file), "--out", str(self.out)]
            self.command = [sys.executable, "-m", "tfface.tune", *words, "--workers", "2"]
            pipe = subprocess.PIPE
            self.parent = subprocess.Popen(
                self.command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True,
                env=ENVIRONMENT,
            )  # fmt: skip

        def end(self):
            """The status and output of the parent, after all its processes have ended."""
            out, _ = self.parent.communicate(timeout=600)
            wait_for(lambda: not self.processes(), 300)  # None continues without its parent.
            return self.parent.returncode, out

        def processes(self):
            """Process ids by name, such as "chief"; "" is the parent."""
            found = {}
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if str(self.out).encode() in (folder / "cmdline").read_bytes():
                        environment = (folder / "environ").read_bytes().split(b"\0")
                        values = dict(v.split(b"=", 1) for v in environment if b"=" in v)
                        name = values.get(b"KERASTUNER_TUNER_ID", b"").decode()
                        found[name] = int(folder.name)
            return found

        def wait_for_trials(self, count, status="running"):
            def reached():
                if self.parent.poll() is not None:
                    return True
                return sum(trial.status == status for trial in read_trials(self.out)) >= count

            wait_for(reached, 900)

    made = Study()
    yield made
    made.parent.kill()
    made.end()


@pytest.mark.slow
def test_two_workers_continue_after_their_parent_was_killed(study):
    study.start()
    study.wait_for_trials(1)
    assert set(study.processes()) == {"", "chief", "worker1", "worker2"}
    study.parent.kill()
    study.end()
    study.start()
    status, out = study.end()
    assert status == 0, out
    trials = read_trials(study.out)
    assert [trial.status for trial in trials] == ["completed"] * 2
    assert all(f"trial {trial.id} completed" in out for trial in trials)
    for trial in trials:
        trained = tfface.load(str(study.out / "trials" / trial.id))
        assert trained.step == 2
        assert trained.method.config.segmenter.width == trial.values[WIDTH]
    assert all("trial " in (study.out / f"worker{n}.log").read_text() for n in (1, 2))
    assert not (study.out / "trials" / "2").exists()
    page = (study.out / "report.html").read_text()
    assert page.count("<circle") == 4 and "2 of 2 trials" in page


@pytest.mark.slow
def test_no_trial_is_lost_if_a_worker_or_the_chief_is_killed(study):
    """In a study with fewer combinations than trials."""
    few = {"trials": 8, "parameters": {**SMALL["parameters"], "adam.learning_rate": TWO}}
    kept = []
    for victim in ("worker1", "chief"):
        study.start(**few)
        study.wait_for_trials(len(kept) + 1, "completed")
        os.kill(study.processes()[victim], signal.SIGKILL)
        status, out = study.end()
        assert status == 2 and f"{victim} ended with signal 9" in out
        assert "The same command continues" in out and "Traceback" not in out
        now = [trial for trial in read_trials(study.out) if trial.status == "completed"]
        assert len(now) > len(kept) and all(trial in now for trial in kept)
        kept = now
    study.start(**few)
    status, out = study.end()
    assert status == 0, out
    trials = read_trials(study.out)
    assert all(trial in trials for trial in kept)
    assert [trial.status for trial in trials] == ["completed"] * 6
    assert len({tuple(trial.values.items()) for trial in trials}) == 6
    assert "ended after 6 of 8 trials: all 6 combinations of the options were tried" in out
    for trial in trials:
        lines = (study.out / "trials" / trial.id / "metrics.jsonl").read_text().splitlines()
        assert len(lines) <= 2  # No saved step was repeated.


@pytest.mark.slow
@pytest.mark.parametrize("place", ["", "worker2"])
def test_a_signal_to_any_process_stops_all_workers(study, place):
    """A signal to the parent, or to any process, as sent by batch systems."""
    study.start()
    study.wait_for_trials(1)
    os.kill(study.processes()[place], signal.SIGUSR1)
    status, out = study.end()
    assert status == 128 + signal.SIGUSR1, out
    assert "the same command continues" in out and "Traceback" not in out
