"""Options: schedules, presets, the parser and its error messages."""

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
    option_types,
    parse_training,
    presets,
    replace,
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
    """The error message of a command line."""
    with pytest.raises(SystemExit) as stopped:
        parse(*argv)
    assert stopped.value.code == 2
    *usage, message = capsys.readouterr().err.strip().splitlines()
    assert len(usage) <= 1 and "Traceback" not in message
    return message


@given(rates, steps)
def test_the_constant_schedule_keeps_the_rate(rate, step):
    assert learning_rate(Adam(rate), step, 100) == rate


@given(rates, steps, every, factors)
def test_the_step_schedule_multiplies_the_rate_every_interval(rate, step, every, factor):
    adam = Adam(rate, schedule="step", decay_every=every, decay_factor=factor)
    now = learning_rate(adam, step, 1)
    assert learning_rate(adam, every - 1, 1) == rate
    assert learning_rate(adam, step + every, 1) == pytest.approx(now * factor, rel=1e-9, abs=1e-300)
    assert learning_rate(adam, step // every * every, 1) == now
    assert now == pytest.approx(rate * factor ** (step // every), rel=1e-9, abs=1e-300)


@given(rates, steps, st.integers(1, 5000), st.integers(1, 5000), every)
def test_the_linear_schedule_decreases_to_zero_between_start_and_end(
    rate, step, start, length, every
):
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
    # The rate changes every decay_every steps only, and lags by less than one change.
    assert learning_rate(adam, step // every * every, total) == now
    assert (
        fine - 1e-9
        <= now
        <= learning_rate(dataclasses.replace(adam, decay_every=1), max(step - every, 0), total)
        + 1e-9
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", ["paper", "demo", "tiny"])
def test_presets_survive_yaml_and_are_immutable(method, preset):
    name, config, asked = parse(method, "--preset", preset)
    assert (name, asked) == (method, RunOptions())
    text = yaml.safe_dump(to_dict(config))
    assert from_dict(CONFIGS[method], yaml.safe_load(text)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.train = None


@pytest.mark.parametrize("method", METHODS)
def test_linear_schedules_of_our_presets_end_near_zero(method):
    """Unlike SARGAN's default, which follows its authors' code, where the rate hardly changes."""
    for preset in set(presets(method)) - {"paper", "tiny"}:
        _, config, _ = parse(method, "--preset", preset)
        adam, steps = config.adam, config.train.steps
        if adam.schedule == "linear":
            assert learning_rate(adam, steps, steps) <= 0.02 * adam.learning_rate, preset


@pytest.mark.parametrize("method", METHODS)
def test_the_default_preset_is_demo(method):
    assert parse(method) == parse(method, "--preset", "demo")
    assert parse(method, "--preset=tiny") == parse(method, "--preset", "tiny")
    assert set(presets(method)) >= {"paper", "demo", "tiny"}


def test_defaults_are_those_of_the_paper_preset():
    """Except for the data set and reporting."""
    for method, config_class in CONFIGS.items():
        paper, default = parse(method, "--preset", "paper")[1], config_class()
        assert dataclasses.asdict(paper.adam) == dataclasses.asdict(default.adam), method
        assert paper.train.steps == default.train.steps


def test_later_options_override_earlier_ones(tmp_path):
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


def test_a_printed_config_can_be_loaded(tmp_path, capsys):
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
        (["sargan", "--preset", "pape"], r"sargan has no preset 'pape'; .*paper"),
        (["sargan", "--preset"], "--preset needs a value"),
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
        (["sargan", "--classes", "[happy, sad, happy]"], "classes has a duplicate name"),
        (["sargan", "--discriminator.layers", "7"], "discriminator.layers is 7: an image of 64"),
        (["sargan", "--generator_every", "0"], "generator_every is 0"),
        (["elegant", "--attributes", "[]"], "attributes is empty"),
        (["elegant", "--attributes", "[Bald, Bald]"], "attributes has a duplicate name"),
        (["elegant", "--width", "0"], "width is 0"),
        (["sargan", "--config", "/nowhere/a.yaml"], "/nowhere/a.yaml"),
        ([], "method"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_mistakes_on_the_command_line_name_the_option(capsys, argv, expected):
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
def test_mistakes_in_an_option_file_name_the_option(tmp_path, capsys, text, expected):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert re.search(expected, refused(capsys, "sargan", "--config", str(file)))


@pytest.mark.parametrize(
    "values", [{"widht": 3}, {"data": {"size": "big"}}, {"train": {"stepz": 3}}, {"width": None}]
)
def test_from_dict_rejects_unknown_names_and_invalid_values(values):
    with pytest.raises(UserError):
        from_dict(CONFIGS["sargan"], values)


# Words of a parser or of Python that must not appear in messages.
INTERNALS = re.compile(r"<class|NestedArg|Namespace\(|Union\[|object at|typing\.|Traceback|None\b")
LEAVES = {
    method: [n for n, kind in option_types(kind).items() if "." in n and n.count(".") == 1]
    for method, kind in CONFIGS.items()
}
pairs = st.sampled_from([(method, name) for method, names in LEAVES.items() for name in names])
WRONG = st.sampled_from(
    [
        "x",
        "",
        "1.5",
        "[1, 2]",
        "[",
        "{",
        "{a: 1}",
        "null",
        "-1",
        "nan",
        "1e999",
        "yes",
        "'",
        "\t",
        ":",
    ]
)


def message_of(function, *arguments):
    """The message of a UserError, "" if there is none."""
    try:
        function(*arguments)
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    return ""


@given(pairs, WRONG)
def test_messages_contain_no_python_internals(pair, value):
    method, name = pair
    for given_value in (value, [value], {name: value}, 1.5, True, None):
        message = message_of(from_dict, CONFIGS[method], {name: given_value})
        assert not INTERNALS.search(message), message


@pytest.mark.parametrize("method", METHODS)
def test_misspelt_names_are_corrected(method):
    """A missing, additional or swapped letter; the last part alone; an additional part."""
    known = option_types(CONFIGS[method])
    for name in LEAVES[method]:
        group, _, leaf = name.partition(".")
        first, second, rest = leaf[:1], leaf[1:2], leaf[2:]
        wrong = (f"{first}{rest}", f"{second}{first}{rest}", f"{leaf}z", f"{leaf}.{leaf}")
        for typed in (*(f"{group}.{end}" for end in wrong), leaf):
            if typed in known:
                continue
            message = message_of(from_dict, CONFIGS[method], {typed: 1})
            answer = re.fullmatch(f"unknown option '{typed}'; perhaps you mean '(.*)'.", message)
            assert answer and answer[1].endswith(f".{leaf}"), message
            assert answer[1] == name or typed == leaf


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ["domain_alignment", "--top_k", "3"],
            "unknown option --top_k; perhaps you mean 'alignment.top",
        ),
        (["domain_alignment", "--alignment.topk", "3"], "perhaps you mean 'alignment.top_k'"),
        (["domain_alignment", "--alignment", "dense"], "expected its options, such as alignment.k"),
        (["sargan", "--weights.rec", "3"], "perhaps you mean 'weights.reconstruction'"),
        (["sargan", "--lambda_rec", "3"], "perhaps you mean 'weights.reconstruction'"),
        (["sargan", "--disc_width", "3"], "perhaps you mean 'discriminator.width'"),
        (["seg_hierarchical", "--seg_rate", "3"], "perhaps you mean 'segmenter.rate'"),
        (["seg_hierarchical", "--disc_layers", "3"], "perhaps you mean 'discriminator.layers'"),
        (["seg_hierarchical", "--labelled.nme", "x"], "perhaps you mean 'labelled.name'"),
        (["seg_hierarchical", "--labelled", "3"], "expected its options, such as labelled.name"),
        (["sargan", "--weights.change", "-1"], "weights.change is -1: expected 0 or more"),
        (["sargan", "--weights.change", "much"], "weights.change is 'much': expected a number"),
        (["sargan", "--weights.change"], "--weights.change needs a value"),
        (
            ["sargan", "--classes", "happy"],
            "classes has only one name, happy: expected two or more",
        ),
        (["sargan", "--classes", "[happy"], "classes is '\\[happy': expected a list"),
        (["sargan", "--data.flip", "maybe"], "data.flip is 'maybe': expected true or false"),
        (["sargan", "--train.steps", "1.5"], "train.steps is '1.5': expected a whole number"),
        (["sargan", "--change=yes"], "--change does not accept a value"),
        (["sargan", "happy"], "'happy' is not an option: expected --NAME VALUE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_messages_suggest_options_or_values(capsys, argv, expected):
    message = refused(capsys, *argv)
    assert re.search(expected, message) and not INTERNALS.search(message)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[1,2]", ("1", "2")), ("[yes,no]", ("yes", "no")), ("yes,no", ("yes", "no")),
        ("[1.50, 0x10, 007]", ("1.50", "0x10", "007")), ("[ä b, 'c, d']", ("ä b", "c, d")),
        ("[2001-01-01, ~x]", ("2001-01-01", "~x")),
    ],
)  # fmt: skip
def test_lists_of_names_are_not_parsed_as_yaml_values(tmp_path, text, names):
    folder = {"data.name": "folder", "data.path": "x"}
    words = [word for name, value in folder.items() for word in (f"--{name}", value)]
    config = parse("sargan", *words, "--classes", text)[1]
    assert config.classes == names
    file = tmp_path / "mine.yaml"
    file.write_text(f"classes: {text if text[0] == '[' else list(names)}\n")
    assert parse("sargan", "--preset", "demo", *words, "--config", str(file))[1] == config
    assert from_dict(CONFIGS["sargan"], yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


def test_a_group_can_be_set_as_a_whole():
    config = parse("sargan", "--weights", "{change: 2, r1: 3}", "--classifier={steps: 5}")[1]
    assert (config.weights.change, config.weights.r1, config.classifier.steps) == (2.0, 3.0, 5)
    words = ["--labelled.path", "x", "--labelled.size", "64"]
    kind = ["--labelled.name", "celebamask_hq"]
    config = parse("seg_hierarchical", *words, *kind)[1]
    assert config.labelled == Data("celebamask_hq", "x", 64)
    assert parse("seg_hierarchical", *words, *kind, "--labelled", "null")[1].labelled is None
    assert replace(config, {"labelled": None, "weights.local": 3}).labelled is None
    assert replace(config, {"labelled": Data()}).labelled == Data()


@pytest.mark.parametrize("method", METHODS)
def test_help_describes_every_option(method, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(method, "--help")
    assert not stopped.value.code
    text = capsys.readouterr().out
    for name in option_types(CONFIGS[method]):
        assert f"--{name} " in text or f"\n{name}:\n  " in text, name
    assert "(default: MISSING" not in text and not INTERNALS.search(text.replace("None", ""))
    # A description after the name, on its line or the next one.
    assert len(re.findall(r"\n  --[\w.]+(?: \S+)?\s+[A-Za-z\"0-9`]", text)) == len(
        re.findall(r"\n  --", text)
    )


def test_nearest_suggests_a_similar_name_or_nothing():
    assert nearest("Eyeglases", ("Bangs", "Eyeglasses")) == "; perhaps you mean 'Eyeglasses'?"
    assert nearest("x", ("Bangs", "Eyeglasses")) == ""
    assert nearest("--model_base", ("--model_name", "--model_base_path")).endswith("_path'?")


@pytest.mark.parametrize("look_up", [get_method, get_config])
def test_an_unknown_method_is_an_error_with_a_suggestion(look_up):
    with pytest.raises(UserError, match="no method 'sargn'; perhaps you mean 'sargan'"):
        look_up("sargn")


def test_groups_validate_their_values():
    with pytest.raises(UserError, match="data.size is 16"):
        Data(size=16)
    with pytest.raises(UserError, match="train.keep is 0"):
        Train(keep=0)
