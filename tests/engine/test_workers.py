"""Several processes that train together, as `TF_CONFIG` names them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from toy_method import ToyConfig, lines

from tfface.config import Data, replace, to_dict
from tfface.data import open_source
from tfface.engine.checkpoint import read_state
from tfface.engine.workers import from_environment
from tfface.errors import UserError

ROOT = Path(__file__).parents[2]
# The command `train` for the toy method with SGD; with "dies", worker 1 is killed in step 4.
COMMAND = """
import os, sys
from tfface.cli import import_tensorflow
import_tensorflow()
import keras, toy_method
import tfface.methods
from tfface.engine.trainer import Trainer
from tfface.train import main

tfface.methods.METHODS["toy"], toy_method.Toy = "Toy", toy_method.NoDropout
sys.modules |= {f"tfface.methods.toy.{part}": toy_method for part in ("config", "method")}
keras.optimizers.Adam = lambda *_, **__: keras.optimizers.SGD(0.05)
def steps(self, number, batches, original=Trainer.steps):
    if sys.argv[1] == "dies" and self._workers.index == 1 and number == 3:
        os.kill(os.getpid(), 9)
    return original(self, number, batches)
Trainer.steps = steps
sys.exit(main(["toy", "--config", sys.argv[2], "--run", sys.argv[3]]))
"""


def free_addresses(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def train(folder, count, what=""):
    """Runs the command in several workers; returns their exit statuses and stderr."""
    config = replace(ToyConfig(), {"data.batch_size": 6, "train.save_every": 2, "train.keep": 9})
    options = folder / "toy.yaml"
    options.write_text(yaml.safe_dump(to_dict(config)))
    (folder / "worker.py").write_text(COMMAND)
    cluster = {"worker": free_addresses(count)}
    processes = []
    for index in range(count):
        # Only the chief's run folder is to be used.
        run = folder / ("run" if index == 0 else f"unused{index}")
        task = {"type": "worker", "index": index}
        path = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "support")))
        environment = {"PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if count > 1:
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        words = [sys.executable, folder / "worker.py", what, options, run]
        processes.append(
            subprocess.Popen(
                words, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
            )
        )
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], errors


@pytest.mark.slow
def test_workers_equal_one_process_and_continue_after_one_has_died(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder in (alone, together):
        folder.mkdir()
    assert train(alone, 1)[0] == [0]
    statuses, errors = train(together, 3, "dies")
    assert statuses == [2, -signal.SIGKILL, 2]
    for index in (0, 2):
        (line,) = errors[index].strip().splitlines()
        assert f"worker {index} of 3" in line and "worker 1 (127.0.0.1:" in line
        assert "same command" in line
    assert train(together, 2) == ([0, 0], ["", ""])
    assert [line["step"] for line in lines(together / "run")] == [1, 2, 3, 4, 5, 6]
    # From a checkpoint, after which they took the steps 3 to 6.
    saved = sorted(p.name for p in (together / "run" / "checkpoints").iterdir())
    assert saved == ["step-2.npz", "step-4.npz", "step-6.npz"]
    assert {p.name for p in together.iterdir()} == {"run", "toy.yaml", "worker.py"}
    first, *_, expected = (read_state(alone / f"run/checkpoints/step-{n}.npz")[0] for n in (2, 6))
    found, _ = read_state(together / "run/checkpoints/step-6.npz")
    moved = max(np.abs(expected[name] - first[name]).max() for name in expected)
    apart = max(np.abs(expected[name] - found[name]).max() for name in expected)
    assert apart < 1e-5 < 1e-3 < moved
    for one, other in zip(lines(together / "run"), lines(alone / "run"), strict=True):
        norm = "judge/gradient_norm"
        assert one[norm] == pytest.approx(other[norm], rel=1e-4)


def config(workers=("a:1", "b:1"), kind="worker", index=1, **cluster):
    cluster = {"worker": list(workers), **cluster}
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["TF_CONFIG", "not JSON"]),
        ('{"cluster": []}', ["cluster is []", "an object"]),
        ('{"cluster": {"worker": "a:1"}}', ["worker is 'a:1'", "a list"]),
        ('{"cluster": {"worker": ["a:1"]}}', ["task is None", "an object"]),
        (config(workers=["a", "b:1"]), ["'a'", "HOST:PORT"]),
        (config(workers=["a:1", "a:1"]), ["'a:1'", "once"]),
        (config(ps=["c:1"]), ["'ps'", "expected worker"]),
        (config(kind="chief"), ["task.type is 'chief'", "worker"]),
        (config(index=2), ["task.index is 2", "0 to 1"]),
        (config(index="1"), ["index is '1'", "a number"]),
    ],
)
def test_a_wrong_tf_config_is_an_error_that_names_what_is_wrong(monkeypatch, text, words):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError) as error:
        from_environment()
    assert all(word in str(error.value) for word in words), error.value


def test_tf_config_numbers_the_chief_before_the_workers(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config(chief=["c:1"]))
    workers = from_environment()
    assert (workers.addresses, workers.index, workers.chief) == (("c:1", "a:1", "b:1"), 2, False)
    for text in ("", "{}", '{"environment": "cloud", "cluster": {}}'):
        monkeypatch.setenv("TF_CONFIG", text)
        assert (from_environment().count, from_environment().chief) == (1, True)


def test_workers_read_the_images_of_their_shares_and_the_labels_of_whole_batches(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("happy", "sad"):
        (tmp_path / name).mkdir()
        for i in range(6):
            image = Image.fromarray(rng.integers(1, 256, (32, 32, 3), np.uint8))
            image.save(tmp_path / name / f"{i}.png")
    source = open_source(Data(name="folder", path=str(tmp_path), size=32))

    def batch():
        return next(source.batches("train", 6, seed=1, start=2).as_numpy_iterator())

    whole = batch()
    for number in range(3):
        source.share = (number, 3)
        part, own = batch(), slice(2 * number, 2 * number + 2)
        np.testing.assert_array_equal(part["expression"], whole["expression"])
        np.testing.assert_array_equal(part["image"][own], whole["image"][own])
        assert not np.delete(part["image"], own, 0).any()
