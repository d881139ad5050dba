"""Options: schedules, presets, the parser and its messages."""

import dataclasses
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tfface.config import (
    Adam,
    Data,
    RunOptions,
    Train,
    from_dict,
    learning_rate,
    nearest,
    parse_training,
    presets,
    to_dict,
)
from tfface.errors import UserError
from tfface.methods import METHODS, get_config, get_method

CONFIGS = {name: get_config(name) for name in METHODS}

rates, steps = st.floats(1e-6, 1.0), st.integers(0, 10_000)
every, factors = st.integers(1, 500), st.floats(0.1, 1.0)


def parse(*argv):
    return parse_training(list(argv), CONFIGS)


def refused(capsys, *argv):
    """The message of a command line that is refused."""
    with pytest.raises(SystemExit) as stopped:
        parse(*argv)
    assert stopped.value.code == 2
    *usage, message = capsys.readouterr().err.strip().splitlines()
    assert len(usage) <= 1 and "Traceback" not in message
    return message


@given(rates, steps)
def test_constant_schedule(rate, step):
    assert learning_rate(Adam(rate), step, 100) == rate


@given(rates, steps, every, factors)
def test_step_schedule(rate, step, every, factor):
    adam = Adam(rate, schedule="step", decay_every=every, decay_factor=factor)
    now = learning_rate(adam, step, 1)
    assert learning_rate(adam, every - 1, 1) == rate
    assert learning_rate(adam, step + every, 1) == pytest.approx(now * factor, rel=1e-9, abs=1e-300)
    assert learning_rate(adam, step // every * every, 1) == now
    assert now == pytest.approx(rate * factor ** (step // every), rel=1e-9, abs=1e-300)


@given(rates, steps, st.integers(1, 5000), st.integers(1, 5000), every)
def test_linear_schedule(rate, step, start, length, every):
    adam = Adam(rate, schedule="linear", decay_start=start, decay_every=every)
    total = start + length
    now = learning_rate(adam, step, total)
    assert 0.0 <= now <= rate
    assert learning_rate(adam, step + 1, total) <= now
    if step <= start:
        assert now == rate
    if step >= total + every:
        assert now == 0.0
    fine = learning_rate(dataclasses.replace(adam, decay_every=1), step, total)
    expected = rate * (1 - min(max(step - start, 0) / length, 1))
    assert fine == pytest.approx(expected, abs=1e-9)
    # The rate changes in every decay_every-th step only, and lags by less than one change.
    assert learning_rate(adam, step // every * every, total) == now
    assert (
        fine - 1e-9
        <= now
        <= learning_rate(dataclasses.replace(adam, decay_every=1), max(step - every, 0), total)
        + 1e-9
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", ["paper", "demo", "tiny"])
def test_presets_come_back(method, preset):
    name, config, asked = parse(method, "--preset", preset)
    assert (name, asked) == (method, RunOptions())
    text = yaml.safe_dump(to_dict(config))
    assert from_dict(CONFIGS[method], yaml.safe_load(text)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.train = None


@pytest.mark.parametrize("method", METHODS)
def test_without_a_preset_it_is_the_demo(method):
    assert parse(method) == parse(method, "--preset", "demo")
    assert parse(method, "--preset=tiny") == parse(method, "--preset", "tiny")
    assert set(presets(method)) >= {"paper", "demo", "tiny"}


def test_defaults_are_the_papers():
    """`paper.yaml` states what the classes' defaults are, but for the data set and reporting."""
    for method, config_class in CONFIGS.items():
        paper, default = parse(method, "--preset", "paper")[1], config_class()
        assert dataclasses.asdict(paper.adam) == dataclasses.asdict(default.adam), method
        assert paper.train.steps == default.train.steps


def test_later_options_win(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("width: 8\ndata: {size: 96}\n")
    _, config, asked = parse(
        "elegant", "--preset", "tiny", "--config", str(file), "--data.batch_size", "6",
        "--attributes", "[Bald, Bangs]", "--adam.learning_rate=0.5", "--run", "here",
    )  # fmt: skip
    assert (config.width, config.data.size, config.data.batch_size) == (8, 96, 6)
    assert config.attributes == ("Bald", "Bangs")
    assert config.adam.learning_rate == 0.5
    assert config.adam.schedule == "step"  # The preset's.
    assert asked == RunOptions(run="here")


def test_printed_config_is_a_config(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse("sargan", "--preset", "tiny", "--width", "8", "--print_config")
    assert not stopped.value.code
    file = tmp_path / "printed.yaml"
    file.write_text(capsys.readouterr().out)
    assert parse("sargan", "--config", str(file)) == parse(
        "sargan", "--preset", "tiny", "--width", "8"
    )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["elegnt"], "elegant"),
        (["sargan", "--preset", "pape"], r"no preset 'pape' of sargan; .*paper"),
        (["sargan", "--preset"], "no preset ''"),
        (["sargan", "--trian.steps", "3"], "train.steps"),
        (["sargan", "--train.stps", "3"], "perhaps you mean 'train.steps'"),
        (["sargan", "--widht=3"], "perhaps you mean 'width'"),
        (["sargan", "--train.steps", "many"], "steps"),
        (["sargan", "--width", "1.5"], "width"),
        (["sargan", "--train.precision", "float8"], "mixed_bfloat16"),
        (["sargan", "--adam.schedule", "cosine"], "linear"),
        (["sargan", "--data.size", "33"], "data.size is 33: expected a multiple of 32"),
        (["sargan", "--data.batch_size", "0"], "data.batch_size is 0: expected at least 1"),
        (["sargan", "--data.name", "folder"], "data.path is empty"),
        (["sargan", "--train.steps", "0"], "train.steps is 0: expected at least 1"),
        (["sargan", "--train.replicas", "-1"], "train.replicas is -1"),
        (["sargan", "--adam.learning_rate", "0"], "adam.learning_rate is 0"),
        (["sargan", "--adam.decay_every", "0"], "adam.decay_every is 0"),
        (["sargan", "--train.ema_half_life", "-1"], "train.ema_half_life is -1"),
        (["sargan", "--classes", "[happy]"], "expected two or more"),
        (["sargan", "--classes", "[happy, sad, happy]"], "names one twice"),
        (["sargan", "--disc_layers", "7"], "disc_layers is 7: a picture of 64 pixels"),
        (["sargan", "--generator_every", "0"], "generator_every is 0"),
        (["elegant", "--attributes", "[]"], "attributes is empty"),
        (["elegant", "--attributes", "[Bald, Bald]"], "names one twice"),
        (["elegant", "--width", "0"], "width is 0"),
        (["sargan", "--config", "/nowhere/a.yaml"], "/nowhere/a.yaml"),
        ([], "method"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_mistakes(capsys, argv, expected):
    assert re.search(expected, refused(capsys, *argv))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trian: {steps: 3}\n", "train"),
        ("data: {sise: 64}\n", "sise"),
        ("data: [1, 2\n", "mine.yaml|YAML|yaml|pars"),
        ("train: {steps: many}\n", "steps"),
    ],
)
def test_mistakes_in_a_file(tmp_path, capsys, text, expected):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert re.search(expected, refused(capsys, "sargan", "--config", str(file)))


@pytest.mark.parametrize(
    "values", [{"widht": 3}, {"data": {"size": "big"}}, {"train": {"stepz": 3}}, {"width": None}]
)
def test_from_dict_refuses(values):
    with pytest.raises(UserError):
        from_dict(CONFIGS["sargan"], values)


def test_nearest():
    assert nearest("Eyeglases", ("Bangs", "Eyeglasses")) == "; perhaps you mean 'Eyeglasses'?"
    assert nearest("x", ("Bangs", "Eyeglasses")) == ""
    assert nearest("--model_base", ("--model_name", "--model_base_path")).endswith("_path'?")


@pytest.mark.parametrize("look_up", [get_method, get_config])
def test_unknown_method(look_up):
    with pytest.raises(UserError, match="no method 'sargn'; perhaps you mean 'sargan'"):
        look_up("sargn")


def test_parts_are_checked_on_their_own():
    with pytest.raises(UserError, match="data.size is 16"):
        Data(size=16)
    with pytest.raises(UserError, match="train.keep is 0"):
        Train(keep=0)
