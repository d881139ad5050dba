"""Study files, mistakes in them, and the selection of trials."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tfface.config import to_dict
from tfface.errors import UserError
from tfface.methods import METHODS, get_config
from tfface.tune import main
from tfface.tuning.report import importance
from tfface.tuning.study import EarlyStop, Objective, Parameter, read_plan
from tfface.tuning.trials import Trial, best_trial, hopeless

ROOT = Path(__file__).parents[2]
TOP_K, EPSILON, SOLVER = (f"alignment.{name}" for name in ("top_k", "epsilon", "solver"))
GOOD = {
    "preset": "tiny",
    "steps": 4,
    "objective": {"measure": "generated/error", "direction": "min"},
    "parameters": {
        TOP_K: {"values": [1, 2]},
        "weights.warp": {"low": 1, "high": 10, "log": True},
    },
}


def plan(tmp_path, method="domain_alignment", **changes):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return read_plan(path, method, get_config(method))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stepz": 3}, "unknown key 'stepz'; perhaps you mean 'steps'"),
        ({"steps": "many"}, "steps is 'many': expected a whole number"),
        ({"steps": 0}, "steps is 0: expected at least 1"),
        ({"trials": 0}, "trials is 0: expected at least 1"),
        ({"oracle": "bayes"}, "oracle is 'bayes'; perhaps .* expected one of random, baye"),
        ({"objective": "generated/error"}, "objective is .*: expected measure, direction"),
        ({"objective": {"measure": "a"}}, "the key 'objective.direction' is missing"),
        ({"objective": {"measure": "a", "directoin": "min"}}, "perhaps you mean 'direction'"),
        ({"objective": {"measure": "a", "direction": "down"}}, "objective.direction.*min.*max"),
        ({"preset": "tny"}, "preset is 'tny'; perhaps you mean 'tiny'"),
        ({"config": "x.yaml"}, "preset and config are both given"),
        ({"preset": "", "config": "/x.yaml"}, "config /x.yaml: cannot be read"),
        ({"early_stop": {"evry": 2}}, "unknown key 'early_stop.evry'; perhaps .*'every'"),
        ({"early_stop": {"every": 4}}, "early_stop.every is 4: .*less than steps, 4"),
        ({"early_stop": {"every": 2}, "oracle": "hyperband"}, "expected 0 with .*hyperband"),
        ({"steps": 3, "oracle": "hyperband"}, "steps is 3: expected at least 4 with .*hyperband"),
        ({"parameters": {}}, "parameters is empty"),
        ({"parameters": {"weights.wrap": {"low": 1, "high": 2}}},
         "parameters has .* 'weights.wrap'; perhaps you mean 'weights.warp'"),
        ({"parameters": {"adam.rate": {"low": 1, "high": 2}}}, "unknown option 'adam.rate'"),
        ({"parameters": {"adam": {"low": 1, "high": 2}}}, "option group 'adam'"),
        ({"parameters": {TOP_K: 3}}, "alignment.top_k is 3: expected {low"),
        ({"parameters": {TOP_K: {"lo": 1, "high": 2}}}, "has 'lo'; perhaps you mean 'low'"),
        ({"parameters": {TOP_K: {"low": 1}}}, "top_k has only low: expected"),
        ({"parameters": {TOP_K: {"low": 0.5, "high": 2}}}, "top_k.low is 0.5: .*whole number"),
        ({"parameters": {TOP_K: {"low": 3, "high": 2}}}, "from 3 to 2: expected low below"),
        ({"parameters": {EPSILON: {"low": "1e-3", "high": 1}}}, "number, in YAML such as 0.5"),
        ({"parameters": {EPSILON: {"low": 0, "high": 1, "log": True}}}, "above 0 with log"),
        ({"parameters": {EPSILON: {"low": -1, "high": 1}}}, "epsilon is -1: expected above 0"),
        ({"parameters": {SOLVER: {"low": 0, "high": 1}}}, "solver has low and high, but is 'clo"),
        ({"parameters": {SOLVER: {"values": ["sinkhorn", "closd_form"]}}}, "solver.*closd_form"),
        ({"parameters": {TOP_K: {"values": [1]}}}, r"top_k.values is \[1\]: .*two or more"),
        ({"parameters": {TOP_K: {"values": [1, "x"]}}}, "has 'x': expected numbers"),
        ({"parameters": {TOP_K: {"values": [1, 1]}}}, "has duplicates"),
        ({"parameters": {TOP_K: {"values": [1, 99]}}}, "top_k is 99: expected 1 to 16"),
        ({"parameters": {TOP_K: {"values": [1, 2]},
                         "alignment.block_side": {"values": [4, 16]}}},
         "top_k is 2: expected 1 to 1"),
        ({"parameters": {"train.steps": {"values": [1, 2]}}}, "the key steps sets it"),
        ({"trial_options": {"train.sed": 1}}, "trial_options has .*'train.sed'.*'train.seed'"),
        ({"trial_options": {TOP_K: 1}}, "alignment.top_k is already set by another key"),
        ({"trial_options": {"train.seed": "x"}}, "train.seed is 'x': expected a whole number"),
    ],
)  # fmt: skip
def test_mistakes_in_a_study_name_file_key_and_what_was_expected(changes, expected, tmp_path):
    with pytest.raises(UserError, match=expected) as error:
        plan(tmp_path, **changes)
    assert str(error.value).startswith(f"{tmp_path}/study.yaml: ")


def test_trial_options_and_steps_apply_to_trials_but_not_to_the_best_config(tmp_path):
    options = {"train.ema_half_life": 1, "adam.schedule": "constant"}
    study = plan(tmp_path, trial_options=options)
    values = {TOP_K: 2, "weights.warp": 5.0}
    trial = study.config(values)
    best = study.whole(to_dict(trial))
    assert (trial.alignment.top_k, trial.weights.warp, trial.train.steps) == (2, 5.0, 4)
    assert trial.train.ema_half_life == 1.0 and type(trial.train.ema_half_life) is float
    assert (best.alignment.top_k, best.weights.warp, best.train.steps) == (2, 5.0, 6)
    assert best.train.ema_half_life == 0.01
    assert study.start() is None  # top_k is 3 in the preset.
    study = plan(tmp_path, parameters={TOP_K: {"values": [1, 3]}})
    assert study.start() == {TOP_K: 3}


def test_a_study_can_use_an_option_file_as_base(tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text(yaml.safe_dump(to_dict(plan(tmp_path).config({TOP_K: 1}))))
    assert plan(tmp_path, preset="", config=str(preset)).base.alignment.top_k == 1


def test_exact_values_are_restored_from_single_precision():
    assert Parameter("a", (0.1, 0.3)).exact(0.30000001192) == 0.3
    assert Parameter("a", (), 0.1, 0.7).exact(0.70000004) == 0.7
    assert Parameter("a", (), 1, 5).exact(3) == 3
    assert Parameter("a", ("x", "y")).exact("y") == "y"
    assert Parameter("a", (False, True)).exact(1) is True
    assert Parameter("a", (), 1, 5, log=True).exact(6) == 5


def test_combinations_are_counted_and_enumerated(tmp_path):
    assert plan(tmp_path).combinations() == math.inf
    few = {TOP_K: {"values": [1, 4]}, "encoder_blocks": {"low": 0, "high": 2}}
    study = plan(tmp_path, parameters=few)
    combinations = [study.combination(number) for number in range(study.combinations())]
    assert len(combinations) == 6 and combinations[0] == {TOP_K: 1, "encoder_blocks": 0}
    assert len({tuple(values.items()) for values in combinations}) == 6


def test_help_shows_defaults_as_values(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"--trials N number of trials \(default: [^)]*\b16\)", shown)
    assert re.search(r"--workers N .*\(default: 1\)", shown)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_bundled_study_of_its_loss_weights(method):
    found = read_plan(ROOT / "tuning" / f"{method}.yaml", method, get_config(method))
    names = {p.name for p in found.parameters}
    assert found.study.oracle in ("random", "bayesian") and found.study.trials >= 8
    assert any(name.startswith("weights.") for name in names)
    if method == "domain_alignment":
        assert {TOP_K, EPSILON, "alignment.block_side", "alignment.temperature"} <= names
        assert found.study.trials >= 16


def trial(number, value, step=10, status="completed", **values):
    evaluations = [{"step": step, "objective": value, "figures": {}}]
    return Trial(str(number), values, status, evaluations=evaluations)


LEAST, GREATEST = Objective("a", "min"), Objective("a", "max")


def test_the_median_rule_compares_with_enough_other_trials_at_the_same_step():
    others = [trial(i, value) for i, value in enumerate((1.0, 2.0, 3.0, 9.0))]
    rule = EarlyStop(10, least=4)
    assert hopeless(trial(9, 2.5), others, LEAST, rule) is None
    assert "worse than 2.5, the median of 4" in hopeless(trial(9, 2.6), others, LEAST, rule)
    assert hopeless(trial(9, 2.6), others, GREATEST, rule) is None
    assert hopeless(trial(9, 2.4), others, GREATEST, rule)
    assert hopeless(trial(9, 99.0), others[:3], LEAST, rule) is None  # Too few.
    assert hopeless(trial(9, 99.0, step=20), others, LEAST, rule) is None  # Another step.
    failed = Trial("7", {}, "failed")
    assert hopeless(trial(9, 99.0), [*others[:3], failed], LEAST, rule) is None


def test_the_best_trial_is_one_of_those_completed_and_trained_longest():
    found = [trial(0, 0.1, step=5), trial(1, 0.3), trial(2, 0.2), trial(3, 0.0, status="stopped")]
    assert best_trial(found, LEAST).id == "2"
    assert best_trial(found, GREATEST).id == "1"
    assert best_trial([Trial("0", {}, "failed")], LEAST) is None
    assert math.isnan(Trial("0", {}).value)


def test_importance_finds_the_option_that_matters():
    parameters = (Parameter("x", (), 0.1, 10.0, True), Parameter("y", ("a", "b")))
    found = [trial(i, float(i), x=0.1 * 100 ** (i / 11), y="ab"[i * 7 % 3 % 2]) for i in range(12)]
    shares = importance(found, parameters)
    assert shares["x"] > 0.9 and sum(shares.values()) == pytest.approx(1)
    assert importance(found[:3], parameters) is None
    assert importance([trial(i, 1.0, x=1.0 + i, y="a") for i in range(9)], parameters) is None


def test_mistakes_on_the_command_line_are_reported_in_one_line(tmp_path, capsys, monkeypatch):
    def error(*argv):
        assert main(list(argv)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    plan(tmp_path)
    good = ["--study", str(tmp_path / "study.yaml")]
    assert "perhaps you mean 'sargan'" in error("sargn", *good)
    assert "perhaps you mean '--workers'" in error("sargan", *good, "--workerz", "2")
    assert "--workers is 0: expected at least 1" in error("sargan", *good, "--workers", "0")
    assert "nowhere.yaml: cannot be read: No such" in error("sargan", "--study", "nowhere.yaml")
    assert "parameters has an unknown option 'alignment.top_k'" in error("sargan", *good)
    assert "trials is 0" in error("domain_alignment", *good, "--trials", "0")
    words = ("domain_alignment", *good, "--out", str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr("importlib.util.find_spec", lambda name: name)
        assert "is not a study" in error(*words)
        patched.setattr("importlib.util.find_spec", lambda name: None)
        assert "pip install 'tfface[tuning]'" in error(*words)
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    assert "KERASTUNER_ORACLE_IP is set" in error(*words, "--workers", "2")


def test_studies_are_validated_without_importing_tensorflow(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**GOOD, "steps": 0}))
    code = (
        "import sys\nfrom tfface.tune import main\n"
        f"assert main(['domain_alignment', '--study', {str(tmp_path / 'study.yaml')!r}]) == 2\n"
        "assert not {'tensorflow', 'keras_tuner'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
