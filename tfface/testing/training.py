"""Contract checks of networks, losses and training."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.data.ops import debug_mode

from tfface.config import from_dict, learning_rate, parse_training, presets, to_dict
from tfface.engine.progress import MEASURED
from tfface.engine.run import Run
from tfface.engine.step import TrainStep, make_optimizers
from tfface.engine.trainer import Trainer, adam
from tfface.methods import get_config
from tfface.methods.base import Method, Networks, Phase
from tfface.testing.case import ATOL, RTOL, Case, contract_check, require, tiny_method


def _finite(values: dict[str, Any] | list[Any], what: str) -> None:
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        require(np.isfinite(np.asarray(value)).all(), f"{what} {key} is not finite")


def _equal(actual: dict[str, Any], expected: dict[str, Any], what: str, rtol=0.0, atol=0.0) -> None:
    require(set(actual) == set(expected), f"{what}: {sorted(actual)} instead of {sorted(expected)}")
    for key, value in expected.items():
        np.testing.assert_allclose(
            actual[key], value, rtol=rtol, atol=atol, err_msg=f"{what} {key}"
        )


def _snapshot(nets: Networks) -> dict[str, np.ndarray]:
    return {f"{n}/{i}": v.numpy() for n in nets for i, v in enumerate(nets[n].variables)}


def _random_inputs(net, count: int) -> tf.Tensor | list[tf.Tensor]:
    rng = np.random.default_rng(count)
    inputs = [
        tf.constant(rng.uniform(-1, 1, (count, *x.shape[1:])).astype(np.float32))
        for x in net.inputs
    ]
    return inputs[0] if len(inputs) == 1 else inputs


def _losses(method: Method, phase: Phase, nets: Networks, batch, **options) -> dict[str, Any]:
    function = functools.partial(phase, nets)
    if options:
        function = tf.function(function, autograph=False, **options)
    total, terms = function(batch)
    return {"total": total, **terms}


@contract_check
def presets_parse(case: Case) -> None:
    """There are presets `paper`, `demo` and `tiny`; all presets parse and survive `to_dict`."""
    known = presets(case.name)
    require({"paper", "demo", "tiny"} <= set(known), f"presets are {sorted(known)}")
    config_class = get_config(case.name)
    for preset in known:
        _, config, _ = parse_training([case.name, "--preset", preset], {case.name: config_class})
        require(from_dict(config_class, to_dict(config)) == config, f"{preset} changes in to_dict")
        require(
            learning_rate(config.adam, 0, config.train.steps) == config.adam.learning_rate,
            f"{preset}: the first step has another learning rate",
        )


@contract_check
def builds(case: Case) -> None:
    """Networks depend on the seed only; the phases update all networks and no others."""
    first, second = case.build(), case.build()
    _equal(_snapshot(second), _snapshot(first), "weights of the same seed")
    updated = [name for phase in case.method.phases() for name in phase.updates]
    require(set(updated) == set(first), f"phases update {updated}, not each of {[*first]}")
    require(set(case.method.averaged) <= set(first), "an averaged network does not exist")


@contract_check
def outputs(case: Case) -> None:
    """Networks accept any batch size, and return finite float32 of the declared shapes."""
    for name, net in case.nets.items():
        for count in (1, 3):
            result = net(_random_inputs(net, count))
            result = result if isinstance(result, list | tuple) else [result]
            for value, declared in zip(result, net.outputs, strict=True):
                require(value.dtype == tf.float32, f"{name} returns {value.dtype}")
                require(value.shape == (count, *declared.shape[1:]), f"{name}: {value.shape}")
            _finite(list(result), f"output of {name}")


@contract_check
def updates(case: Case) -> None:
    """A phase updates every weight of the networks it names, and nothing else.

    The reported losses equal those of eager execution.
    """
    for phase in case.method.phases():
        alone = copy.copy(case.method)
        alone.phases = lambda phase=phase: (dataclasses.replace(phase, every=1, start=0),)
        nets = case.build()
        optimizers = make_optimizers(alone, nets, adam)
        before = _snapshot(nets)
        eager = _losses(alone, phase, nets, case.batch)
        step = TrainStep(alone, tf.distribute.get_strategy(), nets, {}, optimizers)
        # As a step does, but without building a graph of the update.
        gradients, _, terms = step._gradients[phase.name](case.batch)
        step._update(phase, step._rescaled(phase, gradients))
        actual = {f"{phase.name}/{term}": value.numpy() for term, value in terms.items()}
        eager = {f"{phase.name}/{term}": value for term, value in eager.items()}
        _equal(actual, eager, "reported loss", RTOL, ATOL)
        after = _snapshot(nets)
        for name, net in nets.items():
            for i, variable in enumerate(net.variables):
                key, path = f"{name}/{i}", f"{name}: {variable.path}"
                moved = not np.array_equal(after[key], before[key])
                if name not in phase.updates:
                    require(not moved, f"{phase.name} changes {path}")
                elif variable.trainable:
                    require(moved, f"{phase.name} gives no gradient to {path}")


@contract_check
def loss_is_pure(case: Case) -> None:
    """Computing a loss twice gives the same values and leaves the networks unchanged."""
    before = _snapshot(case.nets)
    for phase in case.method.phases():
        first = _losses(case.method, phase, case.nets, case.batch)
        _finite(first, f"phase {phase.name}:")
        _equal(_losses(case.method, phase, case.nets, case.batch), first, "second loss")
        require(first["total"].shape == (), "the loss is not a scalar")
    _equal(_snapshot(case.nets), before, "weights after the loss")


@contract_check
def compiled_losses(case: Case) -> None:
    """Every loss term is the same with XLA and in eager mode."""
    for phase in case.method.phases():
        eager = _losses(case.method, phase, case.nets, case.batch)
        compiled = _losses(case.method, phase, case.nets, case.batch, jit_compile=True)
        _equal(compiled, eager, f"{phase.name}, XLA:", RTOL, ATOL)


@contract_check
def networks_are_saved(case: Case) -> None:
    """Saving to a `.keras` file, and `get_config`, reproduce each network exactly."""
    for name, net in case.nets.items():
        inputs = _random_inputs(net, 2)
        expected = tf.nest.flatten(net(inputs))
        path = case.folder / f"{name}.keras"
        net.save(path)
        loaded = tf.keras.models.load_model(path)
        require(type(loaded) is type(net), f"{name} is loaded as {type(loaded).__name__}")
        for actual, value in zip(tf.nest.flatten(loaded(inputs)), expected, strict=True):
            np.testing.assert_array_equal(actual, value, err_msg=name)
        rebuilt = type(net).from_config(net.get_config())
        require(rebuilt.get_config() == net.get_config(), f"{name}: the config changes")
        shapes = [[(v.path, v.shape) for v in n.variables] for n in (rebuilt, net)]
        require(shapes[0] == shapes[1], f"{name}: the weights' names or shapes change")


def _precision(case: Case, policy: str) -> None:
    nets = case.build(policy)
    for name, net in nets.items():
        require(net.dtype_policy.name == policy, f"{name} has policy {net.dtype_policy.name}")
        require(all(v.dtype == "float32" for v in net.weights), f"{name}: weights not float32")
        require(
            any(layer.compute_dtype == policy[6:] for layer in net.layers),
            f"{name} ignores the policy",
        )
        copy_ = type(net).from_config(net.get_config())
        require(copy_.dtype_policy.name == policy, f"{name}: the config loses the policy")
    for phase in case.method.phases():
        losses = _losses(case.method, phase, nets, case.batch)
        _finite(losses, f"{policy}, phase {phase.name}:")
        require(losses["total"].dtype == tf.float32, "the loss is not float32")
    for column, images in case.method.preview(nets, case.batch).items():
        require(images.dtype == tf.float32, f"column {column} is {images.dtype}")


@contract_check
def mixed_bfloat16(case: Case) -> None:
    """The method works in bfloat16, with float32 weights, losses and images."""
    _precision(case, "mixed_bfloat16")


@contract_check
def mixed_float16(case: Case) -> None:
    """The method works in float16, with float32 weights, losses and images."""
    _precision(case, "mixed_float16")


@contract_check
def batches_are_pure(case: Case) -> None:
    """A batch depends on the split, seed and number only."""
    expected = list(case.batches().take(5))
    for start in (1, 3):
        for i, batch in enumerate(case.batches(start).take(2)):
            _equal(batch, expected[start + i], f"batch {start + i} from start={start}:")
    for other in (case.batches(seed=1), case.batches(split="val"), case.batches(1)):
        actual = next(iter(other))
        same = all(np.array_equal(actual[k], expected[0][k]) for k in actual)
        require(not same, "another seed, split or number gives the same batch")
    fixed = [next(iter(case.batches(seed=None, split="val"))) for _ in range(2)]
    _equal(fixed[1], fixed[0], "fixed batch")


@contract_check
def preview(case: Case) -> None:
    """A preview has columns of images in [-1,1], one per batch element, and is reproducible."""
    columns = case.method.preview(case.nets, case.batch)
    size, count = case.config.data.size, case.config.data.batch_size
    require(len(columns) >= 2, "fewer than two columns")
    for name, images in columns.items():
        require(images.shape == (count, size, size, 3), f"column {name}: {images.shape}")
        require(images.dtype == tf.float32, f"column {name}: {images.dtype}")
        require(np.abs(images).max() <= 1.0, f"column {name}: outside [-1,1]")
    _finite(columns, "column")
    _equal(case.method.preview(case.nets, case.batch), columns, "second preview, column")


@contract_check
def resumes(case: Case) -> None:
    """Resuming after a kill gives the uninterrupted run, except for the order of parallel sums."""
    check_resume(case.name, case.folder, jit="off")


def check_resume(name: str, folder: Path, **train: Any) -> None:
    """Compares six uninterrupted steps with a run that is killed in step 5 and resumed from step 3.

    Steps run eagerly, as building their graphs would take far longer, and without previews.

    Args:
        name: Name of the method.
        folder: An empty folder.
        **train: See `tiny_method`.
    """
    killed = folder / "killed"

    class WithoutPreviews(Trainer):
        def _preview_batches(self):
            return []

    class Killed(WithoutPreviews):
        def steps(self, number, batches):
            if number == 4:
                # One step after the checkpoint, whose line of metrics must be removed.
                shutil.copytree(self.run.path, killed)
            return super().steps(number, batches)

    method, source = tiny_method(name, **{"log_every": 1, "save_every": 3, **train})
    with eagerly():
        whole = Killed(method, source, Run.create(name, method.config, str(folder / "whole")))
        whole.train()
        run = Run.create(name, method.config, str(killed))
        resumed = WithoutPreviews(method, source, run)
        require(resumed.checkpoints.steps() == [3], "the checkpoint of step 3 is missing")
        resumed.train()
    steps = resumed.checkpoints.steps()
    require(steps == [3, 6], "the checkpoints are not those of steps 3 and 6")
    compare_trainers(resumed, whole)


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Runs functions in the block, also those of pipelines, without building their graphs."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    debug_mode.toggle_debug_mode(True)  # What enable_debug_mode does, which cannot be undone.
    try:
        yield
    finally:
        debug_mode.toggle_debug_mode(before)
        tf.config.run_functions_eagerly(before)


def compare_trainers(actual: Trainer, expected: Trainer) -> None:
    """Requires equal metrics, and networks, averages and optimisers equal up to rounding."""
    for kind in ("nets", "averages", "optimizers"):
        pair = [_snapshot(getattr(trainer, kind)) for trainer in (actual, expected)]
        # On some processors the order of parallel sums varies, and with it the last bits.
        _equal(*pair, kind, rtol=1e-5, atol=1e-7)
    require(_metrics(actual) == _metrics(expected), "metrics.jsonl differs")


def _metrics(trainer: Trainer) -> list[dict[str, float]]:
    lines = (trainer.run.path / "metrics.jsonl").read_text().splitlines()
    return [{**json.loads(line), **dict.fromkeys(MEASURED, 0)} for line in lines]
